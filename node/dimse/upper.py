"""The upper layer (PS3.8): pynetdicom's association, state machine and negotiation, as this node needs them.

Everything that reaches into pynetdicom, its private names included, is here, in :mod:`node.dimse.sockets` and
in :mod:`node.dimse.server`; messages and services (:mod:`node.dimse.association`) know nothing of it.
Differences, per association and none in pynetdicom's globals: the threads wait for events where pynetdicom
polls (1 ms at each of four hand-overs of an object); PDUs are bounded; P-DATA is neither copied nor decoded
here; a peer that stalls inside a PDU is cut off. Who runs in which thread::

    listening thread            accepts connections, starts a connection's thread
    a connection's thread       TLS handshake, then makes an UpperLayer and starts it
    an UpperLayer's own thread  the association request (who may call), negotiation, release and abort, the
      ("AcceptorThread@…")      idle timer; and what a service does beside: NodeDimse.get_msg runs the jobs of
                                Association
    its NodeDul's thread        all that is read from the socket and all that is written to it:
                                the state machine, fragments
                                -> Association.fragment -> a service that answers at once (C-STORE, C-ECHO)
    any other thread            UpperLayer.cut (a stop, a suspension)

So the socket has one reader and writer, and no lock; jobs hand their PDUs to NodeDul and wait while too many
are on their way.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import _INTERVENTION_EVENTS, get_default_handler
from pynetdicom.pdu import A_RELEASE_RP

from crosslight.runtime.log import get_logger
from crosslight.standards.problem import Malformed, Unavailable
from node.dimse import sockets
from node.dimse.accounts import Account
from node.dimse.arrivals import Arrival
from node.dimse.association import Association
from node.dimse.pdata import P_DATA_TF, fragments_of
from node.dimse.sockets import NodeSocket

log = get_logger("dimse")

_OPENING_S = 10.0
_SETTLE_STEPS = 100  # of 10 ms
MAX_ON_THEIR_WAY = 4  # batches of PDUs that a job has handed over and that are not sent
_INVALID = "Evt19"  # PS3.8 Table 9-10: an invalid PDU; the state machine aborts


class _Fragments:
    """A P-DATA-TF PDU, and its own primitive: PDVs that point into the bytes as they were received."""

    def __init__(self, values: list[tuple[int, memoryview]]) -> None:
        self.presentation_data_value_list = values

    def to_primitive(self) -> _Fragments:
        """As pynetdicom's state machine asks for it."""
        return self


class _Outgoing:
    """PDUs of a job, for the thread that writes."""

    def __init__(self, pdus: bytes) -> None:
        self.pdus = pdus


class NodeDul(DULServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """The upper layer's thread, woken instead of polling."""

    def __init__(self, assoc: UpperLayer) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0
        self._sent_last = False
        self.to_provider_queue = sockets.WakingQueue(self._wake_socket)
        self.to_user_queue = sockets.WakingQueue(assoc.wake)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] == P_DATA_TF:
            return _Fragments(fragments_of(bytestream)), "Evt10"
        decoded: tuple[Any, str] = super()._decode_pdu(bytestream)
        return decoded

    def _process_recv_primitive(self) -> bool:
        """Take what this side wants to send.

        Between a job's PDUs the socket is looked at, for a cancellation or an abort.
        """
        waiting = self.to_provider_queue.queue
        if not waiting or not isinstance(waiting[0], _Outgoing):
            processed: bool = super()._process_recv_primitive()
            return processed
        self._sent_last = not self._sent_last
        if self._sent_last:
            self.assoc.write(self.to_provider_queue.get(block=False).pdus)
        return self._sent_last

    def _send(self, pdu: Any) -> None:
        super()._send(pdu)
        if isinstance(pdu, A_RELEASE_RP) and isinstance(self.socket, NodeSocket):
            self.socket.released()

    def idle_timer_expired(self) -> bool:
        """Whether the peer has been silent for too long; not while it is us who are at work."""
        return not self.assoc.receiving and bool(super().idle_timer_expired())

    def _wake_socket(self) -> None:
        if isinstance(self.socket, NodeSocket):
            self.socket.wake()


class NodeDimse(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """Hands fragments to the association, and runs its jobs: nothing is left to pynetdicom's own messages."""

    def __init__(self, assoc: UpperLayer) -> None:
        super().__init__(assoc)
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()

    def get_msg(self, block: bool = False) -> Any:
        """Waits a moment for a job or a wake-up, in the association's thread; never returns a message."""
        try:
            job = self._jobs.get(timeout=sockets.IDLE_S)
        except queue.Empty:
            return None, None
        if job is not None:
            job()
            self.dul._idle_timer.restart()
        return None, None

    def later(self, job: Callable[[], None] | None) -> None:
        """Run ``job`` there; None only wakes it."""
        self._jobs.put(job)

    def receive_primitive(self, primitive: Any) -> None:
        """P-DATA from the peer, in the upper layer's thread."""
        self.assoc.wait_until_open()
        self.assoc.receiving = True
        try:
            for context_id, data in primitive.presentation_data_value_list:
                self.assoc.association.fragment(context_id, data)
        except Unavailable:
            pass  # it ended before its answer
        except Malformed as error:
            log.warning("an association is aborted", reason=error.what, address=self.assoc.address)
            self.assoc.abort_now()
        except Exception:
            log.exception("receive")
            self.assoc.abort_now()
        finally:
            self.dul._idle_timer.restart()
            self.assoc.receiving = False


class UpperLayer(PynetdicomAssociation):  # type: ignore[misc]  # pynetdicom has no types
    """One connection: the line of an :class:`~node.dimse.association.Association`.

    It makes that when the connection is accepted.

    Args:
        ae: pynetdicom's settings.
        ended: Told when both threads are done with it.
        arrival: The connection's room.
    """

    def __init__(self, ae: Any, ended: Callable[[UpperLayer], None], arrival: Arrival) -> None:
        self._ended, self.arrival = ended, arrival
        self.certificate: dict[str, Any] | None = None  # that was shown, in getpeercert() form
        self.account: Account | None = None  # of a caller that was let in
        self._association: Association | None = None
        self.receiving = False
        self._lost = False
        self._on_their_way = threading.Semaphore(MAX_ON_THEIR_WAY)
        self._established, self._opened = False, threading.Event()
        super().__init__(ae, "acceptor")
        self.dul = NodeDul(self)
        self.dimse = NodeDimse(self)
        # setters that reach into the dul
        self.acse_timeout, self.dimse_timeout = ae.acse_timeout, ae.dimse_timeout
        self.network_timeout = ae.network_timeout

    def _bind_defaults(self) -> None:
        for event in _INTERVENTION_EVENTS:
            self.bind(event, get_default_handler(event))

    # --- its association ------------------------------------------------------------------------------------

    @property
    def association(self) -> Association:
        """What the fragments are for.

        Raises:
            Malformed: before it was accepted.
        """
        if self._association is None:
            raise Malformed("Data before the association was accepted.", why="PS3.8 9.2.")
        return self._association

    def carry(self, association: Association) -> None:
        """It was accepted: this is what the fragments are for."""
        self._association = association

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
        """Wait until the association's thread has ended the negotiation.

        The peer may send as soon as it has the acceptance.
        """
        waited_s = 0.0
        while not self._opened.wait(sockets.IDLE_S) and not self._kill and waited_s < _OPENING_S:
            waited_s += sockets.IDLE_S

    @property
    def address(self) -> str:
        """The peer's address."""
        return str(self.requestor.address)

    @property
    def calling(self) -> tuple[str, str]:
        """AE title and address of an association request."""
        return str(self.requestor.primitive.calling_ae_title).strip(), self.address

    # --- the line (:class:`node.dimse.exchange.Line`) -------------------------------------------------------

    @property
    def longest_pdu(self) -> int:
        """The caller's Maximum Length Received; 0 = any."""
        return int(self.requestor.maximum_length or 0)

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._lost or not self._established or not self.dul.is_alive()

    @property
    def patience_s(self) -> float:
        """How long the caller's answer is waited for."""
        return float(self.network_timeout or 0)

    def send(self, pdus: bytes) -> None:
        """As :meth:`Line.send`: at once in the upper layer's thread; from another one it is handed over."""
        if threading.current_thread() is self.dul:
            if not self.over:
                self.dul.socket.send(pdus)
            return
        while not self.over:
            if self._on_their_way.acquire(timeout=sockets.IDLE_S):
                self.dul.to_provider_queue.put(_Outgoing(pdus))
                return
        raise Unavailable("The association is over.")

    @property
    def has_to_send(self) -> bool:
        """Whether PDUs of a job, or the state machine's, are waiting."""
        return not self.dul.to_provider_queue.empty()

    def write(self, pdus: bytes) -> None:
        """Send what a job handed over, in the upper layer's thread."""
        self._on_their_way.release()
        if not self.over:
            self.dul.socket.send(pdus)

    def later(self, job: Callable[[], None]) -> None:
        """As :meth:`Line.later`."""
        self.dimse.later(job)

    def abort(self) -> None:
        """As :meth:`Line.abort`."""
        self.abort_now()
        self.dul._wake_socket()

    def abort_now(self) -> None:
        """Let the state machine abort, as for an invalid PDU."""
        self.dul.event_queue.put(_INVALID)

    # --- its end --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the association's thread look for a release or an abort."""
        self.dimse.later(None)

    def run_reactor(self) -> None:
        """The association from request to end, with its account settled whatever happens."""
        try:
            super().run_reactor()
        finally:
            self._settle()
            if self._association is not None:
                self._association.close()
            self._ended(self)

    def _settle(self) -> None:
        """Let the upper layer say what it has to (an abort), then end its thread."""
        for _ in range(_SETTLE_STEPS):
            if not self.dul.is_alive() or self.dul.state_machine.current_state == "Sta1":
                break
            time.sleep(0.01)
        self.dul.kill_dul()
        if isinstance(self.dul.socket, NodeSocket):
            self.dul.socket.end()

    def lose_line(self) -> None:
        """The connection is closed: whoever waits to send, or for an answer, need not."""
        self._lost = True
        if self._association is not None:
            self._association.line_lost()

    def cut(self) -> None:
        """Abort now, from any thread, without waiting.

        An object that is being committed still is, unanswered.
        """
        if self.is_established:
            self.is_established = False
            self.acse.send_abort(0x00)
        self._kill = True
        self._reactor_checkpoint.set()
        self.give_up()
        self.lose_line()
        self.wake()

    def give_up(self) -> None:
        """Stop waiting for an association request that can no longer come."""
        if self.requestor.primitive is None:
            self.dul.to_user_queue.put(None)
