"""Reading patient records and persons from their tables. No rule here, no writing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from crosslight.runtime.db import Row, Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import search_key
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, patient_from_json
from registry.identity.model import PatientRecord, Person, PersonKey, RecordKey
from registry.identity.statements import CLAIMS, HELD, OF_PERSONS, SHOWN_AND_HELD, records_where

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 500  # values in one IN list
EMPTY = 2  # in_doubt of a part of which no study is here any more: nobody's, and nothing waits for a decision


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The inverse of :func:`to_micros`."""
    return _EPOCH + timedelta(microseconds=value)


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of ``patient_record`` with what it claims."""

    record: PatientRecord
    fhir_id: str
    minted: str
    traced: bool
    newest_study: int | None
    created: int
    updated: int
    digest: str
    part: int = 0
    headers: int = 1
    parts: int = 0
    fed: bool = False
    former: str = ""
    in_doubt: int = 0  # as in the table: 0, 1 or EMPTY

    @property
    def seniority(self) -> tuple[bool, int, int]:
        """Order of birth: a person's anchor is its most senior record.

        None in doubt where there is another.
        """
        return (self.record.in_doubt, self.created, self.record.key)


def chunks(values: Collection[Any]) -> Iterator[Sequence[Any]]:
    """Sorted slices short enough for an IN list."""
    ordered = sorted(values)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]


def marks(values: Sequence[Any]) -> str:
    """``?,?,?`` for an IN list."""
    return ",".join("?" * len(values))


def load(
    tx: Tx, where: str, params: Sequence[Any], *, limit: int = 100_000, lock: bool = False
) -> list[Stored]:
    """Records by a condition of ours, with their claims.

    ``lock`` keeps them as they are (SQLite has one writer anyway).
    """
    rows = _rows(tx, where, params, limit=limit, lock=lock)
    claims: dict[int, list[Identifier]] = {}
    for keys in chunks([row[0] for row in rows]):
        for key, authority, value, _ in tx.rows(CLAIMS.format(marks(keys)), keys):
            claims.setdefault(key, []).append(Identifier(value, authority))
    return [_stored(row, claims.get(row[0], ())) for row in rows]


def _rows(
    tx: Tx, where: str, params: Sequence[Any], *, limit: int = 100_000, lock: bool = False
) -> list[Row]:
    suffix = tx.dialect.for_update if lock else ""
    return tx.rows(records_where(where, limit) + suffix, params)


def load_by(tx: Tx, column: str, values: Collection[Any], *, lock: bool = False) -> list[Stored]:
    """Records whose ``column`` (a name of ours) is one of ``values``."""
    records: list[Stored] = []
    for chunk in chunks(values):
        records += load(tx, f"{column} IN ({marks(chunk)})", chunk, lock=lock)
    return records


def _stored(row: Row, claims: Collection[Identifier]) -> Stored:
    (
        key,
        person,
        member,
        fhir_id,
        minted,
        traced,
        disputed,
        subsumed,
        newest,
        created,
        updated,
        digest,
        body,
        part,
        part_of,
        in_doubt,
        headers,
        parts,
        fed,
        former,
    ) = row
    record = PatientRecord(
        key=RecordKey(key),
        patient=patient_from_json(orjson.loads(body)),
        member=MemberId(member) if member is not None else None,
        person=PersonKey(person),
        national=tuple(sorted(claims)),
        disputed=bool(disputed),
        subsumed_by=RecordKey(subsumed) if subsumed is not None else None,
        active=subsumed is None and in_doubt != EMPTY,
        updated=from_micros(updated),
        part_of=RecordKey(part_of) if part_of is not None else None,
        in_doubt=bool(in_doubt),
        parts=int(parts),
    )
    return Stored(
        record,
        fhir_id,
        minted,
        bool(traced),
        newest,
        created,
        updated,
        digest,
        part,
        headers,
        parts,
        bool(fed),
        former,
        int(in_doubt),
    )


def persons(tx: Tx, region: Region, keys: Collection[int]) -> dict[int, Person]:
    """Persons by key, each with all its records."""
    members: dict[int, list[Stored]] = {}
    numbers_held: dict[int, list[Identifier]] = {}
    for chunk in chunks(keys):
        rows = tx.rows(OF_PERSONS.format(marks(chunk)), chunk)
        claims: dict[int, list[Identifier]] = {}
        records = [row[0] for row in rows]
        sql = SHOWN_AND_HELD.format(marks(records), marks(chunk)) if records else HELD.format(marks(chunk))
        for key, authority, value, holds in tx.rows(sql, (*records, *chunk)):
            (numbers_held if holds else claims).setdefault(key, []).append(Identifier(value, authority))
        for row in rows:
            members.setdefault(row[1], []).append(_stored(row, claims.get(row[0], ())))
    return {key: _person(region, key, stored, numbers_held.get(key, ())) for key, stored in members.items()}


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a record is: all that a submission asks of it."""

    key: RecordKey
    local: Identifier
    member: MemberId | None
    active: bool


def places(tx: Tx, persons: Collection[int]) -> dict[int, list[RecordPlace]]:
    """The records of persons, in the order of :func:`persons`."""
    ordered_places: dict[int, list[tuple[Any, RecordPlace]]] = {}
    columns = "person_key, record_key, authority, local_id, member, subsumed_by, newest_study, updated"
    for chunk in chunks(persons):
        for row in tx.rows(
            f"SELECT {columns} FROM patient_record WHERE part = 0 AND person_key IN ({marks(chunk)})", chunk
        ):
            person, key, authority, local, member, subsumed, newest, updated = row
            order = (subsumed is not None, newest is None, -(newest or 0), -updated, key)
            member = MemberId(member) if member is not None else None
            place = RecordPlace(RecordKey(key), Identifier(local, authority), member, subsumed is None)
            ordered_places.setdefault(person, []).append((order, place))
    return {
        person: [place for _, place in sorted(records, key=lambda r: r[0])]
        for person, records in ordered_places.items()
    }


def _person(region: Region, key: int, members: list[Stored], numbers_held: Collection[Identifier]) -> Person:
    anchor = next((s for s in members if s.record.key == key), members[0])
    # an empty part is nobody's any more
    members = [s for s in members if s.record.part_of is None or s.record.active]

    def order(s: Stored) -> tuple[bool, bool, bool, int, int, int]:
        newest = s.newest_study
        return (
            s.record.in_doubt,
            not s.record.active,
            newest is None,
            -(newest or 0),
            -s.updated,
            s.record.key,
        )

    members.sort(key=order)
    return Person(
        key=PersonKey(key),
        fhir_id=anchor.fhir_id,
        domain_id=domain_id(region, anchor, numbers_held),
        records=tuple(s.record for s in members),
        differs=_differ([s.record.patient for s in members if s.record.active and not s.record.in_doubt]),
    )


def domain_id(region: Region, anchor: Stored, numbers_held: Collection[Identifier]) -> Identifier:
    """The person's current affinity-domain id (D4).

    The first national number it holds, else the one minted for its anchor.
    """
    order: dict[str, int] = {authority: i for i, authority in enumerate(region.nationals)}
    national = sorted(
        (n for n in numbers_held if n.authority in order), key=lambda n: (order[n.authority], n.value)
    )
    return national[0] if national else Identifier(anchor.minted, region.authority)


def _differ(patients: Collection[Patient]) -> bool:
    """Whether any two say something different of what a banner shows; silence is no difference."""
    shown = (
        {search_key(p.name.family) for p in patients},
        {search_key(p.name.given) for p in patients},
        {p.birth_date for p in patients},
        {p.sex for p in patients},
    )
    return any(len(values - {""}) > 1 for values in shown)
