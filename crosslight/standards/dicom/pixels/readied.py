"""Loads what readers of DICOM load only when it is first used, so that nothing is left to load.

For a bounded child (D27), which can open no file once it begins to work. The sure way to have a decoder
loaded, with its tables and libraries, is to decode with it: each gets a picture made here, then a broken one.
"""

from __future__ import annotations

import codecs
import io
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from crosslight.standards.dicom.file import header
from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.dicom.file.normalised import tidied
from crosslight.standards.dicom.pixels.frames import find_frames
from crosslight.standards.dicom.pixels.render import RenderOptions, render_frame
from crosslight.standards.dicom.pixels.transcode import decode_frame, transcode
from crosslight.standards.problem import CrosslightError

Pixels = npt.NDArray[Any]

_SIDE = 64
_NATIVE = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian
)  # fmt: skip
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
_BY_PYDICOM = (JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, RLELossless)
_HIGH_THROUGHPUT = (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)  # nothing here writes them
_BEGINNINGS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # of JPEG, and of JPEG 2000
_ASKED = (RenderOptions(width=8, height=8, window=(100.0, 50.0, "sigmoid")), RenderOptions(media="image/png"))


def ready() -> None:
    """Decode and render a picture of each transfer syntax, and load each character set (PS3.3 C.12.1.1.2)."""
    for encoding in sorted(set(python_encoding.values())):
        codecs.lookup(encoding)
    with warnings.catch_warnings(action="ignore"):  # of broken pictures
        for data in _pictures():
            _use(data)
            for marker in _BEGINNINGS:
                if marker in data:
                    _use(data.replace(marker, bytes(len(marker))))


def _use(data: bytes) -> None:
    """All that is done to an object in a child."""
    with suppress(CrosslightError):
        find_frames(io.BytesIO(data))
    for asked in _ASKED:
        with suppress(CrosslightError):
            render_frame(io.BytesIO(data), 1, asked, 1 << 20)
    with suppress(CrosslightError):
        decode_frame(io.BytesIO(data), 1, 1 << 20)
    with suppress(CrosslightError):
        transcode(io.BytesIO(data), io.BytesIO(), 1 << 20)
    with suppress(Exception):  # pydicom has no base of its own for errors
        tidied(data, LIMITS)
    with suppress(Exception):  # as above
        header.read_with_pydicom(data)


def _pictures() -> Iterator[bytes]:
    grey8 = (np.arange(_SIDE * _SIDE) % 251).astype(np.uint8).reshape(_SIDE, _SIDE)
    grey12, colour = grey8.astype(np.uint16) * 16, np.stack([grey8, grey8.T, grey8[::-1]], axis=-1)
    for syntax in (*_NATIVE, *_JPEG, *_BY_PYDICOM):
        yield _coded(grey8 if syntax == JPEGBaseline8Bit else grey12, syntax)
    for syntax in (ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless):
        yield _coded(colour, syntax)
    for syntax in _HIGH_THROUGHPUT:
        yield _written(_described(grey12), syntax, encapsulate([b"\xff\x4f\xff\x51" + bytes(60)]))


def _coded(pixels: Pixels, syntax: UID) -> bytes:
    dataset = _described(pixels)
    if syntax in _NATIVE:
        data = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<"))
        return _written(dataset, syntax, data.tobytes())
    if syntax in _JPEG:
        lossless = syntax in (JPEGLossless, JPEGLosslessSV1)
        code = imagecodecs.jpeg8_encode(pixels, lossless=lossless, bitspersample=dataset.BitsStored)
        return _written(dataset, syntax, encapsulate([code]))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    more: dict[str, Any] = {"j2k_cr": [2]} if syntax == JPEG2000 else {}
    more |= {"jls_error": 2} if syntax == JPEGLSNearLossless else {}
    dataset.compress(syntax, pixels, generate_instance_uid=False, **more)
    return _written(dataset, syntax, dataset.PixelData)


def _described(pixels: Pixels) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87", "ISO 2022 IR 149"]
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.StudyInstanceUID = made.SeriesInstanceUID = "1.2.3"
    made.PatientName, made.StudyDate, made.PatientID = "A^B", "20200101", "1"
    made.Rows = made.Columns = _SIDE
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = 8 if pixels.itemsize == 1 else 12
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    made.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    return made


def _written(dataset: Dataset, syntax: UID, pixels: bytes) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = pixels
    encapsulated = syntax.is_encapsulated
    dataset["PixelData"].VR = "OB" if encapsulated or dataset.BitsAllocated == 8 else "OW"
    dataset["PixelData"].is_undefined_length = encapsulated
    out = io.BytesIO()
    pydicom.dcmwrite(
        out,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return out.getvalue()
