"""Rows that were decoded before: what is kept is what decoding gives, whatever was done meanwhile.

And what a question reads. Work is counted, and no time is measured.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from asked_studies import _by, _three_trusts
from registry_room import Room, make_room
from registry_samples import NHS, grown, nhs, patient, study

from crosslight.runtime.db import Db, Row, Tx
from crosslight.standards.ids import Version
from crosslight.standards.records import changed
from registry.ask.kept_readings import KeptReadings
from registry.ask.question import Answer, ByPatient
from registry.index.decoded_rows import DecodedRows
from registry.intake.submission import Withdraw


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    made.ask.readings = KeptReadings(0)  # each question decodes its rows
    yield made
    await made.ask.close()


@pytest.fixture
def decoded(room: Room, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The records of the rows that are decoded."""
    rows: list[int] = []
    load = room.index.read.load

    def noted(row: Any, *args: Any) -> Any:
        rows.append(row.record_key)
        return load(row, *args)

    monkeypatch.setattr(room.index.read, "load", noted)
    return rows


async def _anew(room: Room, question: ByPatient) -> Answer:
    """The answer of a registry that has decoded nothing before."""
    kept, room.index.read.decoded = room.index.read.decoded, DecodedRows(0)
    try:
        return await room.asked(question)
    finally:
        room.index.read.decoded = kept


async def test_a_row_that_says_the_same_is_decoded_once(room: Room, decoded: list[int]) -> None:
    records = await _three_trusts(room, nhs(1))
    decoded.clear()
    room.index.read.decoded = DecodedRows()
    first = await room.asked(_by(nhs(1)))
    assert len(decoded) == len(records)
    again = await room.asked(_by(nhs(1)))
    assert len(decoded) == len(records)
    assert again.holdings == first.holdings


async def test_what_is_kept_is_what_decoding_gives_after_every_kind_of_act(room: Room) -> None:
    who = patient(room.member("RA2"), "H1", number=nhs(1))
    one, two = study(who, 1), study(who, 2)

    async def accept(*acts: Any) -> None:
        await room.acceptor.accept(room.grpc("RA2", *acts))

    acts: dict[str, Callable[[], Awaitable[None]]] = {
        "published": lambda: accept(room.published("RA2", one, 1), room.published("RA2", two, 2)),
        "grown": lambda: accept(room.published("RA2", grown(one, 7), 3)),
        "another header": lambda: accept(
            room.published("RA2", changed(two, patient=replace(who, birth_date="19620304")), 4)
        ),
        "withdrawn": lambda: accept(Withdraw(study_uid=one.study_uid, version=Version(1, 5))),
        "published again": lambda: accept(room.published("RA2", one, 6)),
    }
    seen = set()
    for name, act in acts.items():
        await room.asked(_by(nhs(1)))
        await act()
        for question in (_by(nhs(1)), _by(nhs(1), versions=True)):
            answer, fresh = await room.asked(question), await _anew(room, question)
            assert answer.holdings == fresh.holdings, name
            seen.add(repr(answer.holdings))
    assert len(seen) >= len(acts), "each act changes what is answered"


async def test_under_another_key_of_the_region_nothing_is_kept(room: Room) -> None:
    await _three_trusts(room, nhs(1))
    await room.asked(_by(nhs(1)))
    room.index.read.region_key = b"another key of the region"
    answer, fresh = await room.asked(_by(nhs(1))), await _anew(room, _by(nhs(1)))
    assert answer.holdings == fresh.holdings


async def test_no_more_is_kept_than_so_many_bytes(room: Room, decoded: list[int]) -> None:
    who = patient(room.member("RA2"), "H1", number=nhs(1))
    acts = [room.published("RA2", study(who, n), n) for n in range(1, 41)]
    await room.acceptor.accept(room.grpc("RA2", *acts))
    room.index.read.decoded = kept = DecodedRows(8000)
    assert len((await room.asked(_by(nhs(1)))).holdings) == len(acts)
    assert 0 < len(kept) < len(acts)
    decoded.clear()
    assert len((await room.asked(_by(nhs(1)))).holdings) == len(acts)
    assert len(decoded) > 0


class Counted:
    """A transaction whose statements are counted, by what they begin with."""

    def __init__(self, tx: Tx, statements: list[str]) -> None:
        self._tx, self._statements = tx, statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self._statements.append(sql)
        return self._tx.rows(sql, params)

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        self._statements.append(sql)
        return self._tx.row(sql, params)


async def test_a_patients_studies_are_nine_statements_of_one_reading(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = patient(room.member("RA2"), "H1", number=nhs(1))
    acts = [room.published("RA2", study(who, n), n) for n in range(1, 21)]
    await room.acceptor.accept(room.grpc("RA2", *acts))
    readings: list[list[str]] = []
    read_near = room.db.read_near

    async def counted(name: str, fn: Callable[[Any], Any], **how: Any) -> Any:
        readings.append([])
        return await read_near(name, lambda tx: fn(Counted(tx, readings[-1])), **how)

    monkeypatch.setattr(room.db, "read_near", counted)
    assert len((await room.asked(_by(nhs(1), authority=NHS))).holdings) == len(acts)
    (statements,) = readings
    assert len(statements) <= 9, statements
    assert sum(" holding " in sql for sql in statements) == 2, "the rows, and whether a study is held twice"
