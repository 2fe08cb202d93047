"""The images that come to nodes in a run: small, of persons with test numbers, each with UIDs of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from crosslight.standards.ids import NHS_NUMBER_OID

ROOT = "1.2.826.0.1.3680043.10.778"
#: Valid test numbers; nobody has them.
NUMBERS = ("9990000018", "9990000026", "9990000034", "9990000042")
SIDE = 4
#: Their local numbers are the same, and stand for another person at each.
HOSPITALS = ("RTK", "RA2", "RYR")


@dataclass(frozen=True, slots=True, order=True)
class Image:
    """One image of one study."""

    person: int
    study: int
    number: int

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return f"{ROOT}.{self.study}"

    @property
    def sop_uid(self) -> str:
        """SOPInstanceUID."""
        return f"{self.study_uid}.1.{self.number}"

    @property
    def pixels(self) -> bytes:
        """PixelData, its own."""
        return hashlib.sha256(self.sop_uid.encode()).digest()

    def part10(self, code: str) -> bytes:
        """As a file, as a scanner of the member ``code`` makes it."""
        number = Dataset()
        number.PatientID, number.TypeOfPatientID = NUMBERS[self.person], "TEXT"
        issuer = Dataset()
        issuer.UniversalEntityID, issuer.UniversalEntityIDType = NHS_NUMBER_OID, "ISO"
        number.IssuerOfPatientIDQualifiersSequence = [issuer]
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = self.sop_uid
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study_uid, f"{self.study_uid}.1"
        ds.InstanceNumber, ds.Modality, ds.StudyDescription = self.number, "CT", "CT <head> & neck"
        ds.PatientName, ds.PatientSex = f"Person^{chr(65 + self.person)}", "F"
        local = (self.person + HOSPITALS.index(code)) % len(NUMBERS)
        ds.PatientID, ds.PatientBirthDate = f"MRN-{local}", f"197{self.person}0101"
        ds.StudyDate, ds.StudyTime = "20260102", "101112"
        ds.AccessionNumber = f"A{self.study}"
        ds.OtherPatientIDsSequence = [number]
        ds.Rows = ds.Columns = SIDE
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.PixelData = self.pixels
        out = BytesIO()
        ds.save_as(out, enforce_file_format=True)
        return out.getvalue()
