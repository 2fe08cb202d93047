"""Connections as :mod:`node.dimse.upper` reads and writes them: in the clear, or by TLS.

One thread reads; any may write, one at a time (the upper layer sees to that); any may cut. Whoever waits,
waits in the kernel, and no longer than it says.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

_TIMEVAL = struct.Struct("@ll").pack


class DimseConnection(Protocol):
    """A connection that was accepted."""

    def begin(self, patience_s: float) -> dict[str, Any] | None:
        """Shake hands where that is done; the certificate that was shown (``getpeercert()`` form).

        Raises:
            OSError: it came to nothing; ``TimeoutError`` where that is because of the time.
        """
        ...

    def receive(self, into: memoryview, patience_s: float, *, all_of_it: bool = False) -> int:
        """Wait for bytes: how many came, 0 at the end. ``all_of_it`` says that less is of no use.

        Raises:
            OSError: it is broken; ``TimeoutError`` when nothing comes.
        """
        ...

    def send(self, data: bytes, patience_s: float) -> None:
        """Send all of it.

        Raises:
            OSError: it is broken; ``TimeoutError`` when the peer takes nothing for so long.
        """
        ...

    def send_at_once(self, data: bytes) -> None:
        """Send it where that needs no waiting."""
        ...

    def end_sending(self) -> None:
        """Say that no more will come."""
        ...

    def cut(self) -> None:
        """End it, from any thread: whoever waits for it sees the end."""
        ...

    def close(self) -> None:
        """Let go of it, once nobody waits for it any more."""
        ...


class _Common:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def end_sending(self) -> None:
        """As :meth:`DimseConnection.end_sending`."""
        self._shut(socket.SHUT_WR)

    def cut(self) -> None:
        """As :meth:`DimseConnection.cut`."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self._sock, how)  # an SSLSocket's own would forget its TLS under a reader

    def close(self) -> None:
        """As :meth:`DimseConnection.close`."""
        self._sock.close()


class PlainConnection(_Common):
    """In the clear: one call into the kernel for each wait, which knows the time."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)
        self._patience = {socket.SO_RCVTIMEO: 0.0, socket.SO_SNDTIMEO: 0.0}

    def begin(self, patience_s: float) -> dict[str, Any] | None:
        """As :meth:`DimseConnection.begin`: there is nothing to do."""
        return None

    def receive(self, into: memoryview, patience_s: float, *, all_of_it: bool = False) -> int:
        """As :meth:`DimseConnection.receive`."""
        self._be_patient(socket.SO_RCVTIMEO, patience_s)
        try:
            return self._sock.recv_into(into, 0, socket.MSG_WAITALL if all_of_it else 0)
        except BlockingIOError:
            raise TimeoutError from None

    def send(self, data: bytes, patience_s: float) -> None:
        """As :meth:`DimseConnection.send`."""
        self._be_patient(socket.SO_SNDTIMEO, patience_s)
        view = memoryview(data)
        try:
            while view:
                view = view[self._sock.send(view) :]
        except BlockingIOError:
            raise TimeoutError from None

    def send_at_once(self, data: bytes) -> None:
        """As :meth:`DimseConnection.send_at_once`."""
        with suppress(OSError):
            self._sock.send(data, socket.MSG_DONTWAIT)

    def _be_patient(self, option: int, seconds: float) -> None:
        if self._patience[option] != seconds:
            whole, micros = divmod(max(1, int(seconds * 1e6)), 1_000_000)  # zero would be for ever
            self._sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL(whole, micros))
            self._patience[option] = seconds


class TlsConnection(_Common):
    """By TLS. OpenSSL's state has no lock of its own: a call takes ours, and none of them waits."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(False)
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        super().__init__(self._tls)
        self._lock = threading.Lock()

    def begin(self, patience_s: float) -> dict[str, Any] | None:
        """As :meth:`DimseConnection.begin`."""
        self._patiently(self._tls.do_handshake, time.monotonic() + patience_s)
        return self._tls.getpeercert()

    def receive(self, into: memoryview, patience_s: float, *, all_of_it: bool = False) -> int:
        """As :meth:`DimseConnection.receive`; a record at a time."""
        received: int = self._patiently(partial(self._tls.recv_into, into), time.monotonic() + patience_s)
        return received

    def send(self, data: bytes, patience_s: float) -> None:
        """As :meth:`DimseConnection.send`."""
        view = memoryview(data)
        while view:
            sent = self._patiently(partial(self._tls.send, view), time.monotonic() + patience_s)
            view = view[sent:]

    def send_at_once(self, data: bytes) -> None:
        """As :meth:`DimseConnection.send_at_once`."""
        with suppress(OSError), self._lock:
            self._tls.send(data)

    def _patiently(self, attempt: Callable[[], Any], until: float) -> Any:
        while True:
            try:
                with self._lock:
                    return attempt()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            waiting = select.poll()
            waiting.register(self._tls, wanted)
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
