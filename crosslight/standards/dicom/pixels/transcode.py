"""Re-encoding to uncompressed Little Endian, and single frames to native pixels (PS3.5 A.2; PS3.18 8.7.3.5).

Only this direction: what is stored stays as it was received. Decodes untrusted bytes and loads an instance
whole: call only inside ``Workers.run_bounded``.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import parse_fragments
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crosslight.standards.dicom.pixels import jpeg
from crosslight.standards.dicom.pixels.frames import IMAGE_PIXEL, native_layout
from crosslight.standards.problem import CrosslightError, NotAcceptable, TooLarge, kind_as_sentence

jpeg.register()

_EMPTY_FRAGMENT = b"\xfe\xff\x00\xe0\0\0\0\0"
#: (BitsAllocated, PixelRepresentation) -> grey pixels that stand in a native little-endian frame as they are
_PLAIN = {(8, 0): "<u1", (8, 1): "<i1", (16, 0): "<u2", (16, 1): "<i2"}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_SWAP_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def can_decode(transfer_syntax: str) -> bool:
    """Whether instances of this syntax can be given in Explicit VR Little Endian here."""
    uid = UID(transfer_syntax)
    if not uid.is_transfer_syntax:
        return False
    if not uid.is_encapsulated:
        return True
    try:
        return bool(get_decoder(uid).is_available)
    except NotImplementedError:
        return False


def transcode(source: BinaryIO, target: BinaryIO, max_pixels: int, *, implicit: bool = False) -> None:
    """Write the instance in ``source`` to ``target`` as a Part 10 file in Explicit VR Little Endian.

    With ``implicit`` in Implicit VR Little Endian, which every DICOM system takes (PS3.5 10.1). Same SOP
    Instance UID.

    Raises:
        NotAcceptable: when it cannot be decoded.
        TooLarge: over ``max_pixels`` samples in all frames.
    """
    try:
        ds = pydicom.dcmread(source)
        _check_size(ds, max_pixels)
        if ds.file_meta.TransferSyntaxUID.is_encapsulated:
            _without_empty_end(ds)
            ds.decompress(generate_instance_uid=False)
        elif not ds.file_meta.TransferSyntaxUID.is_little_endian:
            _swap(ds)
            ds.set_original_encoding(False, True, ds.original_character_set)
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        ds.preamble = b"\0" * 128
        ds.save_as(target, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    except CrosslightError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom and the decoders have no common base
        raise NotAcceptable(
            "This instance cannot be given in another transfer syntax.",
            why=kind_as_sentence(error),
            todo="Accept its own: transfer-syntax=*.",
        ) from None


def decode_frame(source: BinaryIO, frame: int, max_pixels: int) -> bytes:
    """One frame (from 1) as native little-endian pixels; colour as it comes out of the decoder, in RGB.

    Raises:
        NotAcceptable: when it cannot be decoded.
        TooLarge: over ``max_pixels`` samples.
    """
    try:
        ds = pydicom.dcmread(source, stop_before_pixels=True)
        ds.NumberOfFrames = 1
        _check_size(ds, max_pixels)
        pixels = pixels_of(source, ds, frame)
        return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    except CrosslightError:
        raise
    except Exception as error:  # noqa: BLE001
        raise NotAcceptable("This frame cannot be decoded here.", why=kind_as_sentence(error)) from None


def pixels_of(source: BinaryIO, header: pydicom.Dataset, frame: int) -> np.ndarray[Any, Any]:
    """The pixels of one frame (from 1). YBR comes out as RGB.

    Args:
        source: The file; where it stands, if it was read up to there, is Pixel Data.
        header: The data set without pixels.
        frame: Which.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_deflated:  # cannot be read in place
        source.seek(0)
        return np.asarray(pixel_array(pydicom.dcmread(source), index=frame - 1))
    if (
        not syntax.is_encapsulated
        and syntax.is_little_endian
        and (data := _native(source, header, frame)) is not None
    ):
        plain = _PLAIN.get((header.BitsAllocated, header.get("PixelRepresentation") or 0))
        grey = header.PhotometricInterpretation in _GREY and (header.get("SamplesPerPixel") or 1) == 1
        if plain is not None and grey:
            return np.frombuffer(data, plain).reshape(header.Rows, header.Columns)
        return np.asarray(get_decoder(syntax).as_array(data, index=0, **_described(header))[0])
    source.seek(0)
    return np.asarray(pixel_array(source, index=frame - 1))


def _native(source: BinaryIO, header: pydicom.Dataset, frame: int) -> bytes | None:
    """The bytes of a native frame alone.

    None where it is not one that is whole bytes of Pixel Data (7FE0,0010).
    """
    start = source.tell()
    head = source.read(12)
    implicit = header.file_meta.TransferSyntaxUID.is_implicit_VR
    if head[:4] != b"\xe0\x7f\x10\x00" or (not implicit and head[4:6] not in (b"OB", b"OW")):
        return None
    offset, length = (start + 8, head[4:8]) if implicit else (start + 12, head[8:12])
    layout = native_layout(
        {name: header.get(name) for name in IMAGE_PIXEL},
        offset=offset,
        length=int.from_bytes(length, "little"),
    )
    if layout.frame_bits % 8 or frame > layout.frames:
        return None
    source.seek(layout.spans_of(frame)[0][0])
    return source.read(layout.frame_bytes)


def _described(header: pydicom.Dataset) -> dict[str, Any]:
    """What the decoder must know of one frame."""
    samples = int(header.get("SamplesPerPixel") or 1)
    description = {
        "rows": header.Rows,
        "columns": header.Columns,
        "samples_per_pixel": samples,
        "number_of_frames": 1,
        "photometric_interpretation": header.PhotometricInterpretation,
        "bits_allocated": header.BitsAllocated,
        "bits_stored": header.get("BitsStored") or header.BitsAllocated,
        "pixel_keyword": "PixelData",
        "pixel_representation": header.get("PixelRepresentation") or 0,
    }
    return description | (
        {"planar_configuration": header.get("PlanarConfiguration") or 0} if samples > 1 else {}
    )


def _check_size(ds: pydicom.Dataset, max_pixels: int) -> None:
    samples = (
        int(ds.get("Rows") or 0)
        * int(ds.get("Columns") or 0)
        * int(ds.get("SamplesPerPixel") or 1)
        * max(1, int(ds.get("NumberOfFrames") or 1))
    )
    if samples > max_pixels:
        raise TooLarge(
            "The pixel data are too large to decode here.", why=f"Limit here: {max_pixels} samples."
        )


def _without_empty_end(ds: pydicom.Dataset) -> None:
    """Take out the fragments without content behind those of the last frame, which pydicom counts."""
    data = ds.get("PixelData") or b""
    empty = 0
    while data.endswith(_EMPTY_FRAGMENT):
        data, empty = data[: -len(_EMPTY_FRAGMENT)], empty + 1
    if empty and parse_fragments(data[8 + int.from_bytes(data[4:8], "little") :])[0] >= int(
        ds.get("NumberOfFrames") or 1
    ):
        ds.PixelData = data


def _swap(ds: pydicom.Dataset) -> None:
    """Turn the words of binary values, which pydicom keeps as they stand in a Big Endian file."""
    for element in ds.iterall():
        size = _SWAP_BYTES.get(element.VR, 1)
        if element.keyword == "PixelData" and size > 1:  # a cell of 32 bits turns as a whole
            size = max(size, int(ds.get("BitsAllocated") or 16) // 8)
        if size > 1 and isinstance(element.value, bytes):
            element.value = np.frombuffer(element.value, dtype=f">u{size}").astype(f"<u{size}").tobytes()
