"""Making cases of the tables: what waits, both sides of each, and what was decided.

In a caller's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Conflict, NotFound
from registry.identity import merge_requests, rows
from registry.identity import officer_queue as queue
from registry.identity.cases import (
    Case,
    Kind,
    MergeRequest,
    Queue,
    RecordDecision,
    Relation,
    Side,
    StudyLine,
    Waiting,
    handle_of,
    keys_of,
)
from registry.identity.model import PatientRecord, RecordKey
from registry.identity.numbers import canonicals, claimants, holders
from registry.identity.rows import Stored
from registry.identity.store import IdentityStore
from registry.index.model import Holding
from registry.index.store import IndexStore
from registry.members.model import Directory

MAX_WAITING = 500  # lines of the queue
MAX_DECISIONS = 200  # lines beside it
MAX_OTHERS = 12  # records beside the one in question
MAX_STUDIES = 60  # of one record
_ORDER: tuple[Relation, ...] = (
    "a source says that they are one person",
    "the record that it came under", "holds the number", "in doubt under its number", "claims the number too",
    "is one person with it",
)  # fmt: skip
_BEGINS = re.compile(r"[0-9a-f-]{8,36}")
SEE_QUEUE = "Look at the queue again."


class CaseBook:
    """Reads cases.

    Args:
        identity, index: The stores.
        directory: Members, for their names.
    """

    def __init__(self, identity: IdentityStore, index: IndexStore, directory: Directory) -> None:
        self._identity, self._index, self._directory = identity, index, directory

    def queue(self, tx: Tx) -> Queue:
        """What waits, and what was decided lately."""
        waiting = queue.waiting(tx)
        since = queue.since(tx, waiting)
        waiting.sort(key=lambda stored: (since[stored.record.key], stored.record.key))
        shown = waiting[:MAX_WAITING]
        merged_into = canonicals(tx, {n for stored in shown for n in stored.record.national})
        holder_of = holders(tx, set(merged_into.values()))
        persons = {person for person in holder_of.values() if person is not None}
        codes_of: dict[int, set[str]] = {}
        for stored in rows.load_by(tx, "person_key", persons):
            if stored.record.active and not stored.record.in_doubt:
                codes_of.setdefault(stored.record.person, set()).add(self._member(stored.record)[0])
        lines = []
        for stored in shown:
            record, code = stored.record, self._member(stored.record)
            other_holders = {
                person
                for n in record.national
                if (person := holder_of.get(merged_into[n])) is not None and person != record.person
            }
            others = (
                {code[0]}
                if record.in_doubt
                else set[str]().union(*(codes_of.get(person, set()) for person in other_holders))
            )
            line = Waiting(
                handle=handle_of(record.key),
                kind=_kind(record, bool(other_holders)),
                member=code[0],
                member_name=code[1],
                others=tuple(sorted(others)),
                since=since[record.key],
            )
            lines.append(line)
        requested = self._requested(tx)
        both = sorted((*lines, *requested), key=lambda line: line.since)[:MAX_WAITING]
        return Queue(
            waiting=tuple(both),
            total=len(waiting) + len(requested),
            decisions=tuple(queue.decisions(tx, MAX_DECISIONS)),
        )

    def _requested(self, tx: Tx) -> list[Waiting]:
        """Merges of numbers that sources asked for: each the case of a record that holds the one to go."""
        lines = []
        for request in merge_requests.waiting(tx):
            pair = [self._identity.find_cx_tx(tx, number) for number in (request.gone, request.survivor)]
            gone, survivor = (target.person if target is not None else None for target in pair)
            if gone is None or survivor is None:
                continue  # nobody holds it any more
            record = min(gone.records, key=lambda r: r.key)
            code, name = self._member(record)
            line = Waiting(
                handle=handle_of(record.key),
                kind="said to be one person with another",
                member=code,
                member_name=name,
                others=tuple(sorted({self._member(r)[0] for r in survivor.records})),
                since=request.since,
            )
            lines.append(line)
        return lines

    def resolved(self, tx: Tx, named: str) -> RecordKey:
        """The record of a handle, or of ``AUTHORITY|NUMBER``."""
        authority, bar, value = named.strip().partition("|")
        if bar:
            target = self._identity.find_cx_tx(tx, Identifier(value.strip(), authority.strip()))
            if target is None:
                raise NotFound("No record is known by that number, or nobody holds it.", todo=SEE_QUEUE)
            return target.record.key if target.record is not None else target.person.records[0].key
        matching = rows.load(tx, "record_key BETWEEN ? AND ?", keys_of(named), limit=3)
        if not matching:
            raise NotFound("No record has that handle.", todo=SEE_QUEUE)
        if len(matching) > 1:
            whole = " or ".join(handle_of(stored.record.key, whole=True) for stored in matching)
            raise Conflict("Several records have that handle.", todo=f"Give all of it: {whole}.")
        return matching[0].record.key

    def case(self, tx: Tx, key: RecordKey) -> Case:
        """A record and those that it has to be compared with."""
        stored = next(iter(rows.load(tx, "record_key = ?", (key,))), None)
        if stored is None:
            raise NotFound("That record is not here any more.", todo=SEE_QUEUE)
        record = stored.record
        numbers = set(canonicals(tx, record.national).values())
        number_holders = {person for person in holders(tx, numbers).values() if person is not None}
        asked = self._asked(tx, record)
        nearby = self._near(tx, record, numbers, number_holders | asked.persons)
        related = [
            (relation, stored_other)
            for stored_other in nearby
            if (relation := _relation(record, stored_other.record, number_holders, asked.persons))
        ]
        related.sort(key=lambda pair: (_ORDER.index(pair[0]), pair[1].seniority))
        shown = related[:MAX_OTHERS]
        studies = self._studies(tx, [record, *(stored_other.record for _, stored_other in shown)])
        decisions = queue.decisions_on(tx, [key])
        waits = record.in_doubt or (
            record.disputed
            and not any(d.kind == "apart" and d.in_force and d.record == key for d in decisions)
        )
        merge = asked.request if not waits else None
        return Case(
            kind=_kind(record, bool(number_holders - {record.person})) if waits else asked.kind,
            since=queue.since(tx, [stored])[key] if waits else merge.since if merge is not None else None,
            subject=self._side("itself", stored, number_holders, studies),
            others=tuple(
                self._side(relation, stored_other, number_holders | asked.persons, studies)
                for relation, stored_other in shown
            ),
            more=len(related) - len(shown),
            decisions=tuple(decisions),
            moves=tuple(self._identity.history_tx(tx, key)),
            merge=merge,
        )

    def _asked(self, tx: Tx, record: PatientRecord) -> _Asked:
        """The merge that sources asked for of a number that this record's person holds."""
        for request in merge_requests.waiting(tx):
            targets = [self._identity.find_cx_tx(tx, number) for number in (request.gone, request.survivor)]
            persons = {int(target.person.key) for target in targets if target is not None}
            if record.person in persons and len(persons) == 2:
                return _Asked(request, frozenset(persons - {int(record.person)}))
        return _Asked()

    @staticmethod
    def _near(
        tx: Tx, record: PatientRecord, numbers: set[Identifier], number_holders: set[int]
    ) -> list[Stored]:
        """Records that share a number, a person or a local id with ``record``."""
        keys = {*claimants(tx, numbers)} | ({record.part_of} if record.part_of is not None else set())
        nearby = {stored.record.key: stored for stored in rows.load_by(tx, "record_key", keys)}
        nearby |= {
            stored.record.key: stored
            for stored in rows.load_by(tx, "person_key", {*number_holders, record.person})
        }
        nearby |= {
            stored.record.key: stored
            for stored in rows.load_by(tx, "part_of", {record.part_of or record.key})
        }
        nearby.pop(record.key, None)
        return [stored for stored in nearby.values() if stored.record.active]

    def _studies(self, tx: Tx, records: Iterable[PatientRecord]) -> dict[RecordKey, list[Holding]]:
        """The current studies of records and parts, newest first."""
        keys = {record.part_of or record.key for record in records}
        holdings = [loaded.holding for loaded in self._index.read.by_records(tx, keys, deprecated=False)]
        parts = self._identity.whose_tx(
            tx, {(holding.record_key, holding.publication.record.patient) for holding in holdings}
        )
        studies: dict[RecordKey, list[Holding]] = {}
        for holding in holdings:
            whose = parts.get((holding.record_key, holding.publication.record.patient), holding.record_key)
            studies.setdefault(whose, []).append(holding)
        for of_record in studies.values():
            of_record.sort(
                key=lambda holding: (holding.record.time.date, holding.record.time.time, holding.study_uid),
                reverse=True,
            )
        return studies

    def _side(
        self,
        relation: Relation,
        stored: Stored,
        number_holders: set[int],
        studies: dict[RecordKey, list[Holding]],
    ) -> Side:
        record, (code, name) = stored.record, self._member(stored.record)
        lines = [self._line(holding) for holding in studies.get(record.key, ())]
        return Side(
            handle=handle_of(record.key),
            relation=relation,
            record=record,
            member=code,
            member_name=name,
            holds=record.person in number_holders and not record.in_doubt,
            traced=stored.traced,
            studies=tuple(lines[:MAX_STUDIES]),
            more_studies=max(0, len(lines) - MAX_STUDIES),
        )

    def _line(self, holding: Holding) -> StudyLine:
        record, member = holding.record, self._directory.by_id(holding.member)
        return StudyLine(
            date=record.time.date,
            modalities=record.headline_modalities,
            description=record.description,
            member=member.code if member is not None else holding.publication.source.code,
            images=record.n_instances,
        )

    def _member(self, record: PatientRecord) -> tuple[str, str]:
        member = self._directory.by_id(MemberId(record.member)) if record.member is not None else None
        return (member.code, member.name) if member is not None else ("", "a source that is no member")

    def decision(self, tx: Tx, decision: str) -> RecordDecision:
        """A decision by its id, or by how it begins."""
        text = decision.strip().lower()
        matching = queue.decisions_named(tx, text) if _BEGINS.fullmatch(text) else []
        if not matching:
            raise NotFound(
                "There is no such decision.",
                todo="Give the id of one in the list, or its first eight characters.",
            )
        if len(matching) > 1:
            raise Conflict(
                "Several decisions begin so.", todo=f"Give all of it: {' or '.join(d.id for d in matching)}."
            )
        return matching[0]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A merge that sources asked for, and the other person of it."""

    request: MergeRequest | None = None
    persons: frozenset[int] = frozenset()

    @property
    def kind(self) -> Kind:
        return "said to be one person with another" if self.request is not None else ""


def _kind(record: PatientRecord, held_by_another: bool) -> Kind:
    if record.in_doubt:
        return "in doubt"
    if not record.disputed:
        return ""
    return "claims a number held by another" if held_by_another else "claims a number that others claim"


def _relation(
    record: PatientRecord, other: PatientRecord, number_holders: set[int], asked: Collection[int]
) -> Relation:
    if other.key == record.part_of:
        return "the record that it came under"
    if other.part_of is not None and other.part_of in (record.key, record.part_of):
        if other.in_doubt:
            return "in doubt under its number"
        return "claims the number too" if {*other.national} & {*record.national} else ""
    if other.person == record.person:
        return "is one person with it"
    if other.person in asked and not other.in_doubt:
        return "a source says that they are one person"
    if other.person in number_holders and not other.in_doubt:
        return "holds the number"
    return "claims the number too"
