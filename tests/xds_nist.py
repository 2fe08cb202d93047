"""The NIST toolkit's XDS submissions and queries as tests use them: placeholders filled, ids of their own
(ihe.md 8).
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from itertools import count
from pathlib import Path
from uuid import UUID

from crosslight.standards.xds.mapping.values import ValueSets
from crosslight.standards.xds.model.metadata import RegistryObjects
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules.submission import assign_ids
from crosslight.standards.xds.wire.ebrim import parse_submit_objects

CX = "P20240601^^^&1.3.6.1.4.1.21367.2005.3.7&ISO"
REPOSITORY = "1.2.43"
ANY_CODES = ValueSets(check=False)
_oids = count(1)
_uuids = count(1)


def new_uuid() -> UUID:
    """A UUID of its own."""
    return UUID(int=(4 << 76) | (2 << 62) | next(_uuids))


def filled(folder: Path, name: str, *, patient: str = CX, replaced: str = "") -> bytes:
    """A NIST file with its placeholders filled, as its toolkit does before it sends."""
    text = (folder / "samples" / name).read_text(encoding="utf-8")
    cx = patient.replace("&", "&amp;")
    for mark in (
        "$patientid$",
        "$patient_id$",
        "$altpatientid$",
        "$basePatientId$",
        "L$baseSourcePatientId$",
    ):
        text = text.replace(mark, cx)
    for mark in ("$rplc_doc_uuid$", "$apnd_doc_uuid$", "$orig_docentry_uuid$", "$Folder$"):
        text = text.replace(mark, replaced or new_uuid().urn)
    return text.encode()


def submission(folder: Path, name: str, *, patient: str = CX, replaced: str = "") -> RegistryObjects:
    """The objects of a NIST submission with ids and OIDs of their own, and what a repository adds (ITI TF-2
    3.41).
    """
    objects = parse_submit_objects(
        parse_untrusted_xml(filled(folder, name, patient=patient, replaced=replaced))
    )
    return assign_ids(with_oids(objects, patient), new_uuid)


def with_oids(objects: RegistryObjects, patient: str = CX) -> RegistryObjects:
    """Fresh uniqueIds and one patient, as the toolkit assigns; the stored ones are dummies."""
    return RegistryObjects(
        documents=tuple(
            replace(
                d,
                unique_id=oid(),
                patient_id=patient,
                hash=d.hash or "a" * 40,
                size=d.size or "1",
                repository_unique_id=REPOSITORY,
            )
            for d in objects.documents
        ),
        submissions=tuple(
            replace(s, unique_id=oid(), patient_id=patient, source_id="1.2.44") for s in objects.submissions
        ),
        folders=tuple(replace(f, unique_id=oid(), patient_id=patient) for f in objects.folders),
        associations=objects.associations,
    )


def oid() -> str:
    """An OID of its own."""
    return f"1.2.42.{next(_oids)}"


def index(folder: Path) -> dict[str, dict[str, str]]:
    """INDEX.tsv by file name."""
    with (folder / "samples" / "INDEX.tsv").open() as lines:
        return {row["file"]: row for row in csv.DictReader(lines, delimiter="\t")}


#: What the suites 11897 to 11899 are asked over; the last one replaces the one before.
LOAD = (
    "12346__single_doc__single_doc",
    "12346__two_doc_w_fol__two_doc_w_fol",
    "12346__doc_w_fol__single_doc_w_fol",
    "12346__doc_for_rplc__single_doc_for_rplc",
    "12346__rplc__rplc",
)
#: Its testplan says Failure, its readme "must return nothing": Success with nothing is right (ihe.md 8.2).
CONTRADICTORY = "no_matching_classcode"


def expected(text: str) -> tuple[str, int]:
    """(status, how many objects) that an expectation of the index says."""
    found = re.search(r"(?:ObjectRefs|Documents|SubmissionSets|Folders)=(\d+)", text)
    return ("Failure" if "expect Failure" in text else "Success"), int(found.group(1)) if found else 0
