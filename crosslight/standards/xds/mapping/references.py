"""referenceIdList: CXi read, written and compared (ITI TF-3 4.2.3.2.28, Table 4.2.3.1.7-2)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from crosslight.standards.ids import CXI_ACCESSION, CXI_ORDER, CXI_STUDY_UID, Identifier, hl7_unescape
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds.model.xml import legal

MAX_VALUE = 256


def references_of(record: StudyRecord) -> tuple[str, ...]:
    """The study UID, every accession and every order of a study.

    The study UID without assigning authority.
    """
    values = [Identifier(record.study_uid).cxi(CXI_STUDY_UID)]
    values += [legal(i.cxi(CXI_ACCESSION)) for i in record.accessions if i.value]
    values += [legal(i.cxi(CXI_ORDER)) for i in record.orders if i.value]
    return tuple(dict.fromkeys(v for v in values if len(v) <= MAX_VALUE))


@lru_cache(maxsize=1024)
def parse_reference(text: str) -> tuple[Identifier, str] | None:
    """(identifier, type) of a CXi; None where it has no id or no type.

    CX components beyond are left aside.
    """
    parts = text.split("^")
    if len(parts) < 5 or not parts[0] or not parts[4].strip():
        return None
    hd = parts[3].split("&")
    namespace, authority = hl7_unescape(hd[0]), hd[1].strip() if len(hd) > 1 else ""
    return Identifier(hl7_unescape(parts[0]), authority, namespace), parts[4].strip()


def identifiers_of(references: Iterable[str], kind: str) -> tuple[Identifier, ...]:
    """The identifiers of one type, in order."""
    identifiers: dict[Identifier, None] = {}
    for reference in references:
        parsed = parse_reference(reference)
        if parsed is not None and parsed[1] == kind:
            identifiers[parsed[0]] = None
    return tuple(identifiers)


def study_uid_of(references: Iterable[str]) -> str:
    """The one StudyInstanceUID, '' where there is none or more than one."""
    uids = {i.value.strip() for i in identifiers_of(references, CXI_STUDY_UID)}
    return uids.pop() if len(uids) == 1 else ""


def comparable(reference: str) -> str:
    """What two references are compared by: the exact string.

    A study UID goes without the authority that some senders add.
    """
    if not reference.rstrip("^").endswith(CXI_STUDY_UID):
        return reference
    parsed = parse_reference(reference)
    return reference if parsed is None else f"{parsed[0].value.strip()}^^^^{CXI_STUDY_UID}"
