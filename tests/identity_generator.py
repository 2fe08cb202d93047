"""People whose records change as they do in life, and the studies that say so: for laws of identity.

Seedable.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from registry_samples import NHS, nhs

from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient, PersonName, SeriesRecord, StudyRecord, StudyTime
from registry.members.model import Member

_FAMILIES = (
    "Baker",
    "Okonkwo",
    "O'Brien",
    "Singh",
    "Smith-Jones",
    "Nowak",
    "Yıldız",
    "Evans",
    "Khan",
    "Murphy",
    "Hughes",
)
_WOMEN = ("Ann", "Beth", "Chloe", "Dina", "Eve", "Fatima", "Grace", "Hana")
_MEN = ("Adam", "Ben", "Carl", "David", "Emeka", "Faisal", "Gareth", "Hugh")


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of a person at one time."""

    number: str
    family: str
    given: str
    born: str
    sex: str


@dataclass(frozen=True, slots=True)
class Made:
    """A study and who sends it."""

    code: str
    record: StudyRecord


class Generator:
    """Makes studies of people.

    Args:
        seed: Of everything.
        members: Who has records.
    """

    def __init__(self, seed: int, members: dict[str, Member]) -> None:
        self.r, self.members = random.Random(seed), members
        self.people = self.studies = 0

    def studies_of(self, count: int) -> list[Made]:
        """Studies, in the order in which they were made."""
        found: list[Made] = []
        while len(found) < count:
            found += self._person()
        return sorted(found[:count], key=lambda m: (m.record.time.date, m.record.study_uid))

    def _person(self) -> Iterator[Made]:
        self.people += 1
        r, sex = self.r, self.r.choice("FM")
        born = f"{r.randrange(1930, 2020)}{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}"
        given = r.choice(_WOMEN if sex == "F" else _MEN)
        said = Said(nhs(self.people), r.choice(_FAMILIES), given, born, sex)
        most = min(len(self.members), r.choice((1, 1, 1, 2, 3)))
        homes = {code: f"{code}{self.people}" for code in r.sample(sorted(self.members), most)}
        times = [said] * r.randrange(1, 6)
        for change in r.sample(_CHANGES, r.choice((0, 0, 0, 0, 1, 1, 2))):
            times = change(r, times, self)
        yield from self._studies(times, homes)
        if r.random() < 0.02:  # a twin, one of whose studies was given the other's number
            twin = replace(said, number=nhs(500_000 + self.people), given=said.given + "e")
            other = [twin] * r.randrange(2, 5)
            other[r.randrange(len(other))] = replace(twin, number=said.number)
            yield from self._studies(other, {code: f"{code}T{self.people}" for code in homes})

    def _studies(self, times: list[Said], homes: dict[str, str]) -> Iterator[Made]:
        for year, said in enumerate(times):
            code = self.r.choice(sorted(homes))
            member = self.members[code]
            who = Patient(
                local=Identifier(homes[code], member.authority),
                others=(Identifier(said.number, NHS),) if said.number and self.r.random() < 0.9 else (),
                name=PersonName(f"{said.family}^{said.given}"),
                birth_date=said.born,
                sex=said.sex,
            )
            date = f"{2015 + year}{self.r.randrange(1, 13):02d}{self.r.randrange(1, 29):02d}"
            yield Made(code, self._study(who, date))

    def _study(self, who: Patient, date: str) -> StudyRecord:
        self.studies += 1
        uid = f"1.2.826.0.1.9999.{self.studies}"
        record = StudyRecord(
            study_uid=uid, patient=who, time=StudyTime(date=date, time="1015"), description="XR Chest"
        )
        series = SeriesRecord(
            series_uid=f"{uid}.1", modality="DX", n_instances=1, digest=f"{self.studies:064x}"
        )
        return record.with_series([series], detail="full")


def _from_some_time(r: random.Random, times: list[Said], **changed: str) -> list[Said]:
    first = r.randrange(len(times) + 1)
    return [*times[:first], *(replace(said, **changed) for said in times[first:])]


def _before_some_time(r: random.Random, times: list[Said], **changed: str) -> list[Said]:
    first = r.randrange(len(times) + 1)
    return [*(replace(said, **changed) for said in times[:first]), *times[first:]]


def _marriage(r: random.Random, times: list[Said], _: Generator) -> list[Said]:
    return _from_some_time(r, times, family=r.choice(_FAMILIES))


def _transition(r: random.Random, times: list[Said], made: Generator) -> list[Said]:
    sex = "M" if times[0].sex == "F" else "F"
    given = r.choice(_WOMEN if sex == "F" else _MEN)
    return _from_some_time(r, times, number=nhs(1_000_000 + made.people), given=given, sex=sex)


def _corrected_date(r: random.Random, times: list[Said], _: Generator) -> list[Said]:
    wrong = times[0].born[:6] + f"{r.randrange(1, 29):02d}"
    return _before_some_time(r, times, born=wrong)


def _newborn(r: random.Random, times: list[Said], _: Generator) -> list[Said]:
    return _before_some_time(r, times, given=r.choice(("Baby", "Infant", "Twin1")), number="")


def _trauma(r: random.Random, times: list[Said], _: Generator) -> list[Said]:
    unknown = {
        "family": "Unknown",
        "given": r.choice(("Male", "Female", "Alpha")),
        "number": "",
        "born": "19000101",
        "sex": "",
    }
    return _before_some_time(r, times, **unknown)


def _used_again(r: random.Random, times: list[Said], made: Generator) -> list[Said]:
    """The local id is given to somebody else."""
    sex = r.choice("FM")
    other = Said(
        nhs(2_000_000 + made.people),
        r.choice(_FAMILIES),
        r.choice(_WOMEN if sex == "F" else _MEN),
        "19440606",
        sex,
    )
    first = r.randrange(1, len(times) + 1)
    return [*times[:first], *[other] * len(times[first:])]


_CHANGES = (_marriage, _marriage, _transition, _corrected_date, _newborn, _trauma, _used_again)
