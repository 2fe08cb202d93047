"""Laws of identity over generated regions: what is one person does not hang on the order in which studies
come.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from identity_generator import Generator, Made
from registry_room import Room, make_room

from crosslight.runtime.db import Db, SqliteDb, Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError
from registry.identity.header import PatientHeader
from registry.identity.model import PatientRecord, Person, RecordKey
from registry.identity.record_parts import contradicts

DOUBTS_OF_STUDIES = 0.08  # no more of a backfill with as many changes as the generator makes


@dataclass(frozen=True)
class Filled:
    """Who is one person after a backfill, by study."""

    persons: dict[str, tuple[str, ...]]  # study -> all studies of its person
    contested: frozenset[str]  # studies of records that claim a number which another claims too
    doubts: int


async def fill(room: Room, made: list[Made]) -> None:
    """Publish everything, as members' backfills do, in batches of one member."""
    versions: Counter[str] = Counter()
    for start in range(0, len(made), 400):
        by_member: dict[str, list[Made]] = {}
        for one in made[start : start + 400]:
            by_member.setdefault(one.code, []).append(one)
        for code, some in by_member.items():
            acts = []
            for one in some:
                versions[code] += 1
                acts.append(room.grpc(code, room.published(code, one.record, versions[code])))
            results = await room.acceptor.accept_many(acts)
            assert not [r for r in results if isinstance(r, CrosslightError)], (
                "nothing that is in doubt holds up publication"
            )


async def looked_at(room: Room, made: list[Made]) -> tuple[Filled, list[str]]:
    """What the index and identity say; and where a law is broken."""
    rows = await room.db.read("all", lambda tx: room.index.read.select(tx, "h.flags & 1 = 0"))
    holdings = [one.holding for one in rows]
    assert len(holdings) == len(made)

    def owners(tx: Tx) -> tuple[dict[str, RecordKey], dict[RecordKey, Person]]:
        parts = room.identity.whose_tx(tx, {(h.record_key, h.record.patient) for h in holdings})
        whose = {h.study_uid: parts.get((h.record_key, h.record.patient), h.record_key) for h in holdings}
        return whose, room.identity.persons_for_tx(tx, set(whose.values()))

    whose, persons = await room.db.read("owners", owners)
    records: dict[RecordKey, PatientRecord] = {r.key: r for p in persons.values() for r in p.records}
    of_person: dict[int, set[str]] = {}
    for study, key in whose.items():
        of_person.setdefault(int(persons[key].key), set()).add(study)
    claims = Counter((n, int(r.person)) for r in records.values() for n in set(r.national))
    claimed = Counter(n for n, _ in claims)
    contested = {
        s
        for s, key in whose.items()
        if records[key].disputed or any(claimed[n] > 1 for n in records[key].national)
    }
    filled = Filled(
        {s: tuple(sorted(of_person[int(persons[key].key)])) for s, key in whose.items()},
        frozenset(contested),
        sum(records[key].in_doubt for key in whose.values()),
    )
    return filled, broken(
        room, {h.study_uid: room.identity.header(h.record.patient) for h in holdings}, whose, persons
    )


def broken(
    room: Room, said: dict[str, PatientHeader], whose: dict[str, RecordKey], persons: dict[RecordKey, Person]
) -> list[str]:
    """Studies whose header has a number and a birth date that the record, under which they are shown,
    contradicts in both.
    """
    found = []
    for study, key in whose.items():
        shown = [r for r in persons[key].records if r.active and not r.in_doubt]
        if any(contradicts(said[study], room.identity.header(r.patient, r.national)) for r in shown):
            found.append(study)
    return found


@asynccontextmanager
async def sqlite_room(path: Path) -> AsyncIterator[Room]:
    db = SqliteDb(path)
    try:
        yield await make_room(db)
    finally:
        await db.close()


def _agree(first: Filled, second: Filled) -> None:
    """The same persons, but for records that claim a number which another claims too."""
    unsure = first.contested | second.contested
    for study, together in first.persons.items():
        if study not in unsure:
            assert set(together) - unsure == set(second.persons[study]) - unsure, study


@pytest.mark.timeout(600)
@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_the_same_persons_whatever_the_order(tmp_path: Path, seed: int, settled: bool) -> None:
    seen: list[Filled] = []
    for order in range(3):
        async with sqlite_room(tmp_path / f"{order}.db") as room:
            made = Generator(seed, {code: room.member(code) for code in ("RTK", "RXC", "RA2")}).studies_of(
                600
            )
            random.Random(order).shuffle(made)
            if settled:
                await room.identity.settle_holders()
            await fill(room, made)
            filled, faults = await looked_at(room, made)
            assert faults == []
            seen.append(filled)
    for other in seen[1:]:
        _agree(seen[0], other)


@pytest.mark.timeout(900)
async def test_a_backfill_of_many_studies_with_the_changes_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 20_000 if os.environ.get("CROSSLIGHT_SOAK") or os.environ.get("CI") else 4_000
    seen: list[Filled] = []
    for order in range(2):
        async with sqlite_room(tmp_path / f"{order}.db") as room:
            generator = Generator(99, {code: room.member(code) for code in ("RTK", "RXC", "RA2")})
            made = generator.studies_of(count)
            random.Random(order).shuffle(made)
            await fill(room, made)
            filled, faults = await looked_at(room, made)
            assert faults == []
            seen.append(filled)
    _agree(*seen)
    for filled in seen:
        rate = filled.doubts / count
        with capsys.disabled():
            print(
                f"\n{count:,} studies of {generator.people:,} people: {filled.doubts:,} studies in doubt"
                f" ({rate:.1%}), {len(filled.contested):,} of records that contest a number"
            )
        assert rate <= DOUBTS_OF_STUDIES


@pytest.mark.parametrize("seed", range(4))
async def test_every_act_can_be_undone(database: Db, seed: int) -> None:
    room = await make_room(database)
    made = Generator(seed, {code: room.member(code) for code in ("RTK", "RXC")}).studies_of(120)
    await fill(room, made)
    await room.identity.settle_holders()
    before, _ = await looked_at(room, made)
    r, decisions, merged = random.Random(seed), list[str](), list[Identifier]()
    for record in await room.identity.waiting():
        keys = [record.part_of, None] if record.part_of is not None else [None]
        choice = r.choice(keys)
        decisions.append(
            await room.identity.decide(record.key, choice, room.clock.now(), who="ig@x", why="a reason")
        )
    for code in ("RTK", "RXC"):  # A40 of local ids
        locals_ = sorted({one.record.patient.local for one in made if one.code == code})
        for survivor, gone in zip(locals_[:8:2], locals_[1:8:2], strict=True):
            await room.identity.merge(survivor, gone, room.clock.now())
            merged.append(gone)
    for gone in reversed(merged):
        await room.identity.unmerge(gone, room.clock.now(), who="ig@x", why="undone")
    for decision in reversed(decisions):
        await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="undone")
    after, faults = await looked_at(room, made)
    assert faults == []
    assert (after.persons, after.doubts) == (before.persons, before.doubts)
