"""File bytes to a plain socket that do not pass through this process (D26).

By ``sendfile``, in threads where a disk may be slow. ``loop.sendfile`` is not relied upon (uvloop has none):
a second handle of the connection's socket is written to directly, once the transport has nothing of its own
left to send. A slow client holds no thread: whoever finds the socket full goes back to the event loop.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import select
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from crosslight.runtime.listener import Stall, queued
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import StorageError, kind_as_sentence
from node.holdings import Local

NEAR_BYTES = 1 << 20  # the most that the event loop sends itself, from the page cache
PAGE = 4096
TURN_BYTES = 32 << 20  # of one stay in a thread
FULL_MS = 10  # how long a thread waits for room in the socket; a client slower than that frees the thread
LOOK_S = 1.0  # how often it is looked whether a client that does not read has gone, or is to be cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes, then a span of a file of this machine."""

    before: bytes = b""
    span: Local | None = None  # None: only ``before``

    @property
    def length(self) -> int:
        """Bytes of the span."""
        return self.span.length if self.span is not None else 0

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return len(self.before) + self.length


def short() -> StorageError:
    """What to say of a file that has less than it should."""
    return StorageError("A stored object is shorter than it should be.", todo="Run verify.")


def unreadable(error: OSError) -> StorageError:
    """What to say of a file that cannot be read."""
    return StorageError("A stored object cannot be read.", why=kind_as_sentence(error))


def plain_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    """A second handle of the connection's socket.

    None for TLS, and while the transport itself has something to send.
    """
    if (
        not isinstance(transport, asyncio.Transport)
        or transport.is_closing()
        or transport.get_extra_info("sslcontext")
    ):
        return None
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sys.platform != "linux" or transport.get_write_buffer_size():
        return None
    own = socket.fromfd(sock.fileno(), sock.family, sock.type)
    own.setblocking(False)
    return own


@contextmanager
def corked(transport: asyncio.BaseTransport | None) -> Iterator[None]:
    """Have the kernel send full packets only, until the end of the block.

    So headers and the body that follows them wake the client once.
    """
    sock: Any = transport.get_extra_info("socket") if transport is not None else None
    option = getattr(socket, "TCP_CORK", None)
    if sock is None or option is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)
    try:
        yield
    finally:
        with suppress(OSError):  # it may be closed by now
            sock.setsockopt(socket.IPPROTO_TCP, option, 0)


def near_buffer() -> memoryview:
    """A page-aligned buffer from which the event loop itself sends small bodies.

    Some processors copy ten times slower to an address that lies, within its page, a few bytes beyond that of
    the source.
    """
    return memoryview(mmap.mmap(-1, NEAR_BYTES + PAGE))


async def pour(
    workers: Workers,
    sock: socket.socket,
    gone: Callable[[], bool],
    pieces: Sequence[Piece],
    near: memoryview | None,
    stall_s: float,
    take: Callable[[int], Awaitable[int]] | None = None,
) -> None:
    """Send ``pieces`` and close ``sock``.

    Args:
        workers: For waiting on the disk.
        sock: From :func:`plain_socket`.
        gone: Whether the connection has been closed meanwhile.
        pieces: In their order.
        near: From :func:`near_buffer`, where all of it is little and in the page cache: it is sent from here.
        stall_s: In so long the other end must take :data:`~crosslight.runtime.listener.STALL_BYTES`.
        take: Waits until bytes may be sent, and says how many of those asked for; None: any, at once.

    Raises:
        StorageError: a file is gone or short.
        ConnectionError: the peer has gone, or does not read.
    """
    if near is not None:
        try:
            pieces = _send_near(sock, pieces, near)
        except BaseException:
            sock.close()
            raise
    pump = _Pump(sock, gone, pieces)
    stall = Stall(stall_s, asyncio.get_running_loop().time)
    allowed = 0
    try:
        done = not pieces
        while not done:
            if take is not None and pump.sent >= allowed:
                allowed += await take(TURN_BYTES)
            if pump.full or near is not None:
                await _writable(sock)
                if stall.lasts(pump.sent - queued(sock)):
                    raise ConnectionAbortedError("the reader has stalled")
            most = TURN_BYTES if take is None else allowed - pump.sent
            done = await workers.run(pump.run, FULL_MS, most)
    finally:
        pump.close()


def _send_near(sock: socket.socket, pieces: Sequence[Piece], buffer: memoryview) -> list[Piece]:
    """Everything in one call; what the socket would not take is left."""
    first = next(
        ((piece.span, piece.before) for piece in pieces if piece.span is not None and piece.length), None
    )
    start = end = (first[0].offset - len(first[1])) % PAGE if first is not None else 0
    for piece in pieces:
        buffer[end : end + len(piece.before)] = piece.before
        end += len(piece.before)
        if piece.span is not None and piece.length:
            read_into(piece.span, buffer[end : end + piece.length])
            end += piece.length
    try:
        start += sock.send(buffer[start:end])
    except BlockingIOError:
        pass
    return [Piece(before=bytes(buffer[start:end]))] if start < end else []


def read_into(span: Local, buffer: memoryview) -> None:
    """Fill ``buffer``, which is as long as the span.

    Raises:
        StorageError: it is gone or short.
    """
    try:
        fd = os.open(span.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count = os.preadv(fd, [buffer], span.offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise unreadable(error) from None
    if count != len(buffer):
        raise short()


async def _writable(sock: socket.socket) -> None:
    """Wait until there is room, or for a moment."""
    loop = asyncio.get_running_loop()
    room = asyncio.Event()
    loop.add_writer(sock, room.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await room.wait()
    finally:
        loop.remove_writer(sock)


class _Pump:
    """Where the sending is; ``run`` goes on from there, in any thread."""

    def __init__(self, sock: socket.socket, gone: Callable[[], bool], pieces: Iterable[Piece]) -> None:
        self._sock, self._gone, self._pieces = sock, gone, iter(pieces)
        self._before = memoryview(b"")
        self._fd, self._offset, self._left = -1, 0, 0
        self._running, self._closed = threading.Lock(), False
        self.full = False  # the socket would not take more
        self.sent = 0  # bytes that the socket took

    def run(self, wait_ms: int, most: int = TURN_BYTES) -> bool:
        """Send what can be sent, about ``most`` bytes; True when that was all.

        May be told to :meth:`close` by another thread meanwhile.
        """
        try:
            with self._running:
                return self._run(wait_ms, most)
        finally:
            if self._closed:
                self.close()

    def close(self) -> None:
        """Let go of socket and file, as soon as nobody uses them."""
        self._closed = True
        if self._running.acquire(blocking=False):
            try:
                self._sock.close()
                self._close_file()
            finally:
                self._running.release()

    def _run(self, wait_ms: int, most: int) -> bool:
        sent, self.full = 0, False
        while sent < most:
            if self._closed or self._gone():
                raise ConnectionResetError("the connection was closed")
            while not self._before and not self._left:
                if not self._next():
                    return True
            try:
                sent += self._send(most - sent)
            except BlockingIOError:
                if not wait_ms or not _room(self._sock, wait_ms):
                    self.full = True
                    return False
        return False

    def _next(self) -> bool:
        self._close_file()
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._before, self._left = memoryview(piece.before), piece.length
        if piece.span is not None and piece.length:
            self._offset = piece.span.offset
            try:
                self._fd = os.open(piece.span.file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise unreadable(error) from None
        return True

    def _send(self, most: int) -> int:
        if self._before:
            more = socket.MSG_MORE if self._left else 0
            count = self._sock.send(self._before, more)
            self._before = self._before[count:]
            self.sent += count
            return count
        try:
            count = os.sendfile(self._sock.fileno(), self._fd, self._offset, min(self._left, most))
        except (ConnectionError, BlockingIOError):
            raise
        except OSError as error:
            raise unreadable(error) from None
        if not count:
            raise short()
        self._offset, self._left = self._offset + count, self._left - count
        self.sent += count
        return count

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _room(sock: socket.socket, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(wait_ms))


def in_memory(pieces: Iterable[Piece]) -> bool:
    """Whether the page cache seems to hold all of it, judged by the first and last byte of each span.

    Raises:
        StorageError: a file is gone or short.
    """
    return all(piece.span is None or not piece.length or _cached(piece.span) for piece in pieces)


def _cached(span: Local) -> bool:
    byte = bytearray(1)
    try:
        fd = os.open(span.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for at in (span.offset, span.offset + span.length - 1):
                if not os.preadv(fd, [byte], at, os.RWF_NOWAIT):
                    raise short()
        finally:
            os.close(fd)
    except BlockingIOError:
        return False
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise unreadable(error) from None
        return False  # a file system that cannot tell
    return True
