"""What the demo loads and what its story changes: who is imaged where.

Each replay is a new chapter with new people.

A chapter has a traveller (imaged at the first three members), a double (another person's record at the fifth
member that claims the traveller's national number), and a few patients for each member.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from simulations.images import PROCEDURES, StudyPlan
from simulations.people import SyntheticPatient, make_patients
from simulations.topology import Topology

_MODALITIES = ("CR", "CT", "US", "MG", "MR")
_SMALL = {"CT": 24, "MR": 8, "US": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What is done in one archive of others, behind its node's back: three studies."""

    key: str  # the archive's
    added: StudyPlan  # the traveller's
    corrected: StudyPlan  # loses an image
    deleted: StudyPlan

    @property
    def before(self) -> tuple[StudyPlan, ...]:
        """What is there before."""
        return self.corrected, self.deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One telling of the story."""

    number: int
    traveller: SyntheticPatient
    double: SyntheticPatient
    travelled: tuple[StudyPlan, ...]  # the traveller's three studies
    doubled: StudyPlan
    background: tuple[StudyPlan, ...]
    to_correct: StudyPlan  # at the member whose node is killed
    to_delete: StudyPlan
    while_away: StudyPlan  # the traveller's fourth, imported while that node is down
    while_registry_down: tuple[StudyPlan, ...]
    followed: tuple[Followed, ...] = ()

    @property
    def opening(self) -> tuple[StudyPlan, ...]:
        """All that is sent before the story begins."""
        followed = (plan for one in self.followed for plan in one.before)
        own = (*self.travelled, self.doubled, self.to_correct, self.to_delete)
        return (*own, *followed, *self.background)

    @property
    def later(self) -> tuple[StudyPlan, ...]:
        """Everything that the traveller may have once it is all told."""
        added = (one.added for one in self.followed)
        return (*self.travelled, self.while_away, *self.while_registry_down, *added)


def plan_study(
    topology: Topology,
    authorities: dict[str, str],
    patient: SyntheticPatient,
    member: int,
    modality: str,
    when: datetime,
    seed: int,
    pick: int = 0,
    instances: int = 0,
    *,
    compressed: bool = False,
) -> StudyPlan:
    """A study of ``patient`` at the member of that index, written as that trust writes."""
    place, own = (
        topology.members[member],
        (authorities.get(topology.members[member].code, "") if member % 2 == 0 else ""),
    )
    description, body_part = PROCEDURES[modality][pick % len(PROCEDURES[modality])]
    return StudyPlan(
        patient=patient,
        code=place.code,
        institution=place.name,
        modality=modality,
        when=when,
        seed=seed,
        description=description,
        body_part=body_part,
        instances=instances or _SMALL.get(modality, 0),
        national_authority=topology.national.authority,
        local_authority=own,  # the others write only their code
        accession_authority=f"{own}.1" if own else "",
        zone="" if member % 3 else when.replace(tzinfo=ZoneInfo(topology.zone)).strftime("%z"),
        compressed=compressed,
        size=256 if modality == "CT" else 128 if modality == "MR" else 0,
    )


def _summer_night(today: date) -> datetime:
    """Half past midnight of the last 15 July: summer time, where there is one."""
    year = today.year if today > date(today.year, 7, 15) else today.year - 1
    return datetime(year, 7, 15, 0, 30)


def make_chapter(topology: Topology, authorities: dict[str, str], number: int, today: date) -> Chapter:
    """Chapter ``number`` (1 = the first, with background patients for every member).

    Args:
        authorities: Organisation code -> OID of its own patient numbers.
        today: Studies lie in the past from here.
    """
    national = bool(topology.national.authority)
    people = make_patients(4 + 2 * len(topology.members), topology.codes, seed=number, national=national)
    traveller = people[0]
    double = replace(
        people[1],
        family=traveller.family,
        national=traveller.national,
        birth_date=traveller.birth_date + timedelta(days=3653),
    )

    def at(days_ago: int, hour: int, minute: int = 17) -> datetime:
        return datetime(today.year, today.month, today.day, hour, minute) - timedelta(days=days_ago)

    seed = number * 1000

    def study(
        patient: SyntheticPatient,
        member: int,
        modality: str,
        when: datetime,
        offset: int,
        pick: int = 0,
        instances: int = 0,
        *,
        compressed: bool = False,
    ) -> StudyPlan:
        return plan_study(
            topology,
            authorities,
            patient,
            member,
            modality,
            when,
            seed + offset,
            pick,
            instances,
            compressed=compressed,
        )

    travelled = (
        study(traveller, 0, "CT", at(31, 9), 1, 0, 120),
        study(traveller, 1, "MR", at(400, 23, 58), 2),
        study(traveller, 2, "CR", at(3, 0, 12), 3, compressed=True),
    )
    background: list[StudyPlan] = []
    if number == 1:
        for member in range(len(topology.members)):
            for nth in range(2):
                index = 4 + 2 * member + nth
                modality = _MODALITIES[(member + 2 * nth) % len(_MODALITIES)]
                when = at(20 + 37 * member + 300 * nth, 8 + member % 10)
                background.append(study(people[index], member, modality, when, 100 + index, member + nth))
        shared = people[4]  # one more who has been to two places
        background.append(study(shared, 3, "US", at(12, 15), 90))
        # a summer's night, which is another day in UTC: one with its offset, one without
        for member in (0, 1):
            background.append(study(people[5], member, "CR", _summer_night(today), 91 + member))
    return Chapter(
        number=number,
        traveller=traveller,
        double=double,
        travelled=travelled,
        doubled=study(double, 4, "CR", at(9, 11), 4, 1),
        background=tuple(background),
        to_correct=study(people[2], 1, "CR", at(15, 10), 5),
        to_delete=study(people[3], 1, "US", at(16, 12), 6),
        while_away=study(traveller, 1, "US", at(0, 6), 7),
        while_registry_down=(
            study(people[2], 0, "CR", at(0, 7), 8),
            study(people[3], 3, "US", at(0, 7, 30), 9),
            study(traveller, 2, "MG" if traveller.sex == "F" else "US", at(0, 8), 10),
        ),
    )


__all__ = ["Chapter", "make_chapter", "plan_study"]
