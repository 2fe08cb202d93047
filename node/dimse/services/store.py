"""C-STORE: objects for the archive (PS3.4 B, PS3.7 9.1.1).

A data set goes to the archive's stage as its fragments come, and is never in memory as a whole. The audit's
act is committed before success is answered, and goes to the disk while the object does.
"""

from __future__ import annotations

from collections.abc import Iterable

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.problem import Busy, CrosslightError, Malformed, OutOfSpace, StorageError, TooLarge
from node.dimse.association import Refusal, Request
from node.dimse.command import C_STORE_RQ
from node.dimse.contexts import TRANSFER_SYNTAXES, storage_classes
from node.dimse.exchange import Exchange, SupportedClass
from node.dimse.landing import Expected, Landing
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

NOT_AUTHORISED = 0x0124  # PS3.7 Annex C
SOMETHING_WRONG = CANNOT_UNDERSTAND | 0x211  # of the Cxxx range, which is ours to divide


class Store:
    """Takes objects into the archive, in the upper layer's thread.

    Its caller sends nothing more until it has the answer.

    Args:
        holdings: Where they go.
        more_sop_classes: Private Storage SOP Classes to accept beside the standard's.
        expected: Objects that this node asked another archive for: they go where they are waited for.
    """

    fields = (C_STORE_RQ,)
    beside = False

    def __init__(
        self,
        holdings: Holdings,
        more_sop_classes: Iterable[str] = (),
        expected: Expected | None = None,
    ) -> None:
        self._holdings, self._expected = holdings, expected
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
        principal, syntax = request.account.caller.principal, request.context.transfer_syntax_uid
        if self._expected is not None:
            landing = self._expected.take(principal.name, command, syntax)
            if landing is not None:
                return _Passing(request, landing)
        if not principal.grants.may("store"):
            request.account.count("denied")
            request.account.refuse("store")
            return Refusal(request, NOT_AUTHORISED, "This caller may not store here")
        return _Arriving(request, self._holdings)


class _Passing:
    """An object that was asked for, on its way to whoever waits for it."""

    def __init__(self, request: Request, landing: Landing) -> None:
        self._request, self._landing = request, landing

    def write(self, data: memoryview) -> None:
        """Hand a fragment on."""
        self._landing.write(data)

    def finish(self) -> None:
        """All of it is here."""
        status = self._landing.finish()
        self._request.account.count("passed" if status == SUCCESS else "failed")
        self._request.answer(status)

    def discard(self) -> None:
        """It broke off; whoever waits is told by the archive's last response, or waits no longer."""


class _Arriving:
    """A data set on its way: staged, or drained when it can no longer be kept."""

    def __init__(self, request: Request, holdings: Holdings) -> None:
        self._request, self._holdings = request, holdings
        self._problem: CrosslightError | None = None
        self._staged: Staging | None = None
        self._study_uid = ""  # of the act that was begun for it
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
            self._failed()
            account.count("full" if isinstance(error, OutOfSpace) else "failed")
            self._request.answer(_status_of(error), error.what)
        except Exception:
            self._failed()
            log.exception("store")
            account.count("failed")
            self._request.answer(SOMETHING_WRONG, "Something went wrong here")
        else:
            account.count(result.state)
            self._request.answer(result.status, result.reason)

    def _ingested(self) -> IngestResult:
        if self._problem is not None or self._staged is None:
            raise self._problem or StorageError("Nothing is staged.")
        result = self._holdings.ingest(self._staged, self._received, self._arriving)
        study_uid = result.ref.study_uid if result.ref is not None else self._study_uid
        if result.status != SUCCESS:
            self._request.account.note("store", study_uid, "refused")
        else:
            self._request.account.note(
                "store", study_uid, "duplicate" if result.state == "duplicate" else "stored"
            )
        return result

    def _arriving(self, study_uid: str, study: Attributes) -> None:
        """The object goes to the disk: the audit's act goes there at the same time."""
        self._request.account.begin("store", study_uid, study)
        self._study_uid = study_uid

    def _failed(self) -> None:
        self.discard()
        if self._study_uid:
            self._request.account.failed("store", self._study_uid)

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
