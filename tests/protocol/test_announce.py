"""A node tells a peer of what settled there (Instance Availability Notification, PS3.4 R): to pynetdicom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from joserfc.jwk import ECKey
from node_parts import node_ground
from node_serving import MEMBER, SERVED_REGION
from notified_peer import Taken, named, notified_peer
from ports import free_ports
from pydicom.dataset import Dataset

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.service_life import Life
from node.announce import announcer as announcing
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.config import NodeConfig
from node.dimse.config import DimseConfig, KnownDestination
from node.holdings import Received
from node.parts import make_announcer

OTHER = "1.2.826.0.1.3680043.10.1.2"


@asynccontextmanager
async def telling(
    folder: Path, port: int, bin_days: float = 30.0, **settings: Any
) -> AsyncIterator[tuple[Archive, AuditLog]]:
    """A node that tells RIS, and does not tell WS_1."""
    there = (
        KnownDestination(ae_title="RIS", host="127.0.0.1", port=port, notify=True),
        KnownDestination(ae_title="WS_1", host="127.0.0.1", port=1),
    )
    dimse = DimseConfig(destinations=there, ae_title="RTK", **{"notify_after_s": 0.2, **settings})
    config = NodeConfig(dimse=dimse, archive=ArchiveConfig(bin_days=bin_days))
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    async with (
        node_ground(folder, MEMBER, SERVED_REGION, key, config=config) as (ground, archive),
        Life() as life,
    ):
        announcer = make_announcer(ground, archive)
        assert announcer is not None
        await announcer.open()
        life.runs(announcer.run())
        yield archive, ground.audit


async def put(archive: Archive, *objects: Dataset) -> None:
    for one in objects:
        staged = archive.stage()
        staged.write(make.part10(one))
        result = await archive.ingest_async(staged, Received(road="import", peer="test"))
        assert result.state == "stored"


async def heard(taken: Taken, wanted: list[str]) -> Dataset:
    """The first notification of these instances."""
    async with asyncio.timeout(40):
        while True:
            _, said = await asyncio.to_thread(taken.get, True, 30)
            if named(said) == wanted:
                return said


async def test_a_study_that_settled_is_told_of_as_the_standard_has_it(tmp_path: Path) -> None:
    (port,), taken = free_ports(1), Taken()
    async with telling(tmp_path / "node", port) as (archive, _):
        await put(archive, make.image(9, study=OTHER))
    with notified_peer(port, taken):
        async with telling(tmp_path / "node", port) as (archive, audit):
            await put(archive, make.image(1), make.image(2))
            said = await heard(taken, [f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"])
            # PS3.4 Table R.3.2-1; more is forbidden
            assert {element.keyword for element in said} == {
                "ReferencedPerformedProcedureStepSequence",
                "StudyInstanceUID",
                "ReferencedSeriesSequence",
            }
            assert said.StudyInstanceUID == make.STUDY
            (series,) = said.ReferencedSeriesSequence
            item = series.ReferencedSOPSequence[0]
            assert (series.SeriesInstanceUID, item.ReferencedSOPClassUID) == (f"{make.STUDY}.1", make.CT)
            assert (item.InstanceAvailability, item.RetrieveAETitle) == ("ONLINE", "RTK")
            acts = [act for act in await audit.search() if act.action == "announce"]
            assert (make.STUDY,) in [act.studies for act in acts]
            assert {act.who.name for act in acts} == {"RIS"}


async def test_what_a_peer_did_not_take_is_told_again_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_FIRST_S", 0.1)
    (port,), taken, answers = free_ports(1), Taken(), iter([0x0213, 0x0110])
    async with telling(tmp_path, port) as (archive, _):
        await put(archive, make.image(1))
        await asyncio.sleep(0)
        with notified_peer(port, taken, _next(answers)):
            await heard(taken, [f"{make.STUDY}.1.1"])
            await put(archive, make.image(2))
            await heard(taken, [f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"])
    assert next(answers, None) is None, "it refused twice"
    assert taken.empty(), "what was taken is not said again"


def _states(said: Dataset) -> dict[str, str]:
    return {
        str(item.ReferencedSOPInstanceUID): str(item.InstanceAvailability)
        for series in said.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


async def test_what_was_told_of_and_is_gone_is_said_to_be_unavailable(tmp_path: Path) -> None:
    (port,), taken = free_ports(1), Taken()
    first, second = f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"
    with notified_peer(port, taken):
        async with telling(tmp_path, port) as (archive, _):
            await put(archive, make.image(1), make.image(2))
            assert set(_states(await heard(taken, [first, second])).values()) == {"ONLINE"}
            await put(archive, make.note("113001", [make.image(2)], number=9))
            said = await heard(taken, [first, second])
            assert _states(said) == {first: "ONLINE", second: "UNAVAILABLE"}
            item = said.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
            assert item.RetrieveAETitle == "RTK", "type 1, whatever is available"
            await archive.delete(make.STUDY, "test")
            said = await heard(taken, [first])
            assert _states(said) == {first: "UNAVAILABLE"}, "and the other no second time"
            assert said.StudyInstanceUID == make.STUDY
            await archive.restore(make.STUDY)
            assert _states(await heard(taken, [first])) == {first: "ONLINE"}


async def test_a_peer_that_was_away_is_told_though_all_is_purged(tmp_path: Path) -> None:
    (port,), taken = free_ports(1), Taken()
    one = f"{make.STUDY}.1.1"
    async with telling(tmp_path, port, bin_days=0) as (archive, _):
        with notified_peer(port, taken):
            await put(archive, make.image(1))
            await heard(taken, [one])
        await archive.delete(make.STUDY, "test")
        assert await archive.purge() == 1
    with notified_peer(port, taken):
        async with telling(tmp_path, port):
            assert _states(await heard(taken, [one])) == {one: "UNAVAILABLE"}


async def test_what_nobody_was_told_of_goes_without_a_word(tmp_path: Path) -> None:
    (port,), taken = free_ports(1), Taken()
    async with telling(tmp_path, port) as (archive, _):
        await put(archive, make.image(1))
        await archive.delete(make.STUDY, "test")
        await put(archive, make.image(1, study=OTHER))
        with notified_peer(port, taken):
            await heard(taken, [f"{OTHER}.1.1"])
        assert taken.empty()


async def test_a_large_study_is_told_of_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "MOST_INSTANCES", 2)
    monkeypatch.setattr(announcing, "_FIRST_S", 0.1)
    (port,), taken = free_ports(1), Taken()
    async with telling(tmp_path, port) as (archive, _):
        await put(archive, *(make.image(n) for n in (1, 2, 3)))
        await archive.catch_up()
        with notified_peer(port, taken):  # not before all is there
            found: dict[str, list[str]] = {}
            while sum(map(len, found.values())) < 3:
                uid, said = await asyncio.to_thread(taken.get, True, 30)
                found[uid] = named(said)
    assert sorted(map(len, found.values())) == [1, 2]


def _next(answers: Any) -> Callable[[], int]:
    return lambda: next(answers, 0)
