"""Dates of birth: what is one, as every road reads it. Pure."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

#: Calendar dates that sources write where none is known. They are shown, but agree with nothing; a region may
#: name more.
PLACEHOLDERS = ("19000101", "18000101", "11111111", "99991231")
_SHORT = 64  # characters of a text whose reading is kept: what is kept is bounded too
EARLIEST, LATEST = 1800, 9999  # years; before that nobody's birth date was kept in an information system


def birth_date(text: str) -> str:
    """``text`` as a date of birth: ``YYYYMMDD``, or ``YYYYMM`` or ``YYYY`` where that is all it says.

    '' where it is none.

    A value that is no calendar date (``00000000``, ``19701301``, ``19700230``) is no date of birth. Dots and
    dashes between the parts, which older objects have (PS3.5 6.2, DA), and a time after the date (HL7 v2 TS)
    are passed over.
    """
    return (_read if len(text) <= _SHORT else _read.__wrapped__)(text)


@lru_cache(maxsize=4096)  # there are few, and each is read by several rules
def _read(text: str) -> str:
    digits = text.strip().replace(".", "").replace("-", "")
    digits = digits[:8] if len(digits) > 8 else digits
    if len(digits) not in (4, 6, 8) or not digits.isascii() or not digits.isdecimal():
        return ""
    year, month, day = int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1)
    if digits not in PLACEHOLDERS and not EARLIEST <= year <= LATEST:
        return ""
    try:
        date(year, month, day)
    except ValueError:
        return ""
    return digits
