"""What the threads of :mod:`node.dimse.upper` wait on.

A connection that can be woken, and queues that wake it.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom.transport import AssociationSocket

IDLE_S = 0.05  # how long a thread waits before it looks at timers
_CLOSED_S = 0.002
MAX_PDU_BYTES = 2 << 20  # any PDU, A-ASSOCIATE-RQ included


class Owner(Protocol):
    """What a connection asks of its association."""

    network_timeout: float | None

    @property
    def has_to_send(self) -> bool:
        """Whether there is something to write."""
        ...

    def give_up(self) -> None:
        """No association request comes any more."""
        ...

    def lose_line(self) -> None:
        """The connection is closed."""
        ...


class WakingQueue(queue.Queue[Any]):
    """A queue that wakes somebody at each put."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class NodeSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom has no types
    """Waits in poll for data or a wake-up, reads a PDU in few calls and within bounds."""

    def __init__(self, assoc: Owner, client_socket: Any) -> None:
        super().__init__(assoc, client_socket=client_socket)
        client_socket.settimeout(assoc.network_timeout)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_lock = threading.Lock()
        self._wake_open = True
        self._gone = self._ending = False
        self._poll = select.poll()
        self._poll.register(client_socket, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)

    def wake(self) -> None:
        """Let the waiting thread look at its queues."""
        with self._wake_lock:
            if self._wake_open:
                try:
                    os.write(self._wake_write, b"\0")
                except BlockingIOError:  # it is awake enough
                    pass

    def end(self) -> None:
        """Close everything; the upper layer's thread, if it is still waiting, sees it closed."""
        self._shutdown_socket()
        with self._wake_lock:
            if self._wake_open:
                self._wake_open = False
                os.close(self._wake_read)
                os.close(self._wake_write)

    def released(self) -> None:
        """The peer knows that the association is released: nothing more of it is worth waiting for."""
        self._ending = True

    def close(self) -> None:
        """Close the connection, as the state machine says."""
        super().close()
        self.assoc.give_up()
        self.assoc.lose_line()

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits a moment for it."""
        sock = self.socket
        if sock is None or not self._is_connected or self._gone:
            time.sleep(_CLOSED_S)
            return False
        pending = getattr(sock, "pending", None)
        if pending is not None and pending():
            return True
        try:
            # pynetdicom's loop asks the socket before its events: with an event at hand, do not wait
            at_once = self._ending or not self.event_queue.empty() or self.assoc.has_to_send
            events = self._poll.poll(0 if at_once else IDLE_S * 1000)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        readable = False
        for fd, _ in events:
            if fd == self._wake_read:
                os.read(self._wake_read, 4096)
            else:
                readable = True
        return readable

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, or fewer when the peer has gone.

        Raises:
            OSError: for a PDU over the bound, or a peer that stalls.
        """
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError("PDU over the bound")
        data = bytearray(nr_bytes)
        view, n_read = memoryview(data), 0
        while n_read < nr_bytes:
            count = self.socket.recv_into(view[n_read:])
            if not count:
                self._gone = True
                self.assoc.give_up()
                break
            n_read += count
        view.release()
        return data if n_read == nr_bytes else data[:n_read]
