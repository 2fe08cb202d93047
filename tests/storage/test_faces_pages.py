"""Pages, orders and windows of FHIR and region QIDO over the real index, on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from callers import caller
from registry_faces import NUMBER, OTHER, WHO, RegistryFaces, at, registry_faces
from registry_samples import grown

from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN
from crosslight.standards.problem import Invalid
from crosslight.standards.study import StudyTime
from registry.ask import answer
from registry.ask.question import ByPopulation, StudyFilter
from registry.dicomweb import face


@pytest.fixture
async def registry(database: Db) -> AsyncIterator[RegistryFaces]:
    async with registry_faces(database) as made:
        yield made


async def pages(registry: RegistryFaces, **params: str) -> list[dict[str, Any]]:
    """Every study of a search of the whole region, page by page."""
    found: list[dict[str, Any]] = []
    bundle = await registry.get("fhir/ImagingStudy", params=params)
    while True:
        found += [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            return found
        async with registry.http.get(following[0]) as response:
            bundle = json.loads(await response.read())


def changed(study: dict[str, Any]) -> str:
    return str(study["meta"]["lastUpdated"])


async def several(registry: RegistryFaces) -> None:
    """Studies of three trusts and two people, one without a date."""
    for seed in range(1, 10):
        changes: dict[str, Any] = {"time": StudyTime()} if seed == 4 else {}
        await registry.publish(
            *at(registry, 1 + seed % 3, seed, who=NUMBER if seed % 2 else OTHER, **changes)
        )


async def test_oldest_changes_first_and_every_window(registry: RegistryFaces) -> None:
    await several(registry)
    everything = await pages(registry, _sort="_lastUpdated")
    assert len({s["id"] for s in everything}) == len(everything) == 9
    assert [changed(s) for s in everything] == sorted(changed(s) for s in everything)
    for count in ("1", "2", "4", "9"):
        assert await pages(registry, _sort="_lastUpdated", _count=count) == everything, count
        assert await pages(registry, _sort="-_lastUpdated", _count=count) == everything[::-1], count
    for at_ in sorted({changed(s) for s in everything}):
        expected = {
            "lt": [s for s in everything if changed(s) < at_],
            "eb": [s for s in everything if changed(s) < at_],
            "le": [s for s in everything if changed(s) <= at_],
            "ge": [s for s in everything if changed(s) >= at_],
            "gt": [s for s in everything if changed(s) > at_],
            "sa": [s for s in everything if changed(s) > at_],
            "eq": [s for s in everything if changed(s) == at_],
            "ne": [s for s in everything if changed(s) != at_],
        }
        for prefix, wanted in expected.items():
            for sort, order in (("_lastUpdated", wanted), ("-_lastUpdated", wanted[::-1])):
                got = await pages(registry, _lastUpdated=f"{prefix}{at_}", _sort=sort, _count="2")
                assert [s["id"] for s in got] == [s["id"] for s in order], (prefix, sort)
    low, high = changed(everything[2]), changed(everything[6])
    params = [("_lastUpdated", f"ge{low}"), ("_lastUpdated", f"lt{high}"), ("_sort", "_lastUpdated")]
    bundle = await registry.get("fhir/ImagingStudy", params=params)
    got = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    assert got == [s for s in everything if low <= changed(s) < high]
    assert "a minute before" in json.dumps(bundle["entry"][-1]), "where the next window begins"


async def test_what_changes_while_pages_are_read_is_seen_again(registry: RegistryFaces) -> None:
    await several(registry)
    before = await pages(registry, _sort="_lastUpdated")
    bundle = await registry.get("fhir/ImagingStudy", params={"_sort": "_lastUpdated", "_count": "3"})
    home, seen = at(registry, 2, 1)
    await registry.publish(home, grown(seen, 7), replaces=1)
    home, unseen = at(registry, 1 + 8 % 3, 8, who=OTHER)
    await registry.publish(home, grown(unseen, 7), replaces=8)
    found = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    async with registry.http.get(
        next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    ) as response:
        bundle = json.loads(await response.read())
    found += [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    while following := [link["url"] for link in bundle["link"] if link["relation"] == "next"]:
        async with registry.http.get(following[0]) as response:
            bundle = json.loads(await response.read())
        found += [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    assert {s["id"] for s in found} == {s["id"] for s in before}
    last = {s["id"]: s for s in found}
    now = {s["id"]: s for s in await pages(registry, _sort="_lastUpdated")}
    assert last == now, "what was read last of each is what it is now"
    assert len(found) == 10, "the one that was seen before it changed comes twice"


async def test_by_start_either_way_with_the_undated_last(registry: RegistryFaces) -> None:
    await several(registry)
    for params in ({}, {"started": "ge2000"}, {"started": "lt2100"}):
        up, down = (
            await pages(registry, _sort="started", _count="2", **params),
            await pages(registry, _sort="-started", **params),
        )
        assert "started" not in up[-1]
        assert "started" not in down[-1]
        assert [s["id"] for s in up[:-1]] == [s["id"] for s in down[:-1]][::-1]
        assert len(up) == 9
    assert len(await pages(registry, started="ne2000-01-01", _count="4")) == 9


async def test_a_cursor_is_for_one_way_only(registry: RegistryFaces) -> None:
    await several(registry)
    question = ByPopulation(filter=StudyFilter(), limit=2, order="updated", ascending=True)
    async with registry.ask.question(
        caller(OPEN, "c"), face="fhir", action="search", question=question
    ) as answer:
        cursor = answer.cursor
    for other in (replace(question, ascending=False), replace(question, order="started")):
        with pytest.raises(Invalid):
            async with registry.ask.question(
                caller(OPEN, "c"), face="fhir", action="search", question=replace(other, cursor=cursor)
            ):
                pass


async def test_pages_through_the_whole_region(registry: RegistryFaces) -> None:
    expected = set()
    for seed in range(9):
        home, record = at(registry, 1 + seed % 3, seed)
        await registry.publish(home, record)
        expected.add(record.study_uid)
    for first in (
        {"_count": "4"},
        {"_count": "4", "_sort": "-_lastUpdated"},
        {**WHO, "_count": "4", "_sort": "_lastUpdated"},
    ):
        seen: list[str] = []
        bundle = await registry.get("fhir/ImagingStudy", params=first)
        while True:
            matches = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
            assert len(matches) <= 4
            seen += [s["identifier"][0]["value"].removeprefix("urn:oid:") for s in matches]
            following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
            if not following:
                break
            async with registry.http.get(following[0]) as response:
                bundle = await response.json(content_type=None)
        assert len(seen) == 9
        assert set(seen) == expected
    rows = [
        await registry.get("dicomweb/studies", params={"limit": "4", "offset": str(o)}) for o in (0, 4, 8)
    ]
    assert [len(r) for r in rows] == [4, 4, 1]
    assert {r["0020000D"]["Value"][0] for page in rows for r in page} == expected


@pytest.mark.parametrize("many", [4, 11])
async def test_pages_of_a_patient_with_very_many_studies(
    registry: RegistryFaces, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Read page by page in the index; also where the person grows past that number between two pages."""
    monkeypatch.setattr(answer, "MANY", many)
    for seed in range(11):
        await registry.publish(*at(registry, 1 + seed % 3, seed))
    expected, seen = await registry.uids(), list[str]()
    bundle = await registry.get("fhir/ImagingStudy", params={**WHO, "_count": "4"})
    while True:
        matches = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        seen += [s["identifier"][0]["value"].removeprefix("urn:oid:") for s in matches]
        assert (len(matches) <= 4, bundle["total"] - len(expected) in (0, 1)) == (True, True)
        if len(seen) == 4:
            await registry.publish(
                *at(registry, 4, 40, time=StudyTime(date="20991231", zone="UTC", zone_source="site"))
            )
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        assert NUMBER not in "".join(following)
        if not following:
            break
        async with registry.http.get(following[0]) as response:
            bundle = await response.json(content_type=None)
    assert (len(seen), set(seen), bundle["total"]) == (11, expected, 12)
    newest = await registry.studies(_count="1")
    assert newest[0]["started"].startswith("2099-12-31")
    assert await registry.uids(_count="50") == expected | {
        newest[0]["identifier"][0]["value"].removeprefix("urn:oid:")
    }


async def test_rows_are_made_for_the_page_alone(
    registry: RegistryFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(9):
        await registry.publish(*at(registry, 1 + seed % 3, seed))
    made, row = list[Any](), face.study_row
    monkeypatch.setattr(face, "study_row", lambda *args: made.append(args) or row(*args))
    for params, most in (
        ({"limit": "4"}, 4),
        ({"limit": "4", "offset": "8"}, 1),
        ({"ModalitiesInStudy": "CT", "limit": "4"}, 13),
    ):
        made.clear()
        rows = await registry.get("dicomweb/studies", params={"PatientID": NUMBER, **params})
        assert (len(rows), len(made)) == (min(most, 4), most), params


async def test_a_study_without_a_date_comes_once_in_any_window(registry: RegistryFaces) -> None:
    """Through both faces, over pages: it matches every date, and is one study (D22)."""
    old = at(
        registry,
        1,
        1,
        time=StudyTime(date="20190301", time="101500", zone="Europe/London", zone_source="site"),
    )
    new = at(
        registry,
        2,
        2,
        time=StudyTime(date="20250301", time="101500", zone="Europe/London", zone_source="site"),
    )
    undated = [at(registry, 1 + seed % 3, seed, time=StudyTime()) for seed in (3, 4, 5)]
    for home, record in (old, new, *undated):
        await registry.publish(home, record)
    without = {record.study_uid for _, record in undated}
    for started, expected in (("lt2024", old), ("le2019-03-01", old), ("eb2024", old), ("ge2024", new)):
        for count in ("1", "2", "3", "50"):
            seen: list[str] = []
            bundle = await registry.get("fhir/ImagingStudy", params={"started": started, "_count": count})
            while bundle is not None:
                matches = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
                seen += [s["identifier"][0]["value"].removeprefix("urn:oid:") for s in matches]
                following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
                async with registry.http.get(following[0]) if following else nullcontext() as response:
                    bundle = await response.json(content_type=None) if response is not None else None
            assert sorted(seen) == sorted({expected[1].study_uid, *without}), (started, count)
    for dates, expected in (("-20231231", old), ("20240101-", new)):
        rows = await registry.get("dicomweb/studies", params={"StudyDate": dates})
        assert sorted(r["0020000D"]["Value"][0] for r in rows) == sorted({expected[1].study_uid, *without})
        assert {len(r["00091001"]["Value"]) for r in rows} == {1}, "each has one holder"
        paged = [
            row["0020000D"]["Value"][0]
            for offset in range(5)
            for row in (
                await registry.get(
                    "dicomweb/studies", params={"StudyDate": dates, "limit": "1", "offset": str(offset)}
                )
                or []
            )
        ]
        assert sorted(paged) == sorted({expected[1].study_uid, *without})
