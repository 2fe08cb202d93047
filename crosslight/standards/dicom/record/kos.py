"""The imaging manifest: an XDS-I.b Key Object Selection document of a study; and rejection notes, its kin.

PS3.3 A.35.4, PS3.16 TID 2010; RAD TF-3 4.68 (manifests), 4.66 (rejection notes).

Written with an encoder of its own: the same input gives the same bytes, and thousands of references cost
milliseconds. Reading is in ``kos_read``, named
here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import groupby

from pydicom.uid import UID

from crosslight.standards.dicom.record.kos_read import (
    KEY_OBJECT_SELECTION,
    MANIFEST_TITLES,
    MAX_INSTANCES,
    REJECTION_TITLES,
    TITLE_MANIFEST,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    parse_manifest,
    role_of_title,
)
from crosslight.standards.ids import Identifier, checked_uid
from crosslight.standards.problem import Invalid
from crosslight.standards.study import Coded, InstanceRef, Patient, StudyRecord, StudyTime, whole_number

__all__ = [
    "KEY_OBJECT_SELECTION",
    "MANIFEST_TITLES",
    "MAX_INSTANCES",
    "REJECTION_TITLES",
    "TITLE_MANIFEST",
    "Manifest",
    "ManifestInstance",
    "ManifestSeries",
    "build_manifest",
    "parse_manifest",
    "role_of_title",
    "zone_offset",
]

#: Implementation Class UID (PS3.7 D.3.3.2) of the manifests' File Meta Information.
IMPLEMENTATION_CLASS_UID = "2.25.120146878034388546428986933673351540844"

_LONG = frozenset({"SQ", "OB", "UT", "UR", "UC", "UN"})  # 32-bit length in explicit VR (PS3.5 7.1.2)
_PADS = {"UI": b"\0", "OB": b"\0"}
_ITEM = b"\xfe\xff\x00\xe0"


def _element(tag: int, vr: str, value: str | bytes) -> bytes:
    """One element in Explicit VR Little Endian."""
    raw = value.encode("utf-8") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += _PADS.get(vr, b" ")
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode("ascii")
    if vr in _LONG:
        return head + b"\0\0" + len(raw).to_bytes(4, "little") + raw
    if len(raw) > 0xFFFF:
        raise Invalid("A value is too long for a manifest.", why=f"PS3.5 7.1.2: {vr} holds 65535 bytes.")
    return head + len(raw).to_bytes(2, "little") + raw


def _item(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return _ITEM + len(body).to_bytes(4, "little") + body


def _sequence(tag: int, items: Iterable[bytes]) -> bytes:
    return _element(tag, "SQ", b"".join(items))


def _text(value: str) -> str:
    """Without control characters, which no text VR but LT, ST and UT may hold (PS3.5 6.2)."""
    return "".join(" " if ord(char) < 32 or ord(char) == 127 else char for char in value)


def _da(value: str) -> str:
    digits = value.strip().replace(".", "").replace("-", "")
    return digits if len(digits) == 8 and digits.isascii() and digits.isdecimal() else ""


def _tm(value: str) -> str:
    digits = value.strip().replace(":", "")
    whole, dot, fraction = digits.partition(".")
    if not (whole.isascii() and whole.isdecimal() and len(whole) in (2, 4, 6)):
        return ""
    if dot and not (len(whole) == 6 and fraction.isascii() and fraction.isdecimal() and len(fraction) <= 6):
        return whole
    return digits


def _code(tag: int, code: Coded) -> bytes:
    return _sequence(
        tag,
        [
            _item(
                _element(0x00080100, "SH", code.value),
                _element(0x00080102, "SH", code.scheme),
                _element(0x00080104, "LO", code.meaning),
            )
        ],
    )


def _issuer(tag: int, identifier: Identifier) -> bytes:
    """An issuer as HL7v2 hierarchic designator macro (PS3.3 Table 10-17); nothing where nobody said."""
    parts = []
    if identifier.namespace:
        parts.append(_element(0x00400031, "UT", _text(identifier.namespace)))
    if identifier.authority:
        parts += [_element(0x00400032, "UT", identifier.authority), _element(0x00400033, "CS", "ISO")]
    return _sequence(tag, [_item(*parts)]) if parts else b""


def _patient_issuer(identifier: Identifier) -> list[bytes]:
    parts = [_element(0x00100021, "LO", _text(identifier.namespace))] if identifier.namespace else []
    if identifier.authority:  # (0010,0024) holds the qualifiers only: the namespace stands in (0010,0021)
        parts.append(_issuer(0x00100024, Identifier(value="", authority=identifier.authority)))
    return parts


def _other_ids(patient: Patient) -> bytes:
    if not patient.others:
        return b""
    items = []
    for other in patient.others:
        issuer = _patient_issuer(other)
        local = [part for part in issuer if part[:4] == b"\x10\x00\x21\x00"]
        qualifiers = [part for part in issuer if part[:4] != b"\x10\x00\x21\x00"]
        items.append(
            _item(
                _element(0x00100020, "LO", _text(other.value)),
                *local,
                _element(0x00100022, "CS", "TEXT"),
                *qualifiers,
            )
        )
    return _sequence(0x00101002, items)


def _requests(record: StudyRecord) -> bytes:
    """ReferencedRequestSequence (PS3.3 C.17.6.2): accessions and placer orders, in the order given.

    They stand side by side.
    """
    n = max(len(record.accessions), len(record.orders))
    none = Identifier("")
    items = []
    for i in range(n):
        accession = record.accessions[i] if i < len(record.accessions) else none
        order = record.orders[i] if i < len(record.orders) else none
        items.append(
            _item(
                _element(0x00080050, "SH", _text(accession.value)),
                _issuer(0x00080051, accession),
                _sequence(0x00081110, []),
                _element(0x0020000D, "UI", record.study_uid),
                _element(0x00321060, "LO", ""),
                _sequence(0x00321064, []),
                _issuer(0x00400026, order),
                _element(0x00401001, "SH", ""),
                _element(0x00402016, "LO", _text(order.value)),
                _element(0x00402017, "LO", ""),
            )
        )
    return _sequence(0x0040A370, items) if items else b""


def _value_type(sop_class_uid: str) -> str:
    """How TID 2010 refers to an object of this class: IMAGE, WAVEFORM or COMPOSITE."""
    name = UID(sop_class_uid).name
    if "Waveform Storage" in name:
        return "WAVEFORM"
    pixels = (
        "Image Storage",
        "Segmentation Storage",
        "Parametric Map Storage",
        "RT Dose Storage",
        "Volume Storage",
    )
    # Surface segmentations and presentation states hold no pixels.
    return "IMAGE" if any(part in name for part in pixels) and "Surface" not in name else "COMPOSITE"


def _reference(instance: InstanceRef) -> bytes:
    return _item(
        _element(0x00081150, "UI", instance.sop_class_uid), _element(0x00081155, "UI", instance.sop_uid)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    ae_title: str
    location_uid: str
    url: str


def _evidence(study_uid: str, instances: Sequence[InstanceRef], where: _Where) -> bytes:
    series = []
    for series_uid, group in groupby(instances, key=lambda i: i.series_uid):
        series.append(
            _item(
                _element(0x00080054, "AE", where.ae_title) if where.ae_title else b"",
                _element(0x00081190, "UR", where.url) if where.url else b"",
                _sequence(0x00081199, (_reference(i) for i in group)),
                _element(0x0020000E, "UI", series_uid),
                _element(0x0040E011, "UI", where.location_uid) if where.location_uid else b"",
            )
        )
    return _sequence(
        0x0040A375, [_item(_sequence(0x00081115, series), _element(0x0020000D, "UI", study_uid))]
    )


def _content(instances: Sequence[InstanceRef]) -> bytes:
    types: dict[str, str] = {}
    items = []
    for instance in instances:
        kind = types.setdefault(instance.sop_class_uid, _value_type(instance.sop_class_uid))
        items.append(
            _item(
                _sequence(0x00081199, [_reference(instance)]),
                _element(0x0040A010, "CS", "CONTAINS"),
                _element(0x0040A040, "CS", kind),
            )
        )
    return _sequence(0x0040A730, items)


def zone_offset(time: StudyTime) -> str:
    """The study's offset from UTC as ``+HHMM``: as received, or its site's zone at the study's own time.

    '' = unknown.
    """
    if time.zone[:1] in ("+", "-"):
        return time.zone if len(time.zone) == 5 and time.zone[1:].isdecimal() else ""
    local = time.interval()
    if not time.zone or local is None:
        return ""
    utc = StudyTime(date=time.date, time=time.time, zone="+0000").interval()
    assert utc is not None  # noqa: S101 - the same text was readable with its zone
    minutes = round((utc[0] - local[0]).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def _in_zone(moment: datetime, offset: str) -> datetime:
    """``moment`` in the zone that (0008,0201) declares for the whole object (PS3.3 C.12.1.1.8)."""
    if not offset:
        return moment.astimezone(UTC)
    delta = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return moment.astimezone(timezone(delta if offset[0] == "+" else -delta))


def build_manifest(
    record: StudyRecord,
    instances: Iterable[InstanceRef],
    *,
    document_uid: str,
    series_uid: str,
    retrieve_ae_title: str,
    retrieve_location_uid: str,
    retrieve_url: str = "",
    created: datetime,
    title: Coded = TITLE_MANIFEST,
    manufacturer: str = "Crosslight",
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
) -> bytes:
    """The manifest of a study as a Part 10 file; the same arguments give the same bytes.

    Args:
        record: The study. Text is written as UTF-8, whatever it came in.
        instances: What is referenced, in any order; sorted by series and instance here.
        document_uid: SOP Instance UID of the manifest, the DocumentEntry's uniqueId.
        series_uid: Its own series, not one of the study's.
        retrieve_ae_title: AE title of the source, '' = leave out.
        retrieve_location_uid: repositoryUniqueId of the source for RAD-69 (D11).
        retrieve_url: WADO-RS base, '' = leave out.
        created: Instance Creation Date and Time, which is also the content's; whole seconds are written.
        title: What the document is: a manifest, or a rejection note (``kos_read.REJECTION_TITLES``).

    Raises:
        Invalid: when nothing is referenced, or a UID is not one.
    """
    ordered = sorted(instances, key=lambda i: (i.series_uid, whole_number(i.number), i.sop_uid))
    if not ordered:
        raise Invalid("A manifest of nothing.", why="PS3.3 C.17.6.2: the evidence sequence is Type 1.")
    for uid in (record.study_uid, document_uid, series_uid):
        checked_uid(uid, "manifest")
    patient, time = record.patient, record.time
    offset = zone_offset(time)
    moment = _in_zone(created, offset)
    da, tm = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    accession = record.accessions[0] if len(record.accessions) == 1 else Identifier("")
    where = _Where(ae_title=retrieve_ae_title, location_uid=retrieve_location_uid, url=retrieve_url)
    dataset = b"".join(
        (
            _element(0x00080005, "CS", "ISO_IR 192"),
            _element(0x00080012, "DA", da),
            _element(0x00080013, "TM", tm),
            _element(0x00080016, "UI", KEY_OBJECT_SELECTION),
            _element(0x00080018, "UI", document_uid),
            _element(0x00080020, "DA", _da(time.date)),
            _element(0x00080023, "DA", da),
            _element(0x00080030, "TM", _tm(time.time)),
            _element(0x00080033, "TM", tm),
            _element(0x00080050, "SH", _text(accession.value)),
            _issuer(0x00080051, accession),
            _element(0x00080060, "CS", "KO"),
            _element(0x00080070, "LO", manufacturer),
            _element(0x00080080, "LO", _text(record.institution)) if record.institution else b"",
            _element(0x00080090, "PN", _text(record.referrer)),
            _element(0x00080201, "SH", offset) if offset else b"",
            _element(0x00081030, "LO", _text(record.description)) if record.description else b"",
            _element(0x0008103E, "LO", "Manifest" if title == TITLE_MANIFEST else "Rejection note"),
            _sequence(0x00081111, []),
            _element(0x00100010, "PN", _text(patient.name.pn)),
            _element(0x00100020, "LO", _text(patient.local.value)),
            *_patient_issuer(patient.local),
            _element(0x00100030, "DA", _da(patient.birth_date)),
            _element(0x00100040, "CS", patient.sex if patient.sex in ("M", "F", "O") else ""),
            _other_ids(patient),
            _element(0x0020000D, "UI", record.study_uid),
            _element(0x0020000E, "UI", series_uid),
            _element(0x00200010, "SH", _text(record.study_id)),
            _element(0x00200011, "IS", "1"),
            _element(0x00200013, "IS", "1"),
            _element(0x0040A040, "CS", "CONTAINER"),
            _code(0x0040A043, title),
            _element(0x0040A050, "CS", "SEPARATE"),
            _requests(record),
            _evidence(record.study_uid, ordered, where),
            _sequence(
                0x0040A504, [_item(_element(0x00080105, "CS", "DCMR"), _element(0x0040DB00, "CS", "2010"))]
            ),
            _content(ordered),
        )
    )
    return _part10(dataset, document_uid, implementation_class_uid)


def _part10(dataset: bytes, sop_instance_uid: str, implementation_class_uid: str) -> bytes:
    """Preamble and File Meta Information before a data set (PS3.10 7.1)."""
    meta = b"".join(
        (
            _element(0x00020001, "OB", b"\x00\x01"),
            _element(0x00020002, "UI", KEY_OBJECT_SELECTION),
            _element(0x00020003, "UI", sop_instance_uid),
            _element(0x00020010, "UI", "1.2.840.10008.1.2.1"),  # Explicit VR Little Endian
            _element(0x00020012, "UI", implementation_class_uid),
            _element(0x00020013, "SH", "CROSSLIGHT"),
        )
    )
    length = _element(0x00020000, "UL", len(meta).to_bytes(4, "little"))
    return b"\0" * 128 + b"DICM" + length + meta + dataset
