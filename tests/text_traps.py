"""Texts that break systems, as strategies of Hypothesis, and a record that has them in every place.

What the standards themselves cannot carry is left out: characters that XML 1.0 forbids, the delimiters of a
PN inside a PN, a backslash in a DICOM string that may have several values.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from registry_samples import NHS, member, nhs, study

from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, PersonName, StudyRecord

HOME, NUMBER = member("RTK", 3), nhs(1)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Every delimiter and escape of every form on the way, whole sequences of them, and scripts that have broken
#: systems before.
TRAPS = (
    "<",
    ">",
    "&",
    "'",
    '"',
    "^",
    "~",
    "|",
    "\\",
    "&amp;",
    "&#10;",
    "<b>",
    "]]>",
    "<!--",
    "{{7*7}}",
    "${x}",
    "%s",
    "\\E\\",
    "\\X0A\\",
    "\\.br\\",
    "''",
    '""',
    "\u00e9",
    "e\u0301",
    "\u4e57\u8868",
    "\u0634\u0639",
    "\U0001f9e0",
    "\u2028",
    "\u0085",
    "\xa0",
    "\ufeff",
    "\ufb01",
    "\u0130",
)
_LINES = ("\n", "\r\n", "\t")


def _text(without: str = "", lines: bool = False, most: int = 24) -> st.SearchStrategy[str]:
    """Text with many traps; no characters of ``without``, and no control characters but ``lines``."""
    banned = set(without) | {"\ufffe", "\uffff"}
    letters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=sorted(banned))
    traps = [
        t
        for t in (*TRAPS, *(_LINES if lines else ()))
        if not set(t) & banned and (lines or "\u0085" not in t)
    ]
    return st.lists(st.one_of(letters, st.sampled_from(traps)), max_size=most).map("".join)


def trimmed(text: str) -> str:
    """Without what surrounds it: outer blanks of LO and PN mean nothing (PS3.5 6.2)."""
    return text.strip(" ")


_part = _text("\\^=", most=8).map(str.strip)
_group = st.lists(_part, min_size=1, max_size=5).map(lambda parts: "^".join(parts).rstrip("^"))
names = (
    st.lists(_group, min_size=1, max_size=3)
    .map(lambda groups: "=".join(groups).rstrip("="))
    .filter(lambda pn: len(pn) < 180)
)
lines_of_text = _text("\\").map(trimmed)  # LO, SH in DICOM
free_text = _text(lines=True)  # from the record on: whatever a source wrote
values = _text("\\", most=10).map(trimmed).filter(str.strip)  # identifiers


def record_of(pn: str, description: str, *, local: str = "L1", accession: str = "A1") -> StudyRecord:
    """A record with these texts in every place that has one."""
    patient = Patient(
        local=Identifier(local, HOME.authority),
        others=(Identifier(NUMBER, NHS),),
        name=PersonName(pn),
        birth_date="19700101",
        sex="F",
    )
    made = study(patient, 1, modality="CT", instances=2)
    texts: dict[str, Any] = {
        "description": description,
        "institution": description,
        "referrer": pn,
        "study_id": accession,
    }
    made = changed(
        made, accessions=(Identifier(accession, HOME.authority),), orders=(Identifier(accession),), **texts
    )
    return made.with_series((changed(s, description=description) for s in made.series), detail="full")
