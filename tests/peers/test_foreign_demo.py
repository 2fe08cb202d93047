"""``crosslight demo --foreign``: a region beside Orthanc, dcmqrscp, a folder and an object store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from scenario_demo import Demo, assert_story_told
from scenario_processes import until

from benchmarks.peers import child
from crosslight.client.dicomweb import dataset_bytes
from simulations.foreign_story import FOREIGN_STEPS
from simulations.layout import WORKSTATION_AET, WORKSTATION_AFTER
from simulations.upstreams.dcmqrscp import INDEX

pytestmark = pytest.mark.timeout(1500)  # Maven may have everything to fetch

KINDS = {
    "the node's own archive",
    "dcmqrscp, by DIMSE",
    "Orthanc, by DICOMweb",
    "Orthanc, by DIMSE",
    "a folder of Part 10 files",
    "an object store (S3)",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("foreign"), ("--foreign", "--restart-after", "2"), members=6)
    try:
        made.first = made.once()
        yield made
    finally:
        made.close()


def test_the_story_holds_and_every_process_ends(demo: Demo) -> None:
    assert demo.first is not None
    assert_story_told(demo.first, FOREIGN_STEPS)
    for kind in KINDS:
        assert kind in demo.first.output, f"{kind} is not in the table"
    assert demo.first.output.count("each equal byte for byte") == 7
    assert not demo.family.alive(), "programs of others end with ours"


async def test_a_workstation_fetches_from_an_archive_that_its_node_stands_beside(
    demo: Demo, tmp_path: Path
) -> None:
    """C-MOVE to DCMTK's storescp, of a study that lies in dcmqrscp: the same bytes as there."""
    told = demo.up()
    traveller = max(told["patients"], key=lambda p: len(p["studies"]))
    (study,) = [s for s in traveller["studies"] if s["node"] == "RAL" and s["modality"] == "MR"]
    host, port = told.node("RAL")["dimse"].split(":")
    own = str(int(port) + WORKSTATION_AFTER)
    storing = ["/usr/bin/storescp", "+B", "-aet", WORKSTATION_AET, "-od", str(tmp_path), own]
    async with child(storing, int(own), tmp_path.parent / "storescp.log"):
        titles = ["-aet", WORKSTATION_AET, "-aec", "RAL", "-aem", WORKSTATION_AET]
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study['study_uid']}"]
        moving = await asyncio.create_subprocess_exec("/usr/bin/movescu", "-S", *titles, *keys, host, port)
        assert await asyncio.wait_for(moving.wait(), 120) == 0
    area = demo.data / "archives" / "RAL-dcmqrscp" / "area"
    there = {digest(p) for p in area.iterdir() if p.name != INDEX and study_of(p) == study["study_uid"]}
    came = [digest(path) for path in tmp_path.iterdir()]
    assert len(came) == len(there) == study["instances"]
    assert set(came) == there


def digest(path: Path) -> str:
    """Of the data set of a Part 10 file."""
    return hashlib.sha256(dataset_bytes(path.read_bytes())).hexdigest()


def study_of(path: Path) -> str:
    return str(dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


async def test_a_second_start_follows_what_is_done_in_an_archive(demo: Demo) -> None:
    told = demo.up()
    try:
        behind = [one for node in told["nodes"] for one in node["archives"]]
        assert len(behind) == 7
        assert {one["kind"] for one in behind} == KINDS
        traveller = max(told["patients"], key=lambda p: len(p["studies"]))
        assert len({s["node"] for s in traveller["studies"]}) == 6
        (folder,) = [one["address"] for one in told.node("RAN")["archives"]]
        (study,) = [s for s in traveller["studies"] if s["node"] == "RAN" and s["modality"] == "CT"]
        files = sorted(Path(folder, study["study_uid"]).iterdir())
        assert (await told.study(study["study_uid"])).matches[0]["numberOfInstances"] == len(files) == 2
        files[0].unlink()

        async def one_less() -> bool:
            return (await told.study(study["study_uid"])).matches[0]["numberOfInstances"] == 1

        await until("the region follows the folder", one_less, 60)
    finally:
        assert demo.running is not None
        assert demo.running.stop() == 0
    assert not demo.family.alive()
