"""Paging laws of population questions on both databases: each study once, whatever window, order and page
size (D20, D22).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_room import Room, make_room
from registry_samples import patient, study

from crosslight.runtime.db import Db
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord, StudyTime
from registry.ask import population_pages as scan
from registry.ask.question import ByPopulation, StudyFilter
from registry.index.model import Holding

#: '' and what is no date are both undated; two begin at the same moment; the first day of a year meets the
#: bounds below exactly.
DAYS = (
    "20240101",
    "20240101",
    "20231231",
    "",
    "19991231",
    "18500101",
    "",
    "20260301",
    "0000",
    "19700101",
    "19691231",
    "",
)
BOUNDS = ("18500101", "19700101", "19991231", "20231231", "20240101", "20300101")
Range = tuple[str, str] | None


@pytest.fixture(params=[scan.STRETCH, 3], ids=["one stretch", "many"])
async def room(
    database: Db, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Room]:
    monkeypatch.setattr(scan, "STRETCH", request.param)
    made = await make_room(database)
    for seed, day in enumerate(DAYS):
        code = ("RA2", "RPC", "RTK")[seed % 3]
        record = study(patient(made.member(code), f"H{seed % 4}"), seed, instances=1)
        time = StudyTime(date=day, time="000000" if day else "", zone="UTC", zone_source="site")
        await made.publish(code, changed(record, time=time), seed + 1)
    yield made
    await made.ask.close()


def _moment(day: str) -> datetime | None:
    return datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) if day else None


def _dated(record: StudyRecord) -> bool:
    return record.time.interval() is not None


def _expected(holdings: list[Holding], bounds: Range, *, text: bool) -> set[str]:
    """The undated, and what began within the bounds: days inclusive as text, [low, high) as moments."""
    low, high = bounds or ("", "")
    return {
        h.study_uid
        for h in holdings
        if not _dated(h.record)
        or (
            (not low or h.record.time.date >= low)
            and (not high or (h.record.time.date <= high if text else h.record.time.date < high))
        )
    }


async def _pages(
    room: Room, narrow: StudyFilter, limit: int, order: Literal["started", "updated"]
) -> list[Holding]:
    found: list[Holding] = []
    cursor = ""
    for _ in range(2 * len(DAYS) + 2):
        answer = await room.asked(ByPopulation(filter=narrow, limit=limit, cursor=cursor, order=order))
        assert len(answer.holdings) <= limit
        found += answer.holdings
        cursor = answer.cursor
        if not cursor:
            return found
    raise AssertionError("the pages do not end")


ranges = st.one_of(st.none(), st.tuples(st.sampled_from(("", *BOUNDS)), st.sampled_from(("", *BOUNDS))))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=ranges,
    text=st.booleans(),
    limit=st.integers(1, len(DAYS) + 1),
    order=st.sampled_from(("started", "updated")),
)
async def test_every_window_page_by_page(
    room: Room, bounds: Range, text: bool, limit: int, order: Literal["started", "updated"]
) -> None:
    narrow = StudyFilter()
    if bounds is not None:
        moments = _moment(bounds[0]), _moment(bounds[1])
        narrow = StudyFilter(study_date=bounds) if text else StudyFilter(started=moments)
    every = [h for code in ("RA2", "RPC", "RTK") for h in await room.holdings(code)]
    found = await _pages(room, narrow, limit, order)
    uids = [h.study_uid for h in found]
    assert len(uids) == len(set(uids)), "a study comes once"
    assert set(uids) == _expected(every, bounds, text=text)
    if order == "updated":
        assert [h.updated for h in found] == sorted((h.updated for h in found), reverse=True)
        return
    starts = [interval[0] for h in found if (interval := h.record.time.interval())]
    assert starts == sorted(starts, reverse=True)
    assert [_dated(h.record) for h in found] == [True] * len(starts) + [False] * (len(found) - len(starts)), (
        "the undated come last"
    )


@pytest.mark.parametrize(("low", "high"), [("", "20231231"), ("20240101", ""), ("", "")])
async def test_one_sided_bounds_every_page_size(room: Room, low: str, high: str) -> None:
    """The bounds that took the undated twice, at each size of page."""
    whole = await _pages(room, StudyFilter(study_date=(low, high)), 1000, "started")
    assert sum(not _dated(h.record) for h in whole) == sum(len(day) < 8 for day in DAYS)
    for limit in range(1, len(DAYS) + 2):
        paged = await _pages(room, StudyFilter(study_date=(low, high)), limit, "started")
        assert [h.study_uid for h in paged] == [h.study_uid for h in whole], limit


async def test_studies_of_one_commit_page_through(room: Room) -> None:
    """``updated`` ties: rows that were committed together are told apart by their keys."""
    room.clock.moment += timedelta(hours=1)
    home = room.member("RXC")
    submissions = [
        room.grpc("RXC", room.published("RXC", study(patient(home, "T1"), 50 + n, instances=1), n))
        for n in range(1, 6)
    ]
    await room.acceptor.accept_many(submissions)
    found = await _pages(room, StudyFilter(members=("RXC",)), 2, "updated")
    assert len({h.study_uid for h in found}) == len(found) == 5
