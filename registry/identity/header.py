"""Header: a patient as records and studies are compared by it. Pure.

A header is what one study (or one record) says of its patient, in a form in which equal things are equal:
names without case and accents, national numbers that are valid, a date of birth that is a calendar date and
no placeholder. What is blank or a placeholder says nothing, and agrees and disagrees with nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from crosslight.standards.birth_date import PLACEHOLDERS, birth_date
from crosslight.standards.ids import Identifier, hash8
from crosslight.standards.names import search_key
from crosslight.standards.study import Patient, PersonName

#: Words that stand where a name is not known: unknown and trauma patients, newborns.
PLACEHOLDER_NAMES = (
    "unknown",
    "unk",
    "notknown",
    "unidentified",
    "anonymous",
    "trauma",
    "zztrauma",
    "baby",
    "babyboy",
    "babygirl",
    "boy",
    "girl",
    "infant",
    "newborn",
    "neonate",
    "male",
    "female",
    "twin",
    "twin1",
    "twin2",
    "twina",
    "twinb",
    "xxx",
    "zzz",
)
_WORDS = re.compile(r"[\s\-_.,']+")


@dataclass(frozen=True, slots=True)
class Placeholders:
    """What a region's sources write where they know nothing."""

    birth_dates: frozenset[str] = frozenset(PLACEHOLDERS)
    names: frozenset[str] = frozenset(PLACEHOLDER_NAMES)

    def known_birth_date(self, text: str) -> str:
        """The date of birth in full, '' where it is partial, a placeholder or none."""
        born = birth_date(text)
        return born if len(born) == 8 and born not in self.birth_dates else ""


@dataclass(frozen=True, slots=True, order=True)
class PatientHeader:
    """A patient as it is compared; '' and empty say nothing."""

    numbers: tuple[Identifier, ...] = ()  # valid national numbers, sorted
    birth_date: str = ""  # YYYYMMDD
    sex: str = ""
    family: tuple[str, ...] = ()  # words
    given: tuple[str, ...] = ()  # words

    @property
    def key(self) -> int:
        """64 bits that stand for the whole."""
        parts = [
            *(f"{n.authority}|{n.value}" for n in self.numbers),
            self.birth_date,
            self.sex,
            *self.family,
            "^",
            *self.given,
        ]
        return hash8("\x1f".join(parts))


def header_of(patient: Patient, numbers: Collection[Identifier], placeholders: Placeholders) -> PatientHeader:
    """``patient`` as it is compared; ``numbers`` are the valid national ones among its ids."""
    return _header_of(patient, frozenset(numbers), placeholders)


@lru_cache(maxsize=1024)  # a patient's studies say the same, and each is compared with the record
def _header_of(patient: Patient, numbers: frozenset[Identifier], placeholders: Placeholders) -> PatientHeader:
    family, given = _names(patient.name, placeholders)
    return PatientHeader(
        numbers=tuple(sorted(Identifier(n.value, n.authority) for n in numbers)),
        birth_date=placeholders.known_birth_date(patient.birth_date),
        sex=patient.sex if patient.sex in ("M", "F") else "",
        family=family,
        given=given,
    )


def _names(name: PersonName, placeholders: Placeholders) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Family and given names in words.

    Beside a placeholder ("Trauma^Whiskey") a given name is none either.
    """
    family = _words(name.family, placeholders)
    if name.family.strip() and not family:
        return (), ()
    return family, _words(f"{name.given} {name.middle}", placeholders)


def _words(text: str, placeholders: Placeholders) -> tuple[str, ...]:
    words = [key for word in _WORDS.split(text) if (key := search_key(word))]
    if any(word in placeholders.names for word in words):
        return ()
    return tuple(words)


# --- comparing ----------------------------------------------------------------------------------------------


def other_number(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether both give a number of one authority, and share none."""
    if set(a.numbers) & set(b.numbers):
        return False
    return bool({n.authority for n in a.numbers} & {n.authority for n in b.numbers})


def other_birth_date(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether both dates of birth are known and differ."""
    return bool(a.birth_date and b.birth_date) and a.birth_date != b.birth_date


def other_sex(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether both sexes are known and differ."""
    return bool(a.sex and b.sex) and a.sex != b.sex


def shares_given(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether a given name, or its initial, is common to both; also where one gives none."""
    return not a.given or not b.given or shares_name(a.given, b.given)


def shares_name(a: Iterable[str], b: Collection[str]) -> bool:
    """Whether a name, or its initial, is common to both."""
    return any(x == y or (min(len(x), len(y)) == 1 and x[0] == y[0]) for x in a for y in b)


def _other_family(a: PatientHeader, b: PatientHeader) -> bool:
    return bool(a.family and b.family) and "".join(a.family) != "".join(b.family)


def other_name(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether family or given name is known on both sides and differs.

    The same words in another order are one name.
    """
    if sorted((*a.family, *a.given)) == sorted((*b.family, *b.given)):
        return False
    return _other_family(a, b) or not shares_given(a, b)


def doubt(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether one local id that comes with both may have been given to two people.

    So it is with another national number and another birth date, or another number and a name of which
    nothing is left, or two of name, sex and birth date changed. A single field corrected, or what was blank
    and becomes known, is no doubt.
    """
    if other_number(a, b) and (other_birth_date(a, b) or (_other_family(a, b) and not shares_given(a, b))):
        return True
    return other_name(a, b) + other_sex(a, b) + other_birth_date(a, b) >= 2


def agree(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether birth date or a national number is the same: then a feed may say that they are one person."""
    return bool(set(a.numbers) & set(b.numbers)) or bool(a.birth_date and a.birth_date == b.birth_date)


# --- saying -------------------------------------------------------------------------------------------------


def merged(before: Patient, said: Patient, erase: Collection[str], traced: bool) -> Patient:
    """``said`` over ``before``: blanks do not erase; other ids are kept by authority unless said anew."""
    others = [i for i in said.others if i.value]
    told = {(i.authority, i.namespace) for i in said.others}
    others += [i for i in before.others if (i.authority, i.namespace) not in told]
    values = {
        name: "" if name in erase else getattr(said, name) or getattr(before, name)
        for name in ("birth_date", "sex", "postcode")
    }
    name = said.name if said.name.pn.strip("^= ") else before.name
    return Patient(local=said.local, others=tuple(others), name=PersonName(name.pn), traced=traced, **values)
