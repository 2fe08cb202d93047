"""Objects and bytes that nobody honest sends, each made anew; nothing here is sent by itself."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless

from crosslight.client.dicomweb import dataset_bytes
from simulations.dicomfile import part10
from simulations.images import StudyPlan, make_study, uid_of

BOMB_BYTES = 256 << 20  # what the deflated object becomes; about a thousandth of it is sent
SIDE = 65535  # rows and columns of the picture that nobody could hold: four gigabytes


@dataclass(frozen=True, slots=True)
class Poison:
    """One hostile object.

    Attributes:
        what: In plain words.
        sop_class: Under which it is offered.
        sop_uid: Its SOP Instance UID as the message says it.
        syntax: The transfer syntax under which it is offered.
        data: The data set, as bytes.
    """

    what: str
    sop_class: str
    sop_uid: str
    syntax: str
    data: bytes


def honest(plan: StudyPlan, nth: int) -> FileDataset:
    """An object of ``plan`` with a UID of its own, to be spoilt."""
    ds = next(iter(make_study(plan)))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid_of("poison", plan.uid, nth)
    return ds


def encoded(ds: FileDataset) -> bytes:
    """The data set alone, as its file meta says."""
    return dataset_bytes(part10(ds))


def poisons(plan: StudyPlan, victim: FileDataset) -> list[Poison]:
    """One of each kind, for the trust of ``plan``; ``victim`` is an object that it holds."""
    made = [make(honest(plan, nth)) for nth, make in enumerate(_KINDS)]
    return [*made, _another_persons(plan, victim)]


def _poison(what: str, ds: FileDataset, data: bytes, syntax: UID = ExplicitVRLittleEndian) -> Poison:
    return Poison(what, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(syntax), data)


def _noise(ds: FileDataset) -> Poison:
    return _poison(
        "64 kB of noise instead of an image", ds, random.Random(str(ds.SOPInstanceUID)).randbytes(65536)
    )


def _cut(ds: FileDataset) -> Poison:
    whole = encoded(ds)
    return _poison("an image that ends in the middle of its pixels", ds, whole[: len(whole) // 2])


def _endless(ds: FileDataset) -> Poison:
    del ds.PixelData
    head = encoded(ds) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0)
    return _poison("an image that claims 4 GB of pixels and has eight bytes", ds, head + b"\0" * 8)


def _deep(ds: FileDataset) -> Poison:
    whole = encoded(ds)
    opening = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = whole.rindex(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    return _poison("sequences nested 20,000 deep", ds, whole[:at] + opening * 20_000)


def _inflating(ds: FileDataset) -> Poison:
    del ds.PixelData
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)  # PS3.5 A.5: raw deflate
    head = encoded(ds) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, BOMB_BYTES)
    parts = [packer.compress(head)]
    zeros = bytes(1 << 20)
    parts += [packer.compress(zeros) for _ in range(BOMB_BYTES >> 20)]
    return _poison(
        "a deflated image that becomes a thousand times larger",
        ds,
        b"".join(parts) + packer.flush(),
        DeflatedExplicitVRLittleEndian,
    )


def _vast_picture(ds: FileDataset) -> Poison:
    """A JPEG-LS stream that claims a picture of four gigabytes (ISO 14495-1 C.2)."""
    frame = b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB3B", 11, 8, SIDE, SIDE, 1, 1, 0x11, 0)
    frame += b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 0, 0, 0) + bytes(64) + b"\xff\xd9"
    ds.Rows = ds.Columns = SIDE
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 7, 0, 1
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return _poison(
        "a picture of a few bytes that claims 65,535 by 65,535 pixels", ds, encoded(ds), JPEGLSLossless
    )


def _path(ds: FileDataset) -> Poison:
    sent = _poison("an object whose UID is a path out of the archive", ds, b"")
    spoilt = encoded(ds).replace(
        str(ds.SOPInstanceUID).encode(),
        b"../" * (len(ds.SOPInstanceUID) // 3) + b"x" * (len(ds.SOPInstanceUID) % 3),
        1,
    )
    return Poison(sent.what, sent.sop_class, sent.sop_uid, sent.syntax, spoilt)


def _another_persons(plan: StudyPlan, victim: FileDataset) -> Poison:
    """The victim's SOP Instance UID on an image of somebody else."""
    ds = honest(plan, 99)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = victim.SOPInstanceUID
    return _poison("an image of somebody else under the UID of one that is held", ds, encoded(ds))


_KINDS: tuple[Callable[[FileDataset], Poison], ...] = (
    _noise,
    _cut,
    _endless,
    _deep,
    _inflating,
    _path,
    _vast_picture,
)


def bare_bytes() -> dict[str, bytes]:
    """What is sent to the DICOM port without being DICOM: what it is -> bytes."""
    associate = struct.pack(">BBI", 0x01, 0, 0xFFFFFFFF)  # PS3.8 9.3.2
    return {
        "noise on the DICOM port": random.Random("port").randbytes(4096),
        "a request of 4 GB on the DICOM port": associate + bytes(4096),
        "HTTP on the DICOM port": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }
