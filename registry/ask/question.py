"""Questions and answers: the types of ``ask.py``, typed by what bounds them (D20)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from crosslight.standards.asking import MANY_NUMBERS
from crosslight.standards.ids import Identifier
from registry.ask.coverage import Coverage
from registry.ask.naming import Naming
from registry.identity.model import DisputedNotice, PatientSelector, Person, RecordKey
from registry.index.model import Holding, XdsObject

MANY = 200  # holdings of one person, beyond which pages are read


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilter:
    """What a study question may narrow by; empty = not asked.

    All given parts must hold; values within a part are OR.
    """

    modalities: tuple[str, ...] = ()
    study_uids: tuple[str, ...] = ()
    accessions: tuple[Identifier, ...] = ()  # without authority: any issuer
    members: tuple[str, ...] = ()  # organisation codes
    study_date: tuple[str, str] | None = None  # QIDO: DA text range, either end may be ''
    started: tuple[datetime | None, datetime | None] | None = None  # FHIR/XDS: UTC [low, high)
    descriptions: tuple[str, ...] = ()  # * and ? wildcards; finds no less than any face's own rule
    progress: tuple[str, ...] = ()
    # when the index changed it: UTC [low, high)
    updated: tuple[datetime | None, datetime | None] | None = None


ANY = StudyFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPatient:
    """Studies of one person: all of them, or by pages where there are very many.

    With a ``limit`` a person of more than :data:`MANY` holdings is answered newest first and page by page;
    then ``Answer.total`` says how many there are. Pages are of holdings, resumable by ``cursor``; or, with an
    ``offset``, of studies with all their holdings. ``filter`` and ``versions`` are not for pages.

    ``order`` is the number of the order for which a member's node asks (ADR 0060); it is in the audit with
    the rest.
    """

    patient: PatientSelector
    filter: StudyFilter = StudyFilter()
    versions: bool = False  # with superseded versions and deprecated holdings (XDS)
    limit: int = 0  # 0: all
    cursor: str = ""
    offset: int | None = None  # how many studies come before the page; None: it is a page of holdings
    order: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByObject:
    """Holdings by their own names; any list may be used alone."""

    fhir_ids: tuple[str, ...] = ()
    study_uids: tuple[str, ...] = ()
    accessions: tuple[Identifier, ...] = ()
    entry_uuids: tuple[str, ...] = ()  # entry, submission set or association
    unique_ids: tuple[str, ...] = ()  # document or submission uniqueId
    versions: bool = False

    @property
    def n_names(self) -> int:
        """How many names are asked for."""
        named = (self.fhir_ids, self.study_uids, self.accessions, self.entry_uuids, self.unique_ids)
        return sum(len(names) for names in named)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPopulation:
    """A bounded page over the region, newest first or ``ascending``, resumable by ``cursor``.

    A row that changes while pages of ascending ``updated`` are read comes again, at its new place; none is
    passed over.
    """

    filter: StudyFilter
    limit: int = 50
    cursor: str = ""
    order: Literal["started", "updated"] = "started"
    ascending: bool = False  # studies without a date come last all the same (D22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """Persons, for demographics searches and reads."""

    patient: PatientSelector
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryQuestion:
    """Members, their endpoints and their coverage; no patient."""


Question = ByPatient | ByObject | ByPopulation | Patients | DirectoryQuestion


def is_export(question: Question) -> bool:
    """Whether it names nobody, or very many: the one definition (ADR 0037).

    A person by number or by name with date of birth, a study, a document or an accession number is somebody.
    """
    match question:
        case ByPopulation(filter=narrowed):
            named = {number.value for number in narrowed.accessions}
            return not (narrowed.study_uids or named) or len(named) > MANY_NUMBERS
        case ByObject(accessions=accessions):
            return len({number.value for number in accessions}) > MANY_NUMBERS
        case ByPatient(patient=patient) | Patients(patient=patient):
            return len({number.value for number in patient.identifiers}) > MANY_NUMBERS
        case _:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a face renders: rows that policy allows, whose they are, disputes, and how complete it is.

    ``disputed`` is what may be said of disputes. ``gone`` names objects that were here (FHIR 410).
    ``cursor`` is '' on the last page. ``unread`` counts imaging documents that the index holds for these
    patients and whose study it does not know: with any, absence is not proven. ``naming`` is whom the
    question named, as far as it was understood; what an empty answer then says is in
    ``registry.ask.absence``.
    """

    holdings: tuple[Holding, ...]
    persons: tuple[Person, ...]
    objects: tuple[XdsObject, ...]
    disputed: tuple[DisputedNotice, ...]
    coverage: Coverage
    correlation: str
    incarnation: str
    cursor: str = ""
    gone: tuple[str, ...] = ()
    unread: int = 0
    naming: Naming = Naming()
    # of a person's holdings, or studies, on all pages; None: this is no page of them
    total: int | None = None
    # one thing for all answers that found the very same (coverage apart): what a face makes of that alone it
    # may keep by it
    same: object | None = field(default=None, repr=False, compare=False)
    _whose: dict[RecordKey, Person] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Where two have a record, the first has it.
        whose = {record.key: person for person in reversed(self.persons) for record in person.records}
        object.__setattr__(self, "_whose", whose)

    @property
    def size(self) -> int:
        """How many records a face makes something of: entries, past ones too, and stored objects."""
        return len(self.objects) + sum(1 + len(h.siblings) + len(h.past) for h in self.holdings)

    @property
    def held(self) -> bool:
        """Whether somebody is found of whom something is beyond doubt.

        Then a record that claims their number is another's.
        """
        records = (record for person in self.persons for record in person.records)
        return any(not record.disputed and not record.in_doubt for record in records)

    def person_of(self, holding: Holding) -> Person | None:
        """The person whose record the holding is under."""
        return self._whose.get(holding.whose)
