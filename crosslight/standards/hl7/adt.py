"""ITI-8 Patient Identity Feed: ADT^A01, A04, A05, A08, A40 and A47.

ITI TF-2 3.8; HL7 v2.3.1, later versions are read too.

A28 and A31, by which patient administration systems add and change a person without a visit (ITI-30), are
read as A04 and A08.

What is read: PID-3 (every repetition), PID-5 (legal name; alphabetic, ideographic and phonetic repetitions),
PID-7, PID-8, PID-11.5 (the postcode only, D7), PID-32, MRG-1. What is not understood is passed over.

Whether the national number is *traced* (D3) is read from PID-32, Identity Reliability Code, with the NHS
number status codes that the UK edition of HL7 v2 gives it: 01 is "present and verified", 02 to 08 are not;
absent says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crosslight.standards.birth_date import birth_date
from crosslight.standards.hl7.message import NULL, Message, Segment, escape, parse_message, render
from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier, is_uid
from crosslight.standards.problem import Invalid, Malformed, Unsupported
from crosslight.standards.study import Patient, PersonName

# A47 changes a patient's id: the new one takes the place of MRG-1's, which is subsumed
MERGES = frozenset({"A40", "A47"})
EVENTS = frozenset({"A01", "A04", "A05", "A08", "A28", "A31"}) | MERGES
STRUCTURES = {"A40": "ADT_A39", "A47": "ADT_A30"}  # ITI TF-2 3.8.4.2, HL7 v2 table 0354; all others ADT_A01
VERIFIED = "01"
_NOT_VERIFIED = frozenset({"02", "03", "04", "05", "06", "07", "08"})
_SEX = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}  # HL7 table 0001 -> DICOM CS; U says nothing
#: Namespaces (PID-3.4.1) that are used without an OID and mean a national authority.
NATIONAL_NAMESPACES: Mapping[str, str] = {"NHS": NHS_NUMBER_OID, "CHI": CHI_OID}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHeader:
    """MSH as both directions need it."""

    control_id: str
    time: str  # DTM
    sending_application: str = ""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    processing_id: str = "P"
    version: str = "2.3.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adt:
    """One patient feed message.

    ``identifiers`` are PID-3 in order; an empty value withdraws that authority's id.

    ``traced`` is None when the message does not say; ``erase`` names demographics that the sender blanked
    with ``""``.
    """

    header: MessageHeader
    event: str
    identifiers: tuple[Identifier, ...]
    name: PersonName = PersonName("")
    birth_date: str = ""
    sex: str = ""
    postcode: str = ""
    traced: bool | None = None
    erase: frozenset[str] = frozenset()
    subsumed: Identifier | None = None  # MRG-1 of A40 and A47

    @property
    def survivor(self) -> Identifier:
        """A40 and A47: the id that stays: PID-3 of the subsumed id's authority, else the first."""
        same = (i for i in self.identifiers if self.subsumed and i.authority == self.subsumed.authority)
        return next(same, self.identifiers[0])

    def patient(self, local: Identifier) -> Patient:
        """As a patient whose record is ``local``, one of ``identifiers``."""
        return Patient(
            local=local,
            others=tuple(i for i in self.identifiers if i != local),
            name=self.name,
            birth_date=self.birth_date,
            sex=self.sex,
            postcode=self.postcode,
            traced=bool(self.traced),
        )


def header_of(message: Message) -> MessageHeader:
    """MSH, for an answer also to what cannot be read further."""
    msh = message.header
    return MessageHeader(
        control_id=msh.component(10),
        time=msh.component(7),
        sending_application=msh.field(3),
        sending_facility=msh.field(4),
        receiving_application=msh.field(5),
        receiving_facility=msh.field(6),
        processing_id=msh.component(11) or "P",
        version=msh.component(12) or "2.3.1",
    )


def parse_adt(
    data: bytes | Message, *, namespaces: Mapping[str, str] = NATIONAL_NAMESPACES, default_authority: str = ""
) -> Adt:
    """Read a patient feed message.

    Args:
        data: The message, without MLLP framing.
        namespaces: Local names of authorities (PID-3.4.1) -> OID, for senders that give no OID.
        default_authority: For an id without any authority: the sender's own.

    Raises:
        Malformed: if it cannot be read as HL7 v2 at all.
        Unsupported: for another message type or event.
        Invalid: where PID or MRG lacks what ITI-8 requires.
    """
    message = data if isinstance(data, Message) else parse_message(data)
    header, kind, event = header_of(message), message.header.component(9, 1), message.header.component(9, 2)
    if kind != "ADT":
        raise Unsupported("Only ADT messages are taken here.", where="MSH-9.1")
    if not event:
        evn = message.first("EVN")
        event = evn.component(1) if evn else ""
    if event not in EVENTS:
        raise Unsupported(
            "Only the events A01, A04, A05, A08, A28, A31, A40 and A47 are taken here.",
            why="ITI TF-2 3.8",
            where="MSH-9.2",
        )
    if not header.control_id:
        raise Invalid("The message has no control id.", where="MSH-10")
    pids, mrgs = message.all("PID"), message.all("MRG")
    if len(pids) != 1:
        raise Invalid(
            "Exactly one PID segment is required.",
            why="ITI TF-2 3.8.4: one patient, or one pair, a message.",
            where="PID",
        )
    read = _Ids(namespaces, default_authority)
    identifiers = identifiers_of(pids[0], namespaces, default_authority)
    if not any(i.value for i in identifiers):
        raise Invalid("The patient has no id.", why="ITI TF-2 3.8.4.1.2.3: PID-3 is required.", where="PID-3")
    subsumed = None
    if event in MERGES:
        if len(mrgs) != 1:
            raise Invalid(
                f"{event} needs exactly one MRG segment.",
                why="ITI TF-2 3.8.4.2: one message a pair.",
                where="MRG",
            )
        merged_away = (read.cx(mrgs[0], r) for r in mrgs[0].repetitions(1))
        subsumed = next((i for i in merged_away if i is not None and i.value), None)
        if subsumed is None:
            raise Invalid(f"{event} names no id to merge.", where="MRG-1")
    return Adt(
        header=header, event=event, identifiers=identifiers, subsumed=subsumed, **_demographics(pids[0])
    )


def identifiers_of(pid: Segment, namespaces: Mapping[str, str], default: str = "") -> tuple[Identifier, ...]:
    """PID-3 of any message: every repetition, in order, as :func:`parse_adt` reads it."""
    read = _Ids(namespaces, default)
    return tuple(i for r in pid.repetitions(3) if (i := read.cx(pid, r)) is not None)


@dataclass(frozen=True, slots=True)
class _Ids:
    namespaces: Mapping[str, str]
    default: str

    def cx(self, segment: Segment, repetition: str) -> Identifier | None:
        """CX: id in 1, assigning authority HD in 4 (namespace & universal id & type)."""
        value = segment.text(repetition, 1)
        namespace, universal, kind = (segment.text(repetition, 4, n) for n in (1, 2, 3))
        is_oid = kind.upper() in ("ISO", "") and is_uid(universal)
        authority = universal.removeprefix("urn:oid:") if is_oid else ""
        if not authority and namespace:
            authority = self.namespaces.get(namespace) or (namespace if is_uid(namespace) else "")
        if not authority and not namespace and not universal:
            authority = self.default
        if segment.is_null(repetition, 1):
            return Identifier("", authority, namespace) if authority else None
        return Identifier(value, authority, namespace) if value else None


def _demographics(pid: Segment) -> dict[str, Any]:
    erase = frozenset(
        name for name, field in (("birth_date", 7), ("sex", 8), ("postcode", 11)) if _nulled(pid, field)
    )
    reliability = {pid.text(r, 1) for r in pid.repetitions(32)}
    traced = True if VERIFIED in reliability else False if reliability & _NOT_VERIFIED else None
    return {
        "name": _name(pid),
        "birth_date": birth_date(pid.component(7)),
        "sex": _SEX.get(pid.component(8).upper(), ""),
        "postcode": next((code for r in pid.repetitions(11) if (code := _said(pid, r, 5))), ""),
        "traced": traced,
        "erase": erase,
    }


def _nulled(segment: Segment, field: int) -> bool:
    repetitions = segment.repetitions(field)
    return bool(repetitions) and segment.is_null(repetitions[0], 1)


def _said(segment: Segment, repetition: str, m: int) -> str:
    """The text of a component, '' for a null."""
    return "" if segment.is_null(repetition, m) else segment.text(repetition, m)


# XPN.7, HL7 table 0200: legal, display, unsaid, adopted; others are aliases
_TYPES = {"L": 0, "D": 1, "": 2, "C": 3}
_GROUPS = {"A": 0, "I": 1, "P": 2}  # XPN.8, HL7 table 0465 (0390): alphabetic, ideographic, phonetic


def _name(pid: Segment) -> PersonName:
    """The best name as a DICOM PN.

    XPN is family, given, middle, suffix, prefix, PN has the last two the other way round.
    """
    repetitions = [r for r in pid.repetitions(5) if any(_said(pid, r, n) for n in range(1, 6))]
    if not repetitions:
        return PersonName("")
    best = min((_TYPES.get(pid.text(r, 7), 9) for r in repetitions), default=9)
    groups = ["", "", ""]
    for repetition in repetitions:
        if _TYPES.get(pid.text(repetition, 7), 9) != best:
            continue
        at = _GROUPS.get(pid.text(repetition, 8), 0)
        if not groups[at]:
            parts = [_said(pid, repetition, n) for n in (1, 2, 3, 5, 4)]
            groups[at] = "^".join(_pn_part(part) for part in parts).rstrip("^")
    return PersonName("=".join(groups).rstrip("="))


def _pn_part(text: str) -> str:
    """A component of a PN cannot hold its delimiters (PS3.5 6.2.1)."""
    return text.translate({0x5E: " ", 0x3D: " ", 0x5C: " "}).strip()


# --- writing ------------------------------------------------------------------------------------------------


def render_adt(adt: Adt) -> bytes:
    """The message, strict: HL7 v2.3.1, UTF-8 declared where it is more than ASCII.

    Raises:
        Malformed: for an event that is not ours, or a merge without MRG-1.
    """
    if adt.event not in EVENTS or (adt.event in MERGES) != (adt.subsumed is not None):
        raise Malformed("This is no patient feed message.", where=adt.event)
    h = adt.header
    evn = ["EVN", adt.event, h.time]
    pid = [""] * 33
    pid[0], pid[3] = "PID", "~".join(_cx(i) for i in adt.identifiers)
    pid[5], pid[7], pid[8] = _xpn(adt.name), adt.birth_date, adt.sex
    pid[11] = f"^^^^{escape(adt.postcode)}" if adt.postcode else ""
    pid[32] = "" if adt.traced is None else VERIFIED if adt.traced else "02"
    tail = [["MRG", _cx(adt.subsumed)]] if adt.subsumed else []
    body = [evn, pid, *tail, ["PV1", "", "O"]]
    msh = header_fields(h, f"ADT^{adt.event}^{STRUCTURES.get(adt.event, 'ADT_A01')}")
    if not render(body).isascii():
        msh += [""] * (17 - len(msh)) + ["UNICODE UTF-8"]
    return render([msh, *body])


def header_fields(h: MessageHeader, message_type: str) -> list[str]:
    """MSH as a list of fields; applications and facilities are HD, given as they stand."""
    return [
        "MSH",
        "^~\\&",
        h.sending_application,
        h.sending_facility,
        h.receiving_application,
        h.receiving_facility,
        h.time,
        "",
        message_type,
        escape(h.control_id),
        h.processing_id,
        h.version,
    ]


def _cx(identifier: Identifier) -> str:
    value = escape(identifier.value) if identifier.value else NULL
    return f"{value}^^^{escape(identifier.namespace)}&{identifier.authority}&ISO"


def _xpn(name: PersonName) -> str:
    groups = name.pn.split("=")[:3]
    marked = len([g for g in groups if g]) > 1 or not groups[0]
    repetitions = []
    for group, code in zip(groups, "AIP", strict=False):
        parts = [escape(part.strip()) for part in group.split("^")] + [""] * 5
        family, given, middle, prefix, suffix = parts[:5]
        if any(parts):
            repetitions.append(
                "^".join([family, given, middle, suffix, prefix, "", "L", code if marked else ""]).rstrip("^")
            )
    return "~".join(repetitions)


def feed_message(patient: Patient, header: MessageHeader, event: str = "A08") -> Adt:
    """The feed of ``patient`` under its own authority.

    National numbers are further repetitions of PID-3 (D4).
    """
    return Adt(
        header=header,
        event=event,
        identifiers=(patient.local, *(i for i in patient.others if i.authority)),
        name=patient.name,
        birth_date=patient.birth_date,
        sex=patient.sex,
        postcode=patient.postcode,
        traced=True if patient.traced else None,
    )
