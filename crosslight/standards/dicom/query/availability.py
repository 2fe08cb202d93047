"""Instance Availability Notification (PS3.4 R), as DICOM JSON: read, and made.

The standard forbids whoever notifies to say more than its table has: no patient, no order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crosslight.standards.dicom.web.json import Attributes, texts_of
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid, NotFound

NOTIFICATION: Final = "1.2.840.10008.5.1.4.33"  # PS3.4 R.3.3
ONLINE, UNAVAILABLE = "ONLINE", "UNAVAILABLE"  # PS3.3 C.4.23.1.1
_STUDY, _SERIES = "0020000D", "0020000E"
_STEPS, _REFERENCED_SERIES, _REFERENCED = "00081111", "00081115", "00081199"
_CLASS, _INSTANCE, _AVAILABILITY, _RETRIEVE_AE = "00081150", "00081155", "00080056", "00080054"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifiedInstance:
    """An instance that is told of; ``online`` is False of one that is not to be had any more."""

    series_uid: str
    sop_class_uid: str
    sop_uid: str
    online: bool = True


def notified_study(said: Attributes) -> str:
    """The Study Instance UID of a notification: all that is taken from one.

    Raises:
        NotFound: it names no study.
        Invalid: what it names is no UID.
    """
    named = texts_of(said, "StudyInstanceUID")
    if not named or not named[0]:
        raise NotFound("A notification without a study.", why="PS3.4 Table R.3.2-1: type 1.")
    if len(named) > 1 or not is_uid(named[0]):
        raise Invalid("The study of a notification is no UID.", why="PS3.5 6.2, UI.")
    return named[0]


def notification(
    study_uid: str, instances: Sequence[NotifiedInstance], retrieve_ae_title: str
) -> Mapping[str, Any]:
    """The attributes of Table R.3.2-1: whether these instances of one study are at ``retrieve_ae_title``."""
    series: dict[str, list[dict[str, Any]]] = {}
    for ref in instances:
        series.setdefault(ref.series_uid, []).append(
            {
                _CLASS: _one("UI", ref.sop_class_uid),
                _INSTANCE: _one("UI", ref.sop_uid),
                _AVAILABILITY: _one("CS", ONLINE if ref.online else UNAVAILABLE),
                _RETRIEVE_AE: _one("AE", retrieve_ae_title),
            }
        )
    return {
        _STEPS: {"vr": "SQ"},  # type 2: which step it came of is not known here
        _STUDY: _one("UI", study_uid),
        _REFERENCED_SERIES: {
            "vr": "SQ",
            "Value": [
                {_SERIES: _one("UI", uid), _REFERENCED: {"vr": "SQ", "Value": items}}
                for uid, items in series.items()
            ],
        },
    }


def _one(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
