"""Believable synthetic images: CT, MR, CR, MG and US studies whose pixels look like something. Seeded,
offline.

Pure numpy phantoms: a thorax of ellipses with lungs, spine and noise; a head with ventricles in two
weightings; a hand-like radiograph; a breast with texture; an ultrasound sector as a colour cine. Not for
teaching anatomy, only for telling apart.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from PIL import Image
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

Pixels = NDArray[np.uint16] | NDArray[np.int16] | NDArray[np.uint8]
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

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return self.study_uid or uid_of(
            "study", self.code, self.patient.index, self.modality, self.when, self.seed
        )


def _grid(n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    return np.meshgrid(axis, axis)


def _ellipse(
    x: NDArray[np.float32], y: NDArray[np.float32], cx: float, cy: float, rx: float, ry: float
) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    return inside


def ct_slice(index: int, count: int, rng: np.random.Generator, n: int = 512) -> NDArray[np.int16]:
    """A thorax slice in Hounsfield units."""
    x, y = _grid(n)
    t = index / max(count - 1, 1)
    image = np.full((n, n), -1000, np.float32)
    body = _ellipse(x, y, 0, 0.05, 0.82, 0.58)
    image[body] = 40
    image[_ellipse(x, y, 0, 0.05, 0.78, 0.54) ^ body] = -90
    lung = 0.28 + 0.1 * np.sin(np.pi * t)
    for side in (-1, 1):
        image[_ellipse(x, y, side * 0.38, 0.0, lung, 0.4 * np.sin(np.pi * (0.15 + 0.7 * t)) + 0.02)] = -820
    image[_ellipse(x, y, 0.1, -0.08, 0.22 * np.sin(np.pi * t) + 0.03, 0.2)] = 55
    image[_ellipse(x, y, 0, 0.42, 0.11, 0.1)] = 420
    image[_ellipse(x, y, 0, 0.42, 0.06, 0.055)] = 180
    for angle in np.linspace(0.15, np.pi - 0.15, 9):
        for side in (-1, 1):
            shift = 0.03 * np.sin(12 * t + angle * 5)
            image[
                _ellipse(x, y, side * 0.72 * np.sin(angle), 0.05 - 0.5 * np.cos(angle) + shift, 0.035, 0.03)
            ] = 600
    if 0.4 < t < 0.55:
        image[_ellipse(x, y, -0.42, -0.1, 0.06, 0.06)] = 30  # the nodule that everyone looks for
    image += rng.normal(0, 14, image.shape).astype(np.float32)
    return image.astype(np.int16)


def mr_slice(
    index: int, count: int, rng: np.random.Generator, weighting: str, n: int = 256
) -> NDArray[np.uint16]:
    """A head slice, T1- or T2-weighted."""
    x, y = _grid(n)
    t = index / max(count - 1, 1)
    r = 0.35 + 0.4 * np.sin(np.pi * (0.1 + 0.8 * t))
    fluid, grey, white, fat = (120, 420, 560, 800) if weighting == "T1" else (900, 480, 340, 500)
    image = np.zeros((n, n), np.float32)
    image[_ellipse(x, y, 0, 0, r * 0.95 + 0.06, r + 0.08)] = fat
    image[_ellipse(x, y, 0, 0, r * 0.95, r)] = fluid
    image[_ellipse(x, y, 0, 0, r * 0.9, r * 0.95)] = grey
    fold = 0.05 * np.sin(18 * np.arctan2(y, x) + 6 * t)
    image[((x / (r * 0.78)) ** 2 + (y / (r * 0.83)) ** 2) < 1 + fold] = white
    for side in (-1, 1):
        image[_ellipse(x, y, side * 0.09, -0.05, 0.05, 0.2 * np.sin(np.pi * t) + 0.01)] = fluid
    image += rng.normal(0, 18, image.shape).astype(np.float32)
    return np.clip(image, 0, 4095).astype(np.uint16)


def radiograph(
    rng: np.random.Generator, body_part: str, rows: int = 1024, columns: int = 860
) -> NDArray[np.uint16]:
    """A chest- or hand-like projection, MONOCHROME1."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    dense = np.zeros((rows, columns), np.float32)
    if body_part == "HAND":
        dense += 900 * _ellipse(x, y, 0, 0.45, 0.38, 0.42)
        for finger in range(5):
            cx = -0.5 + 0.24 * finger
            for joint in range(3):
                dense += 1500 * _ellipse(x, y, cx + 0.03 * joint, 0.05 - 0.27 * joint, 0.055, 0.13)
    else:
        dense += 1500 * _ellipse(x, y, 0, 0.1, 0.95, 1.05)
        for side in (-1, 1):
            dense -= 900 * _ellipse(x, y, side * 0.42, -0.05, 0.33, 0.62)
        dense += 900 * _ellipse(x, y, 0.12, 0.25, 0.3, 0.3)
        dense += 500 * (np.abs(x) < 0.07)
        for rib in range(8):
            dense += 220 * (np.abs(y + 0.75 - 0.17 * rib + 0.35 * x * x) < 0.018)
    dense += rng.normal(0, 25, dense.shape).astype(np.float32)
    return np.clip(3600 - dense, 0, 4095).astype(np.uint16)  # MONOCHROME1: low is bright


def mammogram(
    rng: np.random.Generator, side: str, rows: int = 1024, columns: int = 800
) -> NDArray[np.uint16]:
    """A breast with glandular texture, MONOCHROME2."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, 0 : 1 : columns * 1j].astype(np.float32)
    shape = (x / 0.85) ** 2 + (y / 0.9) ** 2 < 1
    coarse = Image.fromarray(rng.normal(0, 1, (rows // 32, columns // 32)).astype(np.float32), "F")
    texture = np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC))
    image = np.where(shape, 1500 + 260 * texture * np.exp(-3 * x), 60).astype(np.float32)
    image += rng.normal(0, 20, image.shape).astype(np.float32)
    return np.clip(image if side == "L" else image[:, ::-1], 0, 4095).astype(np.uint16)


def ultrasound_cine(rng: np.random.Generator, frames: int = 12, n: int = 320) -> NDArray[np.uint8]:
    """A sector with a pulsing vessel, RGB, (frames, rows, columns, 3)."""
    x, y = _grid(n)
    depth = np.hypot(x, y + 1.1)
    sector = (np.abs(np.arctan2(x, y + 1.1)) < 0.6) & (depth > 0.25) & (depth < 1.95)
    out = np.zeros((frames, n, n, 3), np.uint8)
    for frame in range(frames):
        speckle = rng.gamma(2.0, 22.0, (n, n)).astype(np.float32) * np.exp(-0.5 * depth)
        radius = 0.16 + 0.03 * np.sin(2 * np.pi * frame / frames)
        vessel = _ellipse(x, y, 0.05, 0.1, radius, radius * 0.8)
        grey = np.where(sector, np.where(vessel, 8, 40 + 2.2 * speckle), 0).clip(0, 255).astype(np.uint8)
        out[frame] = grey[..., None]
        flow = vessel & sector
        out[frame][flow] = (160 + int(60 * np.sin(2 * np.pi * frame / frames)), 20, 30)
    return out


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
            ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = (
                "SE",
                "NONE",
                "",
                "2D",
            )
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
    for one in rejected:
        ref = Dataset()
        ref.ReferencedSOPClassUID, ref.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        series.setdefault(one.SeriesInstanceUID, []).append(ref)
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
