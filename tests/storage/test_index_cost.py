"""What one question may cost the index, on both databases: bounded, whatever the index holds (D20)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from registry_room import Room, make_room
from registry_samples import patient, study
from row_costs import Costs, analyse

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db import postgres as runtime_postgres
from crosslight.runtime.db import sqlite as runtime_db
from crosslight.standards.fhir.search import Grammar, parse_search
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import StorageError
from crosslight.standards.records import changed
from registry.ask import answer as answer_module
from registry.ask import population_pages as scan
from registry.ask.question import ByPatient, ByPopulation, StudyFilter
from registry.fhir.plan import StudyPlanner
from registry.fhir.table import IMAGING_STUDY
from registry.identity.model import PatientSelector
from registry.index.decoded_rows import DecodedRows
from registry.index.rows import DEPRECATED

STRETCH, LOOK = 50, 150


@pytest.fixture
async def room(database: Db, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(scan, "STRETCH", STRETCH)
    monkeypatch.setattr(scan, "LOOK", LOOK)
    made = await make_room(database)
    yield made
    await made.ask.close()


async def _publish(room: Room, first: int, count: int, local: str = "") -> None:
    home = room.member("RA2")
    for start in range(first, first + count, 50):
        acts = []
        for n in range(start, min(start + 50, first + count)):
            record = study(patient(home, local or f"H{n % 40}"), n, modality="CT", instances=1)
            day = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n)).strftime("%Y%m%d")
            acts.append(room.published("RA2", changed(record, time=changed(record.time, date=day)), n + 1))
        room.clock.moment += timedelta(seconds=5)
        await room.acceptor.accept_many([room.grpc("RA2", act) for act in acts])


async def _all_deprecated(room: Room) -> None:
    await room.db.write("t", lambda tx: tx.execute(f"UPDATE holding SET flags = {DEPRECATED}"))


RARE = [
    (StudyFilter(modalities=("IO",)), "started", False),
    (StudyFilter(modalities=("IO",)), "started", True),
    (StudyFilter(members=("RXC",)), "started", False),
    (StudyFilter(members=("RXC",)), "updated", False),
    (
        StudyFilter(started=(datetime(1999, 1, 1, tzinfo=UTC), datetime(1999, 2, 1, tzinfo=UTC))),
        "updated",
        True,
    ),
    (StudyFilter(updated=(None, datetime(1999, 1, 1, tzinfo=UTC))), "started", False),
    (StudyFilter(), "started", False),  # of which nothing is approved any more
]


async def test_what_is_rare_is_not_looked_for_through_the_whole_index(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, spent = Costs(monkeypatch), list[list[int]]()
    for first, count in ((0, 400), (400, 1200)):
        await _publish(room, first, count)
        await analyse(room.db)
        spent.append([])
        for narrow, order, ascending in RARE:
            if narrow == StudyFilter():
                await _all_deprecated(room)
            costs.reset()
            answer = await room.asked(ByPopulation(filter=narrow, limit=20, order=order, ascending=ascending))  # type: ignore[arg-type]
            assert (answer.holdings, bool(answer.cursor)) == ((), True)
            spent[-1].append(costs.reset())
        await room.db.write("t", lambda tx: tx.execute("UPDATE holding SET flags = 0"))
    for (narrow, order, _), few, many in zip(RARE, *spent, strict=True):
        assert many < 1.5 * few, (narrow, order, few, many)


async def test_a_page_of_what_changed_costs_the_page_not_all_that_changed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, spent = Costs(monkeypatch), list[int]()
    grammar = Grammar(zone="UTC", base="https://r/fhir", lenient=False, default_count=20, max_count=100)
    wanted = parse_search(IMAGING_STUDY, (("_lastUpdated", "ge2020-01-01"), ("_count", "20")), grammar)
    planner = StudyPlanner(Systems(room.ask.region), lambda text: None)
    for first, count in ((0, 400), (400, 1200)):
        await _publish(room, first, count)
        await analyse(room.db)
        costs.reset()
        answer = await room.asked(planner.plan(wanted).question)
        spent.append(costs.reset())
        assert len(answer.holdings) == 20
    assert spent[1] < 1.5 * spent[0], spent


@pytest.mark.parametrize("order", ["started", "updated"])
@pytest.mark.parametrize("ascending", [False, True])
async def test_what_is_rare_is_found_by_its_pages(
    room: Room, order: Literal["started", "updated"], ascending: bool
) -> None:
    """Pages may be empty and have a next one; together they have all, in order, each once."""
    await _publish(room, 0, 400)
    home = patient(room.member("RXC"), "RARE")
    rare = [changed(study(home, n, modality="XA", instances=1)) for n in range(5000, 5009)]
    dated = [
        changed(r, time=changed(r.time, date=day))
        for r, day in zip(rare, ["2019", "", *["20200704"] * 5, "", "20991231"], strict=True)
    ]
    for n, record in enumerate(dated, 1):
        assert await room.publish("RXC", record, n) == "accepted"
    await _publish(room, 400, 200)
    for narrow in (
        StudyFilter(modalities=("XA",)),
        StudyFilter(members=("RXC",)),
        StudyFilter(modalities=("XA",), study_date=("20200101", "")),
    ):
        found, cursor, sizes = list[str](), "", list[int]()
        while cursor or not sizes:
            answer = await room.asked(
                ByPopulation(filter=narrow, limit=2, cursor=cursor, order=order, ascending=ascending)
            )
            found += [h.study_uid for h in answer.holdings]
            cursor = answer.cursor
            sizes.append(len(answer.holdings))
        assert (sorted(found), max(sizes), 0 in sizes) == (sorted(r.study_uid for r in dated), 2, True)


async def test_one_that_waits_is_found_by_its_turn_however_many_wait(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few deprecated ones ahead of it do not hide it either."""
    costs, spent, ours = Costs(monkeypatch), list[int](), MemberId(room.member("RA2").id)
    for first, count in ((0, 400), (400, 1200)):
        await _publish(room, first, count)

        def wait(tx: Tx) -> None:
            tx.execute("DELETE FROM enrich_pending")
            tx.execute(
                "INSERT INTO enrich_pending (record_key, study_hash, member_id, since) "
                "SELECT record_key, study_hash, member_id, started + 10000000000 FROM holding"
            )
            first_day = tx.row("SELECT min(started) FROM holding")
            assert first_day is not None
            tx.execute(
                "UPDATE holding SET flags = ? WHERE started < ?", (DEPRECATED, first_day[0] + 3 * 86400)
            )

        await room.db.write("wait", wait)
        await analyse(room.db)
        costs.reset()
        keys = await room.index.unenriched([ours, MemberId(room.member("RXC").id)], 2)
        spent.append(costs.reset())
        rows = await room.db.read(
            "t", lambda tx: tx.rows("SELECT record_key FROM holding WHERE flags = 0 ORDER BY started LIMIT 2")
        )
        assert [int(key.record_key) for key in keys] == [row[0] for row in rows]
    assert spent[1] < 1.5 * spent[0], spent


# --- one patient with very many studies ---------------------------------------------------------------------


async def test_a_page_of_a_patient_decodes_its_own_rows_and_pages_have_all(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also several of one moment, undated ones, a study that two hold, and one that is deprecated."""
    monkeypatch.setattr(answer_module, "MANY", 30)
    await _publish(room, 0, 60, "MANY")
    home = patient(room.member("RA2"), "MANY")
    for n, day in enumerate(["20200210"] * 5 + [""] * 5):
        record = study(home, 900 + n, instances=1)
        await room.publish("RA2", changed(record, time=changed(record.time, date=day)), 100 + n)
    await room.availability("RA2", study(home, 3, modality="CT", instances=1).study_uid, "Deprecated", 200)
    whom = PatientSelector(identifiers=(home.local,))
    whole = (await room.asked(ByPatient(patient=whom))).holdings
    decoded, load = list[int](), room.index.read.load
    monkeypatch.setattr(room.index.read, "load", lambda *args: decoded.append(1) or load(*args))
    for limit in (1, 7, 68, 69, 100):
        found, cursor, pages = list[Any](), "", 0
        while cursor or not pages:
            decoded.clear()
            answer = await room.asked(ByPatient(patient=whom, limit=limit, cursor=cursor))
            assert (answer.total, len(decoded) <= limit + 1) == (69, True)
            found, cursor, pages = [*found, *answer.holdings], answer.cursor, pages + 1
        assert sorted(found, key=lambda h: h.fhir_id) == sorted(whole, key=lambda h: h.fhir_id)
        began = [h.record.time.interval() for h in found]
        assert began == [h.record.time.interval() for h in whole], "newest first, undated last"
        assert pages == -(-69 // limit)
    few = await room.asked(
        ByPatient(patient=PatientSelector(identifiers=(Identifier("NONE", home.local.authority),)), limit=5)
    )
    assert (few.total, few.holdings) == (None, ())


# --- lanes --------------------------------------------------------------------------------------------------


async def test_a_comparison_with_one_member_reads_what_it_holds(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the whole key; each of its studies comes once, in pages.

    SQLite, whose regions are small, has no index by member: its rows have no room for one (D5).
    """
    costs, spent = Costs(monkeypatch), list[int]()
    small = room.member("RXC")
    acts = [room.published("RXC", study(patient(small, f"S{n % 7}"), n + 9000), n + 1) for n in range(40)]
    await room.acceptor.accept_many([room.grpc("RXC", act) for act in acts])
    for first, count in ((0, 400), (400, 1200)):
        await _publish(room, first, count)
        await analyse(room.db)
        costs.reset()
        found, cursor = list[str](), ""
        while True:
            page, cursor = await room.index.held_after(small.id, cursor, 15)
            found += [held.study_uid for held in page]
            if not cursor:
                break
        spent.append(costs.reset())
        assert sorted(found) == sorted(act.publication.record.study_uid for act in acts)
    if not room.db.dialect.lean_rows:
        assert spent[1] < 1.5 * spent[0], spent


async def test_a_newer_study_changes_its_patients_record_in_place(room: Room) -> None:
    """Without new entries in the record's indexes (HOT): there is room in its page."""
    if not room.db.dialect.remote:
        return  # SQLite has pages of its own making
    await _publish(room, 0, 40)

    name = "to_regclass('patient_record')"
    counted = f"SELECT pg_stat_get_xact_tuples_updated({name}), pg_stat_get_xact_tuples_hot_updated({name})"

    def newer(tx: Tx) -> list[int]:
        """How many rows were changed, and how many of these in place."""
        keys = [
            key for (key,) in tx.rows("SELECT record_key FROM patient_record ORDER BY record_key LIMIT 2")
        ]
        before = tx.row(counted)
        room.identity.touch_all(tx, [(key, 1 << 60) for key in keys])
        after = tx.row(counted)
        assert before is not None
        assert after is not None
        return [now - then for now, then in zip(after, before, strict=True)]

    assert await room.db.write("newer", newer) == [2, 2]


async def _lanes(room: Room, monkeypatch: pytest.MonkeyPatch, question: Any) -> list[str]:
    """The threads in which a question was answered, or begun."""
    ran: list[str] = []
    found = room.ask._found

    def noted(*args: Any) -> Any:
        ran.append(threading.current_thread().name.rstrip("_0123456789"))
        return found(*args)

    monkeypatch.setattr(room.ask, "_found", noted)
    await room.asked(question)
    monkeypatch.setattr(room.ask, "_found", found)
    return ran


async def test_a_patient_with_very_many_studies_leaves_the_event_loop_before_anything_is_made_of_them(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _publish(room, 0, 20, "FEW")
    await _publish(room, 1000, 100, "SOME")
    await _publish(room, 2000, 600, "MANY")
    here, engine = threading.current_thread().name.rstrip("_0123456789"), room.db.dialect.name
    near = [here] if engine == "sqlite" else []
    wide = f"{engine}-wide"
    thread = "sqlite-reader" if engine == "sqlite" else "postgres"

    def of(local: str) -> ByPatient:
        return ByPatient(
            patient=PatientSelector(identifiers=(Identifier(local, room.member("RA2").authority),))
        )

    assert await _lanes(room, monkeypatch, of("FEW")) == (near or [thread])
    assert await _lanes(room, monkeypatch, of("SOME")) == [*near, thread]
    assert await _lanes(room, monkeypatch, of("MANY")) == [*near, thread, wide]
    assert await _lanes(room, monkeypatch, ByPopulation(filter=StudyFilter())) == [wide]
    assert len((await room.asked(of("MANY"))).holdings) == 600
    decoded = []
    room.index.read.decoded = DecodedRows(0)
    load = room.index.read.load
    monkeypatch.setattr(
        room.index.read, "load", lambda *args: decoded.append(threading.current_thread()) or load(*args)
    )
    await room.asked(of("MANY"))
    assert len(decoded) == 600, "each once: what is begun again made nothing before"
    assert threading.current_thread() not in decoded


async def test_who_reads_much_holds_up_only_its_like(room: Room) -> None:
    """As many as there are, and more, wait in their own lane, while a look-up is answered."""
    go = threading.Event()
    many = [room.db.read_wide("much", lambda tx: go.wait(30)) for _ in range(12)]
    tasks = [asyncio.create_task(one) for one in many]
    assert await room.db.read("little", lambda tx: tx.row("SELECT 1")) == (1,)
    assert await room.db.read_near("near", lambda tx: tx.row("SELECT 1")) == (1,)
    assert not any(task.done() for task in tasks)
    go.set()
    assert await asyncio.gather(*tasks) == [True] * 12


async def test_what_reads_too_much_ends(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_db, "WIDE_STEPS", 100_000)
    monkeypatch.setattr(runtime_postgres, "WIDE_S", 1)
    endless = "WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StorageError):
        await room.db.read_wide("endless", lambda tx: tx.row(endless))
    assert await room.db.read_wide("little", lambda tx: tx.row("SELECT 1")) == (1,)
