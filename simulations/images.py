"""Believable synthetic studies: CT, MR, CR, MG and US objects around pixels of ``simulations/phantoms.py``.

The same plan always makes the same objects, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from simulations.people import SyntheticPatient
from simulations.phantoms import Pixels, ct_slice, mammogram, mr_slice, radiograph, ultrasound_cine

IMPLEMENTATION_CLASS_UID = "2.25.120487563129850742219763012345678901234"

#: modality -> (study description, body part) choices; names as UK departments write them.
PROCEDURES: dict[str, tuple[tuple[str, str], ...]] = {
    "CT": (("CT Thorax <contrast>", "CHEST"), ("CT Abdomen & pelvis", "ABDOMEN"), ("CT Head", "HEAD")),
    "MR": (("MRI Brain", "HEAD"), ("MRI Lumbar spine", "LSPINE")),
    "CR": (("XR Chest", "CHEST"), ("XR Hand Lt", "HAND")),
    "MG": (("Mammogram Both", "BREAST"),),
    "US": (("US Abdomen", "ABDOMEN"), ("US Thyroid", "NECK")),
}


def uid_of(*parts: object) -> str:
    """A deterministic 2.25 UID from a name (PS3.5 B.2)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """One study to make."""

    patient: SyntheticPatient
    code: str  # organisation that acquires it
    institution: str
    modality: str
    when: datetime  # local, at the site
    seed: int
    description: str = ""
    body_part: str = ""
    instances: int = 0  # CT and MR slices; 0 = a usual number
    study_uid: str = ""
    accession: str = ""
    national_authority: str = ""  # OID of the national number
    local_authority: str = ""  # OID of the trust's own numbers, '' = only the issuer's code
    # OID of the trust's accession numbers: another one than that of its patient numbers
    accession_authority: str = ""
    zone: str = ""  # (0008,0201), '' = left out, as most modalities do
    compressed: bool = False  # JPEG-LS lossless, where the modality allows
    size: int = 0  # rows = columns of CT and MR; 0 = usual
    extra: dict[str, str] = field(default_factory=dict)
    archive: str = ""  # key of the archive of its member that it goes to, '' = whichever

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return self.study_uid or uid_of(
            "study", self.code, self.patient.index, self.modality, self.when, self.seed
        )


def _base(
    plan: StudyPlan, sop_class: str, series_uid: str, series_number: int, number: int, series_text: str
) -> FileDataset:
    sop_uid = uid_of("instance", series_uid, number)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = plan.uid, series_uid
    ds.StudyDate, ds.StudyTime = plan.when.strftime("%Y%m%d"), plan.when.strftime("%H%M%S")
    begun = plan.when + timedelta(minutes=series_number)
    ds.SeriesDate, ds.SeriesTime = begun.strftime("%Y%m%d"), begun.strftime("%H%M%S")
    ds.ContentDate, ds.ContentTime = ds.SeriesDate, ds.SeriesTime
    if plan.zone:
        ds.TimezoneOffsetFromUTC = plan.zone
    ds.Modality = plan.modality
    ds.Manufacturer = "Crosslight synthetic"
    ds.InstitutionName = plan.institution
    ds.StationName = f"{plan.code}-{plan.modality}1"
    ds.ReferringPhysicianName = "Rahman^Ayesha^^Dr"
    ds.StudyDescription = plan.description or PROCEDURES[plan.modality][0][0]
    ds.SeriesDescription = series_text
    ds.BodyPartExamined = plan.body_part or PROCEDURES[plan.modality][0][1]
    ds.StudyID = str(plan.seed % 100000)
    ds.SeriesNumber, ds.InstanceNumber = series_number, number
    _patient(ds, plan)
    ds.AccessionNumber = plan.accession or f"{plan.code}{plan.seed % 10**7:07d}"[:16]
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = f"{plan.code} RIS"
    if plan.accession_authority:
        issuer.UniversalEntityID, issuer.UniversalEntityIDType = plan.accession_authority, "ISO"
    ds.IssuerOfAccessionNumberSequence = Sequence([issuer])
    for keyword, value in plan.extra.items():
        setattr(ds, keyword, value)
    return ds


def _patient(ds: Dataset, plan: StudyPlan) -> None:
    patient = plan.patient
    ds.PatientName = patient.pn
    ds.PatientID = patient.local_ids[plan.code]
    ds.IssuerOfPatientID = plan.code
    if plan.local_authority:
        qualifiers = Dataset()
        qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = plan.local_authority, "ISO"
        ds.IssuerOfPatientIDQualifiersSequence = Sequence([qualifiers])
    ds.PatientBirthDate = patient.birth_date.strftime("%Y%m%d")
    ds.PatientSex = patient.sex
    if patient.national and plan.national_authority:
        other = Dataset()
        other.PatientID, other.TypeOfPatientID = patient.national, "TEXT"
        other.IssuerOfPatientID = "NHS" if plan.national_authority.endswith("2.1.4.1") else "NATIONAL"
        authority = Dataset()
        authority.UniversalEntityID, authority.UniversalEntityIDType = plan.national_authority, "ISO"
        other.IssuerOfPatientIDQualifiersSequence = Sequence([authority])
        ds.OtherPatientIDsSequence = Sequence([other])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _grey(ds: Dataset, pixels: Pixels, *, bits: int, photometric: str, signed: bool) -> None:
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    ds.PixelData = pixels.astype("<i2" if signed else "<u2").tobytes()
    ds["PixelData"].VR = "OW"


def _ct(plan: StudyPlan) -> Iterator[FileDataset]:
    count, n = plan.instances or 60, plan.size or 512
    series_uid = uid_of("series", plan.uid, 1)
    frame = uid_of("frame", plan.uid)
    for index in range(count):
        rng = np.random.default_rng([plan.seed, index])
        ds = _base(plan, CTImageStorage, series_uid, 1, index + 1, "Axial 1.0 mm")
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame, ""
        ds.PatientPosition, ds.ImageOrientationPatient = "HFS", [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-175.0, -175.0, float(index)]
        ds.PixelSpacing, ds.SliceThickness, ds.KVP = [350 / n, 350 / n], 1.0, 120
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
        ds.AcquisitionNumber = 1
        _grey(ds, ct_slice(index, count, rng, n), bits=16, photometric="MONOCHROME2", signed=True)
        yield ds


def _mr(plan: StudyPlan) -> Iterator[FileDataset]:
    count, n = plan.instances or 24, plan.size or 256
    for series_number, weighting in enumerate(("T1", "T2"), 1):
        series_uid = uid_of("series", plan.uid, series_number)
        for index in range(count):
            rng = np.random.default_rng([plan.seed, series_number, index])
            ds = _base(plan, MRImageStorage, series_uid, series_number, index + 1, f"{weighting} axial")
            ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
            ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid_of("frame", plan.uid), ""
            ds.PatientPosition, ds.ImageOrientationPatient = "HFS", [1, 0, 0, 0, 1, 0]
            ds.ImagePositionPatient = [-110.0, -110.0, float(index * 5)]
            ds.PixelSpacing, ds.SliceThickness = [220 / n, 220 / n], 5.0
            ds.ScanningSequence, ds.SequenceVariant = "SE", "NONE"
            ds.ScanOptions, ds.MRAcquisitionType = "", "2D"
            ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = (
                (500, 12, 1) if weighting == "T1" else (4000, 100, 1)
            )
            ds.WindowCenter, ds.WindowWidth = 450, 900
            _grey(
                ds,
                mr_slice(index, count, rng, weighting, n),
                bits=12,
                photometric="MONOCHROME2",
                signed=False,
            )
            yield ds


def _cr(plan: StudyPlan) -> Iterator[FileDataset]:
    body = plan.body_part or PROCEDURES["CR"][0][1]
    views = ("PA", "LL") if body == "CHEST" else ("AP",)
    series_uid = uid_of("series", plan.uid, 1)
    for index, view in enumerate(views):
        ds = _base(plan, ComputedRadiographyImageStorage, series_uid, 1, index + 1, body.title())
        ds.ViewPosition, ds.PatientOrientation = view, ["L", "F"]
        if body == "HAND":
            ds.Laterality = "L"
        ds.ImagerPixelSpacing = [0.2, 0.2]
        ds.WindowCenter, ds.WindowWidth = 2400, 2800
        pixels = radiograph(np.random.default_rng([plan.seed, index]), body)
        _grey(ds, pixels, bits=12, photometric="MONOCHROME1", signed=False)
        yield ds


def _mg(plan: StudyPlan) -> Iterator[FileDataset]:
    series_uid = uid_of("series", plan.uid, 1)
    for index, (side, view) in enumerate((s, v) for v in ("CC", "MLO") for s in ("R", "L")):
        sop_class = DigitalMammographyXRayImageStorageForPresentation
        ds = _base(plan, sop_class, series_uid, 1, index + 1, "Four views")
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.ImageLaterality, ds.ViewPosition, ds.PatientOrientation = side, view, ["A", "FR"]
        ds.PresentationIntentType, ds.BurnedInAnnotation = "FOR PRESENTATION", "NO"
        ds.ImagerPixelSpacing, ds.LossyImageCompression = [0.1, 0.1], "00"
        ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LIN", 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType, ds.PresentationLUTShape = 0, 1, "US", "IDENTITY"
        ds.AnatomicRegionSequence = Sequence([_code("76752008", "SCT", "Breast")])
        ds.ViewCodeSequence = Sequence([_code("399162004" if view == "CC" else "399368009", "SCT", view)])
        ds.AcquisitionContextSequence, ds.OrganExposed = Sequence(), "BREAST"
        ds.DetectorType, ds.PositionerType = "DIRECT", "MAMMOGRAPHIC"
        ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
        ds.WindowCenter, ds.WindowWidth = 1500, 1800
        pixels = mammogram(np.random.default_rng([plan.seed, index]), side)
        _grey(ds, pixels, bits=12, photometric="MONOCHROME2", signed=False)
        yield ds


def _us(plan: StudyPlan) -> Iterator[FileDataset]:
    series_uid = uid_of("series", plan.uid, 1)
    cine = ultrasound_cine(np.random.default_rng([plan.seed]), plan.instances or 12)
    ds = _base(plan, UltrasoundMultiFrameImageStorage, series_uid, 1, 1, "Cine")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    ds.NumberOfFrames, ds.Rows, ds.Columns = cine.shape[0], cine.shape[1], cine.shape[2]
    ds.PatientOrientation = ""
    ds.FrameTime, ds.FrameIncrementPointer = 50.0, 0x00181063
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.LossyImageCompression = "00"
    ds.PixelData = cine.tobytes()
    ds["PixelData"].VR = "OB"
    yield ds


_MAKERS = {"CT": _ct, "MR": _mr, "CR": _cr, "MG": _mg, "US": _us}


def make_study(plan: StudyPlan) -> Iterator[FileDataset]:
    """The instances of ``plan``, one at a time, ready to send or save."""
    for ds in _MAKERS[plan.modality](plan):
        if plan.compressed:
            ds.compress(JPEGLSLossless, generate_instance_uid=False)
        yield ds


def rejection_note(
    plan: StudyPlan, rejected: list[Dataset], *, code: str, meaning: str, seed: int
) -> FileDataset:
    """A Key Object Selection that rejects ``rejected`` (IHE RAD IOCM; code in DCM, e.g. 113037)."""
    sop_class = "1.2.840.10008.5.1.4.1.1.88.59"
    series_uid = uid_of("reject", plan.uid, seed)
    ds = _base(plan, sop_class, series_uid, 99, seed, "Rejection")
    ds.Modality = "KO"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([_code(code, "DCM", meaning)])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    ds.ContentTemplateSequence = Sequence([template])
    series: dict[str, list[Dataset]] = {}
    content = []
    for instance in rejected:
        ref = Dataset()
        ref.ReferencedSOPClassUID = instance.SOPClassUID
        ref.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        series.setdefault(instance.SeriesInstanceUID, []).append(ref)
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
        item.ReferencedSOPSequence = Sequence([ref])
        content.append(item)
    evidence = Dataset()
    evidence.StudyInstanceUID = plan.uid
    references = []
    for uid, refs in series.items():
        entry = Dataset()
        entry.SeriesInstanceUID, entry.ReferencedSOPSequence = uid, Sequence(refs)
        references.append(entry)
    evidence.ReferencedSeriesSequence = Sequence(references)
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([evidence])
    ds.ContentSequence = Sequence(content)
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    return ds


__all__ = ["PROCEDURES", "StudyPlan", "make_study", "rejection_note", "uid_of"]
