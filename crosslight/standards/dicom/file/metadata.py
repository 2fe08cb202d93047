"""A walked object as its DICOM JSON metadata (PS3.18 Annex F), made once, at ingest.

Text is decoded from its Specific Character Set; the object's own (0008,0005) becomes ``ISO_IR 192``, since
JSON is UTF-8. Left out altogether: group lengths, pixel data, binary values over :data:`MAX_INLINE_BYTES` and
other values over :data:`MAX_VALUE_BYTES` (an attribute without value would say that it is empty). A value
that cannot be read as its VR is given as text where Annex F allows, else left out: reading for the index
never fails an ingest.

Large sequences that the walk let go become JSON item by item, so that memory follows the JSON, not the number
of elements; beyond :data:`MAX_LARGE_BYTES` of JSON in one object they are left out.
"""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import orjson

from crosslight.standards.dicom.file.charset import DEFAULT, UNSURE, Charset, charset, decode, is_utf8
from crosslight.standards.dicom.file.gate import Aside, Element, Item, Note, Parsed
from crosslight.standards.dicom.file.vr import BINARY, NUMERIC, dictionary_vr, settled_vr

MAX_INLINE_BYTES = 1024
MAX_VALUE_BYTES = 65536
MAX_LARGE_BYTES = 128 << 20
_CHARSET = 0x00080005
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")  # PS3.18 F.2.2
_UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}


def attributes_of(parsed: Parsed) -> dict[str, Any]:
    """The attributes of a walked object in DICOM JSON."""
    return attributes_and_notes(parsed)[0]


def attributes_and_notes(parsed: Parsed) -> tuple[dict[str, Any], set[Note]]:
    """The attributes of a walked object in DICOM JSON, and what was noted in its text.

    A large sequence is an :class:`orjson.Fragment`, which only ``orjson.dumps`` understands; none that the
    index is made of is.
    """
    reader = _Reader(parsed)
    attributes = reader.item(parsed.elements, DEFAULT)
    for tag in reader.large:
        body = attributes[tag]
        if not isinstance(body["Value"], orjson.Fragment):  # one that holds large ones
            body["Value"] = orjson.Fragment(orjson.dumps(body["Value"]))
    return attributes, reader.notes


def charset_of(parsed: Parsed) -> Charset:
    """How text of the data set itself is coded."""
    return _said(parsed.raw(_CHARSET)) if _CHARSET in parsed.by_tag else DEFAULT


def _said(raw: bytes) -> Charset:
    """The character set that a value of (0008,0005) names."""
    terms = raw.decode("ascii", "replace").strip(" \0").split("\\")
    return charset(tuple(term.strip() for term in terms))


def values_again(parsed: Parsed, elements: Item, how: Charset) -> dict[str, Any]:
    """Of an object whose others are known: the attributes of these plain elements."""
    reader = _Reader(parsed)
    bodies = {f"{element[0]:08X}": reader.attribute(element, how) for element in elements}
    return {tag: body for tag, body in bodies.items() if body is not None}


class _Reader:
    """Reads values at offsets of one buffer."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.data: Any = parsed.data
        self.signed = parsed.number(0x00280103) == 1
        self.order = "<" if parsed.little else ">"
        self.large_left = MAX_LARGE_BYTES
        self.notes: set[Note] = set()
        self.large: list[str] = []  # top-level sequences that are, or hold, large ones

    def item(self, elements: Item, how: Charset) -> dict[str, Any]:
        """One data set or item; its own (0008,0005) overrides ``how`` inside it."""
        data = self.data
        out: dict[str, Any] = {}
        for element in elements:
            tag, vr, offset, length, items = element
            if tag == _CHARSET:
                how = _said(data[offset : offset + length])
                out["00080005"] = _UTF8
                continue
            if items is not None:
                if vr == "SQ" or vr == "UN":
                    left = self.large_left
                    rendered: orjson.Fragment | list[dict[str, Any]] | None
                    if isinstance(items, Aside):
                        rendered = self._large(items, how)
                    else:
                        rendered = [self.item(nested, how) for nested in items]
                    if rendered is not None:
                        out[f"{tag:08X}"] = {"vr": "SQ", "Value": rendered} if rendered else {"vr": "SQ"}
                    if rendered and left != self.large_left and elements is self.parsed.elements:
                        self.large.append(f"{tag:08X}")
                continue
            if tag & 0xFFFF == 0 or tag >> 4 == 0x7FE0001 or tag >> 4 == 0x7FE0000:
                continue
            body = self.attribute(element, how)
            if body is not None:
                out[f"{tag:08X}"] = body
        return out

    def _large(self, items: Aside, how: Charset) -> orjson.Fragment | None:
        """The items of a sequence that was let go; None where there is no room for them."""
        made = bytearray(b"[")
        for item in self.parsed.items_of(items):
            made += orjson.dumps(self.item(item, how))
            made += b","
            if len(made) > self.large_left:
                return None
        made[-1:] = b"]"
        self.large_left -= len(made)
        return orjson.Fragment(bytes(made))

    def attribute(self, element: Element, how: Charset) -> dict[str, Any] | None:
        """A plain element as an attribute; None for one that is left out."""
        tag, vr, offset, length, _ = element
        if vr == "UN" or " " in vr:
            vr = settled_vr(dictionary_vr(tag), signed=self.signed)
            vr = "UN" if vr == "SQ" else vr
        if not length:
            return {"vr": vr}
        if vr in BINARY or length > MAX_VALUE_BYTES:
            if vr not in BINARY or length > MAX_INLINE_BYTES:
                return None
            return {"vr": vr, "InlineBinary": b64encode(self.data[offset : offset + length]).decode("ascii")}
        raw = self.data[offset : offset + length]
        if vr in NUMERIC:
            return self._numbers(vr, raw)
        if vr == "AT":
            return self._tags(raw)
        convert = _TEXT.get(vr)
        if convert is None:
            return None
        values = convert(raw, how)
        if not raw.isascii() and not tag & 0x10000 and doubtful(raw, how, values):
            self.notes.add("text")
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _numbers(self, vr: str, raw: bytes) -> dict[str, Any] | None:
        code, size = NUMERIC[vr]
        count, rest = divmod(len(raw), size)
        if rest or not count:
            return None
        values: list[Any] = list(struct.unpack(f"{self.order}{count}{code}", raw))
        if size >= 4 and vr in ("FL", "FD"):
            values = [v if math.isfinite(v) else _not_finite(v) for v in values]
        return {"vr": vr, "Value": values}

    def _tags(self, raw: bytes) -> dict[str, Any] | None:
        count = len(raw) // 4
        numbers = struct.unpack(f"{self.order}{count * 2}H", raw[: count * 4])
        pairs = [f"{numbers[i]:04X}{numbers[i + 1]:04X}" for i in range(0, len(numbers), 2)]
        return {"vr": "AT", "Value": pairs} if pairs else {"vr": "AT"}


def doubtful(raw: bytes, how: Charset, values: list[Any]) -> bool:
    """Whether text with octets above 127 may read wrongly: its set is not known, or not the one said."""
    if how[0] in UNSURE:
        return how[0] == "unknown" or not is_utf8(raw)
    return any(
        "\ufffd" in text
        for value in values
        for text in (value.values() if isinstance(value, dict) else [str(value)])
    )


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _listed(text: str, pad: str = " \0") -> list[Any]:
    """Values of a text attribute; an empty one among others is None (F.2.5)."""
    if "\\" not in text:
        text = text.rstrip(pad)
        return [text] if text else []
    values = [value.rstrip(pad) or None for value in text.split("\\")]
    return values if any(v is not None for v in values) else []


def _ascii(raw: bytes, how: Charset) -> list[Any]:
    return _listed(raw.decode("latin_1"))


def _code(raw: bytes, how: Charset) -> list[Any]:
    """AE, AS, CS, DA, TM, UI: leading spaces say nothing either (PS3.5 6.2)."""
    text = raw.decode("latin_1").strip(" \0")
    if "\\" not in text:
        return [text] if text else []
    values = [value.strip(" \0") or None for value in text.split("\\")]
    return values if any(v is not None for v in values) else []


def _text(raw: bytes, how: Charset) -> list[Any]:
    return _listed(decode(raw, how))


def _trimmed(raw: bytes, how: Charset) -> list[Any]:
    """LO, SH: leading spaces say nothing either (PS3.5 6.2)."""
    text = decode(raw, how)
    if "\\" not in text:
        text = text.strip(" \0")
        return [text] if text else []
    values = [value.strip(" \0") or None for value in text.split("\\")]
    return values if any(v is not None for v in values) else []


def _one_text(raw: bytes, how: Charset) -> list[Any]:
    text = decode(raw, how, delimiters=b"").rstrip(" \0")
    return [text] if text else []


def _names(raw: bytes, how: Charset) -> list[Any]:
    values: list[Any] = []
    for name in _listed(decode(raw, how, delimiters=b"\\^=")):
        groups = zip(_PN_GROUPS, name.split("=", 2), strict=False) if name else ()
        values.append({group: text for group, text in groups if text} or None)
    return values if any(values) else []


def _reals(raw: bytes, how: Charset) -> list[Any]:
    if not raw.strip(b" \0"):
        return []
    return [_real(value) for value in raw.decode("latin_1").strip(" \0").split("\\")]


def _real(text: str) -> float | str | None:
    text = text.strip(" \0")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _integers(raw: bytes, how: Charset) -> list[Any]:
    if not raw.strip(b" \0"):
        return []
    return [_integer(value) for value in raw.decode("latin_1").strip(" \0").split("\\")]


def _integer(text: str) -> int | str | None:
    text = text.strip(" \0")
    if not text:
        return None
    try:
        return int(text) if len(text) <= 15 and "_" not in text else text
    except ValueError:
        return text


_TEXT: dict[str, Callable[[bytes, Charset], list[Any]]] = {
    "AE": _code, "AS": _code, "CS": _code, "DA": _code, "TM": _code, "DT": _code, "UI": _code, "UR": _ascii,
    "LO": _trimmed, "SH": _trimmed, "UC": _text, "LT": _one_text, "ST": _one_text, "UT": _one_text,
    "PN": _names, "DS": _reals, "IS": _integers,
}  # fmt: skip
TEXT_VRS = tuple(_TEXT)
