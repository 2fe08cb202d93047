"""The rule of absence, and the normal forms of numbers and names that it stands on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_samples import NHS, REGION, MemoryDirectory, nhs

from crosslight.standards.ids import CHI_OID, Identifier, MemberId, Oid
from crosslight.standards.names import any_begins, family_begins, given_begins, pattern_matches
from crosslight.standards.national import chi_number, is_mistyped, national_number, nhs_number, plain_number
from crosslight.standards.study import PersonName
from registry.ask import absence
from registry.ask.absence import naming, proves_absence
from registry.ask.coverage import Coverage, MemberCoverage
from registry.ask.naming import Naming
from registry.ask.question import Answer
from registry.identity.model import DisputedNotice, PatientSelector

NUMBER = nhs(1)
BLANKS = "\u0020\u00a0\u1680\u2000\u2002\u2007\u2009\u200a\u202f\u205f\u3000\u2028\u2029\t\r\n"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u058a\u2e3a"
FORMATS = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufeff\u061c"


@pytest.mark.parametrize("mark", BLANKS + DASHES + FORMATS, ids=lambda mark: f"U+{ord(mark):04X}")
def test_typography_is_no_part_of_a_number(mark: str) -> None:
    text = f"{mark}{NUMBER[:3]}{mark}{NUMBER[3:6]}{mark}{NUMBER[6:]}{mark}"
    assert plain_number(text) == NUMBER
    assert nhs_number(text, allow_test=True) == NUMBER


@pytest.mark.parametrize(
    "label",
    [
        "NHS No",
        "NHS No.",
        "NHS no:",
        "nhs number",
        "NHS Number: ",
        "NHS#",
        "NHS",
        "No. ",
        "Number",
        "NHS Num ",
        "H&C No ",
    ],
)
def test_a_label_and_a_full_stop_are_no_part_of_a_number(label: str) -> None:
    assert plain_number(f"{label}{NUMBER[:3]} {NUMBER[3:6]} {NUMBER[6:]}.") == NUMBER


@pytest.mark.parametrize("zero", [0x0660, 0x06F0, 0x0966, 0x09E6, 0xFF10, 0x1D7CE], ids=hex)
def test_decimal_digits_of_any_script_are_digits(zero: int) -> None:
    text = "".join(chr(zero + int(digit)) for digit in NUMBER)
    assert nhs_number(text, allow_test=True) == NUMBER


@pytest.mark.parametrize("text", ["", " ", "K563756", "RTK/12", "NOID-3F", "a" * 65, "²³", "9" * 65])
def test_what_is_no_number_is_left(text: str) -> None:
    assert plain_number(text) == text.strip() or text == "NOID-3F"
    assert nhs_number(text, allow_test=True) is None
    assert chi_number(text, allow_test=True) is None


@given(st.text(max_size=80))
def test_the_normal_form_is_stable(text: str) -> None:
    once = plain_number(text)
    assert plain_number(once) == once or not any(char.isdecimal() for char in once)
    assert (national_number(NHS, once, allow_test=True)) == national_number(NHS, text, allow_test=True)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1234567", False),
        ("12345678", True),
        ("1234567890", True),
        ("123 456 789 012", True),
        ("1234567890123", False),
        ("K12345678", False),
        ("", False),
        ("%", False),
    ],
)
def test_eight_to_twelve_digits_are_a_number_that_went_wrong(text: str, wrong: bool) -> None:
    assert is_mistyped(text) is wrong


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "family", "anything"),
    [
        ("O'Brien^Sean", "OBrien", True, True),
        ("O'Brien^Sean", "O\u2019BR", True, True),
        ("O'Brien^Sean", "sean", False, True),
        ("Smith-Jones^Ann", "jones", True, True),
        ("Smith-Jones^Ann", "mith", False, False),
        ("Smith Jones^Ann", "smithj", True, True),
        ("St. John^Max", "st john", True, True),
        ("Mc Donald^Al", "McDonald", True, True),
        ("M\u00f8ller^Bo", "moll", True, True),
        ("Y\u0131ld\u0131z^Ece", "YILDIZ", True, True),
        ("YAMADA^TARO=\u5c71\u7530^\u592a\u90ce", "\u5c71", True, True),
        ("YAMADA^TARO=\u5c71\u7530^\u592a\u90ce", "\u592a\u90ce", False, True),
        ("Baker^Ann^Mary", "mary", False, True),
        ("Baker^Ann^Mary", "annmary", False, True),
        ("Baker^Ann", "ann baker", False, True),
        ("Baker^Ann", "baker ann", False, True),
        ("Baker^Ann", "", False, False),
        ("Baker^Ann", "-", False, False),
    ],
)
def test_what_a_name_begins_with(name: str, asked: str, family: bool, anything: bool) -> None:
    assert family_begins(PersonName(name), asked) is family
    assert any_begins(PersonName(name), asked) is anything
    if given_begins(PersonName(name), asked):
        assert anything


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", True),
        ("obrien*", True),
        ("O'BRIEN^SEAN", True),
        ("OBrien^S*", True),
        ("OBrien^Se?n", True),
        ("OBrien", False),
        ("*Sean", True),
        ("?brien^*", True),
        ("b*", False),
        ("OBrien^Sea", False),
        ("*^*", True),
        ("OBrien^?", False),
    ],
)
def test_wildcards_in_a_name(pattern: str, found: bool) -> None:
    assert pattern_matches(PersonName("O'Brien^Seán"), pattern) is found


# --- the rule -----------------------------------------------------------------------------------------------


def _covered(**changes: object) -> Coverage:
    at = datetime(2026, 11, 2, tzinfo=UTC)
    well = MemberCoverage(
        member=MemberId(1), code="RA2", name="A", list_state="live", reachable=True, census_equal=True
    )
    return Coverage(members=(replace(well, **changes),), at=at)  # type: ignore[arg-type]


_SURE = Answer(
    holdings=(),
    persons=(),
    objects=(),
    disputed=(),
    coverage=_covered(),
    correlation="c",
    incarnation="i",
    naming=Naming("valid"),
)
_WRONG = (absence.mistyped(REGION),)


@pytest.mark.parametrize(
    ("answer", "proven"),
    [
        (_SURE, True),
        (replace(_SURE, naming=Naming("known")), True),
        (replace(_SURE, naming=Naming("unknown")), False),
        (replace(_SURE, naming=Naming("named")), False),
        (replace(_SURE, naming=Naming("nobody")), False),
        (replace(_SURE, naming=Naming("known", _WRONG)), False),
        (replace(_SURE, unread=1), False),
        (
            replace(
                _SURE, disputed=(DisputedNotice(member=MemberId(1), member_code="RA2", member_name="A"),)
            ),
            False,
        ),
        (replace(_SURE, coverage=_covered(census_equal=None)), False),
        (replace(_SURE, coverage=_covered(waits="patient")), False),
        (replace(_SURE, coverage=_covered(reachable=False)), False),
        (replace(_SURE, coverage=_covered(identity_doubt=True)), False),
        (replace(_SURE, coverage=replace(_covered(), sources=("Northern XDS",))), True),
    ],
)
def test_absence_is_proven_or_not_said(answer: Answer, proven: bool) -> None:
    assert proves_absence(answer) is proven


def test_why_nothing_is_proven() -> None:
    assert absence.reason(_SURE) == ""
    assert "1 imaging document of this patient" in absence.reason(replace(_SURE, unread=1))
    assert "2 imaging documents" in absence.reason(replace(_SURE, unread=2))
    assert absence.beyond(()) == ""
    assert absence.beyond(("A",)) == "What A holds beyond what it registered is not known."
    assert absence.beyond(("A", "B", "C")) == "What A, B and C hold beyond what they registered is not known."


@pytest.mark.parametrize(
    ("region", "value", "standing", "words"),
    [
        (REGION, "123456789", "unknown", "This is not a valid NHS number."),
        (
            replace(REGION, other_nationals=(CHI_OID,)),
            "123456789",
            "unknown",
            "This is not a valid NHS number or CHI number.",
        ),
        (replace(REGION, other_nationals=(CHI_OID,)), "0101011237", "valid", ""),
        (replace(REGION, national_authority=Oid("")), "123456789", "unknown", ""),
        (replace(REGION, national_authority=Oid("1.2.3")), "123456789", "unknown", ""),
        (replace(REGION, allow_test_numbers=False), NUMBER, "unknown", "This is not a valid NHS number."),
    ],
)
def test_a_bare_number_is_judged_by_the_regions_own(
    region: object, value: str, standing: str, words: str
) -> None:
    selector = PatientSelector(identifiers=(Identifier(value),))
    found = naming(selector, (), region, MemoryDirectory(), lambda _: False)  # type: ignore[arg-type]
    assert (found.standing, " ".join(one.what for one in found.misread)) == (standing, words)
    assert all(value not in one.text for one in found.misread)
