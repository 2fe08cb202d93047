"""What publication costs in statements: the same for each study, however many others there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from publish_fakes import MARK_TABLE, SeededIds, StrictRegistry
from publish_node import Node, node
from publish_records import make_patient, make_record

from crosslight.runtime.db import SqliteDb, Tx
from crosslight.runtime.db.sqlite_tx import SqliteTx
from node.marks import Marks
from node.publish.store import PublishStore


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is run from now on."""
    run: list[str] = []

    def counting(right: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tx: SqliteTx, sql: str, *more: Any) -> Any:
            run.append(sql)
            return right(tx, sql, *more)

        return counted

    for name in ("execute", "rows", "row", "each"):
        monkeypatch.setattr(SqliteTx, name, counting(getattr(SqliteTx, name)))
    return run


async def _publish(here: Node, study_uid: str, statements: list[str]) -> tuple[int, int]:
    """How many statements a study takes to be revised, and to be delivered."""
    await here.archive.put(make_record(study_uid, 1, patient=make_patient("A1")), 1)
    await here.revise()
    statements.clear()
    here.publisher.reviser._schedule.at_once(study_uid, here.clock.monotonic_s())
    await here.publisher.reviser.revise_due()
    made = len(statements)
    await here.deliver(1)
    return made, len(statements) - made


async def test_a_study_costs_the_same_however_many_were_before_it(
    tmp_path: Path, statements: list[str]
) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        costs = [await _publish(here, f"1.2.5.{n}", statements) for n in range(30)]
        assert costs[3] == costs[29], costs
        assert costs[29][1] <= 22, "take, GetDocuments, ITI-8, settle"
        statements.clear()
        await here.revise(5.0)
        assert [sql for sql in statements if "mark" in sql] == statements, (
            "nothing changed: the marks are asked, once"
        )
        assert len(statements) == 1
        statements.clear()
        await here.publisher.status()
        assert len(statements) <= 6, statements


async def test_studies_of_before_the_start_are_all_found_a_page_at_a_time(tmp_path: Path) -> None:
    db, marks = SqliteDb(tmp_path / "node.db"), Marks()
    try:
        store = PublishStore(db, SeededIds(), ["region"])
        await store.open()

        def fill(tx: Tx) -> None:
            tx.execute(MARK_TABLE)
            for n in range(2_300):
                marks.touch_tx(tx, f"1.2.{n:05d}", 1.0)

        await db.write("fill", fill)
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page, after = await store.unseen(after, 500)
            assert len(page) <= 1_000
            found += [mark.study_uid for mark, known in page if not known]
        assert found == [f"1.2.{n:05d}" for n in range(2_300)]
    finally:
        await db.close()
