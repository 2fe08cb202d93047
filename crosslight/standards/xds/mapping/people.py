"""sourcePatientInfo and authors as HL7 v2 fields in XDS (ITI TF-3 4.2.3.2.23, 4.2.3.1.7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from crosslight.standards.birth_date import birth_date
from crosslight.standards.ids import Identifier, hl7_escape, hl7_unescape
from crosslight.standards.problem import Invalid
from crosslight.standards.study import Patient, PersonName

MAX_VALUE = 256  # rim:LongName
_SEXES = frozenset({"M", "F", "O"})
_NO_MARKS = {0x5E: " ", 0x3D: " "}  # what divides a PN
_GROUPS = "AIP"  # XPN.8: alphabetic, ideographic, phonetic


def xpn(name: PersonName) -> str:
    """A DICOM PN as XPN repetitions.

    PN is family, given, middle, prefix, suffix, XPN has the last two the other way round.
    """
    groups = ([*name.pn.split("="), "", ""])[:3]
    several = len([g for g in groups if g.strip("^ ")]) > 1 or not groups[0].strip("^ ")
    out = []
    for group, code in zip(groups, _GROUPS, strict=False):
        parts = [hl7_escape(part.strip()) for part in group.split("^")] + [""] * 5
        family, given, middle, prefix, suffix = parts[:5]
        if any(parts[:5]):
            out.append(
                "^".join([family, given, middle, suffix, prefix, "", "", code if several else ""]).rstrip("^")
            )
    return "~".join(out)


def person_name(text: str) -> PersonName:
    """The inverse of :func:`xpn`; a repetition without XPN.8 is alphabetic."""
    groups = ["", "", ""]
    for repetition in text.split("~"):
        parts = [hl7_unescape(part) for part in repetition.split("^")] + [""] * 8
        at = max(0, _GROUPS.find(parts[7])) if len(parts[7]) == 1 else 0
        if not groups[at]:
            family, given, middle, suffix, prefix = [p.translate(_NO_MARKS).strip() for p in parts[:5]]
            groups[at] = "^".join([family, given, middle, prefix, suffix]).rstrip("^")
    return PersonName("=".join(groups).rstrip("="))


@lru_cache(maxsize=64)  # most entries of an answer say the same patient
def source_patient_info(patient: Patient) -> tuple[str, ...]:
    """PID-3 (one value an identifier), PID-5, PID-7, PID-8; no address (D7).

    A name too long for a slot value loses its later repetitions, and then its later components.
    """
    values = [f"PID-3|{i.cx()}" for i in (patient.local, *patient.others) if i.authority]
    name = xpn(patient.name)
    while len(name) > MAX_VALUE - 6:
        name = name.rpartition("~")[0] or name.rpartition("^")[0] or name[: MAX_VALUE - 6]
    for field, text in (("PID-5", name), ("PID-7", hl7_escape(patient.birth_date)), ("PID-8", patient.sex)):
        if text:
            values.append(f"{field}|{text}")
    return tuple(v for v in values if len(v) <= MAX_VALUE)


def patient_of(local: Identifier, info: Iterable[str]) -> Patient:
    """The patient that a DocumentEntry describes: ``local`` is its sourcePatientId."""
    others: dict[Identifier, None] = {}
    name, born, sex = PersonName(""), "", ""
    for value in info:
        field, _, text = value.partition("|")
        if field == "PID-3":
            for repetition in text.split("~"):
                try:
                    others[Identifier.parse_cx(repetition)] = None
                except Invalid:
                    continue
        elif field == "PID-5" and not name.pn:
            name = person_name(text)
        elif field == "PID-7":
            born = birth_date(text)
        elif field == "PID-8":
            sex = text.strip() if text.strip() in _SEXES else ""
    others.pop(local, None)
    return Patient(
        local=local, others=tuple([i for i in others if i.authority]), name=name, birth_date=born, sex=sex
    )


def with_whole_name(patient: Patient, as_written: PersonName) -> Patient:
    """``patient`` with its name as its objects write it, where a slot says the same of both.

    A slot cuts names that are long.
    """
    whole = replace(patient, name=as_written)
    return whole if source_patient_info(whole) == source_patient_info(patient) else patient


def xon(name: str, code: str = "", authority: str = "") -> str:
    """An organisation as XON (ITI TF-3 4.2.3.1.7).

    Its name, and its code (XON.10) where that has an authority (XON.6).

    A name that leaves no room for the code is cut.
    """
    tail = f"^^^^^&{authority}&ISO^^^^{hl7_escape(code)}" if code and authority else ""
    room, kept = MAX_VALUE - len(tail), hl7_escape(name)
    while len(kept) > room:
        name = name[:-1]  # never within an escape sequence
        kept = hl7_escape(name)
    return kept + tail
