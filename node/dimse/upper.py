"""The upper layer of one connection (PS3.8 9.2): from the request of an association to its end.

Messages and services (:mod:`node.dimse.association`) know nothing of it, nor it of them. Who runs in which
thread::

    the server's thread         accepts connections, makes an UpperLayer of each and starts its thread
    an UpperLayer's thread      TLS handshake, the association's request; all that is read
                                -> Association.fragment -> a service that answers at once (C-STORE, C-ECHO)
    a second one, "beside",     the jobs of Association: services that take their time. It begins with the
      where there is a need     first of them
    any other thread            UpperLayer.cut (a stop, a suspension)

One thread reads, so that a cancellation or an abort is heard while a service answers beside; both write,
whole PDUs at a time. Nothing here polls, and no timer stands in for "nothing to do": a thread waits in the
kernel for its peer, as long as its patience lasts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.upper_layer import pdu as pdus
from crosslight.standards.dicom.upper_layer.associate import (
    APPLICATION_CONTEXT,
    MAX_ASSOCIATE_BYTES,
    AssociateAccept,
    AssociateRequest,
)
from crosslight.standards.dicom.upper_layer.pdata import fragments_of
from crosslight.standards.dicom.upper_layer.pdu import Rejection
from crosslight.standards.problem import CrosslightError, Malformed, Unavailable
from node.dimse.association import Association
from node.dimse.pdu_reader import PduReader
from node.dimse.sockets import DimseConnection

log = get_logger("dimse")

MAX_PDU_BYTES: Final = 2 << 20
_DRAIN_BYTES: Final = 1 << 14
_LAST_WORD_S: Final = 2.0  # for a peer to take an abort or a rejection, and to close
_LAST_BYTES: Final = 4 << 20


class AssociationRejected(Exception):
    """The association is not to be."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection


class Host(Protocol):
    """Who decides about one connection."""

    def shown(self, certificate: dict[str, Any] | None) -> None:
        """A TLS handshake is over.

        Raises:
            CrosslightError: whoever showed this may not go on.
        """
        ...

    def failed(self, error: OSError) -> None:
        """A TLS handshake came to nothing."""
        ...

    def asked(self, request: AssociateRequest) -> tuple[AssociateAccept, Association]:
        """An association is asked for: the answer, and what the fragments are for.

        Raises:
            AssociationRejected: it is not to be.
        """
        ...

    def ended(self) -> None:
        """The connection, and whatever came of it, is over."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a peer is waited for, in seconds.

    Attributes:
        request_s: For a TLS handshake, and for all of an association request (ARTIM, PS3.8 9.1.5).
        silence_s: While an association lasts.
    """

    request_s: float
    silence_s: float


class UpperLayer:
    """One connection: the line of an :class:`~node.dimse.association.Association`, once that is accepted.

    Args:
        connection: To the peer.
        address: The peer's.
        visit: Who decides.
        patience: With the peer.
        ended: Told when its threads are done.

    Raises:
        Busy: there is no room for it.
    """

    def __init__(
        self,
        connection: DimseConnection,
        address: str,
        visit: Callable[[UpperLayer], Host],
        patience: Patience,
        ended: Callable[[UpperLayer], None],
    ) -> None:
        self.address = address
        self.certificate: dict[str, Any] | None = None  # that was shown, in getpeercert() form
        self._connection, self._patience, self._ended = connection, patience, ended
        self._received = PduReader(self._receive)
        self._writing = threading.Lock()
        self._association: Association | None = None
        self._longest, self._asked_by = 0, 0.0
        self._over = False  # nothing can be sent any more
        self._quiet = False  # the last word was said: what still comes is not read
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        self._n_jobs, self._worked_at = 0, 0.0
        self._beside: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name=f"dimse@{address}", daemon=True)
        self._visit = visit(self)

    def start(self) -> None:
        """Begin, in a thread.

        Raises:
            RuntimeError: the system has no room for one more; it is over then.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._end()
            raise

    def join(self, timeout_s: float) -> bool:
        """Wait for its threads; whether they have ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- its thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._shaken_hands() and self._negotiated():
                self._carry()
        except Malformed as error:
            self._abort(pdus.INVALID_PARAMETER)
            log.warning("an association is aborted", reason=error.what, address=self.address)
        except TimeoutError:
            if self._association is not None:
                self._abort(pdus.UNKNOWN_REASON)
            log.warning("a silent connection is ended", address=self.address)
        except (OSError, Unavailable):
            log.info("a connection broke off", address=self.address)
        except Exception:
            log.exception("receive")
            self._abort(pdus.UNKNOWN_REASON)
        finally:
            self._end()

    def _shaken_hands(self) -> bool:
        try:
            self.certificate = self._connection.begin(self._patience.request_s)
            self._visit.shown(self.certificate)
        except (OSError, CrosslightError) as error:
            log.warning("connection failed", address=self.address)
            if isinstance(error, OSError):
                self._visit.failed(error)
            return False
        return True

    def _negotiated(self) -> bool:
        """The request, and what is answered (PS3.8 9.2.2: states 2 and 3)."""
        asked = self._received.next(MAX_ASSOCIATE_BYTES)
        if asked is None or asked[0] == pdus.ABORT:
            return False
        if asked[0] != pdus.ASSOCIATE_RQ:
            self._abort(pdus.UNEXPECTED_PDU)
            return False
        request = AssociateRequest.parse(asked)
        try:
            if not request.version_known:
                raise AssociationRejected(pdus.VERSION_UNKNOWN)
            if request.application_context != APPLICATION_CONTEXT:
                raise AssociationRejected(pdus.CONTEXT_NAME_UNKNOWN)
            accept, self._association = self._visit.asked(request)
        except AssociationRejected as rejected:
            self._say_last(rejected.rejection.pdu())
            return False
        self._longest = request.user.longest_pdu
        self.send(accept.pdu())
        return True

    def _carry(self) -> None:
        """The association (PS3.8 9.2.2: states 6 to 13)."""
        while (pdu := self._received.next(MAX_PDU_BYTES)) is not None and not self._quiet:
            if pdu[0] == pdus.P_DATA_TF:
                self._data(pdu)
            elif pdu[0] == pdus.RELEASE_RQ:
                if self._released():
                    return
            elif pdu[0] == pdus.ABORT:
                return
            else:
                self._abort(pdus.UNEXPECTED_PDU)
                return

    def _data(self, pdu: memoryview) -> None:
        if self._association is None:
            return
        try:
            for context_id, data in fragments_of(pdu):
                self._association.fragment(context_id, data)
        except Unavailable:
            pass  # it ended before its answer
        except CrosslightError as error:
            raise Malformed(error.what) from None

    def _released(self) -> bool:
        """The caller wants no more: say so after what it is still owed; whether that is said."""
        with self._state:
            owed = self._n_jobs > 0
        if owed:
            if self._association is not None:
                self._association.line_lost()  # it answers nothing any more
            self.later(self._release)
            return False
        self._release()
        return True

    def _release(self) -> None:
        try:
            self.send(pdus.RELEASE_RESPONSE)
        finally:
            self._over = True
            self._connection.cut()

    def _receive(self, into: memoryview, all_of_it: bool) -> int:
        """Wait for the peer; while it waits for us, its silence is none."""
        if self._association is None:
            return self._connection.receive(into, self._left_for_request(), all_of_it=all_of_it)
        while True:
            try:
                return self._connection.receive(into, self._patience.silence_s, all_of_it=all_of_it)
            except TimeoutError:
                with self._state:
                    worked = self._n_jobs or time.monotonic() - self._worked_at < self._patience.silence_s
                if self._received.begun or not worked:
                    raise

    def _left_for_request(self) -> float:
        if not self._asked_by:
            self._asked_by = time.monotonic() + self._patience.request_s
        left = self._asked_by - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    # --- the line (:class:`node.dimse.exchange.Line`) -------------------------------------------------------

    @property
    def longest_pdu(self) -> int:
        """The caller's Maximum Length Received; 0 = any."""
        return self._longest

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._over

    @property
    def patience_s(self) -> float:
        """How long the caller's answer is waited for."""
        return self._patience.silence_s

    def send(self, data: bytes) -> None:
        """As :meth:`Line.send`."""
        with self._writing:
            if self._over:
                raise Unavailable("The association is over.")
            try:
                self._connection.send(data, self._patience.silence_s)
            except OSError:
                self._over = True
                self._connection.cut()
                raise Unavailable("The association is over.") from None

    def later(self, job: Callable[[], None]) -> None:
        """As :meth:`Line.later`."""
        with self._state:
            self._n_jobs += 1
            if self._beside is None:
                name = f"dimse beside@{self.address}"
                self._beside = threading.Thread(target=self._work_beside, name=name, daemon=True)
                self._beside.start()
        self._jobs.put(job)

    def _work_beside(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Unavailable:
                pass  # there is nobody to tell
            finally:
                with self._state:
                    self._n_jobs, self._worked_at = self._n_jobs - 1, time.monotonic()

    def abort(self) -> None:
        """As :meth:`Line.abort`."""
        self._abort(pdus.UNKNOWN_REASON)

    # --- its end --------------------------------------------------------------------------------------------

    def _abort(self, reason: int) -> None:
        self._say_last(pdus.abort(pdus.BY_PROVIDER, reason))

    def _say_last(self, pdu: bytes) -> None:
        """Send it as far as that goes, and nothing after it."""
        if not self._writing.acquire(timeout=_LAST_WORD_S):  # whoever sends is not read
            self._over = True
            self._connection.cut()
            return
        try:
            if not self._over:
                self._over = self._quiet = True
                self._connection.send(pdu, _LAST_WORD_S)
                self._connection.end_sending()
        except OSError:
            self._connection.cut()
        finally:
            self._writing.release()

    def _wait_for_the_peer_to_close(self) -> None:
        """What it has sent meanwhile is read and dropped, or it would lose our last word with it (TCP)."""
        until, left, room = time.monotonic() + _LAST_WORD_S, _LAST_BYTES, memoryview(bytearray(_DRAIN_BYTES))
        try:
            while left > 0 and (wait_s := until - time.monotonic()) > 0:
                received = self._connection.receive(room, wait_s)
                if not received:
                    return
                left -= received
        except OSError:
            return

    def _end(self) -> None:
        if self._quiet:
            self._wait_for_the_peer_to_close()
        self._over = True
        self._connection.cut()
        if self._association is not None:
            self._association.line_lost()
        if self._beside is not None:
            self._jobs.put(None)
            self._beside.join()
        self._connection.close()
        if self._association is not None:
            self._association.close()
        try:
            self._visit.ended()
        except CrosslightError as error:
            log.warning("an association's outcome is not noted", reason=error.what, address=self.address)
        finally:
            self._ended(self)

    def cut(self) -> None:
        """Abort now, from any thread, without waiting.

        An object that is being committed still is, unanswered.
        """
        if self._writing.acquire(blocking=False):
            try:
                if not self._over and self._association is not None:
                    self._connection.send_at_once(pdus.abort(pdus.BY_USER))
                self._over = True
            finally:
                self._writing.release()
        self._over = True
        self._connection.cut()
        if self._association is not None:
            self._association.line_lost()
