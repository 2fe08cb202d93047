"""The audit's tables on both databases: what is found again, what cannot be changed, and a database of the
first schema.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import pytest
from callers import caller, operator
from registry_room import TestClock

from crosslight.runtime.audit import SCHEMA, About, Audited, AuditEntry, AuditLog, Outcome
from crosslight.runtime.audit.keeping import Keeping
from crosslight.runtime.audit.outcome import counted
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


@pytest.mark.parametrize("statement", [
    "UPDATE audit_entry SET outcome = 'x'", "DELETE FROM audit_entry", "UPDATE audit_patient SET value = 'x'",
    "DELETE FROM audit_patient", "DELETE FROM audit_expiry", "UPDATE audit_expiry SET before = '9999'",
])  # fmt: skip
async def test_nothing_is_changed_or_removed(database: Db, statement: str) -> None:
    audit = AuditLog(database, SystemClock())
    await audit.open()
    await audit.begin(act("one", Identifier("9990000018", NHS)))
    await database.write("expired", _expiry_of_nothing)
    with pytest.raises(Exception, match="append-only"):
        await database.write("tamper", lambda tx: tx.execute(statement))
    assert len(await audit.search(patient=Identifier("9990000018"))) == 1


def _expiry_of_nothing(tx: Tx) -> None:
    columns = "at, before, acts, oldest, newest, digest"
    tx.execute(f"INSERT INTO audit_expiry ({columns}) VALUES ('', '2001', 0, '', '', '')")


async def test_nothing_is_truncated_or_replaced(database: Db) -> None:
    """What passes by the triggers of rows: TRUNCATE, and SQLite's INSERT OR REPLACE."""
    audit = AuditLog(database, SystemClock())
    await audit.open()
    number = await audit.begin(act("one", Identifier("9990000018", NHS)))
    columns = "kind, correlation, at, face, action, subject, organisation, purpose"
    columns += ", who, decision, rule, peer, query"
    statements = {
        True: ["TRUNCATE audit_entry", "TRUNCATE audit_patient", "TRUNCATE audit_expiry"],
        False: [
            f"INSERT OR REPLACE INTO audit_entry (seq, {columns}, outcome) SELECT seq, {columns}, 'x' FROM"
            f" audit_entry WHERE seq = {number}"
        ],
    }
    for statement in statements[database.dialect.remote]:
        with pytest.raises(Exception, match="append-only"):
            await database.write("tamper", lambda tx, sql=statement: tx.execute(sql))  # type: ignore[misc]  # bound
    assert len(await audit.search(patient=Identifier("9990000018"))) == 1


async def test_what_is_over_is_removed_and_that_stays(database: Db) -> None:
    clock = TestClock()
    audit, kept = AuditLog(database, clock), Keeping(database, clock)
    await audit.open()
    for name in ("old", "older"):
        one = act(name, Identifier("9990000018", NHS), studies=("1.2.4",))
        await audit.end(one, ok(given=1), await audit.begin(one))
    await clock.sleep(86400)
    day = instant(clock.now())[:10]
    await clock.sleep(86400)
    await audit.begin(act("new", Identifier("9990000018", NHS)))
    with pytest.raises(Invalid):
        await kept.expire("2099-01-01", operator())
    would = await kept.look(day)
    removed = await kept.expire(day, operator())
    assert removed == would
    assert (removed.acts, len(removed.digest)) == (2, 64)
    expiry, new = await audit.search()
    assert (expiry.action, expiry.text, new.correlation) == ("expire", "ok 2 acts, 4 rows", "new")
    assert expiry.query["digest"] == removed.digest
    assert expiry.query["before"] == day
    rows = await database.read("gone", lambda tx: tx.rows("SELECT count(*) FROM audit_patient"))
    assert rows == [(1,)], "only what belongs to the act that stays"
    with pytest.raises(Exception, match="append-only"):  # what is not over stays
        await database.write("tamper", lambda tx: tx.execute("DELETE FROM audit_entry"))
    assert (await kept.look(day)).acts == 0


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
    commits, write = 0, database.submit_write

    def counting(name: str, fn: Callable[[Tx], list[int]]) -> Future[list[int]]:
        nonlocal commits
        commits += 1
        return write(name, fn)

    monkeypatch.setattr(database, "submit_write", counting)
    acts = [act(f"c{n}", Identifier(f"P{n}", "1.2.3")) for n in range(100)]
    await asyncio.gather(*(audit.begin(one) for one in acts), audit.end(acts[0], ok(given=1), 1, lazy=True))
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

    monkeypatch.setattr(database, "submit_write", full)
    refused = await asyncio.gather(audit.begin(act("x")), audit.whole(act("y"), ok()), return_exceptions=True)
    assert [type(r) for r in refused] == [StorageError, StorageError]
    monkeypatch.setattr(database, "submit_write", write)
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
