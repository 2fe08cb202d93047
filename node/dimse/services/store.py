"""C-STORE: objects for the archive (PS3.4 B, PS3.7 9.1.1).

A data set goes to the archive's stage as its fragments come, and is never in memory as a whole. The audit's
act is committed before success is answered.
"""

from __future__ import annotations

from collections.abc import Iterable

from crosslight.runtime.log import get_logger
from crosslight.standards.problem import Busy, CrosslightError, Malformed, OutOfSpace, StorageError, TooLarge
from node.dimse.association import Request
from node.dimse.command import C_STORE_RQ
from node.dimse.contexts import TRANSFER_SYNTAXES, storage_classes
from node.dimse.exchange import Exchange, SupportedClass
from node.holdings import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    Holdings,
    IngestResult,
    Received,
    Staging,
)

log = get_logger("dimse")

SOMETHING_WRONG = CANNOT_UNDERSTAND | 0x211  # of the Cxxx range, which is ours to divide


class Store:
    """Takes objects into the archive, in the upper layer's thread.

    Its caller sends nothing more until it has the answer.

    Args:
        holdings: Where they go.
        more_sop_classes: Private Storage SOP Classes to accept beside the standard's.
    """

    fields = (C_STORE_RQ,)
    beside = False

    def __init__(self, holdings: Holdings, more_sop_classes: Iterable[str] = ()) -> None:
        self._holdings = holdings
        self.sop_classes = tuple(
            SupportedClass(uid, TRANSFER_SYNTAXES) for uid in storage_classes(more_sop_classes)
        )

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without the elements that PS3.7 Table 9.3-1 requires.
        """
        command = request.command
        if not command.sop_instance_uid or not command.has_data_set:
            raise Malformed("A C-STORE without an instance or a data set.", why="PS3.7 Table 9.3-1.")
        return _Arriving(request, self._holdings)


class _Arriving:
    """A data set on its way: staged, or drained when it can no longer be kept."""

    def __init__(self, request: Request, holdings: Holdings) -> None:
        self._request, self._holdings = request, holdings
        self._problem: CrosslightError | None = None
        self._staged: Staging | None = None
        self._received = _received(request)
        try:
            self._staged = holdings.stage(self._received)
        except CrosslightError as error:
            self._problem = error

    def write(self, data: memoryview) -> None:
        """Keep a fragment; after a problem the rest is read and dropped."""
        if self._staged is None or self._problem is not None:
            return
        try:
            self._staged.write(data)
        except CrosslightError as error:
            self._problem = error
            self._staged.discard()

    def finish(self) -> None:
        """Take it in, and answer with the C-STORE status."""
        account = self._request.account
        try:
            result = self._ingested()
        except CrosslightError as error:
            self.discard()
            account.count("full" if isinstance(error, OutOfSpace) else "failed")
            self._request.answer(_status_of(error), error.what)
        except Exception:
            self.discard()
            log.exception("store")
            account.count("failed")
            self._request.answer(SOMETHING_WRONG, "Something went wrong here")
        else:
            account.count(result.state)
            self._request.answer(result.status, result.reason)

    def _ingested(self) -> IngestResult:
        if self._problem is not None or self._staged is None:
            raise self._problem or StorageError("Nothing is staged.")
        result = self._holdings.ingest(self._staged, self._received)
        study_uid = result.ref.study_uid if result.ref is not None else ""
        if result.status != SUCCESS:
            self._request.account.note("store", study_uid, "refused")
        else:
            self._request.account.note(
                "store", study_uid, "duplicate" if result.state == "duplicate" else "stored"
            )
        return result

    def discard(self) -> None:
        """Forget what came; harmless when it has become an object."""
        if self._staged is not None:
            self._staged.discard()


def _received(request: Request) -> Received:
    caller = request.account.caller
    return Received(
        road="dimse",
        peer=f"{caller.principal.name}@{caller.peer}",
        correlation=caller.correlation,
        sop_class_uid=request.command.sop_class_uid,
        sop_instance_uid=request.command.sop_instance_uid,
        transfer_syntax_uid=request.context.transfer_syntax_uid,
    )


def _status_of(error: CrosslightError) -> int:
    if isinstance(error, StorageError | Busy):
        return OUT_OF_RESOURCES
    return OUT_OF_RESOURCES | 0x01 if isinstance(error, TooLarge) else CANNOT_UNDERSTAND
