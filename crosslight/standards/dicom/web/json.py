"""The DICOM JSON model (PS3.18 Annex F): attributes as ``{"00100020": {"vr": "LO", "Value": ["…"]}}``.

Text goes in and comes out exactly: no trimming, no escaping, no change of case. Absent and empty values are
attributes without ``Value``; an empty one among several is ``null`` (F.2.5). Does not read DICOM files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

MEDIA_TYPE = "application/dicom+json"

Attributes = dict[str, Any]  # tag (8 upper-case hex digits) -> {"vr": …, "Value": […]}

_TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")  # F.2.2
_INTEGERS = frozenset({"IS", "SL", "SS", "UL", "US", "SV", "UV"})
_REALS = frozenset({"DS", "FL", "FD"})
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


@lru_cache(maxsize=4096)
def tag_of(name: str) -> str | None:
    """The tag (``0020000D``) of a keyword or tag; None if the dictionary does not know it (PS3.6)."""
    if _TAG.match(name):
        tag = int(name, 16)
        return f"{tag:08X}" if keyword_for_tag(tag) else None
    number = tag_for_keyword(name)
    return None if number is None else f"{number:08X}"


@lru_cache(maxsize=4096)
def keyword_of(tag: str) -> str:
    """The keyword of a tag, '' where it has none."""
    return str(keyword_for_tag(int(tag, 16)))


@lru_cache(maxsize=4096)
def vr_of(tag: str) -> str:
    """The value representation of a tag.

    The first where the dictionary allows several, ``UN`` where it knows none.
    """
    try:
        return str(dictionary_VR(int(tag, 16))).split(" ")[0]
    except KeyError:
        return "UN"


def person_name(pn: str) -> dict[str, str]:
    """A PN value as its component groups (F.2.2); the inverse is :func:`person_name_text`."""
    groups = pn.split("=", 2)
    return {name: text for name, text in zip(_PN_GROUPS, groups, strict=False) if text}


def person_name_text(value: Mapping[str, str]) -> str:
    """The PN text of its component groups, without trailing empty groups."""
    return "=".join(value.get(name, "") for name in _PN_GROUPS).rstrip("=")


def _number(text: str, vr: str) -> int | float | str:
    """A JSON number where the text is one, else the text itself (F.2.3 allows both)."""
    try:
        if vr in _INTEGERS:
            return int(text) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else text
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _value(value: Any, vr: str) -> Any:
    if value is None or value == "":
        return None
    if vr == "PN" and isinstance(value, str):
        return person_name(value) or None
    if vr in _INTEGERS or vr in _REALS:
        return _number(value, vr) if isinstance(value, str) else value
    return value


@lru_cache(maxsize=4096)
def _named(name: str, vr: str) -> tuple[str, str]:
    tag = tag_of(name)
    if tag is None:
        if not (vr and _TAG.match(name)):
            raise KeyError(name)
        tag = name.upper()
    return tag, vr or vr_of(tag)


def attribute(name: str, values: Iterable[Any], *, vr: str = "") -> tuple[str, dict[str, Any]]:
    """One attribute as ``(tag, {"vr", "Value"})``.

    Args:
        name: Keyword or tag; one that the dictionary knows, unless ``vr`` is given with a tag.
        values: Texts, numbers, or (for SQ) attribute dicts; '' and None are empty values.
        vr: Overrides the dictionary's.

    Raises:
        KeyError: for a name that is no attribute: a mistake of ours.
    """
    tag, vr = _named(name, vr)
    return tag, _body(vr, values)


def _body(vr: str, values: Iterable[Any]) -> dict[str, Any]:
    if vr in _TEXTS:
        items = [None if value == "" else value for value in values]
    else:
        items = [_value(value, vr) for value in values]
    while items and items[-1] is None:
        items.pop()
    return {"vr": vr, "Value": items} if items else {"vr": vr}


def attributes(**by_keyword: Any) -> Attributes:
    """Attributes by keyword: a value, or a list or tuple of values; in tag order, as F.2.2 asks."""
    row: Attributes = {}
    for tag, vr, is_text, keyword in _in_tag_order(tuple(by_keyword)):
        value = by_keyword[keyword]
        if value is None or value == "":
            row[tag] = {"vr": vr}
        elif type(value) is int or (is_text and isinstance(value, str)):
            row[tag] = {"vr": vr, "Value": [value]}
        else:
            row[tag] = _body(vr, value if isinstance(value, list | tuple) else (value,))
    return row


@lru_cache(maxsize=256)  # of the few sets of keywords that our own code names
def _in_tag_order(keywords: tuple[str, ...]) -> list[tuple[str, str, bool, str]]:
    """Tag, VR, whether its values are texts as they are, and keyword."""
    named = ((*_named(keyword, ""), keyword) for keyword in keywords)
    return sorted((tag, vr, vr in _TEXTS, keyword) for tag, vr, keyword in named)


def put(row: Attributes, name: str, *values: Any) -> None:
    """Set one attribute of ``row``."""
    tag, body = attribute(name, values)
    row[tag] = body


def values_of(row: Mapping[str, Any], name: str) -> list[Any]:
    """The values of an attribute of ``row`` as they stand in JSON; [] when absent or empty."""
    tag = tag_of(name) or name
    values: list[Any] = (row.get(tag) or {}).get("Value") or []
    return values


def texts_of(row: Mapping[str, Any], name: str) -> list[str]:
    """The values of an attribute as DICOM text.

    PN as its groups joined by ``=``; [] for sequences and binaries.
    """
    texts = []
    for value in values_of(row, name):
        if value is None:
            texts.append("")
        elif isinstance(value, Mapping):
            if not any(group in value for group in _PN_GROUPS):
                return []
            texts.append(person_name_text(value))
        else:
            texts.append(str(value))
    return texts


def text_of(row: Mapping[str, Any], name: str) -> str:
    """The first value of an attribute as text, '' when absent."""
    texts = texts_of(row, name)
    return texts[0] if texts else ""


def dumps(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as the body of an ``application/dicom+json`` answer."""
    return orjson.dumps(list(rows))
