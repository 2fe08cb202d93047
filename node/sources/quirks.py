"""What archives do that the standard does not say, as a table: its name, and what is done about it.

A further one is a line of :data:`PROFILES`, a double of it in ``tests/protocol/test_dimse_source.py``, and
where it needs more than is here, an attribute of :class:`Quirks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crosslight.standards.dicom.file.charset import charset
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.metadata import attributes_of, values_again
from crosslight.standards.dicom.file.verdict import Refused
from crosslight.standards.dicom.file.walk import walk
from crosslight.standards.dicom.web.json import Attributes, text_of
from crosslight.standards.problem import ConfigError, Malformed

_LIMITS: Final = Limits(max_depth=4, max_elements=5_000, max_held_elements=5_000, max_index_elements=5_000)
_CHARSET: Final = 0x00080005
_UTF8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}
#: Most characters of a value (PS3.5 Table 6.2-1); of PN those of one group.
_LONGEST: Final = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "IS": 12, "DS": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What one archive does; without any, what the standard says.

    Attributes:
        any_uids: An object that comes may have other UIDs than it was listed with: it gets these again.
        late_objects_s: So long an object is waited for after the archive said that all were sent.
        charset: Text of its answers is read in this Specific Character Set, whatever they say.
        cut_over_long: Values longer than their VR allows are cut.
        empty_again: A study without images is asked for again at each look.
        by_patient: Studies without a date are found by their patients' ids.
        issuer: Issuer of Patient ID of ids that name none.
    """

    any_uids: bool = False
    late_objects_s: float = 0.0
    charset: str = ""
    cut_over_long: bool = False
    empty_again: bool = False
    by_patient: bool = False
    issuer: str = ""


PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "new-uids": {"any_uids": True},
    "early-final-status": {"late_objects_s": 30.0},
    "text-is-latin-1": {"charset": "ISO_IR 100"},
    "text-is-utf-8": {"charset": "ISO_IR 192"},
    "over-long-values": {"cut_over_long": True},
    "empty-studies": {"empty_again": True},
    "dates-missing": {"by_patient": True},
    "issuer-missing": {},  # needs the setting ``issuer``
}


def quirks_of(names: Iterable[str], issuer: str = "") -> Quirks:
    """All of these together.

    Raises:
        ConfigError: for a name that is not in the table, or ``issuer-missing`` without the issuer.
    """
    quirks = Quirks()
    for name in names:
        if name not in PROFILES:
            raise ConfigError(
                f"{name!r} is no quirk that is known.",
                todo="Use " + ", ".join(PROFILES) + ".",
                where="sources.dimse.quirks",
            )
        quirks = replace(quirks, **PROFILES[name])
        if name == "issuer-missing":
            quirks = replace(quirks, issuer=issuer)
    if bool(issuer) != ("issuer-missing" in names):
        raise ConfigError(
            "The quirk issuer-missing and the setting issuer go together.", where="sources.dimse.issuer"
        )
    return quirks


def read_answer(quirks: Quirks, data: bytes, transfer_syntax_uid: str) -> Attributes:
    """An Identifier of a C-FIND response, as it should have been.

    Raises:
        Malformed: for what is no data set, or one beyond its bounds.
    """
    try:
        parsed = walk(data, transfer_syntax_uid, limits=_LIMITS)
    except Refused as error:
        raise Malformed("An answer of the source cannot be read.", why=error.what) from None
    if quirks.charset:
        plain = [e for e in parsed.elements if e[4] is None and e[0] != _CHARSET and e[0] & 0xFFFF]
        attributes = values_again(parsed, plain, charset((quirks.charset,)))
    else:
        attributes = attributes_of(parsed)
    attributes["00080005"] = _UTF8
    if quirks.cut_over_long:
        attributes = {tag: _cut(body) for tag, body in attributes.items()}
    if quirks.issuer and text_of(attributes, "PatientID") and not text_of(attributes, "IssuerOfPatientID"):
        attributes["00100021"] = {"vr": "LO", "Value": [quirks.issuer]}
    return attributes


def _cut(body: Mapping[str, Any]) -> dict[str, Any]:
    longest = _LONGEST.get(body.get("vr", ""), 0)
    if not longest or not body.get("Value"):
        return dict(body)
    return {**body, "Value": [_shorter(value, longest) for value in body["Value"]]}


def _shorter(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value[:longest].rstrip()
    if isinstance(value, Mapping):
        return {group: text[:longest].rstrip() for group, text in value.items()}
    return value
