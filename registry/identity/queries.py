"""Finding in the tables of identity: by any id (D4), by name and date of birth, by record.

And who is disputed (D3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from crosslight.runtime.db import Tx
from crosslight.runtime.db.foretold import Foretelling
from crosslight.standards.dicom.record.record import outside_range, unidentified_range
from crosslight.standards.ids import Identifier
from crosslight.standards.names import given_matches, search_key
from crosslight.standards.national import national_number
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from crosslight.standards.study import Patient
from registry.identity import rows
from registry.identity.config import IdentityRules
from registry.identity.header import PatientHeader, header_of
from registry.identity.model import PatientRecord, PatientSelector, Person, PersonKey, RecordKey
from registry.identity.numbers import canonical, canonicals, holders
from registry.identity.rows import RecordPlace
from registry.identity.statements import (
    BY_FHIR_ID,
    HOLDER,
    NATIONAL,
    OTHERS,
    OTHERS_OF,
    OUTSIDE,
    OWN,
    foretell,
)

MAX_BORN = 2_000  # records of one date of birth whose names one search looks through
MOST_FORETOLD = 2  # numbers of one selector


@dataclass(frozen=True, slots=True, kw_only=True)
class CxTarget:
    """What a CX leads to (D4). ``record`` is set where the id is one authority's own number for the patient.

    ``subsumed``: merged away by A40: ITI-18 answers empty, ITI-42 refuses; ``person`` is then the survivor's.
    """

    person: Person
    record: PatientRecord | None = None
    subsumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an id leads: a person.

    And the record whose own id it is, by its key or as the number that it is fed under.
    """

    person: int
    record: int | None = None
    number: Identifier | None = None
    subsumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """What a CX leads to, as :class:`CxTarget`, without names; ``records`` in the order of a person's."""

    person: PersonKey
    record: RecordKey | None
    subsumed: bool
    records: tuple[RecordPlace, ...]


class IdentityReads:
    """The reading half of :class:`~registry.identity.store.IdentityStore`."""

    def __init__(self, region: Region, rules: IdentityRules | None = None) -> None:
        self._region, self.rules = region, rules or IdentityRules()

    def header(self, patient: Patient, numbers: Collection[Identifier] | None = None) -> PatientHeader:
        """``patient`` as it is compared; ``numbers`` where they are known already."""
        return header_of(
            patient,
            self.claims(patient, frozenset()) if numbers is None else numbers,
            self.rules.placeholders,
        )

    def claims(self, patient: Patient, old: frozenset[Identifier]) -> frozenset[Identifier]:
        """The national numbers that a record claims after ``patient`` was said of it.

        ``old``: those that it claimed before.
        """
        named = [patient.local, *patient.others]
        withdrawn = {i.authority for i in named if not i.value}
        new = {number for i in named if i.value and (number := self._national(i)) is not None}
        told = withdrawn | {n.authority for n in new}
        return frozenset(new | {n for n in old if n.authority not in told})

    def _national(self, identifier: Identifier) -> Identifier | None:
        """The normal form of a valid number under one of the region's national authorities, else None."""
        if identifier.authority not in self._region.nationals:
            return None
        number = national_number(
            identifier.authority, identifier.value, allow_test=self._region.allow_test_numbers
        )
        return Identifier(number, identifier.authority) if number else None

    def normal(self, identifier: Identifier) -> Identifier:
        """An id as it is kept."""
        return self._national(identifier) or Identifier(identifier.value.strip(), identifier.authority)

    def find_cx_tx(self, tx: Tx, cx: Identifier) -> CxTarget | None:
        """Resolve a national, local, minted or formerly current id (D4).

        None when unknown, or disputed and held by nobody.
        """
        if not cx.authority:
            return None
        place = self._place(tx, cx)
        if place is None:
            return None
        return self._target(self._person(tx, place.person), place)

    def addressed_tx(self, tx: Tx, cxs: Collection[Identifier]) -> dict[Identifier, Addressed | None]:
        """As :meth:`find_cx_tx`, of many in few statements, by keys alone."""
        normal = {cx: self.normal(cx) for cx in cxs if cx.authority}
        merged_into = canonicals(tx, set(normal.values()))
        holder_of = holders(tx, set(merged_into.values()))
        places: dict[Identifier, _Place | None] = {}
        for cx, normal_cx in normal.items():
            number = merged_into[normal_cx]
            if number not in holder_of:
                places[cx] = self._place(tx, cx)
            elif (person := holder_of[number]) is not None:
                places[cx] = _Place(person=person, number=number, subsumed=number != normal_cx)
        records = rows.places(tx, {place.person for place in places.values() if place is not None})
        return {
            cx: _addressed(place, records[place.person]) if (place := places.get(cx)) else None for cx in cxs
        }

    @staticmethod
    def _target(person: Person, place: _Place) -> CxTarget:
        matching = (
            r
            for r in person.records
            if r.key == place.record or (r.active and r.patient.local == place.number)
        )
        return CxTarget(person=person, record=next(matching, None), subsumed=place.subsumed)

    def _place(self, tx: Tx, cx: Identifier) -> _Place | None:
        """Where an id with an authority leads, by keys alone."""
        cx = self.normal(cx)
        known, holder, merged_away = tx.row(NATIONAL, (cx.authority, cx.value)) or (False, None, False)
        into = canonical(tx, cx) if merged_away else cx
        merged = into != cx
        if merged:
            cx = into
            known, holder, _ = tx.row(NATIONAL, (cx.authority, cx.value)) or (False, None, False)
        if known:
            return _Place(person=holder, number=cx, subsumed=merged) if holder is not None else None
        row = tx.row(OWN, (cx.authority, cx.value))
        if row is not None:
            person, record, subsumed_by = row
            return _Place(person=person, record=record, subsumed=merged or subsumed_by is not None)
        if cx.authority == self._region.authority:
            row = tx.row("SELECT person_key FROM patient_record WHERE minted = ?", (cx.value,))
        else:
            row = tx.row(
                "SELECT p.person_key FROM former_id f JOIN patient_record p ON p.record_key = f.record_key "
                "WHERE f.authority = ? AND f.value = ? ORDER BY f.until DESC LIMIT 1",
                (cx.authority, cx.value),
            )
        return _Place(person=row[0], subsumed=merged) if row is not None else None

    def _person(self, tx: Tx, key: int) -> Person:
        return rows.persons(tx, self._region, [key])[key]

    def record_tx(self, tx: Tx, key: RecordKey) -> PatientRecord | None:
        """One record."""
        stored = rows.load_by(tx, "record_key", [key])
        return stored[0].record if stored else None

    def persons_for_tx(self, tx: Tx, record_keys: Iterable[RecordKey]) -> dict[RecordKey, Person]:
        """The person of each record; unknown keys are left out."""
        home = self.person_keys_tx(tx, record_keys)
        persons = rows.persons(tx, self._region, set(home.values()))
        return {record: persons[person] for record, person in home.items()}

    def person_keys_tx(self, tx: Tx, record_keys: Iterable[RecordKey]) -> dict[RecordKey, PersonKey]:
        """As :meth:`persons_for_tx`, their keys alone."""
        home: dict[RecordKey, PersonKey] = {}
        for chunk in rows.chunks(set(record_keys)):
            where = f"record_key IN ({rows.marks(chunk)})"
            sql = f"SELECT record_key, person_key FROM patient_record WHERE {where}"
            home |= {RecordKey(record): PersonKey(person) for record, person in tx.rows(sql, chunk)}
        return home

    def select_tx(
        self,
        tx: Tx,
        selector: PatientSelector,
        limit: int,
        *,
        disputed: bool = False,
        merged: bool = False,
        apart: bool = False,
    ) -> list[Person]:
        """The persons that ``selector`` names, at most ``limit``.

        An identifier without authority is tried as a number of each national authority, and only where nobody
        claims it, as a local or minted id of any issuer. A name is searched with a date of birth only;
        records with exactly the name as written come first; disputed records are found so only with
        ``disputed`` (D3), by their own local number always. An id that A40 merged away finds the survivor
        only with ``merged`` (ITI-18 must answer empty: D4). A local number that was given to two people finds
        the other one too only with ``apart``, where persons are told apart (ADR 0016).
        """
        keys: list[int] = []
        for identifier in selector.identifiers:
            keys += self._by_identifier(tx, identifier, limit, merged)
            keys += self._others_of(tx, identifier, limit) if apart else []
        if selector.fhir_id:
            keys += [key for (key,) in tx.rows(BY_FHIR_ID, (selector.fhir_id,))]
        if selector.birth_date and (selector.family or selector.names):
            keys += self._by_name(tx, selector, limit, disputed)
        ordered = list(dict.fromkeys(keys))[:limit]
        persons = rows.persons(tx, self._region, ordered)
        return [persons[key] for key in ordered]

    def foretell(self, said: Foretelling, selector: PatientSelector, limit: int, *, apart: bool) -> bool:
        """Say what :meth:`select_tx` and :meth:`disputed_for_tx` will ask; whether that can be said.

        That is where somebody is named by national numbers alone.
        """
        numbers = selector.identifiers
        if not 0 < len(numbers) <= MOST_FORETOLD or selector.fhir_id or selector.birth_date:
            return False
        asked = [(number, self._nationals(number)) for number in numbers]
        if not all(national for _, national in asked):
            return False
        foretell(said, asked, limit, apart=apart)
        return True

    def _nationals(self, identifier: Identifier) -> list[Identifier]:
        """The national numbers that an identifier may be."""
        if identifier.authority:
            number = self._national(identifier)
            return [number] if number is not None else []
        authorities = () if identifier.namespace else self._region.nationals
        return [n for a in authorities if (n := self._national(Identifier(identifier.value, a)))]

    def _by_identifier(self, tx: Tx, identifier: Identifier, limit: int, merged: bool) -> list[int]:
        if identifier.authority:
            place = self._place(tx, identifier)
            if place is None:
                return self._outside(tx, identifier, limit)
            return [place.person] if merged or not place.subsumed else []
        numbers = self._nationals(identifier)
        if merged:
            numbers = [canonical(tx, number) for number in numbers]
        holders = [key for number in numbers for (key,) in tx.rows(HOLDER, (number.authority, number.value))]
        if holders:  # somebody claims it: as a local number it would be another person's
            return [key for key in holders if key is not None]
        alive = "" if merged else " AND subsumed_by IS NULL"
        value = identifier.value.strip()
        if identifier.namespace:  # an issuer that is known by its name alone
            stored = rows.load(tx, f"local_id = ? AND part = 0{alive}", (value,), limit=limit)
            stored = [
                s
                for s in stored
                if s.record.patient.local.namespace.casefold() == identifier.namespace.casefold()
            ]
            return [s.record.person for s in stored] + self._outside(tx, identifier, limit)
        sql = f"SELECT person_key FROM patient_record WHERE {{}} = ?{alive} ORDER BY record_key LIMIT ?"
        own = [
            key
            for column in ("part = 0 AND local_id", "minted")
            for (key,) in tx.rows(sql.format(column), (value, limit))
        ]
        return own + self._outside(tx, identifier, limit)

    def _others_of(self, tx: Tx, identifier: Identifier, limit: int) -> list[int]:
        """Persons who were decided to be another than the record whose local number they share."""
        issuer = [identifier.authority] if identifier.authority else []
        return [
            row[0]
            for row in tx.rows(OTHERS_OF if issuer else OTHERS, (*issuer, identifier.value.strip(), limit))
        ]

    def _outside(self, tx: Tx, identifier: Identifier, limit: int) -> list[int]:
        """Persons with an outside study that came with this number (ADR 0023).

        Another organisation's number; or this text where an id should be: several values, which are none.
        """
        ranges = [outside_range(identifier)]
        if not identifier.authority and not identifier.namespace and "\\" in identifier.value:
            ranges.append(unidentified_range(identifier.value))
        within = "local_id BETWEEN ? AND ? AND part = 0 AND subsumed_by IS NULL"
        records = [s for bounds in ranges for s in rows.load(tx, within, bounds, limit=limit)]
        return [s.record.person for s in records]

    def used_tx(self, tx: Tx, authority: str) -> bool:
        """Whether any record is, or any number was, under ``authority``."""
        sql = "SELECT 1 FROM {} WHERE authority = ? LIMIT 1"
        tables = ("patient_record", "national_claim", "former_id", "subsumed_id")
        return any(tx.row(sql.format(table), (authority,)) is not None for table in tables)

    def _by_name(self, tx: Tx, selector: PatientSelector, limit: int, disputed: bool) -> list[int]:
        where = f"birth_date = ? AND subsumed_by IS NULL AND in_doubt <> {rows.EMPTY}" + (
            "" if disputed else " AND disputed = 0"
        )
        if selector.family:
            wanted, records = search_key(selector.family), list[rows.Stored]()
            for column in ("family_key", "family_alt") if wanted else ():
                within = f"{where} AND {column} = ? AND {column} <> ''"
                records += rows.load(tx, within, (selector.birth_date, wanted), limit=20 * limit)
        else:
            records = rows.load(tx, where, (selector.birth_date,), limit=MAX_BORN + 1)
            if len(records) > MAX_BORN:
                raise Invalid(
                    "Too many people have this date of birth to look through their names.",
                    why="It stands for an unknown date, perhaps.",
                    todo="Give the whole family name, or a number.",
                    where="birthdate",
                    fhir_code="too-costly",
                )
        records = [s for s in records if given_matches(s.record.patient.name, selector.given)]
        records = [s for s in records if all(test.holds(s.record.patient.name) for test in selector.names)]
        records.sort(
            key=lambda s: (
                s.record.patient.name.family.casefold() != selector.family.strip().casefold(),
                -s.updated,
                s.record.key,
            )
        )
        return [s.record.person for s in records]

    def disputed_for_tx(self, tx: Tx, identifiers: Iterable[Identifier]) -> list[PatientRecord]:
        """Records that claim one of these numbers and do not hold it (D3).

        And parts in doubt that claim it.
        """
        numbers = {
            number
            for identifier in identifiers
            for authority in (
                [identifier.authority]
                if identifier.authority or identifier.namespace
                else self._region.nationals
            )
            if (number := self._national(replace(identifier, authority=authority))) is not None
        }
        keys: set[int] = set()
        for number in set(canonicals(tx, numbers).values()) if numbers else ():
            keys |= {key for (key,) in tx.rows(OUTSIDE, (number.authority, number.value) * 2)}
        return [s.record for s in rows.load_by(tx, "record_key", keys)]

    def doubts_of_tx(self, tx: Tx, records: Collection[RecordKey], limit: int) -> list[PatientRecord]:
        """The parts of these records that are in doubt, at most ``limit`` of each few hundred records."""
        parts = list[rows.Stored]()
        for chunk in rows.chunks(records):
            where = f"part_of IN ({rows.marks(chunk)}) AND in_doubt = 1 AND subsumed_by IS NULL"
            parts += rows.load(tx, where, chunk, limit=limit)
        return [s.record for s in parts]

    def whose_tx(
        self, tx: Tx, headers: Collection[tuple[RecordKey, Patient]]
    ) -> dict[tuple[RecordKey, Patient], RecordKey]:
        """The part that a study with this header, under this record, is of.

        Those that are the record's own are left out.
        """
        parts: dict[int, dict[int, int]] = {}
        for chunk in rows.chunks({key for key, _ in headers}):
            sql = (
                "SELECT record_key, header_key, part_key FROM record_header WHERE record_key IN"
                f" ({rows.marks(chunk)})"
            )
            for record, header, part in tx.rows(sql, chunk):
                if part != record:
                    parts.setdefault(record, {})[header] = part
        part_of: dict[tuple[RecordKey, Patient], RecordKey] = {}
        for key, patient in headers:
            parts_of_record = parts.get(key)
            part = parts_of_record.get(self.header(patient).key) if parts_of_record else None
            if part is not None:
                part_of[key, patient] = RecordKey(part)
        return part_of


def _addressed(place: _Place, records: Sequence[RecordPlace]) -> Addressed:
    matching = (r.key for r in records if r.key == place.record or (r.active and r.local == place.number))
    return Addressed(
        person=PersonKey(place.person),
        record=next(matching, None),
        subsumed=place.subsumed,
        records=tuple(records),
    )
