"""pynetdicom's association as this node needs it: the upper layer and negotiation are pynetdicom's, C-STORE is ours.

Differences, all per association and none in pynetdicom's globals: data sets go to the archive's stage as their fragments come,
bounded, and are never in memory as a whole; requests are not decoded into data sets; the threads wait for events where
pynetdicom polls (1 ms at each of four hand-overs of an object); PDUs are bounded; a peer that stalls inside a PDU is cut off.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import _INTERVENTION_EVENTS, get_default_handler
from pynetdicom.pdu import A_RELEASE_RP
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from crosslight.runtime.log import get_logger
from crosslight.standards.problem import CrosslightError, Malformed
from node.archive.model import Received
from node.archive.stage import Staged
from node.dimse.message import (
    C_STORE_RQ,
    MAX_COMMAND_BYTES,
    P_DATA_TF,
    SOP_CLASS_NOT_SUPPORTED,
    StoreRequest,
    command_elements,
    command_field,
    command_pdu,
    fragments_of,
    store_request,
    store_response,
)

log = get_logger("dimse")

_IDLE_S = 0.05  # how long a thread waits before it looks at timers
_CLOSED_S = 0.002
_OPENING_S = 10.0
MAX_PDU_BYTES = 2 << 20  # any PDU, A-ASSOCIATE-RQ included
_SETTLE_STEPS = 100  # of 10 ms
MAX_WAITING = 8  # other requests ahead of their answers


class StoreHandler(Protocol):
    """What the service does for an association."""

    def stage(self, association: NodeAssociation, request: StoreRequest) -> tuple[Staged, Received]:
        """A place for the data set that follows."""
        ...

    def store(self, association: NodeAssociation, incoming: Incoming) -> tuple[int, str]:
        """Take it in: status and comment."""
        ...

    def finished(self, association: NodeAssociation) -> None:
        """The association is over, however it ended."""
        ...


class Incoming:
    """A data set on its way: staged, or drained when it can no longer be kept."""

    def __init__(self, request: StoreRequest) -> None:
        self.request = request
        self.staged: Staged | None = None
        self.received: Received | None = None
        self.problem: CrosslightError | None = None

    def write(self, data: memoryview) -> None:
        """Keep a fragment; after a problem the rest is read and dropped."""
        if self.staged is None or self.problem is not None:
            return
        try:
            self.staged.write(data)
        except CrosslightError as error:
            self.problem = error
            self.staged.discard()

    def discard(self) -> None:
        """Forget what came."""
        if self.staged is not None:
            self.staged.discard()


class _Waking(queue.Queue[Any]):
    """A queue that wakes somebody at each put."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class NodeSocket(AssociationSocket):  # type: ignore[misc]
    """Waits in poll for data or a wake-up, reads a PDU in few calls and within bounds."""

    def __init__(self, assoc: NodeAssociation, client_socket: Any) -> None:
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
        """The peer has been told that the association is released: nothing more of it is worth waiting for."""
        self._ending = True

    def close(self) -> None:
        """Close the connection, as the state machine says."""
        super().close()
        self.assoc.give_up()

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
            # pynetdicom's loop asks the socket before its events: with one at hand there is nothing to wait for.
            at_once = self._ending or not self.event_queue.empty()
            found = self._poll.poll(0 if at_once else _IDLE_S * 1000)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        readable = False
        for fd, _ in found:
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
        view, got = memoryview(data), 0
        while got < nr_bytes:
            count = self.socket.recv_into(view[got:])
            if not count:
                self._gone = True
                self.assoc.give_up()
                break
            got += count
        view.release()
        return data if got == nr_bytes else data[:got]


class _Fragments:
    """A P-DATA-TF PDU, and its own primitive: PDVs that point into the bytes as they were received."""

    def __init__(self, found: list[tuple[int, memoryview]]) -> None:
        self.presentation_data_value_list = found

    def to_primitive(self) -> _Fragments:
        """As pynetdicom's state machine asks for it."""
        return self


class NodeDul(DULServiceProvider):  # type: ignore[misc]
    """The upper layer, woken instead of polling."""

    def __init__(self, assoc: NodeAssociation) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0
        self.to_provider_queue = _Waking(self._wake_socket)
        self.to_user_queue = _Waking(assoc.wake)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] == P_DATA_TF:
            return _Fragments(fragments_of(bytestream)), "Evt10"
        decoded: tuple[Any, str] = super()._decode_pdu(bytestream)
        return decoded

    def _send(self, pdu: Any) -> None:
        super()._send(pdu)
        if isinstance(pdu, A_RELEASE_RP) and isinstance(self.socket, NodeSocket):
            self.socket.released()

    def _wake_socket(self) -> None:
        if isinstance(self.socket, NodeSocket):
            self.socket.wake()


class NodeDimse(DIMSEServiceProvider):  # type: ignore[misc]
    """Reads C-STORE requests by itself; anything else is pynetdicom's."""

    def __init__(self, assoc: NodeAssociation, handler: StoreHandler) -> None:
        super().__init__(assoc)
        self._handler = handler
        self._command = bytearray()
        self._incoming: Incoming | None = None

    def get_msg(self, block: bool = False) -> Any:
        """The next message; waits a moment for it."""
        try:
            return self.msg_queue.get(timeout=_IDLE_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: Any) -> None:
        """P-DATA from the peer, in the upper layer's thread."""
        self.assoc.wait_until_open()
        try:
            for context_id, data in primitive.presentation_data_value_list:
                self._fragment(context_id, data)
        except Malformed:
            self.dul.event_queue.put("Evt19")  # invalid: abort
        except Exception:
            log.exception("receive")
            self.dul.event_queue.put("Evt19")
        if self.msg_queue.qsize() > MAX_WAITING:  # asynchronous operations are not negotiated (PS3.7 D.3.3.3)
            self.dul.event_queue.put("Evt19")

    def _fragment(self, context_id: int, data: memoryview) -> None:
        header = data[0]  # PS3.8 E.2: bit 0 command, bit 1 last
        if not header & 1:
            if self._incoming is None:
                self._delegate(context_id, bytes(data))
                return
            if context_id != self._incoming.request.context_id:
                raise Malformed("A data set in another presentation context than its command.", why="PS3.7 6.3.2.")
            self._incoming.write(data[1:])
            if header & 2:
                incoming, self._incoming = self._incoming, None
                self.assoc.answer(incoming)
            return
        if self._incoming is not None or len(self._command) + len(data) > MAX_COMMAND_BYTES:
            raise Malformed("A command where its data set should be, or one too long.", why="PS3.7 6.3.2.")
        self._command += data[1:]
        if header & 2:
            command, self._command = bytes(self._command), bytearray()
            self._begin(context_id, command)

    def _begin(self, context_id: int, command: bytes) -> None:
        elements = command_elements(command)
        if command_field(elements) != C_STORE_RQ:
            self._delegate(context_id, b"\x03" + command)
            return
        incoming = Incoming(store_request(elements, context_id))
        try:
            incoming.staged, incoming.received = self._handler.stage(self.assoc, incoming.request)
        except CrosslightError as error:
            incoming.problem = error
        self._incoming = incoming

    def _delegate(self, context_id: int, data: bytes) -> None:
        whole = P_DATA()
        whole.presentation_data_value_list = [[context_id, data]]
        super().receive_primitive(whole)

    def drop(self) -> None:
        """Forget what is unfinished."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None


class NodeAssociation(Association):  # type: ignore[misc]
    """One caller. ``account`` is the service's."""

    def __init__(self, ae: Any, handler: StoreHandler) -> None:
        self._handler = handler
        self.account: Any = None
        self._established, self._opened = False, threading.Event()
        super().__init__(ae, "acceptor")
        self.dul = NodeDul(self)
        self.dimse = NodeDimse(self, handler)
        self.acse_timeout, self.dimse_timeout = ae.acse_timeout, ae.dimse_timeout  # setters that reach into the dul
        self.network_timeout = ae.network_timeout

    def _bind_defaults(self) -> None:
        for event in _INTERVENTION_EVENTS:
            self.bind(event, get_default_handler(event))

    @property
    def is_established(self) -> bool:
        """As pynetdicom's threads say."""
        return self._established

    @is_established.setter
    def is_established(self, value: bool) -> None:
        self._established = value
        if value:
            self._opened.set()

    def wait_until_open(self) -> None:
        """Wait until the association's thread has ended the negotiation: the peer may send as soon as it has the acceptance."""
        waited_s = 0.0
        while not self._opened.wait(_IDLE_S) and not self._kill and waited_s < _OPENING_S:
            waited_s += _IDLE_S

    def wake(self) -> None:
        """Let the association's thread look for a release or an abort."""
        self.dimse.msg_queue.put((None, None))

    @property
    def caller(self) -> tuple[str, str]:
        """Calling AE title and address."""
        return self.requestor.ae_title.strip(), self.requestor.address

    def run_reactor(self) -> None:
        """The association from request to end, with its account settled whatever happens."""
        try:
            super().run_reactor()
        finally:
            self._settle()
            self.dimse.drop()
            self._handler.finished(self)

    def _settle(self) -> None:
        """Let the upper layer say what it has to (an abort), then end its thread."""
        for _ in range(_SETTLE_STEPS):
            if not self.dul.is_alive() or self.dul.state_machine.current_state == "Sta1":
                break
            time.sleep(0.01)
        self.dul.kill_dul()
        if isinstance(self.dul.socket, NodeSocket):
            self.dul.socket.end()

    def cut(self) -> None:
        """Abort now, from any thread, without waiting; an object that is being committed still is, unanswered."""
        if self.is_established:
            self.is_established = False
            self.acse.send_abort(0x00)
        self._kill = True
        self._reactor_checkpoint.set()
        self.give_up()
        self.wake()

    def give_up(self) -> None:
        """Stop waiting for an association request that can no longer come."""
        if self.requestor.primitive is None:
            self.dul.to_user_queue.put(None)

    def answer(self, incoming: Incoming) -> None:
        """Store and answer, in the upper layer's thread: its peer sends nothing more until it has the answer."""
        request = incoming.request
        context = self._accepted_cx.get(request.context_id)
        if context is None:
            incoming.discard()
            self.dul.event_queue.put("Evt19")
            return
        if context.abstract_syntax != request.sop_class_uid:
            incoming.discard()
            status, comment = SOP_CLASS_NOT_SUPPORTED, "SOP Class not of this presentation context"
        else:
            status, comment = self._handler.store(self, incoming)
        if self.is_established:
            self.dul.socket.send(command_pdu(request.context_id, store_response(request, status, comment)))
