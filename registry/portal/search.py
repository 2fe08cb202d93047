"""The search form: what was typed, what it asks for, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from crosslight.standards.ids import Identifier
from crosslight.standards.national import NATIONAL_CHECKS, national_number
from crosslight.standards.region import Region
from registry.ask.question import Answer
from registry.identity.model import PatientSelector, Person
from registry.members.model import Member
from registry.portal import wording as words

FIELDS = ("number", "family", "given", "day", "month", "year")
MAX_FIELD = 128


@dataclass(frozen=True, slots=True)
class Search:
    """A filled form: a selector, or errors by field."""

    form: dict[str, str]
    selector: PatientSelector | None = None
    errors: dict[str, str] = field(default_factory=dict)
    national: Identifier | None = None  # what was typed, where it is a national number
    trust: str = ""  # the code of whose number it is, where that was said

    def names(self, person: Person) -> bool:
        """Whether it is certain enough that ``person`` was meant to open their record at once.

        By a name and a date of birth, by a national number that they hold, or by a number whose trust was
        said. A trust's own number alone is not: another trust may have given it to somebody else.
        """
        return (
            not self.by_number
            or bool(self.trust)
            or (self.national is not None and person.domain_id == self.national)
        )

    @property
    def by_number(self) -> bool:
        """Whether a number was asked for."""
        return bool(self.form["number"])


EMPTY = Search(form=dict.fromkeys((*FIELDS, "trust"), ""))


def number_label(region: Region) -> str:
    """What the number field is called: the national number where the region has one."""
    if not region.national_authority:
        return "Patient number"
    return words.number_label(region.national_authority, region).replace("No.", "number")


def number_hint(region: Region, word: str = "trust") -> str:
    """What may be typed there."""
    if region.national_authority:
        return f"10 digits, or a {word}’s own patient number"
    return f"The number at any {word}"


def read_search(
    given: Mapping[str, str], region: Region, today: date, members: Sequence[Member] = ()
) -> Search:
    """Read a posted form; the number comes first where both are filled."""
    form = {name: words.plain(given.get(name, ""))[:MAX_FIELD] for name in (*FIELDS, "trust")}
    if form["number"]:
        return _by_number(form, region, next((m for m in members if m.code == form["trust"]), None))
    if any(form[name] for name in FIELDS[1:]):
        return _by_name(form, today)
    return Search(
        form, errors={"number": f"Enter {_article(number_label(region))}, or a name and date of birth"}
    )


def _article(label: str) -> str:
    return f"an {label}" if label[:3] == "NHS" or label[:1] in "AEIOU" else f"a {label}"


def _by_number(form: dict[str, str], region: Region, trust: Member | None) -> Search:
    """Whom a number means: the region's national one where it is one, and anybody's own, or a trust's.

    A local number is looked for as typed and in capitals.
    """
    text, authority, valid = form["number"], region.national_authority, None
    if authority in NATIONAL_CHECKS:
        valid = national_number(authority, text, allow_test=region.allow_test_numbers)
    national = Identifier(valid, authority) if valid else None
    typed = dict.fromkeys((valid,) if valid and trust is None else (text, text.upper()))
    issuers = ("",) if trust is None else tuple(dict.fromkeys((*trust.authorities, trust.authority)))
    own = tuple(Identifier(value, issuer) for issuer in issuers for value in typed)
    whom = PatientSelector(identifiers=(national, *own) if national else own)
    return Search(form, whom, national=national, trust=trust.code if trust else "")


def misread(search: Search, answer: Answer) -> Search:
    """The search with what of it was not understood, as an error of its field."""
    wrong = answer.naming.misread
    return replace(search, errors={"number": f"{wrong[0].what} {wrong[0].todo}"}) if wrong else search


def _by_name(form: dict[str, str], today: date) -> Search:
    errors = {}
    if not form["family"]:
        errors["family"] = "Enter the family name"
    birth = _birth(form)
    if birth is None or birth.year < 1850:
        errors["day"] = (
            "Enter a date that exists, with the year in four digits"
            if all(form[k] for k in FIELDS[3:])
            else "Enter the day, month and year of birth"
        )
    elif birth > today:
        errors["day"] = "The date of birth must be in the past"
    if errors or birth is None:
        return Search(form, errors=errors)
    return Search(
        form, PatientSelector(family=form["family"], given=form["given"], birth_date=birth.strftime("%Y%m%d"))
    )


def _birth(form: dict[str, str]) -> date | None:
    numbers = [form[name] for name in ("year", "month", "day")]
    if not all(text.isascii() and text.isdecimal() for text in numbers) or len(numbers[0]) != 4:
        return None
    try:
        return date(*(int(text) for text in numbers))
    except ValueError:
        return None
