"""Attribute matching (PS3.4 C.2.2.2) of one key against the values of a DICOM JSON row.

Text is compared as it stands (D22): no zones. Matching is linear in the text, whatever the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crosslight.standards.dicom.web.json import keyword_of, text_of, texts_of, values_of

Kind = Literal["any", "single", "wildcard", "list", "range"]

WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})  # C.2.2.2.4
NUMBER_VRS = frozenset({"IS", "DS", "US"})
_DA = re.compile(r"[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])\Z")
_TM = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?\Z")
_DT = re.compile(r"[0-9]{4}([0-9]{2}){0,5}(\.[0-9]{1,6})?([+-][0-9]{4})?\Z")
TEMPORAL = {"DA": _DA, "TM": _TM, "DT": _DT}
_LOW, _HIGH = "00000101000000.000000", "99991231235959.999999"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One matching key: ``path`` is its tag, or the tags from a sequence down to it."""

    path: tuple[str, ...]
    vr: str
    kind: Kind
    values: tuple[str, ...] = ()  # of single, wildcard and list
    low: str = ""  # of a range, inclusive; '' = open
    high: str = ""
    # of a time whose range is one with its date's: the date's tag; low and high are moments, date and time
    date: str = ""

    @property
    def tag(self) -> str:
        """The attribute itself."""
        return self.path[-1]

    @property
    def keyword(self) -> str:
        """Its keyword, or keywords joined by dots."""
        return ".".join(keyword_of(tag) for tag in self.path)


def matches_row(match: Match, row: Mapping[str, Any]) -> bool:
    """Whether an attribute of ``row``, or of an item of its sequences, fits ``match``."""
    if match.date:
        return _moment_matches(match, row)
    return _matches_at(match, match.path, row)


def _matches_at(match: Match, path: tuple[str, ...], row: Mapping[str, Any]) -> bool:
    if match.kind == "any":
        return True
    if len(path) > 1:
        items = (item for item in values_of(row, path[0]) if isinstance(item, Mapping))
        return any(_matches_at(match, path[1:], item) for item in items)
    return any(value_matches(match, text) for text in texts_of(row, path[0]))


def value_matches(match: Match, text: str) -> bool:
    """Whether one value of an attribute fits a key (PS3.4 C.2.2.2)."""
    text = text.strip(" \0") if match.vr not in ("LT", "ST", "UT") else text
    if match.kind == "any":
        return True
    if match.vr in TEMPORAL:
        return _temporal_matches(match, text)
    if match.vr == "PN":
        return any(_name_matches(group, match.values[0], match.kind) for group in text.split("="))
    if match.kind == "wildcard":
        return wildcard_matches(match.values[0], text)
    if match.vr in NUMBER_VRS:
        return _same_number(text, match.values[0])
    return text in match.values


def _same_number(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return left == right


def _name_matches(group: str, pattern: str, kind: Kind) -> bool:
    """PN matching ignores case and empty trailing components (C.2.2.2.1: a choice; PS3.5 6.2.1)."""
    group, pattern = group.rstrip("^ ").casefold(), pattern.casefold()
    if kind == "wildcard":
        return wildcard_matches(pattern, group)
    groups = [part.rstrip("^ ") for part in pattern.split("=")]
    return group in groups if group else False


def wildcard_matches(pattern: str, text: str) -> bool:
    """Whether ``text`` fits ``pattern`` with ``*`` (any run) and ``?`` (any one character).

    Between stars the leftmost place is always as good as a later one, so there is no going back.
    """
    head, *parts = pattern.split("*")
    if not parts:
        return len(text) == len(pattern) and _fits(pattern, text, 0)
    tail = parts.pop()
    if (
        len(text) < len(head) + len(tail)
        or not _fits(head, text, 0)
        or not _fits(tail, text, len(text) - len(tail))
    ):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in parts:
        while at + len(part) <= end and not _fits(part, text, at):
            at += 1
        if at + len(part) > end:
            return False
        at += len(part)
    return True


def _fits(part: str, text: str, at: int) -> bool:
    return all(char in ("?", text[at + i]) for i, char in enumerate(part))


def _temporal_matches(match: Match, text: str) -> bool:
    if not TEMPORAL[match.vr].match(_plain(text, match.vr)):
        return False
    value = bounds(text, match.vr)[0]
    if match.kind == "single":
        low, high = bounds(match.values[0], match.vr)
    else:
        low = bounds(match.low, match.vr)[0] if match.low else ""
        high = bounds(match.high, match.vr)[1] if match.high else "~"
    return low <= value <= high


def _moment_matches(match: Match, row: Mapping[str, Any]) -> bool:
    """A date and its time as one moment (PS3.4 C.2.2.2.5).

    A date without a time that can be read is any moment of its day.
    """
    day = _plain(text_of(row, match.date).strip(" \0"), "DA")
    if not _DA.match(day):
        return False
    time = text_of(row, match.path[0]).strip(" \0")
    known = bool(time) and _TM.match(_plain(time, "TM")) is not None
    at = (day + bounds(time, "TM")[0],) * 2 if known else (day + _LOW[8:], day + _HIGH[8:])
    return (not match.low or at[1] >= match.low) and (not match.high or at[0] <= match.high)


def _plain(text: str, vr: str) -> str:
    """Dates and times in the ACR-NEMA or ISO form, as PS3.5 writes them.

    ``YYYY.MM.DD`` and ``HH:MM:SS`` are in old objects.
    """
    if vr == "DA":
        return text.replace(".", "").replace("-", "")
    return text.replace(":", "") if vr == "TM" else text


def bounds(text: str, vr: str) -> tuple[str, str]:
    """First and last moment of a text of less than full precision, comparable (D22: no zones)."""
    text = _plain(text, vr)
    if vr == "DA":
        return text, text
    if vr == "DT":
        text = re.sub(r"[+-][0-9]{4}\Z", "", text)
        return text + _LOW[len(text) :], text + _HIGH[len(text) :]
    return text + _LOW[8 + len(text) :], text + _HIGH[8 + len(text) :]
