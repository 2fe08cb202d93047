"""What is said before of a reading is what its own statements find, and a question by number is one statement
where each is a round trip (ADR 0048).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from acted_region import CALLERS, LOCALS, NUMBERS, ActedRegion, Asking, asked
from registry_room import Room, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db import foretold as telling
from crosslight.runtime.db.foretold import Foretelling, ForetoldTx, Given, Keys, NotForetold
from crosslight.runtime.db.postgres import PostgresDb
from crosslight.standards.access import Face, Principal
from crosslight.standards.fhir.terms import NHS_NUMBER_SYSTEM
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, StorageError
from crosslight.standards.xds.rules import stored_query
from registry.ask.foretelling import foretold
from registry.ask.kept_readings import NotedTx
from registry.ask.question import ByPatient, Patients, Question, StudyFilter
from registry.identity.model import PatientSelector


def _named(*identifiers: Identifier) -> PatientSelector:
    return PatientSelector(identifiers=identifiers)


def _questions() -> list[tuple[Face, Question]]:
    """Of everybody, as faces ask them."""
    questions: list[tuple[Face, Question]] = []
    for value in (*NUMBERS, LOCALS[1], "9" * 10):
        for who in (_named(Identifier(value, NHS)), _named(Identifier(value))):
            questions += [
                ("fhir", ByPatient(patient=who, limit=51)),
                ("fhir", Patients(patient=who)),
                ("dicomweb", ByPatient(patient=who, filter=StudyFilter(modalities=("CT",)))),
                ("dicomweb", ByPatient(patient=who)),
                ("xds", ByPatient(patient=who, versions=True)),
            ]
    both = _named(Identifier(NUMBERS[0], NHS), Identifier(NUMBERS[0]))
    return [*questions, ("portal", Patients(patient=both, limit=21)), ("portal", ByPatient(patient=both))]


def _compare(tx: Tx, room: Room, who: Principal, face: Face, question: Question) -> tuple[int, bool]:
    """How many answers were foretold, each compared with what its statement finds; and whether they were all.

    All: the plain reading asks nothing else.
    """
    noted = NotedTx(tx)

    def read(by: Tx) -> Any:
        try:
            return room.ask._read_anew(by, who, face, question, frozenset)
        except Invalid as error:
            return str(error)

    plain = read(noted.tx)
    told = foretold(question, face, room.identity)
    if told is None:
        return 0, False
    answers = told.answers(tx.rows(told.sql(tx.dialect), told.params))
    for (sql, params), rows in answers.items():
        assert sorted(map(repr, rows)) == sorted(map(repr, tx.rows(sql, params))), sql
    try:
        quick = read(ForetoldTx(tx.dialect, answers, lambda rows: None).tx)
    except NotForetold:
        return len(answers), False
    assert quick == plain
    return len(answers), True


@pytest.mark.parametrize("seed", [11, 12])
async def test_what_is_foretold_is_what_is_found(database: Db, seed: int) -> None:
    room = await make_room(database)
    region = ActedRegion(room, seed)
    counted: list[tuple[int, bool]] = []

    def compare(tx: Tx) -> None:
        for who in region.r.sample(list(CALLERS.values()), 2):
            counted.extend(_compare(tx, room, who, face, question) for face, question in _questions())

    for _ in range(4):
        await region.new()
    for act in region.r.sample(list(region.acts), 6):
        await database.read("t", compare)
        await region.acts[act]()
    assert sum(whole for _, whole in counted) > 50, "most were whole while nothing was odd"
    assert sum(count > 0 and not whole for count, whole in counted) > 50, "odd ones were asked for too"
    await room.ask.close()


@pytest.fixture
async def postgres(postgres_dsn: str) -> Any:
    """A database with one connection of the loop."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "foretold"')
    db = PostgresDb(postgres_dsn, connections=2, schema="foretold")
    yield db
    await db.close()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute('DROP SCHEMA "foretold" CASCADE')


async def _held(room: Room, people: int, studies: int) -> None:
    room.live("RA2")
    for person in range(people):
        who = patient(room.member("RA2"), f"H{person}", number=nhs(person))
        acts = [
            room.published("RA2", study(who, 1000 * person + n), 1000 * person + n)
            for n in range(1, studies + 1)
        ]
        await room.acceptor.accept(room.grpc("RA2", *acts))


class Reads:
    """What a database is asked: in threads, and on the loop."""

    def __init__(self, db: PostgresDb, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads, self.loop = 0, 0
        run, told = db._run, db._loop.foretold

        def running(fn: Callable[[Tx], Any], *, read_only: bool, **how: Any) -> Any:
            self.threads += read_only
            return run(fn, read_only=read_only, **how)

        async def telling(*args: Any) -> Tx:
            self.loop += 1
            return await told(*args)

        monkeypatch.setattr(db, "_run", running)
        monkeypatch.setattr(db._loop, "foretold", telling)


async def test_each_face_is_answered_by_one_statement(
    postgres: PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await make_room(postgres)
    await _held(room, 3, 5)
    reads = Reads(postgres, monkeypatch)

    async def one(number: str, asking: Asking) -> None:
        person = f"patient.identifier={quote(NHS_NUMBER_SYSTEM, safe='')}%7C{number}"
        for path in (
            f"fhir/ImagingStudy?{person}",
            f"fhir/ImagingStudy?{person}",  # again
            f"fhir/ImagingStudy?{person}&modality=CT",
            f"fhir/ImagingStudy?patient.identifier={number}",
            f"dicomweb/studies?PatientID={number}&includefield=all",
        ):
            reads.threads = reads.loop = 0
            assert b"200" in (await asking.get(path, "open"))[:4]
            assert (reads.threads, reads.loop) == (0, 1), path
        reads.threads = reads.loop = 0
        query = stored_query.find_documents(Identifier(number, NHS).cx())
        assert b"ExtrinsicObject" in await asking.xds(query, "open")
        assert (reads.threads, reads.loop) == (0, 1), "ITI-18"

    async with asked(room) as asking:
        for number in (nhs(0), nhs(1)):
            await one(number, asking)


async def test_more_than_is_foretold_is_read_in_a_thread(
    postgres: PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await make_room(postgres)
    await _held(room, 1, telling.MOST + 5)
    reads = Reads(postgres, monkeypatch)
    answer = await room.asked(ByPatient(patient=_named(Identifier(nhs(0), NHS))))
    assert len(answer.holdings) == telling.MOST + 5
    assert (reads.threads, reads.loop) == (1, 1)
    await room.ask.close()


def _kill_the_loops(dsn: str) -> int:
    """End the connections whose last statement was a foretold one; how many there were."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE 'WITH s_%'"
            ).fetchall()
        )


async def test_the_database_goes_and_comes_back(postgres: PostgresDb, postgres_dsn: str) -> None:
    room = await make_room(postgres)
    await _held(room, 1, 3)
    asked_for = ByPatient(patient=_named(Identifier(nhs(0), NHS)), limit=51)
    assert len((await room.asked(asked_for)).holdings) == 3
    assert await asyncio.to_thread(_kill_the_loops, postgres_dsn) == 1
    with pytest.raises(StorageError):  # who meets a connection that is gone is told so
        await room.asked(asked_for)
    assert len((await room.asked(asked_for)).holdings) == 3
    await room.ask.close()


def _said(sql: str) -> telling.ForetoldSteps:
    said = Foretelling()
    said.step("slow", sql, (), "i")
    return said.done()


async def test_who_no_longer_waits_gives_the_connection_back(postgres: PostgresDb, postgres_dsn: str) -> None:
    asleep = _said("SELECT 1 FROM (SELECT pg_sleep(9)) AS s")
    waiting = asyncio.create_task(postgres._loop.foretold("t", asleep))

    def sleeping() -> int:
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(9)%' AND state = 'active'"
                " AND pid <> pg_backend_pid()"
            ).fetchone()
        return int(row[0]) if row else 0

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(sleeping):  # noqa: ASYNC110 - the database has no event for it
            await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        tx = await postgres._loop.foretold("t", _said("SELECT 7"))
    assert tx.rows("SELECT 7") == [(7,)]
    assert await asyncio.to_thread(sleeping) == 0


async def test_the_loops_connections_read_only_and_not_for_ever(postgres: PostgresDb) -> None:
    settings = "SELECT current_setting('transaction_read_only') || current_setting('statement_timeout')"
    said = Foretelling()
    said.step("settings", settings, (), "t")
    tx = await postgres._loop.foretold("t", said.done())
    assert tx.row(settings) == ("on10s",)


async def test_what_was_not_foretold_is_not_answered(database: Db) -> None:
    said = Foretelling()
    said.step("first", "SELECT CAST(? AS BIGINT)", (Given(0),), "i")
    said.step("next", "SELECT 2 WHERE 5 IN ({})", (Keys((("first", 0),)),), "i")
    said.given(5)
    told = said.done()
    rows = await database.read("t", lambda tx: tx.rows(told.sql(tx.dialect), told.params))
    tx = ForetoldTx(database.dialect, told.answers(rows), lambda rows: None).tx
    assert tx.row("SELECT 2 WHERE 5 IN (?)", (5,)) == (2,)
    for sql, params in (("SELECT 2 WHERE 5 IN (?)", (6,)), ("SELECT 2 WHERE 5 IN (?,?)", (5, 5))):
        with pytest.raises(NotForetold):
            tx.rows(sql, params)


async def test_a_text_that_postgres_has_none_of_is_said_as_ever(postgres: PostgresDb) -> None:
    said = Foretelling()
    said.step("text", "SELECT CAST(? AS TEXT)", (said.given("a\0b"),), "t")

    def plain(tx: Tx) -> Any:
        return tx.row("SELECT CAST(? AS TEXT)", ("a\0b",))

    with pytest.raises(Invalid):
        await postgres.read_near("t", plain, foretold=said.done())
