"""Who reads a foreign source's manifests, and when: the enricher by itself, and of several processes over one
index one (ADR 0031); on both databases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from foreign_region import REPOSITORY
from manifest_source import ManifestSource, kos, manifest_source
from registry_room import TestClock
from scenario_processes import until

from crosslight.runtime.db import Db
from crosslight.standards.ids import MemberId
from registry.identity.model import RecordKey
from registry.index.imaging_documents import DocumentKey
from registry.index.leases import Leases
from registry.index.model import HoldingKey


@pytest.fixture
async def source(database: Db) -> AsyncIterator[ManifestSource]:
    async with manifest_source(database) as made:
        yield made


async def test_the_enricher_finds_by_itself_what_waits(source: ManifestSource) -> None:
    """What was registered before the address was known, too."""
    await source.region.register(
        source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)]), "which?", references=())
    )
    await source.region.register(
        source.repository.holds(kos("1.2.6", [("1.2.6.1", 2)]), "named", study_uid="1.2.6")
    )
    source.enricher.start()

    async def both_are_counted() -> bool:
        return {s.get("numberOfInstances") for s in await source.region.studies()} == {4, 2}

    await until("both are read", both_are_counted, 60)
    await source.enricher.stop()
    assert await source.unread() == 0


# --- several processes over one index (ADR 0031) ------------------------------------------------------------


async def _registered(source: ManifestSource, first: int, count: int) -> set[str]:
    """Register so many manifests, of which every other one names no study; their uniqueIds."""
    made = [
        source.repository.holds(
            kos(f"1.2.{n}", [(f"1.2.{n}.1", 2)]),
            f"study {n}",
            study_uid=f"1.2.{n}",
            references=() if n % 2 else None,
        )
        for n in range(first, first + count)
    ]
    await source.region.register(*made)
    return {one.entry.unique_id for one in made}


async def _all_read(source: ManifestSource, count: int) -> None:
    async def read() -> bool:
        return [s.get("numberOfInstances") for s in await source.region.studies()] == [2] * count

    await until("all are read", read, 60)


async def test_of_two_processes_one_fetches_each_manifest(source: ManifestSource) -> None:
    """Both look for what waits, and both are told of what comes; each manifest is fetched once."""
    both = (source.enricher, source.another())
    changes = source.region.xds.index.changes
    wanted = await _registered(source, 10, 6)
    for enricher in both:
        enricher.start()
    await _all_read(source, 6)
    start = await changes.head()
    wanted |= await _registered(source, 30, 4)
    told = (await changes.after(start)).changes
    for enricher in both:
        enricher.changed(told)
    await _all_read(source, 10)
    for enricher in both:
        await enricher.stop()
    assert sorted(uid for uid, _ in source.repository.asked) == sorted(wanted)


async def test_what_a_killed_process_was_at_is_taken_up_when_its_lease_has_ended(
    source: ManifestSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is its lease, which nobody extends or gives back."""
    (wanted,) = await _registered(source, 10, 1)
    index = source.region.xds.index
    member = await source.region.xds.foreign(REPOSITORY)
    (key,) = await index.unenriched([member.id], 9)
    assert await index.leases.take(key, "killed", 2.0)
    take, taken = index.leases.take, list[bool]()

    async def noted(*asked: Any) -> bool:
        taken.append(await take(*asked))
        assert taken[-1] or not source.repository.asked
        return taken[-1]

    monkeypatch.setattr(index.leases, "take", noted)
    source.enricher.start()
    await _all_read(source, 1)
    await source.enricher.stop()
    assert taken[0] is False
    assert [uid for uid, _ in source.repository.asked] == [wanted]


async def test_a_lease_is_one_holders_until_it_ends(source: ManifestSource) -> None:
    leases = Leases(source.region.xds.db, clock := TestClock())
    one, other = HoldingKey(RecordKey(7), "1.2.3", MemberId(3)), DocumentKey(MemberId(3), "urn:uuid:1")
    assert await leases.take(one, "a", 60)
    assert not await leases.take(one, "b", 60)
    assert await leases.take(other, "b", 60)
    clock.moment += timedelta(seconds=50)
    await leases.extend([one, other], "a", 60)
    clock.moment += timedelta(seconds=20)
    assert not await leases.take(one, "b", 60)
    assert await leases.take(other, "a", 60), "nobody extended it"
    await leases.extend([other], "b", 60)
    await leases.give_back([one, other], "b")
    assert not await leases.take(one, "b", 60), "who does not hold it gives nothing back"
    await leases.give_back([one, other], "a")
    assert await leases.take(one, "b", 60)
