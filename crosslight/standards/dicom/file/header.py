"""The index attributes of one object: what the archive's rows, search and records are made of.

:func:`read` takes them from a walked object, fast; :func:`read_with_pydicom` takes the same from pydicom, as
oracle in tests and as fallback in a bounded child. Both give :class:`Header`, whose ``study`` and ``series``
are DICOM JSON objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import orjson

from crosslight.standards.dicom.file.gate import Note, Parsed
from crosslight.standards.dicom.file.metadata import attributes_and_notes
from crosslight.standards.study import Coded

Attributes = dict[str, Any]

#: Patient and study attributes (PS3.3 C.2, C.7.1-2) that a study's row and record are made of, in tag order.
STUDY_TAGS = (
    "00080005",
    "00080020",
    "00080030",
    "00080050",
    "00080051",
    "00080080",
    "00080081",
    "00080090",
    "00080096",
    "00080201",
    "00081030",
    "00081032",
    "00081040",
    "00081048",
    "00081060",
    "00100010",
    "00100020",
    "00100021",
    "00100024",
    "00100026",
    "00100028",
    "00100030",
    "00100032",
    "00100040",
    "00101001",
    "00101002",
    "00101010",
    "0020000D",
    "00200010",
    "00321060",
    "00321064",
)
#: Series attributes (PS3.3 C.7.3) and the request they come from.
SERIES_TAGS = (
    "00080021",
    "00080031",
    "00080060",
    "00080070",
    "0008103E",
    "0008103F",
    "00081010",
    "00081090",
    "00180015",
    "00080201",
    "0020000E",
    "00200011",
    "00200052",
    "00200060",
    "00400244",
    "00400245",
    "00400250",
    "00400251",
    "00400253",
    "00400254",
    "00400275",
)
#: Instance attributes that searches return (PS3.18 Table 10.6.3-5).
INSTANCE_TAGS = (
    "00080005",
    "00080016",
    "00080018",
    "00080022",
    "00080032",
    "00080023",
    "00080033",
    "00080201",
    "0020000D",
    "0020000E",
    "00200013",
    "00280002",
    "00280004",
    "00280008",
    "00280010",
    "00280011",
    "00280100",
)

PATIENT_ID = "00100020"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
MANIFEST_TITLE = "113030"
#: Document titles of rejection notes (IHE RAD TF-3 4.66, PS3.16 CID 7011): code -> meaning.
REJECTION_TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the index keeps of one instance."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    number: str = ""  # InstanceNumber
    frames: int = 1
    modality: str = ""
    title: Coded | None = None  # of a Key Object Selection
    # (study, series, instance) that a Key Object Selection lists
    references: tuple[tuple[str, str, str], ...] = ()
    study: Attributes
    series: Attributes
    metadata: bytes  # the whole DICOM JSON object, but for ``large``
    large: bytes = b""  # a DICOM JSON object of the large sequences alone, b'' where there are none
    # whether one of these says no length: slow for readers that do not want it
    large_unmeasured: bool = False
    notes: frozenset[Note] = frozenset()  # what was tolerated

    @property
    def is_manifest(self) -> bool:
        """An XDS-I manifest come back: never content (D16)."""
        return self.title is not None and self.title.scheme == "DCM" and self.title.value == MANIFEST_TITLE

    @property
    def rejection(self) -> str:
        """The code of a rejection note, '' for any other object."""
        title = self.title
        if title is not None and title.scheme == "DCM" and title.value in REJECTION_TITLES:
            return title.value
        return ""


def read(parsed: Parsed) -> Header:
    """The header of a walked and checked object."""
    return of(parsed, *attributes_and_notes(parsed))


def of(parsed: Parsed, attributes: Mapping[str, Any], notes: Iterable[Note]) -> Header:
    """The header of an object whose attributes were read."""
    header = from_attributes(attributes, parsed.transfer_syntax_uid, parsed.notes.union(notes))
    if not header.large or parsed.inflated:
        return header
    large = [
        e
        for e in parsed.elements
        if isinstance(attributes.get(f"{e[0]:08X}", {}).get("Value"), orjson.Fragment)
    ]
    return replace(
        header,
        large_unmeasured=any(bytes(parsed.data[e[2] - 4 : e[2]]) == b"\xff\xff\xff\xff" for e in large),
    )


def read_with_pydicom(data: bytes, limit: int = 1 << 20) -> tuple[Attributes, str]:
    """The same attributes and transfer syntax by pydicom, for :func:`from_attributes`.

    Raises whatever pydicom raises.

    Runs in a bounded child on bytes that :func:`read` could not make sense of.
    """
    import pydicom

    dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    for element in list(dataset):
        if element.VR in ("OB", "OW", "OF", "OD", "OL", "OV", "UN") and len(element.value or b"") > 1024:
            del dataset[element.tag]
    # as text and back: pydicom's own classes of values do not pass from a child
    text = dataset.to_json(bulk_data_threshold=limit, suppress_invalid_tags=True)
    attributes: Attributes = json.loads(text)
    if "00080005" in attributes:
        attributes["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return {tag: body for tag, body in attributes.items() if not tag.endswith("0000")}, syntax


def from_attributes(
    attributes: Mapping[str, Any], transfer_syntax_uid: str, notes: frozenset[Note] = frozenset()
) -> Header:
    """The header from an object's attributes in DICOM JSON, and what was noted while they were read."""
    sop_class = first_text(attributes, "00080016")
    title: Coded | None = None
    references: tuple[tuple[str, str, str], ...] = ()
    if sop_class == KEY_OBJECT_SELECTION:
        title, references = _title(attributes), tuple(_references(attributes))
    frames = first_text(attributes, "00280008")
    large = {tag: body for tag, body in attributes.items() if isinstance(body.get("Value"), orjson.Fragment)}
    return Header(
        study_uid=first_text(attributes, "0020000D"),
        series_uid=first_text(attributes, "0020000E"),
        sop_uid=first_text(attributes, "00080018"),
        sop_class_uid=sop_class,
        transfer_syntax_uid=transfer_syntax_uid,
        number=first_text(attributes, "00200013"),
        frames=max(1, int(frames)) if frames.isdecimal() and len(frames) < 10 else 1,
        modality=first_text(attributes, "00080060"),
        title=title,
        references=references,
        study=pick(attributes, STUDY_TAGS),
        series=pick(attributes, SERIES_TAGS),
        metadata=orjson.dumps(
            {t: b for t, b in attributes.items() if t not in large} if large else attributes
        ),
        large=orjson.dumps(large) if large else b"",
        notes=notes | ({"patient-id"} if len(values(attributes, PATIENT_ID)) > 1 else set()),
    )


def pick(attributes: Mapping[str, Any], tags: Iterable[str]) -> Attributes:
    """The named attributes that are there."""
    return {tag: attributes[tag] for tag in tags if tag in attributes}


def values(attributes: Mapping[str, Any], tag: str) -> list[Any]:
    """The values of an attribute, [] when absent or empty."""
    body = attributes.get(tag)
    listed: list[Any] = body.get("Value", []) if body else []
    return listed


def items(attributes: Mapping[str, Any], tag: str) -> list[Attributes]:
    """The items of a sequence, [] when absent."""
    return [item for item in values(attributes, tag) if isinstance(item, dict)]


def first_text(attributes: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text; PN as its groups joined by ``=``."""
    listed = values(attributes, tag)
    if not listed or listed[0] is None:
        return ""
    value = listed[0]
    if isinstance(value, dict):
        groups = "=".join(str(value.get(g, "")) for g in ("Alphabetic", "Ideographic", "Phonetic"))
        return groups.rstrip("=")
    return str(value)


def patient_id(attributes: Mapping[str, Any]) -> str:
    """Patient ID (0010,0020).

    '' when it has several values (VM is 1): the first of them is somebody else's.
    """
    return first_text(attributes, PATIENT_ID) if len(values(attributes, PATIENT_ID)) < 2 else ""


def several_ids(attributes: Mapping[str, Any]) -> str:
    """Patient ID as it was sent where it has several values, which is no id; else ''."""
    ids = values(attributes, PATIENT_ID)
    return "\\".join("" if value is None else str(value) for value in ids).strip() if len(ids) > 1 else ""


def coded(item: Mapping[str, Any]) -> Coded:
    """A code sequence item (PS3.3 8): Code Value, Long Code Value or URN Code Value."""
    value = first_text(item, "00080100") or first_text(item, "00080119") or first_text(item, "00080120")
    return Coded(value, first_text(item, "00080102"), first_text(item, "00080104"))


def _title(attributes: Mapping[str, Any]) -> Coded | None:
    concept = items(attributes, "0040A043")
    return coded(concept[0]) if concept else None


def _references(attributes: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """(study, series, instance) of Current Requested Procedure Evidence Sequence (PS3.3 C.17.2)."""
    for study in items(attributes, "0040A375"):
        for series in items(study, "00081115"):
            for instance in items(series, "00081199"):
                yield (
                    first_text(study, "0020000D"),
                    first_text(series, "0020000E"),
                    first_text(instance, "00081155"),
                )
