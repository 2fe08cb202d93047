"""What the room is about: patient records, persons, how a question names a person.

And what may be said of a dispute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NewType

from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import any_begins, family_begins, given_begins, pattern_matches
from crosslight.standards.study import Patient, PersonName

RecordKey = NewType("RecordKey", int)  # a patient record: (assigning authority, local id); random (D7)
PersonKey = NewType("PersonKey", int)
#: What became of a record, as whoever keeps its studies is told. ``moved``: its studies are told apart anew,
#: or shown to others. ``described``: it says something else, or another claims its number. ``linked``: it is
#: of another person. ``merged``: the same, by A40.
RecordChange = Literal["moved", "described", "linked", "merged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecord:
    """One patient as one authority numbers them (D2). Demographics are kept per record."""

    key: RecordKey
    patient: Patient  # patient.local is (authority, id)
    member: MemberId | None  # whose authority it is; None for a foreign one
    person: PersonKey
    national: tuple[Identifier, ...] = ()  # valid national numbers claimed
    disputed: bool = False  # claims a number that it does not hold by D3
    subsumed_by: RecordKey | None = None  # by A40
    active: bool = True
    updated: datetime | None = None
    # a part of that record: studies under its id whose headers are not the record's
    part_of: RecordKey | None = None
    in_doubt: bool = False  # such a part, on which nobody decided yet
    parts: int = 0  # of a record: how many such parts there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A set of records that are one human being, as far as we know (D2)."""

    key: PersonKey
    fhir_id: str  # random UUID (D7)
    domain_id: Identifier  # the current affinity-domain id (D4)
    records: tuple[PatientRecord, ...]
    differs: bool = False  # demographics differ among the records; a banner says so (D3)

    @property
    def banner(self) -> Patient:
        """Demographics to show: of the record with the newest study, which comes first."""
        return self.records[0].patient


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputedNotice:
    """Somewhere a record claims the number that was asked for, and it is not this person's.

    Only that may be said (D3).

    ``claims``: such a record; else only studies under this person's own local number there, whose headers say
    another person. ``shown``: to this caller the answer shows all there is of that, as a person of its own.
    """

    member: MemberId
    member_code: str
    member_name: str
    claims: bool = True
    shown: bool = False


@dataclass(frozen=True, slots=True)
class NameTest:
    """One thing asked of a name.

    What its family, given or any part begins with (R4), or a PN with wildcards (PS3.4).
    """

    part: Literal["family", "given", "any", "pattern"]
    text: str

    def holds(self, name: PersonName) -> bool:
        """Whether ``name`` passes."""
        test = {
            "family": family_begins,
            "given": given_begins,
            "any": any_begins,
            "pattern": pattern_matches,
        }[self.part]
        return test(name, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSelector:
    """Which person: any of these identifiers, or a FHIR patient id, or a name + date of birth."""

    identifiers: tuple[Identifier, ...] = ()  # without issuer: national numbers, then any local or minted id
    fhir_id: str = ""
    family: str = ""  # whole, as people write it
    given: str = ""  # begins with, beside ``family``
    names: tuple[NameTest, ...] = ()  # all must hold; beside or instead of ``family``
    birth_date: str = ""  # YYYYMMDD


@dataclass(slots=True)
class Texts:
    """The patients of a record's studies, as submitted, that one transaction wrote or took away.

    ``came``: of studies that it wrote. ``went``: of those that it replaced or removed.
    """

    came: set[Patient] = field(default_factory=set)
    went: set[Patient] = field(default_factory=set)
