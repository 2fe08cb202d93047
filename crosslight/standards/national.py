"""National patient numbers: as people write them, whether they can be one, and those that cannot."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from functools import lru_cache

import nhs_number as _nhs

from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier, Oid

MAX_NUMBER = 64  # characters of a number as typed; longer text is none
#: What people and programs write before a number: "NHS No", "NHS Number:", "CHI no.", "No.".
_PREFIX = re.compile(
    r"(?:(?:nhs|chi|h(?:&|and)?c|patient)?(?:numbers?|num|nr|no)|nhs|chi|h(?:&|and)?c)[.:#=]*", re.IGNORECASE
)


def plain_number(text: str) -> str:
    """A number as compared everywhere: what typography and labels add is gone, what was written stays.

    Out go blanks, dashes, format and control characters of any kind (so a zero width space, or a no-break
    space from a web page), a label before it ("NHS No", "NHS Number:") and a full stop after it; decimal
    digits of any script become ASCII. Text without a digit, or too long to be a number, comes back only
    trimmed.
    """
    if text.isdecimal() and text.isascii():
        return text
    if len(text) > MAX_NUMBER:
        return text.strip()
    kept = [
        str(unicodedata.decimal(char, char))
        for char in text
        if unicodedata.category(char) not in ("Zs", "Zl", "Zp", "Pd", "Cf", "Cc") and char != "\N{MINUS SIGN}"
    ]
    bare = "".join(kept)
    if (label := _PREFIX.match(bare)) is not None and bare[label.end() : label.end() + 1].isdecimal():
        bare = bare[label.end() :]
    bare = bare.rstrip(".")
    return bare if any(char.isdecimal() for char in bare) else text.strip()


def nhs_number(text: str, *, allow_test: bool) -> str | None:
    """The ten digits of a valid NHS number, else None.

    Args:
        text: As written; see :func:`plain_number`.
        allow_test: Whether numbers of the test range 9xx count (D3: only by configuration).

    Repeated digits and ranges never issued pass the arithmetic; they are refused here (fhir.md 1.3).
    """
    digits = _ten_digits(text)
    if digits is None or not _nhs.is_valid(digits):
        return None
    if digits[0] == "9":
        return digits if allow_test else None
    # Issued for England, Wales and the Isle of Man: 400 000 000-499 999 999 and 600 000 000-799 999 999.
    return digits if digits[0] in "467" else None


def chi_number(text: str, *, allow_test: bool) -> str | None:
    """The ten digits of a plausible CHI number (DDMMYY + 4, modulus 11), else None.

    9xx only as test numbers.
    """
    digits = _ten_digits(text)
    if digits is None:
        return None
    check = 11 - sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=False)) % 11
    if check == 10 or check % 11 != int(digits[9]):
        return None
    if digits[0] == "9":
        return digits if allow_test else None
    day, month = int(digits[:2]), int(digits[2:4])
    return digits if 1 <= day <= 31 and 1 <= month <= 12 else None


def _ten_digits(text: str) -> str | None:
    digits = plain_number(text)
    is_number = len(digits) == 10 and digits.isascii() and digits.isdecimal()
    return digits if is_number and len(set(digits)) > 1 else None


NATIONAL_CHECKS = {NHS_NUMBER_OID: nhs_number, CHI_OID: chi_number}


def national_number(authority: str, text: str, *, allow_test: bool) -> str | None:
    """The normal form of a national number under ``authority``, or None where it is not valid.

    An authority without a check of its own (a region's) accepts any non-empty value.
    """
    check = NATIONAL_CHECKS.get(Oid(authority))
    if check is None:
        return text.strip() or None
    read = _checked if len(text) <= MAX_NUMBER else _checked.__wrapped__
    return read(check, text, allow_test)


@lru_cache(maxsize=4096)  # a patient's number is looked at for the record, its header and each count
def _checked(check: Callable[..., str | None], text: str, allow_test: bool) -> str | None:
    return check(text, allow_test=allow_test)


def unread_number(value: str, authority: str) -> Identifier:
    """A national number that fails its check, as received.

    Its issuer is only named, so that nothing takes it for a number.
    """
    return Identifier(value, namespace=authority)


def was_unread(identifier: Identifier) -> bool:
    """Whether ``identifier`` is one of :func:`unread_number`."""
    return not identifier.authority and identifier.namespace in NATIONAL_CHECKS


def is_unread_number(identifier: Identifier, nationals: Collection[str], *, allow_test: bool) -> bool:
    """Whether ``identifier`` was given as a number of one of these national authorities, and is none."""
    authority = identifier.authority or identifier.namespace
    if authority not in nationals or not identifier.value:
        return False
    return national_number(authority, identifier.value, allow_test=allow_test) is None


def is_mistyped(text: str) -> bool:
    """Whether ``text`` looks like a ten-digit national number gone wrong: 8 to 12 digits and no more."""
    digits = plain_number(text)
    return 8 <= len(digits) <= 12 and digits.isascii() and digits.isdecimal()
