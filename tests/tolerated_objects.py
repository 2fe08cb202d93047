"""Objects with what the reader tolerates, and the same without."""

from __future__ import annotations

from dicom_objects import SEQUENCE_END, element, item
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
REFERENCE = element(0x00081155, "UI", b"1.2.3\0")
IMPLICIT_REFERENCE = b"\x08\0\x55\x11\6\0\0\0" + b"1.2.3\0"
MAKER = element(0x00090010, "LO", b"TEST")


def _open_item(content: bytes, end: bytes = ITEM_END) -> bytes:
    return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + end


def _pixels(value: bytes, bits: int = 8) -> bytes:
    head = element(0x00280002, "US", b"\1\0") + element(0x00280010, "US", b"\4\0")
    return (
        head
        + element(0x00280011, "US", b"\4\0")
        + element(0x00280100, "US", bytes([bits, 0]))
        + element(0x7FE00010, "OW", value)
    )


NATIVE = {
    "explicit": str(ExplicitVRLittleEndian),
    "implicit": str(ImplicitVRLittleEndian),
    "big endian": str(ExplicitVRBigEndian),
}


def _sequence(vr: str, content: bytes, length: int | None = None) -> bytes:
    return element(0x00081140, vr, content, length)


#: name -> (elements after the identity, what it is noted as)
TOLERATED: dict[str, tuple[bytes, set[str]]] = {
    "SQ of defined length, closed inside it": (
        _sequence("SQ", item(REFERENCE) + SEQUENCE_END),
        {"delimiters"},
    ),
    "private SQ of defined length, closed inside it": (
        element(0x20010010, "LO", b"MAKE") + element(0x2001105F, "SQ", _open_item(REFERENCE) + SEQUENCE_END),
        {"delimiters"},
    ),
    "SQ of defined length, closed behind it": (
        _sequence("SQ", item(REFERENCE)) + SEQUENCE_END,
        {"delimiters"},
    ),
    "an item of defined length, closed behind it": (
        _sequence("SQ", item(REFERENCE) + ITEM_END),
        {"delimiters"},
    ),
    "an item of defined length, closed inside it": (
        _sequence("SQ", item(REFERENCE + ITEM_END)),
        {"delimiters"},
    ),
    "an item of an open sequence, closed inside it": (
        _sequence("SQ", item(REFERENCE + ITEM_END) + SEQUENCE_END, 0xFFFFFFFF),
        {"delimiters"},
    ),
    "an item with nothing but its delimiter": (_sequence("SQ", item(ITEM_END)), {"delimiters"}),
    "an item delimiter with a length": (
        _sequence(
            "SQ", _open_item(REFERENCE, b"\xfe\xff\x0d\xe0\xff\xff\xff\xff") + SEQUENCE_END, 0xFFFFFFFF
        ),
        {"delimiters"},
    ),
    "a sequence delimiter with a length": (
        _sequence("SQ", item(REFERENCE) + b"\xfe\xff\xdd\xe0\4\0\0\0", 0xFFFFFFFF),
        {"delimiters"},
    ),
    "UN at a sequence's tag, implicit items": (_sequence("UN", item(IMPLICIT_REFERENCE)), set()),
    "UN at a sequence's tag, explicit items": (_sequence("UN", item(REFERENCE)), set()),
    "UN of undefined length, explicit items": (
        _sequence("UN", item(REFERENCE) + SEQUENCE_END, 0xFFFFFFFF),
        set(),
    ),
    "UN at a sequence's tag, anything": (_sequence("UN", b"\1\2\3\4\5\6"), {"unread-sequence"}),
    "UN at a sequence's tag, half an item": (
        _sequence("UN", b"\xfe\xff\x00\xe0\x40\0\0\0ab"),
        {"unread-sequence"},
    ),
    "UN at a sequence's tag, within an item": (
        element(0x00081115, "SQ", item(_sequence("UN", b"\1\2\3\4"))),
        {"unread-sequence"},
    ),
    "a new VR": (MAKER + element(0x00091010, "UV", b"ABCD").replace(b"UV", b"ZZ"), {"vr"}),
    "a new VR within an item": (
        _sequence("SQ", item(element(0x00091010, "UV", b"ABCD").replace(b"UV", b"ZZ"))),
        {"vr"},
    ),
    "?? for a VR": (MAKER + element(0x00091010, "??", b"ABCD"), {"vr"}),
    "blanks for a VR": (MAKER + element(0x00091010, "  ", b"ABCD"), {"vr"}),
    "an equal element twice": (MAKER * 2, {"doubled"}),
    "an equal element three times": (MAKER * 3, {"doubled"}),
    "an equal sequence twice": (_sequence("SQ", item(REFERENCE)) * 2, {"doubled"}),
    "Pixel Data without a value": (_pixels(b""), {"empty-pixels"}),
    "several Patient IDs": (element(0x00100020, "LO", b"X\\1 "), {"patient-id"}),
    "undeclared Latin-1": (element(0x00100010, "PN", b"M\xfcller"), {"text"}),
    "undeclared UTF-8": (element(0x00100010, "PN", "Müller ".encode()), set()),
    "text that is not of its character set": (
        element(0x00080005, "CS", b"ISO_IR 192") + element(0x00100010, "PN", b"M\xfcller"),
        {"text"},
    ),
    "a character set that nobody knows": (
        element(0x00080005, "CS", b"ISO_IR 999") + element(0x00100010, "PN", "Müller ".encode()),
        {"text"},
    ),
    "a character set that nobody knows, for ASCII": (
        element(0x00080005, "CS", b"ISO_IR 999") + element(0x00100010, "PN", b"Muller"),
        set(),
    ),
    "a vendor's octets": (MAKER + element(0x00091010, "LO", b"\xff\xfe\xfd\xfc"), set()),
}
