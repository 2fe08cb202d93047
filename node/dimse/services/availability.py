"""Instance Availability Notification (PS3.4 R): an archive beside which the node stands says what it has.

Only whom the configuration lets tell of a source is heard (``notifies`` of its ``[[dimse.callers]]``), and
nothing that is told is believed: that source is asked about the study, now instead of at its next sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.query.availability import NOTIFICATION, notified_study
from crosslight.standards.dicom.query.identifier import IDENTIFIER_SYNTAXES, read_identifier
from crosslight.standards.problem import Busy, CrosslightError, Invalid, Malformed, NotFound
from node.dimse.association import Request
from node.dimse.command import N_CREATE_RQ, PROCESSING_FAILURE, SUCCESS
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.on_loop import OnLoop

log = get_logger("dimse")

MAX_NOTICE_BYTES: Final = 4 << 20  # some 10,000 instances, and what each of them says
# PS3.7 Annex C
NO_SUCH_VALUE: Final = 0x0106
NO_SUCH_INSTANCE_UID: Final = 0x0117
MISSING_ATTRIBUTE: Final = 0x0120
NOT_AUTHORISED: Final = 0x0124
NO_ROOM: Final = 0x0213


class Hearing(Protocol):
    """Looks into a study of a source soon (:class:`node.sources.notices.Notices`)."""

    async def hear(self, sources: Sequence[str], study_uid: str) -> None:
        """These sources may have something new of it; durable when this returns.

        Raises:
            Busy: too many studies wait already.
            StorageError: it cannot be kept.
        """
        ...


class Availability:
    """Answers N-CREATE of a notification, in the association's thread.

    Args:
        on_loop: Where it is heard.
        hearing: Looks into the study.
    """

    fields = (N_CREATE_RQ,)
    beside = True
    sop_classes = (SupportedClass(NOTIFICATION, IDENTIFIER_SYNTAXES),)

    def __init__(self, on_loop: OnLoop, hearing: Hearing) -> None:
        self._on_loop, self._hearing = on_loop, hearing

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without a data set.
        """
        if not request.command.has_data_set:
            raise Malformed("A notification without a data set.", why="PS3.4 R.3.2.1.1.")
        return Gathered(lambda data: self._answer(request, data), MAX_NOTICE_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        account = request.account
        if not account.calling.notifies:
            account.refuse("announce")
            request.answer(NOT_AUTHORISED, "This caller may not tell of a source")
            return
        if not request.command.sop_instance_uid:
            request.answer(NO_SUCH_INSTANCE_UID, "Its SOP Instance UID is missing")
            return
        try:
            study_uid = notified_study(read_identifier(data, request.context.transfer_syntax_uid)[0])
        except CrosslightError as error:
            self._refuse(request, error)
            return
        account.note("announce", study_uid, "stored")
        try:
            self._on_loop.run(self._hearing.hear(sorted(account.calling.notifies), study_uid))
        except CrosslightError as error:
            account.note("announce", study_uid, "refused")
            self._refuse(request, error)
            return
        log.info("a study was notified of", caller=account.calling.principal.name, study_uid=study_uid)
        request.answer(SUCCESS)

    def _refuse(self, request: Request, error: CrosslightError) -> None:
        name = request.account.calling.principal.name
        log.warning("a notification was not taken", caller=name, reason=error.what)
        statuses = ((Busy, NO_ROOM), (NotFound, MISSING_ATTRIBUTE), (Invalid, NO_SUCH_VALUE))
        found = (status for kind, status in statuses if isinstance(error, kind))
        request.answer(next(found, PROCESSING_FAILURE), error.what)
