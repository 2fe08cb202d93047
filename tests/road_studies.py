"""Studies of every sort that two roads must say the same of: real compressed objects, difficult names, lives
of all kinds.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pydicom
from dicom_objects import note
from node_serving import ct, part10
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

NUMBER, OTHER_NUMBER = "9434765919", "9434765870"
NHS = "2.16.840.1.113883.2.1.4.1"

#: Names that every text form has its own trouble with.
NAMES = (
    'O\'Brien-Smythe^Séan & <Co>^"Pat"^Dr^Jr',
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Иванов^Пётр|~Ильич",
    "Müller &amp; Sons^]]>",
    "إبراهيم^عليّ",
    " Lead ^ Space ^^^",
    "=山田^太郎",
    "Long&~|" * 8 + "^" + "~" * 8 + "=" + "長" * 60 + "^" + "名" * 4 + "=" + "ながい" * 20,
)


def item(**attributes: Any) -> Dataset:
    """A sequence item."""
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def with_number(ds: Dataset, number: str = NUMBER) -> Dataset:
    """With a national number whose issuer is named."""
    qualifier = item(UniversalEntityID=NHS, UniversalEntityIDType="ISO")
    other = item(
        PatientID=number, TypeOfPatientID="TEXT", IssuerOfPatientIDQualifiersSequence=Sequence([qualifier])
    )
    ds.OtherPatientIDsSequence = Sequence([other])
    return ds


def image(study: int, series: int = 1, number: int = 1, *, who: str = NUMBER, **more: Any) -> Dataset:
    """A small CT image of study ``1.2.9.<study>``."""
    uid = f"1.2.9.{study}"
    ds = ct(
        uid, f"{uid}.{series}", f"{uid}.{series}.{number}", number=number, **{"SeriesNumber": series, **more}
    )
    return with_number(ds, who) if who else ds


def sample(name: str, study: int, series: int, **more: Any) -> Dataset:
    """One of pydicom's own objects, put into study ``1.2.9.<study>``; its pixel data as they are."""
    path = get_testdata_file(name)
    assert isinstance(path, str)
    ds = pydicom.dcmread(path)
    head, uid = ct(), f"1.2.9.{study}"
    for tag in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
    ):
        setattr(ds, tag, head[tag].value)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = uid, f"{uid}.{series}", f"{uid}.{series}.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesNumber, ds.StudyDescription = series, "Compressed & multi-frame"
    for name_, value in more.items():
        setattr(ds, name_, value)
    return with_number(ds)


def orders() -> list[Dataset]:
    """Two series, several accessions and orders: with an OID, with a local name, with neither."""
    by_oid = item(UniversalEntityID="1.2.826.0.1.77.1", UniversalEntityIDType="ISO")
    both = item(
        LocalNamespaceEntityID="RIS<2>", UniversalEntityID="1.2.826.0.1.77.2", UniversalEntityIDType="ISO"
    )
    by_name = item(LocalNamespaceEntityID="OLD RIS")
    requests = [
        item(AccessionNumber="A-1", IssuerOfAccessionNumberSequence=Sequence([by_oid])),
        item(
            AccessionNumber="A&2",
            IssuerOfAccessionNumberSequence=Sequence([both]),
            PlacerOrderNumberImagingServiceRequest="P^1",
        ),
        item(AccessionNumber="A 3", IssuerOfAccessionNumberSequence=Sequence([by_name])),
        item(
            FillerOrderNumberImagingServiceRequest="F|9",
            OrderFillerIdentifierSequence=Sequence([by_oid]),
            PlacerOrderNumberImagingServiceRequest="P-2",
            OrderPlacerIdentifierSequence=Sequence([by_name]),
        ),
    ]
    codes = [
        item(CodeValue="RPID16", CodingSchemeDesignator="RADLEX", CodeMeaning="CT Head & Neck <plain>"),
        item(CodeValue="X1", CodingSchemeDesignator="99LOCAL", CodeMeaning="Schädel"),
    ]
    files = []
    for series in (1, 2):
        for number in (1, 2, 3):
            ds = image(
                1,
                series,
                number,
                AccessionNumber="A-1",
                SeriesDescription=f'thin "{series}" <mm> \\ ',
                SeriesDate="20260102",
                SeriesTime="101500.25",
                BodyPartExamined=("HEAD", "NECK")[series - 1],
                Laterality="L" if series == 2 else "",
                InstitutionName="St Peter's & Ashford",
                ReferringPhysicianName="Jones^Bé^^Dr",
                StudyDescription='CT <head> & "neck"',
            )
            ds.IssuerOfAccessionNumberSequence = Sequence([by_oid])
            ds.RequestAttributesSequence, ds.ProcedureCodeSequence = Sequence(requests), Sequence(codes)
            files.append(ds)
    return files


def mixed_objects() -> list[Dataset]:
    """Lossless and lossy, colour, several frames, and an object without pictures."""
    return [
        sample("JPEG2000.dcm", 2, 1, SeriesDescription="JPEG 2000"),
        sample("MR_small_jpeg_ls_lossless.dcm", 2, 2, Modality="MR", SeriesDescription="JPEG-LS"),
        sample("SC_rgb_rle_2frame.dcm", 2, 3, SeriesDescription="RLE, two frames"),
        sample("SC_rgb_jpeg_dcmtk.dcm", 2, 4, SeriesDescription="JPEG"),
        sample("rtdose_rle.dcm", 2, 5, SeriesDescription="fifteen frames"),
        sample("test-SR.dcm", 2, 6, SeriesDescription="a report"),
    ]


def undated() -> list[Dataset]:
    """No date; a date and no time; a time without a date; an hour only; a zone of its own; an unreadable
    date.
    """
    return [
        image(10, StudyDate="", StudyTime=""),
        image(11, StudyDate="20251026", StudyTime=""),
        image(12, StudyDate="", StudyTime="101112"),
        image(13, StudyDate="20251026", StudyTime="01"),
        image(
            14,
            StudyDate="20260330",
            StudyTime="003000.123456",
            TimezoneOffsetFromUTC="+0530",
            SeriesDate="20260330",
            SeriesTime="0031",
        ),
        image(15, StudyDate="2026.03.29", StudyTime="01:30:00"),
    ]


def difficult() -> list[Dataset]:
    """One person whom every record writes differently."""
    return [
        image(
            20 + n,
            PatientName=name,
            PatientID=f"L-{n}^&|~\\{n}" if n % 2 else f"L {n} <'\">",
            StudyDescription=name,
            StudyDate=f"202601{20 + n}",
            who=NUMBER,
        )
        for n, name in enumerate(NAMES)
    ]


def empty() -> list[Dataset]:
    """As little as an object may say; and another person without a national number."""
    bare = image(
        30,
        StudyDescription="",
        AccessionNumber="",
        StudyID="",
        PatientName="",
        PatientSex="",
        SeriesDescription="",
    )
    local = image(31, who="", PatientID="NO-NHS", PatientName="Visitor^Vera", PatientBirthDate="1985")
    return [bare, local]


def rejection(code: str, rejected: list[Dataset], study: int, who: Dataset) -> bytes:
    """A rejection note of ``rejected``."""
    made = note(code, rejected, study=f"1.2.9.{study}")
    made.PatientID, made.PatientName = who.PatientID, who.PatientName
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    return part10(made)


def copy_of(ds: Dataset) -> Dataset:
    """Another object with the same content."""
    return pydicom.dcmread(BytesIO(part10(ds)))
