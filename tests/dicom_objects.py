"""DICOM objects for tests of the archive: small, whole, and as broken as asked for."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

STUDY = "1.2.826.0.1.3680043.10.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.11"
KOS = "1.2.840.10008.5.1.4.1.1.88.59"


def image(
    number: int = 1, *, study: str = STUDY, series: str = "1", pixels: bytes | None = None, **attributes: Any
) -> Dataset:
    """A CT slice of 8 x 8 pixels; ``attributes`` are set last, None removes one."""
    made = Dataset()
    made.SOPClassUID = CT
    made.SOPInstanceUID = f"{study}.{series}.{number}"
    made.StudyInstanceUID = study
    made.SeriesInstanceUID = f"{study}.{series}"
    made.StudyDate, made.StudyTime = "20260301", "101500"
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", series, number
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = (
        "Miller^Ann",
        "L001",
        "19700102",
        "F",
    )
    made.AccessionNumber, made.StudyDescription, made.StudyID = "A1", "CT Thorax", "S1"
    made.Rows = made.Columns = 8
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = struct.pack("<64H", *range(number, number + 64)) if pixels is None else pixels
    made["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def part10(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """As a Part 10 file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = str(dataset.get("SOPClassUID", CT))
    meta.MediaStorageSOPInstanceUID = str(dataset.get("SOPInstanceUID", "1.2.3"))
    dataset.file_meta = meta
    out = BytesIO()
    little = syntax != "1.2.840.10008.1.2.2"
    dcmwrite(
        out,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=little,
        enforce_file_format=True,
    )
    return out.getvalue()


def parsed(data_set: bytes, syntax: str) -> Dataset:
    """The bare data set as pydicom reads it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    head = BytesIO()
    dcmwrite(head, FileDataset(head, {}, preamble=b"\0" * 128, file_meta=meta), enforce_file_format=False)
    return dcmread(BytesIO(head.getvalue() + data_set), force=True)


def data_set_of(file: bytes) -> bytes:
    """The data set after group 0002."""
    (length,) = struct.unpack_from("<I", file, 140)
    return file[144 + length :]


def note(code: str, rejected: list[Dataset], *, number: int = 1, study: str = STUDY) -> Dataset:
    """A Key Object Selection with a DCM title of ``code`` that lists ``rejected``."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = KOS, f"{study}.99.{code}.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = study, f"{study}.99", "KO"
    made.PatientID, made.PatientName = "L001", "Miller^Ann"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", "Title"
    made.ConceptNameCodeSequence = Sequence([title])
    studies = []
    for one in rejected:
        item, series, instance = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = (
            one.SOPClassUID,
            one.SOPInstanceUID,
        )
        series.SeriesInstanceUID, series.ReferencedSOPSequence = one.SeriesInstanceUID, Sequence([instance])
        item.StudyInstanceUID, item.ReferencedSeriesSequence = one.StudyInstanceUID, Sequence([series])
        studies.append(item)
    made.CurrentRequestedProcedureEvidenceSequence = Sequence(studies)
    return made


# --- raw elements, for what pydicom refuses to write --------------------------------------------------------


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One explicit little endian element; ``length`` lies about the value."""
    said = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN", "UT", "OD", "OF", "OL", "OV", "UC", "UR", "SV", "UV"):
        return head + struct.pack("<HI", 0, said) + value
    return head + struct.pack("<H", said) + value


def uid(text: str) -> bytes:
    """A padded UID."""
    return text.encode() + b"\0" * (len(text) % 2)


IDENTITY = b"".join((
    element(0x00080016, "UI", uid(CT)), element(0x00080018, "UI", uid("1.2.3.4")),
    element(0x0020000D, "UI", uid("1.2.3")), element(0x0020000E, "UI", uid("1.2.3.1")),
))  # fmt: skip


def raw_part10(
    data_set: bytes,
    syntax: str = ExplicitVRLittleEndian,
    *,
    instance: str = "1.2.3.4",
    preamble: bytes = bytes(128),
    sop_class: str = CT,
) -> bytes:
    """A Part 10 file around any bytes."""
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", uid(sop_class))
    meta += element(0x00020003, "UI", uid(instance)) + element(0x00020010, "UI", uid(syntax))
    return preamble + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + data_set


def item(content: bytes, *, open_ended: bool = False) -> bytes:
    """A sequence item."""
    if open_ended:
        return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + b"\xfe\xff\x0d\xe0\0\0\0\0"
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content


SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def nested(depth: int, *, open_ended: bool) -> bytes:
    """Sequences in sequences."""
    inner = b""
    for _ in range(depth):
        one = item(inner, open_ended=open_ended)
        inner = (
            element(0x00081140, "SQ", one + SEQUENCE_END, 0xFFFFFFFF)
            if open_ended
            else element(0x00081140, "SQ", one)
        )
    return inner


def encapsulated(*fragments: bytes, closed: bool = True) -> bytes:
    """Encapsulated pixel data with an empty offset table."""
    parts = item(b"") + b"".join(item(fragment) for fragment in fragments) + (SEQUENCE_END if closed else b"")
    return element(0x7FE00010, "OB", parts, 0xFFFFFFFF)


def deflated(data_set: bytes) -> bytes:
    """A raw deflate stream (PS3.5 A.5)."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return engine.compress(data_set) + engine.flush()


JPEG = str(JPEGBaseline8Bit)
