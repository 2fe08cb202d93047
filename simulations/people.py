"""Synthetic patients: difficult names, valid test numbers (9xx), one local number per trust. Nobody real.

Seeded: the same seed gives the same people.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta

#: (family, given, sex): names that have broken systems before. PN characters that DICOM forbids (\ ^ =) are
#: not names.
NAMES: tuple[tuple[str, str, str], ...] = (
    ("Okonkwo-Bright", "Adaeze", "F"),
    ("O'Connor", "Siobhán", "F"),
    ("Müller", "Jürgen", "M"),
    ("Nguyễn", "Thị Hồng", "F"),
    ("van der Meer", "Pieter", "M"),
    ("Ó Súilleabháin", "Pádraig", "M"),
    ("Smith & Sons", "Test <b>Bold</b>", "M"),
    ("Zhang", "Wěi", "M"),
    ("Jones", "Mary-Ann 'Polly'", "F"),
    ("D’Souza", "Maria José", "F"),
    ("Łukaszewicz", "Wojciech", "M"),
    ("Yılmaz", "İbrahim", "M"),
    ("Null", "Christopher", "M"),
    ("Al-Khalīl", "Fāṭimah", "F"),
    ("Brontë", "Charlotte", "F"),
    ("Þórsdóttir", "Björk", "F"),
    ("MacLeòid", "Mòrag", "F"),
    ("Papadopoulos", "Νίκος", "M"),
    ("Иванова", "Ольга", "F"),
    ("St. John-Smythe", "Evelyn", "F"),
    ("Featherstonehaugh-Cholmondeley", "Bartholomew Maximilian", "M"),
    ("Li", "Na", "F"),
    ("Patel", 'Rajesh "Raj"', "M"),
    ("Hughes", "Dafydd", "M"),
)

POSTCODES = (
    "KT16 0PZ",
    "BN21 2UD",
    "RH19 3DZ",
    "GU2 7XX",
    "BN2 5BE",
    "NW3 2QG",
    "N19 5NF",
    "EH16 4SA",
    "G51 4TF",
    "AB25 2ZN",
)


def test_number(seed: int) -> str:
    """A number of the NHS test range (999 xxx xxxx) with a valid check digit.

    Modulus 11; the same arithmetic for CHI.
    """
    rng = random.Random(f"number:{seed}")
    while True:
        body = f"999{rng.randrange(10**6):06d}"
        check = 11 - sum(int(d) * w for d, w in zip(body, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            return body + str(check % 11)


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """One person, as the trusts that know them number them."""

    index: int
    family: str
    given: str
    sex: str
    birth_date: date
    postcode: str
    national: str = ""  # ten digits, '' where there is no national number
    local_ids: dict[str, str] = field(default_factory=dict)  # organisation code -> local number

    @property
    def pn(self) -> str:
        """As DICOM PN."""
        return f"{self.family}^{self.given}"


def local_id(code: str, index: int) -> str:
    """A trust's own patient number: another shape at each trust, as in life."""
    rng = random.Random(f"local:{code}:{index}")
    shape = sum(map(ord, code)) % 4
    if shape == 0:
        return f"{rng.randrange(10**6, 10**7)}"
    if shape == 1:
        return f"{code[-1]}{rng.randrange(10**5, 10**6)}"
    if shape == 2:
        return f"{rng.randrange(10**4, 10**5)}/{rng.randrange(10, 99)}"
    return f"H{rng.randrange(10**7, 10**8)}"


def make_patients(count: int, codes: tuple[str, ...], *, seed: int, national: bool) -> list[SyntheticPatient]:
    """``count`` people, each known at every one of ``codes`` under a number of that trust's own."""
    people = []
    for index in range(count):
        rng = random.Random(f"patient:{seed}:{index}")
        family, given, sex = NAMES[index % len(NAMES)]
        if index >= len(NAMES):
            family = f"{family} {'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[(index // len(NAMES)) % 26]}"
        people.append(
            SyntheticPatient(
                index=index,
                family=family,
                given=given,
                sex=sex,
                birth_date=date(1931, 1, 1) + timedelta(days=rng.randrange(32000)),
                postcode=rng.choice(POSTCODES),
                national=test_number(seed * 100003 + index) if national else "",
                local_ids={code: local_id(code, seed * 1009 + index) for code in codes},
            )
        )
    return people
