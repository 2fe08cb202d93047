"""Storage commitment, push model (PS3.4 J): whether what a caller has sent is kept here for good.

The N-ACTION is answered at once; the report follows on the same association, or, when the caller has released
that, on one that this node asks for: to the destination with the caller's AE title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
    write_identifier,
)
from crosslight.standards.dicom.web.json import Attributes, text_of, values_of
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import CrosslightError, Invalid, Malformed, TooLarge, Unavailable
from node.dimse.association import Request
from node.dimse.command import (
    ACTION_TYPE,
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    EVENT_TYPE,
    FIELD,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    SUCCESS,
    Values,
)
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.outgoing import CalledSystem, Channel, Proposal
from node.dimse.way_out import WayOut
from node.holdings import Holdings

log = get_logger("dimse")

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT: Final = 1  # action type (PS3.4 J.3.2.1)
ALL_COMMITTED, SOME_FAILED = 1, 2  # event types (PS3.4 J.3.3.1)
MAX_INSTANCES: Final = 5_000
_AT_ONCE: Final = 200  # of one search
# PS3.7 Annex C
NO_SUCH_ACTION: Final = 0x0123
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NOT_AUTHORISED: Final = 0x0124
# Failure Reason (0008,1197), PS3.3 C.14.1.1
NOT_HERE: Final = 0x0112
ANOTHER_CLASS: Final = 0x0119
_TRANSACTION, _REFERENCED, _FAILED, _REASON = "00081195", "00081199", "00081198", "00081197"
_CLASS, _INSTANCE, _RETRIEVE_AE = "00081150", "00081155", "00080054"


class Reporting(Protocol):
    """Asks a system for an association on which it may be told (we are the SCP: PS3.7 D.3.3.4)."""

    def __call__(
        self, peer: CalledSystem, proposals: Sequence[Proposal], *, as_scp: bool
    ) -> AbstractContextManager[Channel]:
        """As :func:`node.dimse.outgoing.associate`."""
        ...


class Commitment:
    """Answers N-ACTION of the push model, and reports, in the association's thread.

    Args:
        way_out: What is held.
        ae_title: The node's own.
        systems: Where a report may go, by AE title.
        reporting: Asks for the association.
    """

    fields = (N_ACTION_RQ,)
    beside = True
    sop_classes = (SupportedClass(PUSH_MODEL, IDENTIFIER_SYNTAXES),)

    def __init__(
        self, way_out: WayOut, ae_title: str, systems: Mapping[str, CalledSystem], reporting: Reporting
    ) -> None:
        self._out, self._ae_title, self._systems, self._reporting = way_out, ae_title, systems, reporting

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without a data set.
        """
        if not request.command.has_data_set:
            raise Malformed("A request for commitment without a data set.", why="PS3.4 J.3.2.1.")
        return Gathered(lambda data: self._answer(request, data), MAX_IDENTIFIER_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        command = request.command
        if command.number(ACTION_TYPE) != REQUEST_COMMITMENT:
            request.answer(NO_SUCH_ACTION, "Only requests for commitment are known")
            return
        if command.sop_instance_uid != PUSH_MODEL_INSTANCE:
            request.answer(NO_SUCH_INSTANCE, "The push model has one instance")
            return
        if not request.account.caller.principal.grants.may("store"):
            request.answer(NOT_AUTHORISED, "This caller may not store here")
            return
        try:
            asked, _ = read_identifier(data, request.context.transfer_syntax_uid)
            transaction, instances = read_commitment(asked)
        except CrosslightError as error:
            request.answer(INVALID_ARGUMENT, error.what)
            return
        report = self._report(request, transaction, instances)
        request.answer(SUCCESS, more={ACTION_TYPE: REQUEST_COMMITMENT})
        self._tell(request, report)

    def _report(self, request: Request, transaction: str, instances: dict[str, str]) -> Attributes:
        """What is kept of it, and what is not; audited before it is said."""
        held = self._out.on_loop.run(_sop_classes(self._out.holdings, list(instances)))
        kept, failed = [], []
        for sop_uid, sop_class in instances.items():
            item = {_CLASS: _uid(sop_class), _INSTANCE: _uid(sop_uid)}
            if held.get(sop_uid) == sop_class:
                kept.append(item)
                continue
            reason = ANOTHER_CLASS if sop_uid in held else NOT_HERE
            failed.append({**item, _REASON: {"vr": "US", "Value": [reason]}})
        if kept:
            request.account.note("read", "", "stored", len(kept))
        if failed:
            request.account.note("read", "", "refused", len(failed))
        report: Attributes = {
            _TRANSACTION: _uid(transaction),
            _RETRIEVE_AE: {"vr": "AE", "Value": [self._ae_title]},
        }
        if kept:
            report[_REFERENCED] = {"vr": "SQ", "Value": kept}
        if failed:
            report[_FAILED] = {"vr": "SQ", "Value": failed}
        return report

    def _tell(self, request: Request, report: Attributes) -> None:
        event: Values = {
            FIELD: N_EVENT_REPORT_RQ,
            AFFECTED_CLASS: PUSH_MODEL,
            AFFECTED_INSTANCE: PUSH_MODEL_INSTANCE,
            EVENT_TYPE: SOME_FAILED if _FAILED in report else ALL_COMMITTED,
        }
        title = request.account.caller.principal.name
        try:
            data = write_identifier(report, request.context.transfer_syntax_uid)
            answer = request.association.ask(request.context.id, event, [data])
            if answer.command.status != SUCCESS:
                raise Unavailable("The report was not taken.")
        except Unavailable:
            self._tell_anew(title, event, report)

    def _tell_anew(self, title: str, event: Values, report: Attributes) -> None:
        """On an association of our own; the caller had released its own."""
        system = self._systems.get(title)
        if system is None:
            log.warning("a report of commitment has no destination", caller=title)
            return
        try:
            with self._reporting(system, [Proposal(PUSH_MODEL, IDENTIFIER_SYNTAXES)], as_scp=True) as channel:
                context = next((agreed for agreed in channel.contexts), None)
                if context is None:
                    raise Unavailable(f"{title} takes no reports.")
                data = write_identifier(report, context.transfer_syntax_uid)
                status = channel.ask(context.id, event, [data]).status
                if status != SUCCESS:
                    raise Unavailable(f"{title} answers {status:04X}H.")
        except Unavailable as error:
            log.warning("a report of commitment was not taken", caller=title, reason=error.what)


async def _sop_classes(holdings: Holdings, sop_uids: Sequence[str]) -> dict[str, str]:
    """The SOP classes of the live and whole ones among these instances."""
    found: dict[str, str] = {}
    for start in range(0, len(sop_uids), _AT_ONCE):
        named = "\\".join(sop_uids[start : start + _AT_ONCE])
        query = QidoQuery.parse("instance", [("SOPInstanceUID", named)])
        for row in await holdings.search("instance", query):
            found[text_of(row, "SOPInstanceUID")] = text_of(row, "SOPClassUID")
    for sop_uid in await holdings.damaged(list(found)):
        del found[sop_uid]
    return found


def read_commitment(asked: Attributes) -> tuple[str, dict[str, str]]:
    """Transaction UID, and SOP classes by SOP Instance UID (PS3.4 Table J.3-1).

    Raises:
        Invalid: one of them is missing, or no UID.
        TooLarge: over :data:`MAX_INSTANCES`.
    """
    transaction = text_of(asked, _TRANSACTION)
    items = values_of(asked, _REFERENCED)
    if len(items) > MAX_INSTANCES:
        raise TooLarge(f"More than {MAX_INSTANCES} instances: ask in parts")
    instances = {text_of(item, _INSTANCE): text_of(item, _CLASS) for item in items}
    if not is_uid(transaction) or not instances or not all(map(is_uid, (*instances, *instances.values()))):
        raise Invalid("Transaction UID, or referenced SOPs, are missing or no UIDs.", why="PS3.4 J.3.2.1.")
    return transaction, instances


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]}
