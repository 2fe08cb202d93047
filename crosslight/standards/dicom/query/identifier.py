"""Identifiers (PS3.4 C.4): data sets on an association, read into DICOM JSON and written from it.

Read by the bounded walk, with bounds of their own; text in any Specific Character Set. Written with defined
lengths, in the character set that the question came in where every text of the answer can be, else in UTF-8
(``ISO_IR 192``): nothing is replaced by a question mark.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from crosslight.standards.dicom.file.charset import UNSURE, charset
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.metadata import attributes_of
from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.file.verdict import Refused
from crosslight.standards.dicom.file.vr import LONG_VRS, NUMERIC
from crosslight.standards.dicom.file.walk import walk
from crosslight.standards.dicom.web.json import Attributes, person_name_text
from crosslight.standards.problem import Malformed

#: In the order of preference.
IDENTIFIER_SYNTAXES = (EXPLICIT_LE, IMPLICIT_LE)
MAX_IDENTIFIER_BYTES = 1 << 20
_LIMITS = Limits(max_depth=4, max_elements=50_000, max_held_elements=50_000, max_index_elements=50_000)
_CHARSET = "00080005"
_UTF8 = "ISO_IR 192"
_NUL_PADDED = frozenset({"UI", "OB", "UN"})
_ITEM = b"\xfe\xff\x00\xe0"
_SHORT, _LONG = struct.Struct("<H").pack, struct.Struct("<I").pack
_TEXTS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def read_identifier(data: bytes, transfer_syntax_uid: str) -> tuple[Attributes, str]:
    """The attributes of an Identifier, and the Specific Character Set that it is written in ('' = none said).

    Raises:
        Malformed: for what is no data set, or one beyond its bounds.
    """
    try:
        parsed = walk(data, transfer_syntax_uid, limits=_LIMITS)
    except Refused as error:
        raise Malformed("The identifier cannot be read.", why=error.what, where=error.where) from None
    attributes = attributes_of(parsed)
    attributes.pop(_CHARSET, None)
    return attributes, parsed.text(int(_CHARSET, 16))


def write_identifier(
    attributes: Mapping[str, Any], transfer_syntax_uid: str, asked_charset: str = "", *, states: str = ""
) -> bytes:
    """An Identifier as bytes, in ascending order of tags, with its Specific Character Set where it needs one.

    Args:
        attributes: DICOM JSON; what has no value is written empty.
        transfer_syntax_uid: One of :data:`IDENTIFIER_SYNTAXES`.
        asked_charset: The Specific Character Set of the question.
        states: A Specific Character Set that is said even where all is ASCII: in a question, for the answers.
    """
    implicit = transfer_syntax_uid == IMPLICIT_LE
    whole = {tag: body for tag, body in attributes.items() if tag != _CHARSET}
    if states:
        whole[_CHARSET] = {"vr": "CS", "Value": [states]}
    try:  # as most are
        return _Writer(implicit=implicit, codec="ascii").item(whole)
    except UnicodeEncodeError:
        pass
    terms, codec = _charset_for(attributes, asked_charset)
    whole[_CHARSET] = {"vr": "CS", "Value": [terms]}
    return _Writer(implicit=implicit, codec=codec).item(whole)


def _charset_for(attributes: Mapping[str, Any], asked: str) -> tuple[str, str]:
    """The Specific Character Set of an answer that is not ASCII, and its codec."""
    codec, extended = charset((asked,))
    if asked and codec not in UNSURE and not extended:
        try:
            for text in _texts(attributes):
                text.encode(codec)
        except UnicodeEncodeError:
            pass
        else:
            return asked, codec
    return _UTF8, "utf-8"


def _texts(attributes: Mapping[str, Any]) -> Any:
    for body in attributes.values():
        for value in body.get("Value") or ():
            if isinstance(value, str):
                yield value
            elif isinstance(value, Mapping):
                if body["vr"] == "PN":
                    yield from value.values()
                else:
                    yield from _texts(value)


@lru_cache(4096)  # bounded, for tags come from outside
def _head(tag: str, vr: str, implicit: bool) -> tuple[bytes, bool]:
    """All of an element before its length, and whether that has four bytes (PS3.5 7.1)."""
    number = int(tag, 16)
    head = struct.pack("<HH", number >> 16, number & 0xFFFF)
    coded = vr.encode("ascii")
    if implicit:
        return head, True
    return (head + coded + b"\0\0", True) if coded in LONG_VRS else (head + coded, False)


class _Writer:
    """Elements in one encoding."""

    def __init__(self, *, implicit: bool, codec: str) -> None:
        self._implicit, self._codec = implicit, codec

    def item(self, attributes: Mapping[str, Any]) -> bytes:
        """The elements of a data set or item."""
        return b"".join(self._element(tag, attributes[tag]) for tag in sorted(attributes))

    def _element(self, tag: str, body: Mapping[str, Any]) -> bytes:
        vr: str = body["vr"]
        value = self._value(vr, body)
        head, long = _head(tag, vr, self._implicit)
        if long:
            return head + _LONG(len(value)) + value
        if len(value) > 0xFFFF:  # PS3.5 6.2.2: longer than its VR can say
            return head[:4] + b"UN\0\0" + _LONG(len(value)) + value
        return head + _SHORT(len(value)) + value

    def _value(self, vr: str, body: Mapping[str, Any]) -> bytes:
        values: Sequence[Any] = body.get("Value") or ()
        if len(values) == 1 and vr in _TEXTS and type(text := values[0]) is str:
            return _even(text.encode(self._codec), b"\0" if vr in _NUL_PADDED else b" ")
        if vr == "SQ":
            items = [self.item(item) for item in values]
            return b"".join(_ITEM + struct.pack("<I", len(item)) + item for item in items)
        if vr in _BYTES:
            return _even(b64decode(body.get("InlineBinary") or ""), b"\0")
        if vr in NUMERIC:
            code = NUMERIC[vr][0]
            convert = float if code in "fd" else int
            return struct.pack(f"<{len(values)}{code}", *(convert(value) for value in values))
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(v[:4], 16), int(v[4:], 16)) for v in values)
        text = "\\".join(_text(value) for value in values)
        return _even(text.encode(self._codec), b"\0" if vr in _NUL_PADDED else b" ")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return person_name_text(value)
    if isinstance(value, float):
        return f"{value:.10g}"  # DS: at most 16 characters
    return str(value)


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value
