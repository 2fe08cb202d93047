"""Value representations and the data dictionary as tables for the walker (PS3.5 6.2, PS3.6)."""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import DicomDictionary, RepeatersDictionary

#: VRs with a reserved field and a 32-bit length in explicit encodings (PS3.5 Table 7.1-1).
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT_VRS = frozenset(
    {
        b"AE",
        b"AS",
        b"AT",
        b"CS",
        b"DA",
        b"DS",
        b"DT",
        b"FL",
        b"FD",
        b"IS",
        b"LO",
        b"LT",
        b"PN",
        b"SH",
        b"SL",
        b"SS",
        b"ST",
        b"TM",
        b"UI",
        b"UL",
        b"US",
    }
)

#: A coded VR as text; one object each, since a large object has millions.
VR_TEXT = {coded: coded.decode("ascii") for coded in LONG_VRS | SHORT_VRS}

#: struct code and size of the fixed-length numeric VRs
NUMERIC = {
    "FL": ("f", 4),
    "FD": ("d", 8),
    "SL": ("i", 4),
    "SS": ("h", 2),
    "UL": ("I", 4),
    "US": ("H", 2),
    "SV": ("q", 8),
    "UV": ("Q", 8),
}
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

PIXEL_DATA = 0x7FE00010
#: Sequences that the index is made of (``header.py``): always in memory, whatever else an object holds.
INDEX_SEQUENCES = frozenset(
    {
        0x00080051,
        0x00080096,
        0x00081032,
        0x0008103F,
        0x00100024,
        0x00100026,
        0x00101002,
        0x00321064,
        0x00400275,
        0x0040A043,
        0x0040A375,
    }
)
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_PIXEL_DATA = 0x7FE00009

_TAG_VR: dict[int, str] = {int(tag): str(entry[0]) for tag, entry in DicomDictionary.items()}
_REPEATERS = tuple(  # "60xx3000" -> (bits that count, their value, VR)
    (
        int("".join("0" if c == "x" else "F" for c in mask.lower()), 16),
        int(mask.lower().replace("x", "0"), 16),
        str(entry[0]),
    )
    for mask, entry in RepeatersDictionary.items()
)


def dictionary_vr(tag: int) -> str:
    """The VR that PS3.6 gives a tag, as it stands there (``US or SS``); ``UN`` for private and unknown ones.

    Private creators (gggg,0010-00FF) are LO (PS3.5 7.8.1).
    """
    vr = _TAG_VR.get(tag)
    return vr if vr is not None else _unlisted_vr(tag)


@lru_cache(maxsize=4096)
def _unlisted_vr(tag: int) -> str:
    if tag & 0x10000:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    if tag & 0xFFFF == 0:
        return "UL"
    return next((vr for mask, value, vr in _REPEATERS if tag & mask == value), "UN")


def settled_vr(vr: str, *, signed: bool) -> str:
    """One VR for an ambiguous dictionary entry, by Pixel Representation (PS3.5 8.1.1, A.1)."""
    if " " not in vr:
        return vr
    if vr == "US or SS":
        return "SS" if signed else "US"
    return "OW" if "OW" in vr else vr.split(" ")[0]
