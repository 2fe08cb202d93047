"""A retention rule with ``committed_to``: a study stays until that destination keeps every object of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import Held, held

from crosslight.standards.dicom.query.commitment import COMMITTED, CommitmentReport
from crosslight.standards.problem import Conflict
from node.archive.config import RetentionRule
from node.archive.retention import DueStudy, Survey
from node.commitment.store import CommitmentStore

OLD, DEEP, NO_SUCH_OBJECT = "1.2.70", "DEEP", 0x0112
RULE = RetentionRule(name="adults", keep_years=8, committed_to=DEEP)


class Asking:
    """An archive, and what its destinations say."""

    def __init__(self, here: Held) -> None:
        self.here, self.store = here, CommitmentStore(here.db, here.clock)
        here.archive.retention.committed = CommitmentStore.committed_tx
        self.number = 0

    async def due(self) -> tuple[list[DueStudy], int]:
        """What may go, and how many studies wait to be committed to."""
        survey = Survey()
        return [one async for one in self.here.archive.retention.due(survey)], survey.uncommitted.studies

    async def uids(self) -> list[str]:
        return [stored.ref.sop_uid for stored in await self.here.archive.objects(OLD)]

    async def said(self, verdicts: dict[str, int], *, peer: str = DEEP) -> None:
        """Ask ``peer`` about these, and have it say that."""
        self.number += 1
        self.here.clock.ahead += timedelta(seconds=1)
        await self.store.ask(f"1.9.{self.number}", peer, OLD, list(verdicts))
        report = CommitmentReport(transaction_uid=f"1.9.{self.number}", verdicts=verdicts)
        await self.store.report(peer, report)


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    async with held(tmp_path, retention=(RULE,)) as here:
        for number in (1, 2):
            await here.put(make.image(number, study=OLD, StudyDate="20100101"))
        yield Asking(here)


async def test_it_waits_for_a_word_on_every_object(asking: Asking) -> None:
    assert await asking.due() == ([], 1), "nobody was asked, and nobody can have been"
    await asking.store.open()
    first, second = await asking.uids()
    await asking.said({first: COMMITTED, second: NO_SUCH_OBJECT})
    assert await asking.due() == ([], 1)
    await asking.said({second: COMMITTED}, peer="ANOTHER")
    assert await asking.due() == ([], 1)
    await asking.store.ask("1.8.1", DEEP, OLD, [second])
    assert await asking.due() == ([], 1), "asked, and not answered"
    await asking.said({second: COMMITTED})
    (one,), waiting = await asking.due()
    assert (one.study.study_uid, waiting) == (OLD, 0)
    assert await asking.here.archive.retention.delete(one) == 2


async def test_the_last_word_counts(asking: Asking) -> None:
    await asking.store.open()
    first, second = await asking.uids()
    await asking.said({first: COMMITTED, second: COMMITTED})
    (one,), _ = await asking.due()
    await asking.said({first: NO_SUCH_OBJECT})
    assert await asking.due() == ([], 1)
    with pytest.raises(Conflict):
        await asking.here.archive.retention.delete(one)
    assert len(await asking.uids()) == 2


async def test_what_came_in_since_is_not_committed_to(asking: Asking) -> None:
    await asking.store.open()
    await asking.said(dict.fromkeys(await asking.uids(), COMMITTED))
    await asking.here.put(make.image(3, study=OLD, StudyDate="20100101"))
    assert await asking.due() == ([], 1)
    await asking.said(dict.fromkeys(await asking.uids(), COMMITTED))
    (_,), _ = await asking.due()


async def test_nothing_goes_where_nobody_says_who_has_committed(tmp_path: Path) -> None:
    async with held(tmp_path, retention=(RULE,)) as here:
        await here.put(make.image(1, study=OLD, StudyDate="20100101"))
        assert [one async for one in here.archive.retention.due()] == []
