"""Lost acknowledgements end to end (D15): every kind of message delivered, its answer lost, and nothing is
doubled.

The registry is the real one and follows the standard strictly on SOAP: it refuses replays. What it holds
after each step of a study's life is compared with a life in which nothing was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from lossy_proxy import LossyProxy
from road_studies import NHS, NUMBER, image
from whole_region import Home, Whole, whole_region

from crosslight.standards.membership import RegistryAddresses
from crosslight.standards.xds.model import vocabulary as v

CODE, UID = "RTK", "1.2.9.60"
CX = f"{NUMBER}^^^&{NHS}&ISO"
# ITI TF-2 3.18.4.1.2.4
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_SUBMISSION_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
REGISTER, UPDATE, REMOVE, FEED = (
    b"RegisterDocumentSet-b",
    b":UpdateDocumentSet",
    b":DeleteDocumentSet",
    b"ADT^A0",
)


@dataclass
class Line:
    """The node's lines to the registry, each through a proxy."""

    soap: LossyProxy
    mllp: LossyProxy
    grpc: LossyProxy

    def through(self, told: RegistryAddresses) -> RegistryAddresses:
        """The registry's addresses as the node is told them."""
        for proxy, address in ((self.soap, told.systems), (self.mllp, told.mllp), (self.grpc, told.grpc)):
            proxy.port = int(address.rpartition(":")[2])
        return replace(
            told, systems=f"http://{self.soap.address}", grpc=self.grpc.address, mllp=self.mllp.address
        )


async def held(region: Whole) -> dict[str, Any]:
    """What the registry has: counts of objects by kind and status, asked by patient and again by id, and the
    faces' rows.
    """
    await region.enriched(*(h.study_uid for h in await region.holdings(UID) if h.state == "approved"))
    everything = (await region.all_of(CX, v.APPROVED, v.DEPRECATED)).objects
    documents = [d.entry_uuid for d in everything.documents]
    listed = ["(" + ",".join(f"'{uuid}'" for uuid in documents) + ")"]
    by_id = (
        (await region.stored_query(GET_DOCUMENTS, {"$XDSDocumentEntryEntryUUID": listed})).objects
        if documents
        else None
    )
    links = (await region.stored_query(GET_ASSOCIATIONS, {"$uuid": listed})).objects if documents else None
    sets = (await region.stored_query(GET_SUBMISSION_SETS, {"$uuid": listed})).objects if documents else None
    names = Counter(
        o.entry_uuid for o in (*everything.documents, *everything.submissions, *everything.associations)
    )
    assert set(names.values()) <= {1}, "an object stands twice"
    return {
        "documents": sorted(d.status for d in everything.documents),
        "submissions": len(everything.submissions),
        "associations": Counter(a.type for a in everything.associations),
        "by id": sorted(d.status for d in by_id.documents) if by_id else [],
        "links of them": Counter(a.type for a in links.associations) if links else {},
        "sets of them": len(sets.submissions) if sets else 0,
        "fhir": [s["numberOfInstances"] for s in await region.studies_of(NUMBER)],
        "qido": len(await region.rows_of(PatientID=NUMBER)),
        "census": (await region.registry.index.census(region.registry.members.all()[0].id)).studies,
    }


async def _withdrawn(home: Home) -> None:
    await home.app.archive.delete(UID, "wrong patient")
    await home.add([image(60, 1, 9, PatientID="L-2")])


def _steps(home: Home) -> list[tuple[str, tuple[bytes, ...], Callable[[], Awaitable[Any]]]]:
    archive = home.app.archive
    return [
        ("fresh", (FEED, REGISTER), lambda: home.add([image(60)])),
        ("replaced", (REGISTER,), lambda: home.add([image(60, 1, 2)])),
        ("deleted", (UPDATE,), lambda: archive.delete(UID, "test")),
        ("restored", (UPDATE,), lambda: archive.restore(UID)),
        ("moved", (REMOVE, FEED, REGISTER), lambda: _withdrawn(home)),
    ]


async def life(folder: Path, road: str, times: int) -> dict[str, dict[str, Any]]:
    """A study's life, each message's answer lost ``times`` times; what the registry held after each step."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(LossyProxy()) for _ in range(3)]
        line = Line(*proxies)
        region = await stack.enter_async_context(whole_region(folder, {CODE: road}, through=line.through))
        home, said = region.homes[CODE], {}
        for name, markers, act in _steps(home):
            if road == "grpc":
                line.grpc.lose(UID.encode(), times, _changed_since_now(region))
            for marker in markers if road == "soap" else ():
                # What was lost on SOAP is asked for, never sent again: the second time the answer to the
                # question is lost.
                line.mllp.lose(marker, times) if marker == FEED else line.soap.lose(marker, min(times, 1))
            if road == "soap" and times == 2:
                line.soap.lose(GET_DOCUMENTS.encode(), 1)
            home.hold()
            await act()
            await home.release()
            for loss in (loss for proxy in proxies for loss in proxy.losses):
                assert loss.lost == loss.times, (
                    f"{name}: the answer to {loss.marker!r} was lost {loss.lost} times"
                )
            for proxy in proxies:
                proxy.losses.clear()
            said[name] = await held(region)
        return said


def _changed_since_now(region: Whole) -> Callable[[], bool]:
    """Whether the registry has accepted anything since; of an idempotent road, what is sent again changes
    nothing more.
    """
    commits: list[int] = []
    region.registry.parts.waists.changed.add(lambda changes: commits.append(len(changes)))
    return lambda: any(commits)


def check(said: dict[str, dict[str, Any]]) -> None:
    """A life without losses, as D16 has it."""
    one, two = v.APPROVED, v.DEPRECATED
    assert [said[name]["documents"] for name in said] == [[one], [one, two], [two, two], [one, two], [one]]
    assert [said[name]["fhir"] for name in said] == [[1], [2], [], [2], [1]]
    assert [said[name]["qido"] for name in said] == [1, 1, 0, 1, 1]
    assert [said[name]["census"] for name in said] == [1, 1, 0, 1, 1]


@pytest.mark.scenario
@pytest.mark.parametrize("road", ["soap", "grpc"])
async def test_nothing_is_doubled_when_answers_are_lost(tmp_path: Path, road: str) -> None:
    expected = await life(tmp_path / "0", road, 0)
    check(expected)
    for times in (1, 2):
        said = await life(tmp_path / str(times), road, times)
        for name, there in expected.items():
            assert said[name] == there, (name, times)
