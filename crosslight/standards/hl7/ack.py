"""General acknowledgements, original mode (HL7 v2.3.1 2.13).

AA accepted, AE error in the message, AR rejected.

AR with code 207 means that *we* could not take it now: the sender may repeat it. Any other AE or AR is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crosslight.standards.hl7.adt import MessageHeader, header_fields
from crosslight.standards.hl7.message import escape, parse_message, render
from crosslight.standards.problem import (
    Conflict,
    CrosslightError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    OurError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

AckCode = Literal["AA", "AE", "AR"]

#: Error -> acknowledgement code, condition code of HL7 table 0357 and its text. The first that fits.
_CONDITIONS: tuple[tuple[type[CrosslightError], AckCode, str, str], ...] = (
    (OurError, "AR", "207", "Application internal error"),
    (Unavailable, "AR", "207", "Application internal error"),
    (Unauthenticated, "AR", "204", "Unknown key identifier"),
    (Forbidden, "AR", "204", "Unknown key identifier"),
    (NotFound, "AE", "204", "Unknown key identifier"),
    (Conflict, "AE", "205", "Duplicate key identifier"),
    (Invalid, "AE", "101", "Required field missing"),
    (TooLarge, "AR", "102", "Data type error"),
    (Malformed, "AR", "100", "Segment sequence error"),
)
#: An Invalid that is no missing field, by where it is: an authority outside the domain, a value that is none.
_INVALID = {"PID-3.4": "204", "PID-3.1": "102"}
#: A Malformed that is no sequence of segments: separators or octets that are not what they are said to be.
_MALFORMED = {"MSH-2": "102", "MSH-18": "102"}
_UNSUPPORTED = {
    "MSH-18": ("103", "Table value not found"),
    "MSH-9.1": ("200", "Unsupported message type"),
    "MSH-9.2": ("201", "Unsupported event code"),
}


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement.

    ``text`` is the receiver's own, ``condition`` of table 0357 ('' where it gave none).
    """

    code: str
    control_id: str  # MSA-2: of the message it answers
    text: str = ""
    condition: str = ""
    location: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the receiver has it for good."""
        return self.code in ("AA", "CA")

    @property
    def temporary(self) -> bool:
        """Whether repeating it later makes sense."""
        return not self.accepted and self.condition == "207"


def ack_for(error: CrosslightError | None, control_id: str) -> Ack:
    """The answer to a message that was taken (None) or refused."""
    if error is None:
        return Ack("AA", control_id)
    if isinstance(error, Unsupported):
        condition, _ = _UNSUPPORTED.get(error.where, ("102", ""))
        return Ack("AR", control_id, str(error), condition, error.where)
    for kind, code, condition, _ in _CONDITIONS:
        if isinstance(error, kind):
            special = _INVALID if kind is Invalid else _MALFORMED if kind is Malformed else {}
            condition = special.get(error.where, condition)
            return Ack(code, control_id, str(error), condition, error.where)
    return Ack("AR", control_id, str(error), "207", error.where)


def render_ack(ack: Ack, asked: MessageHeader | None, *, control_id: str, time: str) -> bytes:
    """The answer to a message with header ``asked`` (None: unreadable), in its version.

    ``control_id`` and ``time`` are ours.
    """
    h = MessageHeader(
        control_id=control_id,
        time=time,
        sending_application=asked.receiving_application if asked else "",
        sending_facility=asked.receiving_facility if asked else "",
        receiving_application=asked.sending_application if asked else "",
        receiving_facility=asked.sending_facility if asked else "",
        processing_id=asked.processing_id if asked else "P",
        version=asked.version if asked else "2.3.1",
    )
    segments = [header_fields(h, "ACK"), ["MSA", ack.code, escape(ack.control_id), escape(ack.text)]]
    if not ack.accepted:
        segments.append(_err(ack, h.version))
    if not render(segments).isascii():
        segments[0] += [""] * (17 - len(segments[0])) + ["UNICODE UTF-8"]
    return render(segments)


def _err(ack: Ack, version: str) -> list[str]:
    names = {condition: name for _, _, condition, name in _CONDITIONS} | dict(_UNSUPPORTED.values())
    name = names.get(ack.condition, "Application error")
    segment, _, place = ack.location.partition("-")
    field, _, _ = place.partition(".")
    known = segment.isalnum() and len(segment) == 3
    if version >= "2.5":  # ERR-2 location (ERL), ERR-3 code (CWE), ERR-4 severity, ERR-8 text for people
        where = f"{segment}^1^{field}" if known else ""
        return ["ERR", "", where, f"{ack.condition}^{name}^HL70357", "E", "", "", "", escape(ack.text)]
    where = (f"{segment}^1^{field}" if known else "^^") + f"^{ack.condition}&{name}&HL70357"
    return ["ERR", where]


def parse_ack(data: bytes) -> Ack:
    """Read an answer, liberally.

    Raises:
        Malformed: without MSA, or with a code that is none of the standard's.
    """
    message = parse_message(data)
    msa, err = message.first("MSA"), message.first("ERR")
    if msa is None or msa.component(1) not in ("AA", "AE", "AR", "CA", "CE", "CR"):
        raise Malformed("The acknowledgement has no MSA with a code.", where="MSA-1")
    condition = (err.component(3) or err.component(1, 4)) if err else ""
    place = (err.field(2) or err.field(1)) if err else ""
    parts = place.split(err.delimiters.component) if err else []
    location = parts[0] + (f"-{parts[2]}" if len(parts) > 2 and parts[2] else "") if parts else ""
    return Ack(msa.component(1), msa.component(2), msa.component(3), condition, location)
