"""The listening socket: each connection gets a thread of its own, its TLS handshake included."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable

from crosslight.runtime.log import get_logger
from crosslight.standards.problem import Busy
from node.dimse.sockets import DimseConnection, PlainConnection, TlsConnection
from node.dimse.upper import Host, Patience, UpperLayer

log = get_logger("dimse")

_BACKLOG = 64
_RECOVER_S = 0.1  # after the system had no descriptor or memory for one more


class Server:
    """Accepts connections and makes an upper layer of each.

    Args:
        address: Where to listen.
        visit: Who decides about one.
        patience: With each peer.
        tls: For DICOM over TLS.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(
        self,
        address: tuple[str, int],
        visit: Callable[[UpperLayer], Host],
        patience: Patience,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._visit, self._patience, self._tls = visit, patience, tls
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=_BACKLOG)
        self.port = int(self._socket.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[UpperLayer] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"dimse@{self.port}", daemon=True)

    @property
    def open(self) -> tuple[UpperLayer, ...]:
        """Connections whose threads have not ended."""
        with self._lock:
            return tuple(self._open)

    def start(self) -> None:
        """Serve, in a thread."""
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                if not self._stopping:
                    log.warning("a connection could not be accepted", reason=error.strerror or "")
                    time.sleep(_RECOVER_S)
                continue
            try:
                self._take(sock, str(address[0]))
            except Busy as error:
                log.warning("connection refused", address=address[0], reason=error.what)
                sock.close()
            except OSError:
                log.warning("connection failed", address=address[0])  # it has gone already
                sock.close()
            except Exception:  # whatever this one was, others are served
                log.exception("accept")
                sock.close()

    def _take(self, sock: socket.socket, address: str) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Nagle costs 40 ms an object
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection: DimseConnection = (
            TlsConnection(sock, self._tls) if self._tls is not None else PlainConnection(sock)
        )
        try:
            upper = UpperLayer(connection, address, self._visit, self._patience, self._forget)
        except Busy:
            connection.close()
            raise
        with self._lock:
            self._open.add(upper)
        upper.start()

    def _forget(self, upper: UpperLayer) -> None:
        with self._lock:
            self._open.discard(upper)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop listening, abort associations, wait for their threads; whether all have ended."""
        self._stopping = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        except OSError:
            pass
        self._thread.join(timeout_s)
        self._socket.close()
        for upper in self.open:
            upper.cut()
        ended = [upper.join(timeout_s) for upper in self.open]
        return all(ended) and not self._thread.is_alive()
