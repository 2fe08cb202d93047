"""The audit's tables on both databases: what is found again, what cannot be changed, and a database of the
first schema.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from callers import caller, operator
from registry_room import TestClock

from crosslight.runtime.audit import SCHEMA, About, Audited, AuditEntry, AuditLog, Outcome, log
from crosslight.runtime.audit.keeping import Keeping
from crosslight.runtime.audit.outcome import counted
from crosslight.runtime.audit.query import Selection
from crosslight.runtime.audit.rows import Written, insert
from crosslight.runtime.audit.shorthand import Shorthand, in_ms, whole, year_end
from crosslight.runtime.clock import SystemClock, instant
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.access import Decision, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, StorageError

ANN = Principal(subject="person:ann", roles=frozenset({"clinician"}), organisation="RA2")
NHS = "2.16.840.1.113883.2.1.4.1"
ODD = 'A%_\\ "|9'  # a local number that a careless query would read as a pattern, or cut


def act(correlation: str, *patients: Identifier, studies: tuple[str, ...] = ()) -> AuditEntry:
    about = About(patients=patients, studies=studies)
    who = caller(ANN, correlation)
    return AuditEntry(caller=who, face="fhir", action="search", decision=Decision(True, "r"), about=about)


def ok(**counts: int) -> Outcome:
    return counted("ok", **counts)


async def test_an_act_is_found_by_each_patient_and_study_it_showed(database: Db) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    first = act(
        "one", Identifier("9990000018", NHS), Identifier(ODD, "1.2.3"), studies=("1.2.5", "1.2.4", "1.2.5")
    )
    await audit.end(first, ok(given=2), await audit.begin(first))
    await audit.begin(act("two", Identifier("9990000018", "1.2.3")))
    found = await audit.search(patient=Identifier("9990000018"))
    assert [(e.correlation, e.text) for e in found] == [("two", ""), ("one", "ok 2 given")]
    assert [e.correlation for e in await audit.search(patient=Identifier("9990000018", NHS))] == ["one"]
    (one,) = await audit.search(patient=Identifier(ODD))
    assert (one.patients, one.studies) == ((f"{NHS}|9990000018", f"1.2.3|{ODD}"), ("1.2.4", "1.2.5"))
    assert [e.correlation for e in await audit.search(study="1.2.4")] == ["one"]
    assert await audit.search(study="1.2") == []
    assert await audit.search(patient=Identifier("A%")) == []


async def test_a_number_with_a_character_that_no_database_holds_is_noted_all_the_same(database: Db) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    await audit.begin(act("one", Identifier("12\0003", "1.2.3"), Identifier("456", "1.2.3")))
    await audit.begin(act("two\0", Identifier("456", "1.2.3")))
    found = await audit.search(patient=Identifier("456"))
    assert [e.correlation[:3] for e in found] == ["two", "one"]


#: table -> a column of it: the present ones, and those of older releases
COLUMNS = {
    "audit_act": "at", "audit_outcome": "outcome", "audit_patient_act": "patient", "audit_said": "who",
    "audit_study": "uid", "audit_authority": "authority", "audit_secret": "secret", "audit_expiry": "before",
    "audit_whom": "patients", "audit_patient_whom": "patient",
    "audit_entry": "outcome", "audit_patient": "value",
}  # fmt: skip


async def _one_of_each(database: Db) -> AuditLog:
    """An audit with a row in each table."""
    await migrate(database, "crosslight.runtime.audit", SchemaVersion("audit", schema=2, compat=2))
    await database.write("old", partial(_pair, f"{NHS}|9990000018"))
    await migrate(database, "crosslight.runtime.audit", SchemaVersion("audit", schema=5, compat=5))
    await database.write("before", _act_of_schema_5)
    audit = AuditLog(database, SystemClock())
    await audit.open()
    await audit.whole(act("one", Identifier("9990000018", NHS), studies=("1.2.4",)), ok(given=1))
    await database.write("expired", _expiry_of_nothing)
    return audit


def _pair(patient: str, tx: Tx) -> None:
    """An act of 0.2.0."""
    authority, _, value = patient.partition("|")
    columns = "kind, correlation, at, face, action, subject, organisation, purpose, who, decision, rule, peer"
    row = tx.row(
        f"INSERT INTO audit_entry ({columns}, query, outcome, patients) VALUES ('act', 'old', '2026-01-01',"
        " 'fhir', 'search', 's', 'o', 'p', '{}', 'permit', 'r', '', '', '', '[]') RETURNING seq"
    )
    assert row is not None
    tx.execute("INSERT INTO audit_patient VALUES (?, ?, ?)", (value, authority, row[0]))


def _act_of_schema_5(tx: Tx) -> None:
    """An act of before there were months, of one patient and one study, with its outcome."""
    (row,) = tx.rows("SELECT secret FROM audit_secret")
    short, at, until = Shorthand(row[0]), in_ms(datetime(2026, 2, 1, tzinfo=UTC)), year_end(2026)
    patient, study, said = f"{NHS}|9990000018", "1.2.9", "whoever"
    numbers = {text: whole(short.of_year(text, until)) for text in (said, study, NHS)}
    columns = "number, until, face, action, subject, organisation, who, decision, rule, peer"
    once = "ON CONFLICT (number) DO NOTHING"
    tx.execute(
        f"INSERT INTO audit_said ({columns}) VALUES (?, ?, 'fhir', 'search', 's', 'o', '{{}}', 'permit', 'r',"
        f" '') {once}",
        (numbers[said], until),
    )
    tx.execute(f"INSERT INTO audit_study VALUES (?, ?, ?) {once}", (numbers[study], until, study))
    tx.execute(f"INSERT INTO audit_authority VALUES (?, ?, ?) {once}", (numbers[NHS], until, NHS))
    (act_row,) = tx.rows(
        "INSERT INTO audit_act (at, correlation, said, body, studies) VALUES (?, ?, ?, ?, ?) RETURNING seq",
        (at, b"\0five", numbers[said], short.pack({"p": [patient]}), short.of_year(study, until)),
    )
    tx.execute("INSERT INTO audit_patient_act VALUES (?, ?)", (whole(short.number(patient)), act_row[0]))
    tx.execute("INSERT INTO audit_outcome VALUES (?, ?, 'ok 1 given')", (act_row[0], at))


@pytest.mark.parametrize("table", COLUMNS)
async def test_nothing_is_changed_or_removed(database: Db, table: str) -> None:
    audit, column = await _one_of_each(database), COLUMNS[table]
    before = [each.plain() for each in await audit.search()]
    statements = [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"]
    for statement in [*statements, f"TRUNCATE {table}"] if database.dialect.remote else statements:
        with pytest.raises(Exception, match="append-only"):
            await database.write("tamper", lambda tx, sql=statement: tx.execute(sql))  # type: ignore[misc]  # bound
    assert [each.plain() for each in await audit.search()] == before
    assert len(await audit.search(patient=Identifier("9990000018"))) == 3


def _expiry_of_nothing(tx: Tx) -> None:
    columns = "at, before, acts, oldest, newest, digest"
    tx.execute(f"INSERT INTO audit_expiry ({columns}) VALUES ('', '2001', 0, '', '', '')")


async def test_nothing_is_replaced(database: Db) -> None:
    """What passes by the triggers of rows: SQLite's INSERT OR REPLACE, PostgreSQL's ON CONFLICT."""
    audit = await _one_of_each(database)
    before = [each.plain() for each in await audit.search()]
    for table in COLUMNS.keys() - {
        "audit_patient_act",
        "audit_patient_whom",
        "audit_patient",
    }:  # whose rows are keys alone

        def again(tx: Tx, table: str = table) -> None:
            (key, *others), (values, *_) = _names(tx, table), tx.rows(f"SELECT * FROM {table}")
            changed = [values[0], *("x" if isinstance(value, str) else value for value in values[1:])]
            if not others:  # the secret
                changed = ["x"]
            if tx.dialect.remote:
                tail = f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in others)}"
                over = " OVERRIDING SYSTEM VALUE" if key == "seq" else ""
                tail, into = (tail if others else ""), f"INSERT INTO {table}"
                marks = ", ".join("?" * len(changed))
                tx.execute(f"{into} ({', '.join((key, *others))}){over} VALUES ({marks}) {tail}", changed)
            else:
                tx.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(changed))})", changed)

        with suppress(Exception):  # it is refused, or is as if it were not
            await database.write("tamper", again)
    assert [each.plain() for each in await audit.search()] == before


def _names(tx: Tx, table: str) -> list[str]:
    """The columns of a table."""
    if tx.dialect.remote:
        sql = "SELECT column_name FROM information_schema.columns WHERE table_name = ?"
        sql += " ORDER BY ordinal_position"
        return [row[0] for row in tx.rows(sql, (table,))]
    return [row[1] for row in tx.rows(f"PRAGMA table_info({table})")]


async def test_what_is_over_is_removed_and_that_stays(database: Db) -> None:
    clock = TestClock()
    audit, kept = AuditLog(database, clock), Keeping(database, clock, keep_years=0)
    await audit.open()
    for name in ("old", "older"):
        one = act(name, Identifier("9990000018", NHS), studies=("1.2.4",))
        await audit.end(one, ok(given=1), await audit.begin(one))
    await clock.sleep(40 * 86400)
    day = instant(clock.now())[:10]
    await audit.begin(act("new", Identifier("9990000018", NHS)))
    for early in ("2099-01-01", instant(clock.now() + timedelta(days=31))[:10]):
        with pytest.raises(Invalid):
            await kept.expire(early, operator())
    with pytest.raises(Invalid, match="kept"):
        await Keeping(database, clock, keep_years=1).look(day)
    would = await kept.look(day)
    removed = await kept.expire(day, operator())
    assert removed == would
    assert (removed.acts, len(removed.digest)) == (2, 64)
    expiry, new = await audit.search()
    assert (expiry.action, expiry.text, new.correlation) == ("expire", "ok 2 acts, 4 rows", "new")
    assert expiry.query["digest"] == removed.digest
    assert expiry.query["before"] == would.before == f"{day[:8]}01"
    with pytest.raises(Exception, match="append-only"):  # what is not over stays
        await database.write("tamper", lambda tx: tx.execute("DELETE FROM audit_act"))
    assert (await kept.look(day)).acts == 0


async def test_names_go_with_the_year_in_which_they_were_said(database: Db) -> None:
    clock = TestClock()
    audit, kept = AuditLog(database, clock), Keeping(database, clock, keep_years=0)
    await audit.open()
    year = clock.now().year
    for name, uid in (("old", "1.2.4"), ("new", "1.2.5")):
        await audit.whole(act(name, Identifier("9990000018", NHS), studies=(uid,)), ok(given=1))
        assert [each.correlation for each in await audit.search(study=uid)] == [name]
        await clock.sleep(366 * 86400)
    await kept.expire(f"{year + 1}-01-01", operator())
    names = "SELECT uid FROM audit_study"
    assert await database.read("named", lambda tx: tx.rows(names)) == [("1.2.5",)]
    for table in ("audit_whom", "audit_patient_whom"):
        count = f"SELECT count(*) FROM {table}"
        assert await database.read("named", lambda tx, sql=count: tx.rows(sql)) == [(1,)]  # type: ignore[misc]  # bound
    assert [each.studies for each in await audit.search(patient=Identifier("9990000018"))] == [("1.2.5",)]


async def test_an_audit_without_months_keeps_every_act(database: Db) -> None:
    await migrate(database, "crosslight.runtime.audit", SchemaVersion("audit", schema=5, compat=5))
    for _ in range(2):
        await database.write("before", _act_of_schema_5)
    audit = AuditLog(database, SystemClock())
    await audit.open()
    await audit.whole(act("new", Identifier("9990000018", NHS), studies=("1.2.9",)), ok(given=2))
    expected = ["ok 2 given", "ok 1 given", "ok 1 given"]
    for found in (
        await audit.search(patient=Identifier("9990000018", NHS)),
        await audit.search(patient=Identifier("9990000018")),
        await audit.search(study="1.2.9"),
        await audit.select(Selection(since="2026-01-31"), 10),
    ):
        assert [each.text for each in found] == expected
        assert {(each.patients, each.studies) for each in found} == {((f"{NHS}|9990000018",), ("1.2.9",))}
    assert await audit.count(Selection(since="2026-01-31", until="2026-02-02")) == 2


async def test_a_database_of_the_first_schema_keeps_every_act(database: Db) -> None:
    await migrate(database, "crosslight.runtime.audit", SchemaVersion("audit", schema=1, compat=1))
    await database.write(
        "old", partial(_old_act, "old", ["1.2.4", "1.2.5"], [f"{NHS}|9990000018", f"1.2.3|{ODD}"])
    )
    await database.write("old", partial(_old_act, "bare", [], []))
    audit = AuditLog(database, SystemClock())
    await audit.open()
    (entry,) = await audit.search(patient=Identifier(ODD, "1.2.3"))
    assert entry.correlation == "old"
    assert sorted(entry.studies) == ["1.2.4", "1.2.5"]
    assert sorted(entry.patients) == sorted([f"{NHS}|9990000018", f"1.2.3|{ODD}"])
    (bare,) = await audit.search(correlation="bare")
    assert (bare.patients, bare.studies) == ((), ())
    assert await migrate(database, "crosslight.runtime.audit", SCHEMA) == []


def _old_act(correlation: str, studies: list[str], patients: list[str], tx: Tx) -> None:
    row = tx.row(
        "INSERT INTO audit_entry (kind, correlation, at, face, action, subject, organisation, purpose, who,"
        " decision, rule, peer, query, outcome) VALUES ('act', ?, '2026-01-01', 'fhir', 'search', 's', 'o',"
        " 'p', '{}', 'permit', 'r', '', '', '') RETURNING seq",
        (correlation,),
    )
    assert row is not None
    objects = [("study", s) for s in studies] + [("patient", p) for p in patients]
    tx.executemany(
        "INSERT INTO audit_object (seq, kind, value) VALUES (?,?,?)", [(row[0], *o) for o in objects]
    )


async def test_acts_that_wait_are_committed_together_and_refused_together(
    database: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    commits, write = 0, database.submit_near

    def counting(name: str, fn: Callable[[Tx], list[int]]) -> Future[list[int]]:
        nonlocal commits
        commits += 1
        return write(name, fn)

    monkeypatch.setattr(database, "submit_near", counting)
    acts = [act(f"c{n}", Identifier(f"P{n}", "1.2.3")) for n in range(100)]
    first = await audit.begin(acts[0])
    commits = 0
    await asyncio.gather(
        *(audit.begin(one) for one in acts[1:]), audit.end(acts[0], ok(given=1), first, lazy=True)
    )
    assert commits <= 4
    assert len(await audit.search(limit=1000)) == 100
    assert (await audit.search(patient=Identifier("P0")))[0].text == "ok 1 given"
    (second,) = await audit.search(patient=Identifier("P1"))
    await audit.end(acts[1], ok(given=2), second.seq, lazy=True)  # alone: soon
    assert (await audit.search(patient=Identifier("P1")))[0].text == "ok 2 given"

    def full(name: str, fn: Callable[[Tx], list[int]]) -> Future[list[int]]:
        refusal: Future[list[int]] = Future()
        refusal.set_exception(StorageError("The disk is full."))
        return refusal

    monkeypatch.setattr(database, "submit_near", full)
    refused = await asyncio.gather(audit.begin(act("x")), audit.whole(act("y"), ok()), return_exceptions=True)
    assert [type(r) for r in refused] == [StorageError, StorageError]
    monkeypatch.setattr(database, "submit_near", write)
    await audit.begin(act("z"))
    assert [e.correlation for e in await audit.search(limit=1)] == ["z"]


async def test_an_act_whose_asker_has_gone_is_kept(database: Db) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    gone = asyncio.create_task(audit.begin(act("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await audit.begin(act("next"))
    assert {e.correlation for e in await audit.search()} == {"gone", "next"}


async def test_what_nobody_waits_for_comes_with_the_next_act_or_by_itself(database: Db) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    for n in range(3):
        one = act(f"c{n}")
        audit.end_later(one, ok(given=n), await audit.begin(one))
    assert [e.text for e in await audit.search()] == ["", "ok 1 given", "ok 0 given"]
    audit.whole_later(act("c3"), Outcome("cut"))
    found: list[Audited] = []
    async with asyncio.timeout(10):
        while len(found) < 4:
            found = await audit.search()
    assert [e.text for e in found] == ["cut", "ok 2 given", "ok 1 given", "ok 0 given"]
    last = act("c4")
    audit.end_later(last, ok(given=3), await audit.begin(last))
    await audit.settle()
    assert (await audit.search())[0].text == "ok 3 given"
    await audit.settle()


async def test_what_names_thousands_is_not_written_on_the_event_loop(
    database: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, threads = AuditLog(database, SystemClock()), list[bool]()
    await audit.open()
    here = threading.current_thread()

    def noting(rows: Sequence[Written], tx: Tx) -> list[int]:
        threads.append(threading.current_thread() is here)
        return insert(rows, tx)

    monkeypatch.setattr(log, "insert", noting)
    for studies in (20, 2000):
        await audit.begin(act(f"c{studies}", studies=tuple(f"1.2.{studies}.{n}" for n in range(studies))))
    assert threads == [database.dialect.name == "sqlite", False]
    assert [len(seen.studies) for seen in await audit.search()] == [2000, 20]
