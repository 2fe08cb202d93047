"""Persons: whom a question names, whom of them the caller may see, and whose each study is (D2, D3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from crosslight.runtime.db import Tx
from crosslight.standards.problem import Invalid
from crosslight.standards.records import changed
from crosslight.standards.region import Region
from crosslight.standards.study import Patient
from registry.ask.absence import naming
from registry.ask.policy import Policy, doubtful_members
from registry.ask.results import QuestionResult, audited
from registry.identity.model import PatientRecord, PatientSelector, Person, RecordKey
from registry.identity.store import IdentityStore
from registry.index.model import Holding, XdsObject
from registry.index.rows import Loaded
from registry.members.model import KnownMembers

MAX_PERSONS = 200  # of one question
MAX_NAMES = 2000  # ids in one question


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose studies are: the parts of records that headers lead to, and the person of each record or part."""

    parts: Mapping[tuple[RecordKey, Patient], RecordKey]
    persons: Mapping[RecordKey, Person]

    @property
    def records(self) -> dict[RecordKey, PatientRecord]:
        """The records and parts of all of these persons."""
        return {record.key: record for person in self.persons.values() for record in person.records}

    def owned(self, holding: Holding) -> Holding:
        """The holding with the part of the record that it is of, where it is not the record's own."""
        if not self.parts:
            return holding
        part = self.parts.get((holding.record_key, holding.publication.record.patient))
        return holding if part is None else changed(holding, part=part)

    def own(self, rows: Iterable[Loaded]) -> list[Loaded]:
        """As :meth:`owned`, of rows."""
        if not self.parts:
            return list(rows)
        return [Loaded(loaded.row, self.owned(loaded.holding)) for loaded in rows]

    def person(self, holding: Holding) -> Person:
        """The person whose study it is."""
        return self.persons[self.owned(holding).whose]


class Persons:
    """The persons of one question, as its caller may see them.

    Args:
        tx: A reading transaction.
        identity: The store of persons in it.
        directory: Members.
        region: Whose numbers count.
        policy: What the caller may see.
    """

    def __init__(
        self, tx: Tx, identity: IdentityStore, directory: KnownMembers, region: Region, policy: Policy
    ) -> None:
        self._tx = tx
        self._identity = identity
        self._directory = directory
        self._region = region
        self._policy = policy

    def select(self, selector: PatientSelector, limit: int) -> tuple[list[Person], QuestionResult]:
        """The persons that this caller may see of those named, and what may be said of disputes.

        Raises:
            Invalid: a selector that names nobody, or too many identifiers.
        """
        by_name = selector.birth_date and (selector.family or selector.names)
        if not selector.identifiers and not selector.fhir_id and not by_name:
            raise Invalid(
                "Nobody is named.",
                todo="Give an identifier, or family name and date of birth.",
                where="patient",
            )
        if len(selector.identifiers) > MAX_NAMES:
            raise Invalid("Too many identifiers at once.", where="patient")
        persons = self._identity.select_tx(
            self._tx,
            selector,
            limit,
            disputed=True,
            merged=self._policy.follows_merges,
            apart=self._policy.tells_apart,
        )
        whom = naming(selector, persons, self._region, self._directory, self._used)
        allowed = self._policy.shown(person for person in persons if self._policy.sees(person, selector))
        shown = {record.key for person in allowed for record in person.records}
        records = [record for person in persons for record in person.records]
        claiming, doubted = self._claiming(selector, records), self._doubted_parts(records)
        outside = {
            record.key: record for record in (*claiming, *doubted, *records) if record.key not in shown
        }
        # one person was chosen: nobody stands beside
        beside = [] if selector.fhir_id else self._own_disputed(outside.values())
        notices = self._policy.notices(
            outside.values(),
            under={record.key for record in doubted} - {record.key for record in (*claiming, *records)},
            beside={record.key for person in beside for record in person.records},
        )
        result = QuestionResult(
            disputed=notices,
            doubts=doubtful_members(allowed, notices),
            patients=audited(selector.identifiers, (*allowed, *beside)),
            naming=whom,
            opens=self._policy.opens(allowed, selector),
        )
        return [*allowed, *beside], result

    def _used(self, authority: str) -> bool:
        """Whether any patient record is, or number was, under this authority."""
        return self._identity.used_tx(self._tx, authority)

    def _claiming(self, selector: PatientSelector, records: Iterable[PatientRecord]) -> list[PatientRecord]:
        """Disputed records that claim a number asked for, or a national number of those found."""
        numbers = {*selector.identifiers, *(number for record in records for number in record.national)}
        return self._identity.disputed_for_tx(self._tx, numbers) if numbers else []

    def _doubted_parts(self, records: Iterable[PatientRecord]) -> list[PatientRecord]:
        """Parts in doubt of records that were found under their local number."""
        divided = [record.key for record in records if record.parts]
        return self._identity.doubts_of_tx(self._tx, divided, MAX_PERSONS) if divided else []

    def _own_disputed(self, records: Iterable[PatientRecord]) -> list[Person]:
        """Persons of disputed records that this caller sees beside the one asked for.

        No more than people can look through.
        """
        keys = sorted(record.key for record in self._policy.beside(records))[:MAX_PERSONS]
        return self._shown_of(keys)

    def of_objects(self, objects: Iterable[XdsObject]) -> tuple[list[XdsObject], list[Person]]:
        """Those of these stored objects that the caller may see, and whose they are."""
        objects = list(objects)
        keys = {o.record_key for o in objects if o.record_key is not None}
        persons = self._identity.persons_for_tx(self._tx, keys) if keys else {}
        records = {record.key: record for person in persons.values() for record in person.records}
        shown = self._policy.objects(objects, records)
        kept = {o.record_key for o in shown}
        whose = {person.key: person for key, person in persons.items() if key in kept}
        return shown, self._policy.shown(whose.values())

    def _shown_of(self, keys: Collection[RecordKey]) -> list[Person]:
        persons = self._identity.persons_for_tx(self._tx, keys) if keys else {}
        return self._policy.shown({person.key: person for person in persons.values()}.values())

    def owners(self, holdings: Iterable[Holding], persons: Iterable[Person] = ()) -> Owners:
        """Whose the studies are: a record's own, or of a part of it that their header leads to.

        Args:
            holdings: Of the studies.
            persons: Those that are known already, and need not be read.
        """
        holdings = list(holdings)
        known = {record.key: person for person in persons for record in person.records}
        missing = {holding.record_key for holding in holdings} - known.keys()
        known |= self._identity.persons_for_tx(self._tx, missing) if missing else {}
        records = {record.key: record for person in known.values() for record in person.records}
        divided = {key for key, record in records.items() if record.parts}
        divided |= {record.part_of for record in records.values() if record.part_of is not None}
        headers = {
            (holding.record_key, holding.publication.record.patient)
            for holding in holdings
            if holding.record_key in divided
        }
        parts = self._identity.whose_tx(self._tx, headers) if headers else {}
        missing = set(parts.values()) - known.keys()
        known |= self._identity.persons_for_tx(self._tx, missing) if missing else {}
        return Owners(parts, known)
