"""An association that this node asks for, to send objects to another system (PS3.8; PS3.4 B as SCU).

One thread, a blocking socket, one message at a time: the PDUs are written from the file
(:mod:`crosslight.standards.dicom.upper_layer`), and nothing of an object is decoded.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from crosslight.runtime.tls import client_context
from crosslight.standards.dicom.upper_layer import pdu as pdus
from crosslight.standards.dicom.upper_layer.associate import (
    ACCEPTED,
    MAX_CONTEXTS,
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    Roles,
    UserInformation,
)
from crosslight.standards.dicom.upper_layer.pdata import (
    COMMAND,
    LAST,
    Bytes,
    command_pdus,
    data_pdus,
    fragments_of,
)
from crosslight.standards.problem import Malformed, PeerError, Unavailable
from node.dimse.command import MESSAGE_ID, RESPONSE, Command, Values, command_set
from node.dimse.config import DimseConfig
from node.dimse.exchange import Context

_MAX_PDU: Final = 1 << 20  # of what we read
_ANNOUNCED: Final = 1 << 17
_BATCH: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledSystem:
    """A system that is called.

    Attributes:
        tls: For DICOM over TLS.
        patience_s: How long is waited for it, each time.
    """

    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context to propose; with ``as_scp`` it is we who answer for it (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False


class Channel(Protocol):
    """An association on which objects can be sent: of our own, or the caller's (C-GET)."""

    @property
    def contexts(self) -> Sequence[Context]:
        """In which ones."""
        ...

    def ask(self, context_id: int, values: Values, data: Iterable[Bytes] | None = None) -> Command:
        """Send a request, and wait for the response.

        Raises:
            Unavailable: the other end has gone, or does not answer.
        """
        ...


class OutgoingAssociation:
    """One that was accepted; made by :func:`associate`."""

    def __init__(
        self, peer: CalledSystem, line: socket.socket, contexts: Sequence[Context], longest: int
    ) -> None:
        self._peer, self._line, self._longest = peer, line, longest
        self.contexts = contexts
        self._asked = 0
        self._fragments: deque[tuple[int, memoryview]] = deque()

    def ask(self, context_id: int, values: Values, data: Iterable[Bytes] | None = None) -> Command:
        """As :meth:`Channel.ask`."""
        with _said_plainly(self._peer):
            command = command_set({**values, MESSAGE_ID: self.new_id()}, data_set=data is not None)
            self._write(context_id, command, data)
            return self._answer()

    def new_id(self) -> int:
        """Of the next request."""
        self._asked = self._asked % 0xFFFF + 1
        return self._asked

    def say(self, context_id: int, command: bytes, data: Iterable[Bytes] | None = None) -> None:
        """Send a message as it is, and wait for nothing.

        Raises:
            Unavailable: the other end has gone.
        """
        with _said_plainly(self._peer):
            self._write(context_id, command, data)

    def heard(self, timeout_s: float) -> bool:
        """Whether something of the other end's is there to :meth:`hear` within this time."""
        if self._fragments or (isinstance(self._line, ssl.SSLSocket) and self._line.pending()):
            return True
        return bool(select.select([self._line], [], [], timeout_s)[0])

    def hear(self) -> tuple[int, Command]:
        """The next message's context and command set; a data set of it is read by :meth:`data`.

        Raises:
            Unavailable, Malformed: the other end has gone, says nothing in time, or breaks the rules.
        """
        whole = bytearray()
        with _said_plainly(self._peer):
            while True:
                context_id, fragment = self._fragment()
                if not fragment[0] & COMMAND:
                    raise Unavailable(f"{self._peer.ae_title} sends a data set without its command.")
                whole += fragment[1:]
                if len(whole) > _MAX_PDU:
                    raise Unavailable(f"{self._peer.ae_title} answers too much.")
                if fragment[0] & LAST:
                    return context_id, Command.parse(whole)

    def data(self) -> Iterator[memoryview]:
        """The data set of the message whose command set was read last, to its end.

        Raises:
            Unavailable: as :meth:`hear`.
        """
        while True:
            with _said_plainly(self._peer):
                _, fragment = self._fragment()
            if fragment[0] & COMMAND:
                raise Unavailable(f"{self._peer.ae_title} breaks a data set off.")
            yield fragment[1:]
            if fragment[0] & LAST:
                return

    def _fragment(self) -> tuple[int, memoryview]:
        while not self._fragments:
            kind, pdu = _read_pdu(self._line)
            if kind != pdus.P_DATA_TF:
                raise Unavailable(f"{self._peer.ae_title} ended the association.")
            self._fragments.extend(fragments_of(pdu))
        return self._fragments.popleft()

    def _write(self, context_id: int, command: bytes, data: Iterable[Bytes] | None) -> None:
        batch = bytearray()
        for pdu in self._pdus(context_id, command, data):
            batch += pdu
            if len(batch) >= _BATCH:
                self._line.sendall(batch)
                batch.clear()
        if batch:
            self._line.sendall(batch)

    def _pdus(self, context_id: int, command: bytes, data: Iterable[Bytes] | None) -> Iterator[bytes]:
        yield from command_pdus(context_id, command, self._longest)
        if data is not None:
            yield from data_pdus(context_id, data, self._longest)

    def _answer(self) -> Command:
        """The response to what was asked last; a data set that comes with it is read and dropped."""
        _, command = self.hear()
        if not command.field & RESPONSE or command.responded_to != self._asked:
            raise Unavailable(f"{self._peer.ae_title} answers something else.")
        if command.has_data_set:
            for _ in self.data():
                pass
        return command

    def release(self) -> None:
        """End it in order, as far as the other end takes part."""
        with suppress(OSError, PeerError):
            self._line.sendall(pdus.RELEASE_REQUEST)
            while _read_pdu(self._line)[0] not in (pdus.RELEASE_RP, pdus.ABORT):
                pass

    def abort(self) -> None:
        """End it now."""
        with suppress(OSError):
            self._line.sendall(pdus.abort(pdus.BY_USER))

    def cut(self) -> None:
        """End it from another thread: whoever waits for the other end waits no longer."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)


def peers_of(config: DimseConfig, base: Path) -> dict[str, CalledSystem]:
    """The configured destinations, by AE title.

    Raises:
        ConfigError: a certificate cannot be read.
    """
    return {there.ae_title.strip(): called_system(config, base, there) for there in config.destinations}


class CalledPlace(Protocol):
    """A system of the configuration that may be called."""

    @property
    def ae_title(self) -> str:
        """Its AE title."""
        ...

    @property
    def host(self) -> str:
        """Its address or host name."""
        ...

    @property
    def port(self) -> int:
        """Its TCP port."""
        ...

    @property
    def tls_ca(self) -> str:
        """PEM file of the authorities of its certificate; '' = in the clear."""
        ...


def called_system(config: DimseConfig, base: Path, there: CalledPlace) -> CalledSystem:
    """A configured system as it is called, with our certificate shown to it where it is called by TLS.

    Raises:
        ConfigError: a certificate cannot be read.
    """
    tls = None
    if there.tls_ca:
        certificate = base / config.tls_certificate if config.tls_certificate else None
        key = base / config.tls_key if config.tls_key else None
        tls = client_context(base / there.tls_ca, certificate, key)
    return CalledSystem(
        ae_title=there.ae_title.strip(),
        host=there.host,
        port=there.port,
        tls=tls,
        patience_s=config.network_timeout_s,
    )


@contextmanager
def associate(
    peer: CalledSystem, proposals: Sequence[Proposal], *, calling: str, as_scp: bool = False
) -> Iterator[OutgoingAssociation]:
    """An association with ``peer`` while the block lasts; aborted where the block fails.

    With ``as_scp`` it is we who answer for the SOP classes, and report of them (PS3.7 D.3.3.4).

    Raises:
        Unavailable: it cannot be reached, or does not accept.
    """
    with _said_plainly(peer), _connected(peer) as line:
        line.sendall(_request(peer, calling, proposals, as_scp=as_scp))
        association = _accepted(peer, line, proposals)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()


@contextmanager
def _connected(peer: CalledSystem) -> Iterator[socket.socket]:
    line = socket.create_connection((peer.host, peer.port), timeout=peer.patience_s)
    try:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Nagle costs 40 ms an object
        if peer.tls is not None:
            line = peer.tls.wrap_socket(line, server_hostname=peer.host)
        yield line
    finally:
        line.close()


@contextmanager
def _said_plainly(peer: CalledSystem) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"{peer.ae_title} does not answer.") from None
    except ssl.SSLError as error:
        raise Unavailable(f"{peer.ae_title}: TLS failed.", why=str(error.reason or "")) from None
    except OSError as error:
        raise Unavailable(f"{peer.ae_title} cannot be reached.", why=error.strerror or "") from None


def _request(peer: CalledSystem, calling: str, proposals: Sequence[Proposal], *, as_scp: bool) -> bytes:
    ours = (proposal.sop_class_uid for proposal in proposals if as_scp or proposal.as_scp)
    roles = dict.fromkeys(ours, Roles(scu=False, scp=True))
    return AssociateRequest(
        called=peer.ae_title,
        calling=calling,
        contexts=tuple(
            ProposedContext(number, proposal.sop_class_uid, proposal.transfer_syntaxes)
            for number, proposal in _numbered(proposals).items()
        ),
        user=UserInformation(longest_pdu=_ANNOUNCED, roles=roles),
    ).pdu()


def _numbered(proposals: Sequence[Proposal]) -> dict[int, Proposal]:
    return {2 * number + 1: proposal for number, proposal in enumerate(proposals[:MAX_CONTEXTS])}


def _accepted(peer: CalledSystem, line: socket.socket, proposals: Sequence[Proposal]) -> OutgoingAssociation:
    kind, pdu = _read_pdu(line)
    try:
        if kind == pdus.ASSOCIATE_RJ:
            why = str(pdus.Rejection.parse(pdu))
            raise Unavailable(f"{peer.ae_title} rejects the association.", why=why)
        if kind != pdus.ASSOCIATE_AC:
            raise Unavailable(f"{peer.ae_title} does not accept an association.")
        accept = AssociateAccept.parse(pdu)
    except Malformed:
        raise Unavailable(f"{peer.ae_title} answers what is no acceptance.") from None
    proposed = _numbered(proposals)
    contexts = [
        Context(answer.id, proposed[answer.id].sop_class_uid, answer.transfer_syntax_uid, we_may_ask=True)
        for answer in accept.contexts
        if answer.result == ACCEPTED and answer.id in proposed
    ]
    return OutgoingAssociation(peer, line, contexts, accept.user.longest_pdu)


def _read_pdu(line: socket.socket) -> tuple[int, bytes]:
    """The kind of the next PDU, and all of it.

    Raises:
        Unavailable: the connection is closed, or the PDU is too long.
    """
    head = _read(line, 6)
    length = int.from_bytes(head[2:6], "big")
    if length > _MAX_PDU:
        raise Unavailable("A PDU is too long.")
    return head[0], bytes(head + _read(line, length))


def _read(line: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        n_read = line.recv_into(view)
        if not n_read:
            raise Unavailable("The other end closed the connection.")
        view = view[n_read:]
    return data
