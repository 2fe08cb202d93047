"""Reports of storage commitment that this node asked for (PS3.4 J.3.3), on associations of others."""

from __future__ import annotations

from typing import Final, Protocol

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.query.commitment import COMMITTED, CommitmentReport, read_report
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
)
from crosslight.standards.problem import CrosslightError, Malformed, NotFound
from node.dimse.association import Request
from node.dimse.command import EVENT_TYPE, N_EVENT_REPORT_RQ, PROCESSING_FAILURE, SUCCESS
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.on_loop import OnLoop
from node.dimse.services.commitment import ALL_COMMITTED, INVALID_ARGUMENT, PUSH_MODEL, SOME_FAILED

log = get_logger("dimse")

NO_SUCH_EVENT: Final = 0x0113  # PS3.7 Annex C


class KeepsReports(Protocol):
    """Where verdicts are written down (:class:`node.commitment.store.CommitmentStore`)."""

    async def report(self, peer: str, report: CommitmentReport) -> str:
        """Keep what ``peer`` says; the study it is about. Once is as good as twice.

        Raises:
            NotFound: it was not asked for this.
            StorageError: it cannot be kept.
        """
        ...


class CommitmentReports:
    """Answers N-EVENT-REPORT of the push model, in the association's thread.

    Args:
        on_loop: Where it is kept.
        kept: Keeps it.
    """

    fields = (N_EVENT_REPORT_RQ,)
    beside = True
    sop_classes = (SupportedClass(PUSH_MODEL, IDENTIFIER_SYNTAXES, asks=True),)  # the caller is its SCP

    def __init__(self, on_loop: OnLoop, kept: KeepsReports) -> None:
        self._on_loop, self._kept = on_loop, kept

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without a data set.
        """
        if not request.command.has_data_set:
            raise Malformed("A report of commitment without a data set.", why="PS3.4 J.3.3.")
        return Gathered(lambda data: self._answer(request, data), MAX_IDENTIFIER_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        if request.command.number(EVENT_TYPE) not in (ALL_COMMITTED, SOME_FAILED):
            request.answer(NO_SUCH_EVENT, "Only reports of commitment are known")
            return
        account = request.account
        peer = account.calling.principal.name
        try:
            report = read_report(read_identifier(data, request.context.transfer_syntax_uid)[0])
            study_uid = self._on_loop.run(self._kept.report(peer, report))
            n_kept = sum(verdict == COMMITTED for verdict in report.verdicts.values())
            if n_kept:
                account.note("commit", study_uid, "stored", n_kept)
            if n_kept < len(report.verdicts):
                account.note("commit", study_uid, "refused", len(report.verdicts) - n_kept)
        except NotFound as error:
            log.warning("a report of commitment that was not asked for", caller=peer)
            account.refuse("commit")
            request.answer(INVALID_ARGUMENT, error.what)
        except CrosslightError as error:
            log.warning("a report of commitment was not taken", caller=peer, reason=error.what)
            request.answer(PROCESSING_FAILURE, error.what)
        else:
            request.answer(SUCCESS)
