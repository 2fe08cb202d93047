"""The listening socket: connections are bounded and unbuffered.

Each takes its TLS handshake in a thread of its own.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pynetdicom import build_context
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from crosslight.runtime.log import get_logger
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.runtime.tls import refused_certificate
from crosslight.standards.problem import Busy, CrosslightError
from node.dimse.arrivals import Arrival, Arrivals
from node.dimse.exchange import Context, SupportedClass
from node.dimse.sockets import NodeSocket
from node.dimse.upper import UpperLayer

log = get_logger("dimse")


def supported_contexts(sop_classes: Iterable[SupportedClass]) -> list[Any]:
    """The services' SOP classes for the negotiation.

    A SOP class of several services has the transfer syntaxes of all.
    """
    merged: dict[str, SupportedClass] = {}
    for supported in sop_classes:
        known = merged.setdefault(supported.sop_class_uid, supported)
        if known is not supported:
            syntaxes = tuple(dict.fromkeys((*known.transfer_syntaxes, *supported.transfer_syntaxes)))
            merged[supported.sop_class_uid] = SupportedClass(
                supported.sop_class_uid, syntaxes, known.asks or supported.asks
            )
    contexts = []
    for supported in merged.values():
        context = build_context(supported.sop_class_uid, list(supported.transfer_syntaxes))
        if supported.asks:  # PS3.7 D.3.3.4: the caller may be SCP of it, and we SCU
            context.scu_role = context.scp_role = True
        contexts.append(context)
    return contexts


def agreed_contexts(assoc: UpperLayer) -> dict[int, Context]:
    """What was agreed to, by context id."""
    return {
        number: Context(number, str(cx.abstract_syntax), str(cx.transfer_syntax[0]), bool(cx.as_scu))
        for number, cx in assoc._accepted_cx.items()
    }


#: Raises what is to be said to whoever shows this certificate (``getpeercert()`` form), where it is refused.
Certified = Callable[[dict[str, Any]], None]


def anybody(certificate: dict[str, Any]) -> None:
    """Whoever has a certificate of the configured authorities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorkeeper:
    """Who is let in before anything is asked: there is room, and the certificate holds.

    Attributes:
        arrivals: The rooms.
        noted: Told of certificates that are refused.
        certified: Asked about each certificate.
    """

    arrivals: Arrivals
    noted: Noted = noted_nowhere
    certified: Certified = anybody


class NodeHandler(RequestHandler):  # type: ignore[misc]  # pynetdicom has no types
    """Makes an association of a connection."""

    def _create_association(self) -> UpperLayer:
        server: NodeServer = self.server
        assoc = UpperLayer(self.ae, server.over, server.arrived(self.request))
        assoc.arrival.cut_upper = assoc.cut
        assoc._server = server
        assoc.name = f"AcceptorThread@{self.client_address[0]}"  # pynetdicom finds its threads by this word
        assoc.set_socket(NodeSocket(assoc, self.request))
        if isinstance(self.request, ssl.SSLSocket):
            assoc.certificate = self.request.getpeercert()
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.acceptor.supported_contexts = server.contexts  # only read in a negotiation: shared
        assoc.requestor.address_info = self.remote
        for event, bound in server.own_handlers:
            assoc.bind(event, bound)
        return assoc


class NodeServer(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom has no types
    """Accepts connections for one AE."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        ae: Any,
        address: tuple[str, int],
        sop_classes: Iterable[SupportedClass],
        own_handlers: list[tuple[Any, Any]],
        ended: Callable[[UpperLayer], None],
        tls: ssl.SSLContext | None,
        doorkeeper: Doorkeeper,
    ) -> None:
        self.own_handlers, self._ended = own_handlers, ended
        self._arrivals, self._arriving = doorkeeper.arrivals, dict[Any, Arrival]()
        self._tls, self._noted, self._certified = tls, doorkeeper.noted, doorkeeper.certified
        super().__init__(
            ae, address, ae.ae_title, supported_contexts(sop_classes), request_handler=NodeHandler
        )

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, and answer at once rather than wait for more to send (Nagle costs 40 ms an object)."""
        client, address = self.socket.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections that there is no room for."""
        try:
            self._arriving[request] = self._arrivals.connect(request, client_address[0])
        except Busy as error:
            log.warning("connection refused", address=client_address[0], reason=error.what)
            return False
        return True

    def arrived(self, request: Any) -> Arrival:
        """The room of a connection, for the association that is made of it."""
        return self._arriving.pop(request)

    def over(self, assoc: UpperLayer) -> None:
        """An association, or what might have become one, has ended."""
        self._arrivals.leave(assoc.arrival)
        self._ended(assoc)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's thread: TLS, then the association."""
        arrival = self._arriving[request]
        try:
            self._finish(request, client_address)
        except BaseException:
            self._arriving.pop(arrival.sock, None)
            self._arrivals.leave(arrival)
            raise

    def _finish(self, request: Any, client_address: Any) -> None:
        if self._tls is not None:
            request.settimeout(self.ae.acse_timeout)
            wrapped = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self._arriving[wrapped] = arrival = self._arriving.pop(request)
            request = arrival.sock = wrapped
            try:
                wrapped.do_handshake()
            except ssl.SSLError as error:
                if why := refused_certificate(error):
                    self._noted("dimse", why, client_address[0])
                raise
            self._check(request.getpeercert(), client_address[0])
        super().finish_request(request, client_address)

    def _check(self, certificate: dict[str, Any] | None, address: str) -> None:
        """Whether whoever showed this certificate may go on.

        Raises:
            CrosslightError: if not.
        """
        try:
            if certificate:
                self._certified(certificate)
        except CrosslightError as error:
            self._noted("dimse", error, address)
            raise

    def look(self) -> int:
        """End the associations of those whose certificates hold no longer; how many."""
        n_cut = 0
        for assoc in self.active_associations:
            try:
                self._check(assoc.certificate, str(assoc.requestor.address))
            except CrosslightError as error:
                n_cut += 1
                log.warning("association cut", address=str(assoc.requestor.address), reason=error.what)
                assoc.cut()
        return n_cut

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that came to nothing, mostly a TLS handshake."""
        log.warning("connection failed", address=client_address[0])

    def service_actions(self) -> None:
        """pynetdicom collects garbage here; ours is left to the interpreter."""

    def _bind_defaults(self) -> None:
        """Bind none of pynetdicom's default handlers: they only log."""

    def start(self) -> None:
        """Serve in a thread."""
        self.ae._servers.append(self)
        self._thread = threading.Thread(
            target=lambda: self.serve_forever(poll_interval=0.1),
            name=f"dimse@{self.server_address[1]}",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop listening, abort associations, wait for their threads; whether all have ended."""
        self.shutdown()
        self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        open_ones = self.active_associations
        for assoc in open_ones:
            assoc.cut()
        for assoc in open_ones:
            assoc.join(timeout_s)
            ended = ended and not assoc.is_alive()
        return ended
