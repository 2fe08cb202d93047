"""One audited act on both databases: durable before it is done, its own outcome after, and what older
releases wrote.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial

import orjson
import pytest
from callers import caller
from rich.console import Console

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.audit.printing import audit_table
from crosslight.runtime.audit.query import OLDER_ACTS, Selection
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.access import Action, Decision, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Forbidden, Invalid, MemberUnreachable, StorageError

ANN = Principal(subject="person:ann", roles=frozenset({"clinician"}), organisation="RA2")
PATIENT = Identifier("9990000018", "2.16.840.1.113883.2.1.4.1")
ABOUT = About(patients=(PATIENT,), studies=("1.2",))


@pytest.fixture
async def audit(database: Db) -> AuditLog:
    made = AuditLog(database, SystemClock())
    await made.open()
    return made


async def texts(audit: AuditLog) -> list[str]:
    """Outcomes as they were written, oldest first."""
    await audit.settle()
    return [act.text for act in reversed(await audit.search())]


async def test_an_act_is_durable_before_it_is_done_and_its_outcome_after(audit: AuditLog) -> None:
    async with audit.act(caller(ANN, "c-1", "10.0.0.1"), "fhir", "search", ABOUT) as act:
        [seen] = await audit.search(patient=PATIENT)
        assert (seen.text, seen.outcome.kind) == ("", "cut"), "so it would read, did the process end now"
        act.done(given=2)
    [seen] = await audit.search(study="1.2")
    assert (seen.text, seen.decision, seen.rule) == ("ok 2 given", "permit", "clinician: fhir search")
    assert (seen.correlation, seen.peer, seen.who) == ("c-1", "10.0.0.1", ANN)


async def test_a_denial_is_an_act_of_its_own_and_nothing_is_done(audit: AuditLog) -> None:
    done = False
    with pytest.raises(Forbidden, match="Not this") as denied:
        async with audit.act(caller(ANN), "xds", "publish", ABOUT, refusal="Not this."):
            done = True
    assert not done
    assert "may publish on xds" in denied.value.why
    [seen] = await audit.search()
    assert (seen.decision, seen.text, seen.patients) == (
        "deny",
        "denied",
        (f"{PATIENT.authority}|{PATIENT.value}",),
    )
    refusal = Invalid("Something of the caller's own.")
    with pytest.raises(Invalid):
        async with audit.act(
            caller(ANN), "fhir", "read", decision=Decision(False, "a rule"), refusal=refusal
        ):
            pass
    assert (await audit.search())[0].rule == "a rule"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Invalid("x"), "refused: Invalid"),
        (Forbidden("x"), "denied: Forbidden"),
        (MemberUnreachable("x"), "failed: MemberUnreachable"),
        (StorageError("x"), "failed: StorageError"),
        (ZeroDivisionError("x"), "failed: ZeroDivisionError"),
        (ConnectionResetError("x"), "cut 1 given"),
        (asyncio.CancelledError(), "cut 1 given"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
async def test_what_ends_the_block_is_the_outcome_and_goes_on(
    audit: AuditLog, error: BaseException, text: str, lazy: bool
) -> None:
    async def fail() -> None:
        async with audit.act(caller(ANN), "fhir", "search", ABOUT, lazy=lazy) as act:
            act.done(given=1)
            raise error

    with pytest.raises(type(error)):
        await fail()
    assert await texts(audit) == [text]


async def test_a_face_names_errors_in_its_standards_words(audit: AuditLog) -> None:
    def code(error: CrosslightError) -> str:
        return error.xds_code

    with pytest.raises(Invalid):
        async with audit.act(caller(ANN), "fhir", "search", code=code):
            raise Invalid("x")
    assert await texts(audit) == ["refused: XDSRegistryMetadataError"]


async def test_who_is_cancelled_while_an_act_goes_on_cuts_it_off(audit: AuditLog) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        async with audit.act(caller(ANN), "fhir", "search", ABOUT):
            begun.set()
            await never.wait()

    task = asyncio.create_task(ask())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await texts(audit) == ["cut"]


async def test_what_is_deferred_is_begun_by_hand_or_committed_whole(audit: AuditLog) -> None:
    async with audit.act(caller(ANN), "fhir", "search", deferred=True, lazy=True) as act:
        assert await audit.search() == []
        act.found(["1.2.3"], [PATIENT])
        await act.begin()
        await act.begin()
        assert [seen.text for seen in await audit.search(study="1.2.3")] == [""]
        act.gave(1, "rows", of=2)
    async with audit.act(caller(ANN), "fhir", "search", deferred=True) as act:
        act.gave(0, "rows")
    with pytest.raises(Invalid):
        async with audit.act(caller(ANN), "fhir", "search", deferred=True):
            raise Invalid("x")
    with pytest.raises(ConnectionError):
        async with audit.act(caller(ANN), "fhir", "search", deferred=True):
            raise ConnectionError
    assert await texts(audit) == ["partial 1 rows, 2 in all", "ok 0 rows", "refused: Invalid", "cut"]


async def test_who_hangs_up_while_a_deferred_act_is_being_committed_is_one_act(audit: AuditLog) -> None:
    async def ask() -> None:
        async with audit.act(caller(ANN), "fhir", "search", deferred=True) as act:
            await act.begin()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await audit.settle()
    assert [seen.outcome.kind for seen in await audit.search()] == ["cut"]


async def test_no_audit_no_act_but_what_is_done_stays_done(
    database: Db, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, fn: object) -> Future[None]:
        refusal: Future[None] = Future()
        refusal.set_exception(StorageError("The disk is full."))
        return refusal

    done = False
    with monkeypatch.context() as broken:
        broken.setattr(database, "submit_near", full)
        with pytest.raises(StorageError):
            async with audit.act(caller(ANN), "fhir", "search"):
                done = True
        with pytest.raises(StorageError):  # the answer was still held back
            async with audit.act(caller(ANN), "fhir", "search", deferred=True):
                pass
    assert not done
    async with audit.act(caller(ANN), "fhir", "search"):
        monkeypatch.setattr(database, "submit_near", full)
    monkeypatch.undo()
    assert [(seen.text, seen.outcome.kind) for seen in await audit.search()] == [("", "cut")]


async def test_two_acts_of_one_call_have_each_their_own_outcome(audit: AuditLog) -> None:
    who = caller(ANN, "one")
    first, second = (audit.act(who, "fhir", "search", About(studies=(uid,))) for uid in ("1.1", "1.2"))
    async with first, second:
        first.done(given=9)
        second.done(given=1)
    with pytest.raises(Invalid):
        async with audit.act(who, "fhir", "search", About(studies=("1.3",))):
            raise Invalid("x")
    cut = audit.act(who, "fhir", "search", About(studies=("1.4",)))
    await cut.begin()
    found = {act.studies: act.text for act in await audit.search(correlation="one")}
    assert found == {
        ("1.1",): "ok 9 given",
        ("1.2",): "ok 1 given",
        ("1.3",): "refused: Invalid",
        ("1.4",): "",
    }


def test_every_action_that_was_hidden_is_an_action_now() -> None:
    assert OLDER_ACTS.keys() <= set(Action.__args__)  # type: ignore[attr-defined]


# --- rows of 0.2.0 ------------------------------------------------------------------------------------------


def _pair(correlation: str, action: str, query: dict[str, str], outcome: str, subject: str, tx: Tx) -> None:
    """An act and its outcome as 0.2.0 wrote them."""
    who = orjson.dumps(
        {"subject": subject, "name": "", "roles": [], "organisation": "", "purpose": "", "evidence": ""}
    ).decode()
    for kind, said, text in (
        ("act", orjson.dumps(query).decode() if query else "", ""),
        ("outcome", "", outcome),
    ):
        tx.execute(
            "INSERT INTO audit_entry (kind, correlation, at, face, action, subject, organisation, purpose,"
            " who, decision, rule, peer, query, outcome, patients, studies) VALUES (?, ?,"
            " '2026-11-30T10:00:00', 'admin', ?, ?, '', '', ?, 'permit', 'r', '', ?, ?, '[]', '[]')",
            (kind, correlation, action, subject, who, said, text),
        )


@pytest.fixture
async def older(database: Db) -> AuditLog:
    """A database of 0.2.0, with rows of its."""
    await migrate(database, "crosslight.runtime.audit", SchemaVersion("audit", schema=2, compat=2))
    for n, (action, query, outcome, subject) in enumerate(
        [
            ("read", {"act": "sign-in"}, "ok", "person:ann"),
            ("read", {"act": "demo sign-in"}, "refused: wrong name or password", "stranger"),
            ("read", {"act": "sign-out"}, "ok", "person:ann"),
            ("operate", {"act": "suspended", "member": "RTK"}, "ok", "operator"),
            ("operate", {"act": "token issued: clinician", "member": "x"}, "ok", "operator"),
            ("operate", {"act": "identity decide: same", "handle": "A-B"}, "ok", "operator"),
            ("decide", {"act": "identity end", "handle": "A-B"}, "ok", "person:jo"),
            ("search", {}, "ok 3", "spiffe://1.2.3/member/RTK"),
        ]
    ):
        await database.write("old", partial(_pair, f"old-{n}", action, query, outcome, subject))
    made = AuditLog(database, SystemClock())
    await made.open()
    return made


@pytest.mark.parametrize(
    ("action", "found"),
    [
        ("sign-in", {"old-0", "old-1"}),
        ("sign-out", {"old-2"}),
        ("suspend", {"old-3"}),
        ("issue-token", {"old-4"}),
        ("decide", {"old-5", "old-6"}),
        ("end-decision", {"old-6"}),
        ("unmerge", set()),
        ("search", {"old-7"}),
        ("read", {"old-0", "old-1", "old-2"}),
        ("operate", {"old-3", "old-4", "old-5"}),
    ],
)
async def test_acts_of_older_releases_are_found_by_their_present_name(
    older: AuditLog, action: str, found: set[str]
) -> None:
    assert {act.correlation for act in await older.select(Selection(action=action), 100)} == found


async def test_rows_of_an_older_release_are_as_they_were_and_told_in_present_words(older: AuditLog) -> None:
    acts = {act.correlation: act for act in await older.search()}
    assert acts["old-1"].plain()["outcome"] == "refused: wrong name or password"
    assert (acts["old-1"].action, acts["old-1"].query) == ("read", {"act": "demo sign-in"})
    assert (acts["old-7"].outcome.kind, acts["old-7"].text) == ("ok", "ok 3")
    console = Console(width=100, color_system=None)
    with console.capture() as shown:
        console.print(audit_table(acts.values()))
    for words in (
        "admin sign-in",
        "admin suspend",
        "admin issue-token",
        "admin end-decision",
        "done: 3 given",
    ):
        assert words in shown.get()


async def test_a_new_act_beside_old_ones_of_the_same_call_keeps_its_outcome(
    older: AuditLog, database: Db
) -> None:
    async with older.act(caller(ANN, "old-7"), "fhir", "search") as act:
        act.done(given=1)
    assert [seen.text for seen in await older.search(correlation="old-7")] == ["ok 1 given", "ok 3"]
