"""Large ordinary objects as clinics have them, made in memory: many elements, few pixels. Shapes after PS3.3
A.51, A.19.3, A.36, A.32.8; the counts are those of a segmentation of 104 organs, a plan of 30 structures, a
perfusion series, a slide."""

from __future__ import annotations

import struct
from collections.abc import Callable

from dicom_objects import SEQUENCE_END, element, item, raw_part10, uid

SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
ENHANCED_MR, WSI, CT = (
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.77.1.6",
    "1.2.840.10008.5.1.4.1.1.2",
)
STUDY = "1.2.826.0.1.3680043.10.2"
_FUNCTIONAL_GROUPS = 0x52009230


def _identity(sop_class: str, modality: bytes) -> bytes:
    return (
        element(0x00080016, "UI", uid(sop_class))
        + element(0x00080018, "UI", uid(f"{STUDY}.1.1"))
        + element(0x00080060, "CS", modality)
        + element(0x00100020, "LO", b"L001")
        + element(0x0020000D, "UI", uid(STUDY))
        + element(0x0020000E, "UI", uid(f"{STUDY}.1"))
    )


def _file(sop_class: str, rest: bytes, modality: bytes) -> bytes:
    return raw_part10(_identity(sop_class, modality) + rest, sop_class=sop_class, instance=f"{STUDY}.1.1")


def _image(frames: int, rows: int, columns: int, bits: int) -> bytes:
    us = struct.Struct("<H").pack
    number = str(frames).encode()
    return (
        element(0x00280002, "US", us(1))
        + element(0x00280004, "CS", b"MONOCHROME2 ")
        + element(0x00280008, "IS", number + b" " * (len(number) % 2))
        + element(0x00280010, "US", us(rows))
        + element(0x00280011, "US", us(columns))
        + element(0x00280100, "US", us(bits))
        + element(0x00280101, "US", us(bits))
        + element(0x00280102, "US", us(bits - 1))
        + element(0x00280103, "US", us(0))
    )


def _code(value: bytes, meaning: bytes) -> bytes:
    return (
        element(0x00080100, "SH", value)
        + element(0x00080102, "SH", b"DCM ")
        + element(0x00080104, "LO", meaning)
    )


def _sequence(tag: int, *items: bytes) -> bytes:
    return element(tag, "SQ", b"".join(item(one) for one in items))


def _ul(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def segmentation(frames: int = 31_200, slices: int = 300) -> bytes:
    """104 organs over 300 slices of a CT: some 20 elements a frame."""
    derivation = _sequence(0x00089215, _code(b"113076", b"Segmentation"))
    purpose = _sequence(0x0040A170, _code(b"121322", b"Source image"))

    def frame(n: int) -> bytes:
        source = (
            element(0x00081150, "UI", uid(CT))
            + element(0x00081155, "UI", uid(f"{STUDY}.7.{n % slices}"))
            + purpose
        )
        return (
            _sequence(0x00089124, _sequence(0x00082112, source) + derivation)
            + _sequence(0x00209111, element(0x00209157, "UL", _ul(1 + n // slices, 1 + n % slices)))
            + _sequence(0x00209113, element(0x00200032, "DS", b"-150.0\\-150.0\\%05d " % (n % slices)))
            + _sequence(0x0062000A, element(0x0062000B, "US", struct.pack("<H", 1 + n // slices)))
        )

    groups = element(_FUNCTIONAL_GROUPS, "SQ", b"".join(item(frame(n)) for n in range(frames)))
    pixels = element(0x7FE00010, "OB", bytes(frames * 8))
    return _file(SEG, _image(frames, 8, 8, 1) + groups + pixels, b"SEG ")


def structure_set(contours: int = 18_000, structures: int = 30) -> bytes:
    """30 structures, 600 contours each."""

    def contour(n: int) -> bytes:
        image = element(0x00081150, "UI", uid(CT)) + element(0x00081155, "UI", uid(f"{STUDY}.7.{n % 300}"))
        return (
            _sequence(0x30060016, image)
            + element(0x30060042, "CS", b"CLOSED_PLANAR ")
            + element(0x30060046, "IS", b"3 ")
            + element(0x30060048, "IS", b"%05d " % n)
            + element(0x30060050, "DS", b"0\\0\\0\\1\\1\\0\\2\\2\\0 ")
        )

    each = contours // structures
    rois = (
        _sequence(0x30060040, *(contour(k * each + n) for n in range(each)))
        + element(0x30060084, "IS", b"%02d" % k)
        for k in range(structures)
    )
    return _file(RTSTRUCT, _sequence(0x30060039, *rois), b"RTSTRUCT")


def enhanced_mr(frames: int = 1_500, private: int = 120) -> bytes:
    """A perfusion series with a vendor's block of 120 private elements in each frame."""
    creator = element(0x20050010, "LO", b"A VENDOR ")
    block = creator + b"".join(element(0x20051000 + n, "FL", struct.pack("<f", n)) for n in range(private))

    def frame(n: int) -> bytes:
        return (
            _sequence(0x00209111, element(0x00209157, "UL", _ul(1 + n // 30, 1 + n % 30)))
            + _sequence(0x00209113, element(0x00200032, "DS", b"-110.5\\-110.5\\%05d " % n))
            + _sequence(0x00209116, element(0x00200037, "DS", b"1\\0\\0\\0\\1\\0 "))
            + _sequence(0x2005140F, block)
        )

    groups = element(_FUNCTIONAL_GROUPS, "SQ", b"".join(item(frame(n)) for n in range(frames)))
    return _file(
        ENHANCED_MR, _image(frames, 4, 4, 16) + groups + element(0x7FE00010, "OW", bytes(frames * 32)), b"MR"
    )


def slide(tiles: int = 40_000, *, measured: bool = True) -> bytes:
    """A whole slide image with a position for each tile; its pixels are compressed, a fragment a tile.

    ``measured``: whether its sequences say their lengths.
    """

    def frame(n: int) -> bytes:
        place = (
            element(0x0040072A, "DS", b"%05d.25" % (n // 200))
            + element(0x0040073A, "DS", b"%05d.25" % (n % 200))
            + element(0x0040074A, "DS", b"0 ")
            + element(0x0048021E, "SL", _ul(1 + 256 * (n % 200)))
            + element(0x0048021F, "SL", _ul(1 + 256 * (n // 200)))
        )
        return _sequence(0x00209111, element(0x00209157, "UL", _ul(1 + n % 200, 1 + n // 200))) + _sequence(
            0x0048021A, place
        )

    frames = b"".join(item(frame(n), open_ended=not measured) for n in range(tiles))
    groups = element(
        _FUNCTIONAL_GROUPS,
        "SQ",
        frames if measured else frames + SEQUENCE_END,
        None if measured else 0xFFFFFFFF,
    )
    fragments = item(b"") + item(b"\xff\xd8\xff\xd9") * tiles + b"\xfe\xff\xdd\xe0\0\0\0\0"
    pixels = element(0x7FE00010, "OB", fragments, 0xFFFFFFFF)
    return raw_part10(
        _identity(WSI, b"SM") + _image(tiles, 256, 256, 8) + groups + pixels,
        "1.2.840.10008.1.2.4.50",
        sop_class=WSI,
        instance=f"{STUDY}.1.1",
    )


LARGE: dict[str, Callable[[], bytes]] = {
    "SEG of 31,200 frames": segmentation,
    "RTSTRUCT of 18,000 contours": structure_set,
    "enhanced MR of 1,500 frames with vendor blocks": enhanced_mr,
    "WSI of 40,000 tiles": slide,
}
