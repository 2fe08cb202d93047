"""Storage commitment as its user sees it (PS3.4 J): a request made, and a report read. DICOM JSON; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crosslight.standards.dicom.web.json import Attributes, text_of, values_of
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid
from crosslight.standards.study import InstanceRef

COMMITTED: Final = 0
#: Failure Reason (0008,1197), PS3.3 C.14.1.1; what is not among them is said by its number.
FAILURES: Final[Mapping[int, str]] = {
    0x0110: "processing failure",
    0x0112: "it has no such instance",
    0x0119: "it has it under another SOP class",
    0x0122: "it does not keep this SOP class",
    0x0131: "the transaction's UID was used before",
    0x0213: "it has no room",
}
_TRANSACTION, _REFERENCED, _FAILED, _REASON = "00081195", "00081199", "00081198", "00081197"
_CLASS, _INSTANCE = "00081150", "00081155"


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a report says, by SOP Instance UID: :data:`COMMITTED`, or the Failure Reason."""

    transaction_uid: str
    verdicts: Mapping[str, int]


def commitment_request(transaction_uid: str, instances: Sequence[InstanceRef]) -> Attributes:
    """The attributes of Table J.3-1."""
    items = [{_CLASS: _uid(ref.sop_class_uid), _INSTANCE: _uid(ref.sop_uid)} for ref in instances]
    return {_TRANSACTION: _uid(transaction_uid), _REFERENCED: {"vr": "SQ", "Value": items}}


def read_report(said: Attributes) -> CommitmentReport:
    """The attributes of Table J.3-2. An instance that is among both sequences has failed.

    Raises:
        Invalid: the transaction, or an instance, is no UID.
    """
    transaction = text_of(said, _TRANSACTION)
    verdicts = {text_of(item, _INSTANCE): COMMITTED for item in values_of(said, _REFERENCED)}
    for item in values_of(said, _FAILED):
        reasons = values_of(item, _REASON)
        verdicts[text_of(item, _INSTANCE)] = int(reasons[0]) if reasons and reasons[0] else 0x0110
    if not all(map(is_uid, (transaction, *verdicts))):
        raise Invalid("A report of commitment names what is no UID.", why="PS3.4 J.3.3.1.")
    return CommitmentReport(transaction, verdicts)


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]}
