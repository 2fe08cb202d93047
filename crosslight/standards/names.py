"""Family and given names as search compares them: without case, diacritics, spaces and punctuation. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from crosslight.standards.dicom.web.matching import wildcard_matches
from crosslight.standards.study import PersonName

#: Letters that Unicode does not decompose and that people type as their base letters.
_BASE = str.maketrans({
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t",
})  # fmt: skip


@lru_cache(maxsize=8192)  # a person's few names are compared again with each of their studies
def search_key(text: str) -> str:
    """``text`` for comparing: casefolded, diacritics folded, only letters, digits and marks kept.

    Diacritics of Latin, Greek and Cyrillic.

    Marks of other scripts (Devanagari, Thai, Arabic vowels) are letters to their readers and stay.
    """
    folded = unicodedata.normalize("NFKD", text.casefold()).casefold().translate(_BASE)
    kept = [c for c in folded if not "\u0300" <= c <= "\u036f" and unicodedata.category(c)[0] in "LNM"]
    return unicodedata.normalize("NFC", "".join(kept))


def family_keys(name: PersonName) -> tuple[str, str]:
    """Search keys of the family name: alphabetic (or what stands for it) and ideographic."""
    groups = name.pn.split("=")
    ideographic = groups[1].split("^")[0] if len(groups) > 1 else ""
    first, second = search_key(name.family), search_key(ideographic)
    return first, second if second != first else ""


def given_matches(name: PersonName, asked: str) -> bool:
    """Whether ``asked`` is empty or begins the given names (first, or first and middle) in any group."""
    wanted = search_key(asked)
    if not wanted:
        return True
    for group in name.pn.split("="):
        parts = group.split("^")
        if search_key("".join(parts[1:3])).startswith(wanted):
            return True
    return False


def family_begins(name: PersonName, asked: str) -> bool:
    """Whether ``asked`` begins the family name or one of its parts, in any group (R4 3.1.1.4.8)."""
    return _begins(asked, (family for family, _ in _groups(name)))


def given_begins(name: PersonName, asked: str) -> bool:
    """Whether ``asked`` begins a given or middle name, or all of them, in any group (R4 3.1.1.4.8)."""
    return _begins(asked, (text for _, given in _groups(name) for text in (*given, " ".join(given))))


def any_begins(name: PersonName, asked: str) -> bool:
    """Whether ``asked`` begins a part of the name, or all of it in either order (R4 Patient: ``name``)."""
    if family_begins(name, asked) or given_begins(name, asked):
        return True
    whole = ((family, " ".join(given)) for family, given in _groups(name))
    return _begins(
        asked, (text for family, given in whole for text in (f"{family}{given}", f"{given}{family}"))
    )


def pattern_matches(name: PersonName, pattern: str) -> bool:
    """Whether a PN with wildcards matches any group of ``name`` (PS3.4 C.2.2.2.4).

    ``*`` is any run, ``?`` any one character.

    Case, diacritics, blanks and punctuation do not count, as they need not for PN (PS3.4 C.2.2.2.1).
    """
    wanted = _keyed(pattern)
    return any(
        wildcard_matches(wanted, _keyed(group, literal=True))
        for group in name.pn.split("=")
        if group.strip("^ ")
    )


def _keyed(group: str, *, literal: bool = False) -> str:
    """A PN group with each component as its key; wildcards stay unless it is ``literal``."""
    parts = group.rstrip("^ ").split("^")
    if literal:
        return "^".join(search_key(part) for part in parts)
    return "^".join(
        "".join(t if t in "*?" else search_key(t) for t in re.split(r"([*?])", part)) for part in parts
    )


def _groups(name: PersonName) -> Iterable[tuple[str, list[str]]]:
    """(family, [given, middle]) of each group of a PN."""
    for group in name.pn.split("="):
        family, *given = group.split("^")
        yield family, [part for part in given[:2] if part.strip()]


def _begins(asked: str, texts: Iterable[str]) -> bool:
    wanted = search_key(asked)
    return bool(wanted) and any(
        search_key(part).startswith(wanted)
        for text in texts
        for part in (text, *(re.split(r"[\s\u2010-\u2015-]+", text)[1:]))
    )
