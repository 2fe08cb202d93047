"""Family and given names as search compares them: without case, diacritics, spaces and punctuation. Pure."""

from __future__ import annotations

import unicodedata

from crosslight.standards.study import PersonName

#: Letters that Unicode does not decompose and that people type as their base letters.
_BASE = str.maketrans({
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t",
})  # fmt: skip


def search_key(text: str) -> str:
    """``text`` for comparing: casefolded, Latin, Greek and Cyrillic diacritics folded, only letters, digits and marks kept.

    Marks of other scripts (Devanagari, Thai, Arabic vowels) are letters to their readers and stay.
    """
    folded = unicodedata.normalize("NFKD", text.casefold()).casefold().translate(_BASE)
    kept = [c for c in folded if not "\u0300" <= c <= "\u036f" and unicodedata.category(c)[0] in "LNM"]
    return unicodedata.normalize("NFC", "".join(kept))


def family_keys(name: PersonName) -> tuple[str, str]:
    """Search keys of the family name: of the alphabetic group (or what stands for it), and of the ideographic one."""
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
