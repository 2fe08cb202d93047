"""The ingest gate: what a DICOM object must be before anything else reads it (security.md 5, D27).

:func:`examine` takes a whole Part 10 file: its meta, one bounded walk over its data set (``walk.py``), and
the rules on content: valid UIDs that agree with the file meta, and as much native pixel data as its own
description asks for.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from crosslight.standards.dicom.file.limits import LIMITS, Limits
from crosslight.standards.dicom.file.syntaxes import (
    DEFLATED_LE,
    ENCAPSULATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    TRANSFER_SYNTAXES,
)
from crosslight.standards.dicom.file.verdict import Note, Reason, Refused
from crosslight.standards.dicom.file.vr import LONG_VRS, PIXEL_DATA, SHORT_VRS
from crosslight.standards.dicom.file.walk import Parsed, walk
from crosslight.standards.dicom.file.walker import Aside, Buffer, Element, Item
from crosslight.standards.ids import is_uid

__all__ = [
    "DEFLATED_LE",
    "ENCAPSULATED",
    "EXPLICIT_BE",
    "EXPLICIT_LE",
    "IMPLICIT_LE",
    "LIMITS",
    "TRANSFER_SYNTAXES",
    "Aside",
    "Buffer",
    "Element",
    "Item",
    "Limits",
    "Note",
    "Parsed",
    "Reason",
    "Refused",
    "check",
    "examine",
    "has_tiff_preamble",
    "meta_text",
    "missing_head",
    "native_pixel_bytes",
    "pixel_span",
    "read_meta",
    "walk",
]  # fmt: skip

_META_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_META_LENGTH = struct.Struct("<I").unpack_from
_META_ELEMENTS = 64
META_TRANSFER_SYNTAX, META_SOP_CLASS, META_SOP_INSTANCE = 0x00020010, 0x00020002, 0x00020003


def missing_head(data: Buffer) -> bytes:
    """Preamble and prefix for a file that begins with its file meta, as some writers leave them out.

    ``b""`` for any other.

    PS3.10 7.1 asks for both. The file meta says all the same what follows it, so that nothing is guessed.
    """
    begins = (
        len(data) > 8
        and bytes(data[:2]) == b"\2\0"
        and (bytes(data[4:6]) in SHORT_VRS or bytes(data[4:6]) in LONG_VRS)
    )
    return b"\0" * 128 + b"DICM" if begins and bytes(data[128:132]) != b"DICM" else b""


def read_meta(data: Buffer) -> tuple[dict[int, bytes], int]:
    """The file meta elements and the offset of the data set.

    Raises:
        Refused: for what is no Part 10 file.
    """
    if len(data) < 140 or bytes(data[128:132]) != b"DICM":
        raise Refused("not-dicom", "This is not a DICOM Part 10 file.", why="PS3.10 7.1: no DICM prefix.")
    meta: dict[int, bytes] = {}
    pos = 132
    try:
        while pos < len(data) and data[pos] == 2 and data[pos + 1] == 0:
            group, number, vr, length = _META_EXPLICIT(data, pos)
            value = pos + 8
            if vr in LONG_VRS:
                length, value = _META_LENGTH(data, value)[0], value + 4
            elif vr not in SHORT_VRS:
                raise Refused(
                    "meta", "The file meta information is not explicit little endian.", why="PS3.10 7.1."
                )
            pos = value + length
            if pos > len(data) or len(meta) >= _META_ELEMENTS:
                raise Refused("truncated", "The file meta information was cut off.", why="PS3.10 7.1.")
            meta[group << 16 | number] = bytes(data[value:pos]) if length <= 1024 else b""
    except (struct.error, IndexError):
        raise Refused("truncated", "The file meta information was cut off.", why="PS3.10 7.1.") from None
    if META_TRANSFER_SYNTAX not in meta:
        raise Refused(
            "meta", "The file does not say its transfer syntax.", why="PS3.10 7.1: (0002,0010) is required."
        )
    return meta, pos


def meta_text(meta: dict[int, bytes], tag: int) -> str:
    """A value of the file meta as text."""
    return meta.get(tag, b"").decode("ascii", "replace").strip(" \0")


def has_tiff_preamble(data: Buffer) -> bool:
    """Whether the preamble is a TIFF header, which a dual-purpose file needs (PS3.10 7.1).

    All others are served zeroed.
    """
    return bytes(data[:4]) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def examine(data: Buffer, *, limits: Limits = LIMITS) -> Parsed:
    """Walk and check a whole Part 10 file.

    Raises:
        Refused: with the reason, for anything that must not be kept as an object.
    """
    meta, offset = read_meta(data)
    walked = walk(data, meta_text(meta, META_TRANSFER_SYNTAX), offset=offset, limits=limits)
    return replace(
        walked, tiff_preamble=has_tiff_preamble(data), meta=meta, notes=walked.notes | check(walked, meta)
    )


_REQUIRED = {
    0x00080016: "SOP Class UID",
    0x00080018: "SOP Instance UID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}


def check(parsed: Parsed, meta: dict[int, bytes]) -> set[Note]:
    """The rules on content: UIDs, enough pixel data; what was noted of it and of the file meta.

    File meta that names another instance is no reason to refuse: the data set says what it is (PS3.10 7.1).

    Raises:
        Refused: naming the element.
    """
    for tag, name in _REQUIRED.items():
        text = parsed.text(tag)
        if not is_uid(text):
            problem = f"{name} is not a UID." if text else f"There is no {name}."
            raise Refused("uid", problem, why="PS3.5 9.1: digits and dots, at most 64.", where=f"{tag:08X}")
    notes = _check_pixels(parsed)
    for tag, of in ((META_SOP_CLASS, 0x00080016), (META_SOP_INSTANCE, 0x00080018)):
        said = meta_text(meta, tag)
        if said and said != parsed.text(of):
            notes.add("meta")
    return notes


def _check_pixels(parsed: Parsed) -> set[Note]:
    element = parsed.by_tag.get(PIXEL_DATA)
    if element is None:
        return set()
    if element[4] is None and not element[3]:
        return {"empty-pixels"}
    if parsed.transfer_syntax_uid in ENCAPSULATED:
        if element[4] is None:
            raise Refused(
                "pixel-data", "Pixel data is not encapsulated as its transfer syntax says.", why="PS3.5 A.4."
            )
        if 0 <= parsed.open_fragments < max(1, parsed.number(0x00280008, 1)):
            why = "PS3.5 A.4: no delimiter, and fewer fragments than frames: the object was cut off."
            raise Refused("truncated", "The pixel data is never closed.", why=why, where="7FE00010")
        return set()
    expected = native_pixel_bytes(parsed)
    if element[3] < expected:
        raise Refused(
            "pixel-data",
            "There is less pixel data than rows, columns and frames ask for.",
            why=f"{element[3]} of {expected} bytes.",
            where="7FE00010",
        )
    return set()


def native_pixel_bytes(parsed: Parsed) -> int:
    """The bytes of native Pixel Data that the image description asks for (PS3.5 8.1.1).

    0 when it does not say.
    """
    bits = parsed.number(0x00280100)
    pixels = parsed.number(0x00280010) * parsed.number(0x00280011) * max(1, parsed.number(0x00280008, 1))
    samples = parsed.number(0x00280002, 1)
    if samples == 3 and parsed.text(0x00280004) in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        return pixels * 2 * bits // 8
    return (pixels * samples * bits + 7) // 8


def pixel_span(parsed: Parsed) -> tuple[int, int]:
    """(offset, length) of native Pixel Data in the file as received.

    (0, 0) when there is none or it is not plain there.
    """
    element = parsed.by_tag.get(PIXEL_DATA)
    if element is None or parsed.inflated or parsed.transfer_syntax_uid in ENCAPSULATED or not element[3]:
        return 0, 0
    return element[2], element[3]
