"""Completeness concerns the patient asked for: a registry and two nodes, others' studies arriving all the
time (D19).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import dicom_objects as make
import pydicom
import pytest
from pydicom.dataset import Dataset
from scenario_hand import HOST, Hand, set_keys, slices
from scenario_processes import until

from crosslight.client.dimse import DimseClient
from crosslight.standards.ids import NHS_NUMBER_SYSTEM
from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROOT = "1.2.826.0.1.3680043.10.91"
PATIENT, REFUSED, NOBODY = nhs_number(9101), nhs_number(9102), nhs_number(9199)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    """Two nodes; at RTK a study is published eight seconds after its objects, so that some wait all the
    time."""
    hand = Hand(tmp_path_factory.mktemp("complete"), {"RTK": "grpc", "RXC": "grpc"})
    try:
        hand.make_registry()
        hand.serve("registry")
        hand.told()
        asyncio.run(hand.up("registry"))
        for code in ("RTK", "RXC"):
            hand.make_node(code)
        set_keys(hand.folders["RTK"] / "node.toml", "publish", first_s=8, quiet_s=8)
        for code in ("RTK", "RXC"):
            hand.serve(code)
        asyncio.run(hand.up("RTK", "RXC"))
        yield hand
    finally:
        hand.close()


async def store(hand: Hand, code: str, datasets: list[Dataset]) -> None:
    """C-STORE, as the PACS does."""
    client = DimseClient(HOST, hand.node_base(code) + 2, called=code, calling="PACS1")
    files = [pydicom.dcmread(io.BytesIO(make.part10(ds))) for ds in datasets]
    assert await asyncio.to_thread(client.store, files) == len(files)


@asynccontextmanager
async def arriving(hand: Hand) -> AsyncIterator[None]:
    """Other patients' studies come to RTK, one after another, until the end."""

    async def come() -> None:
        for n in count(1):
            ds = slices(f"{ROOT}.9.{n}", 1, local=f"O{n}", national=nhs_number(20_000 + n))
            await store(hand, "RTK", ds)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(come())
    try:
        yield
    finally:
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def states(hand: Hand, query: str) -> dict[str, dict[str, str]]:
    """Crosslight-Coverage of one FHIR question: code -> what it says."""
    told = hand.told()
    answer = await told.http("GET", f"{told.registry['fhir']}/{query}", token=told.token("clinician"))
    assert answer.status == 200, answer.body
    parts = [part.strip().split(";") for part in answer.headers["Crosslight-Coverage"].split(",")]
    return {code: dict(said.split("=", 1) for said in more) for code, *more in parts}


def studies(number: str) -> str:
    return f"ImagingStudy?patient.identifier={NHS_NUMBER_SYSTEM}|{number}"


async def test_others_studies_on_their_way_make_no_list_incomplete(region: Hand) -> None:
    await store(region, "RXC", slices(f"{ROOT}.1", 1, local="P1", national=PATIENT))
    await until("the study is listed", lambda: region.holds({f"{ROOT}.1": 1}), 40)
    await until("every list is counted", region.counted, 40)
    async with arriving(region):
        while_others_wait = 0

        async def looked() -> bool:
            nonlocal while_others_wait
            before = await states(region, "Organization")
            own, nobody = await states(region, studies(PATIENT)), await states(region, studies(NOBODY))
            proven = await region.counted()
            after = await states(region, "Organization")
            assert {m["state"] for m in (*own.values(), *nobody.values())} == {"live"}
            assert proven, "absence is proven of somebody whose studies do not wait"
            while_others_wait += before["RTK"]["state"] == after["RTK"]["state"] == "behind"
            return while_others_wait >= 8

        await until("it was looked at while others' studies waited", looked, 60)
        # under a number not known before
        await store(region, "RTK", slices(f"{ROOT}.2", 1, local="P2", national=PATIENT))

        async def behind() -> bool:
            return (await states(region, studies(PATIENT)))["RTK"]["state"] == "behind"

        await until("its own study waits", behind, 18)
        assert (await states(region, studies(NOBODY)))["RTK"]["state"] == "live"

        async def listed() -> bool:
            found = set((await region.told().by_number(PATIENT)).study_uids)
            return found == {f"{ROOT}.1", f"{ROOT}.2"} and not await behind()

        await until("it is listed, and waits no more", listed, 40)


async def test_a_refused_study_is_the_operators_and_its_patients(region: Hand) -> None:
    (one,) = slices(f"{ROOT}.3", 1, local="R1", national=REFUSED)
    one.StudyDescription = "x" * 10_500  # longer than the registry takes
    await store(region, "RTK", [one])
    told = region.told()

    async def parked() -> bool:
        ready = await told.http("GET", f"{region.url('registry')}/health/ready")
        return b'"parked":1' in ready.body.replace(b" ", b"") and await region.counted()

    await until("it is refused, and all else is settled", parked, 60)
    for _ in range(3):
        assert {m["state"] for m in (await states(region, studies(PATIENT))).values()} == {"live"}
        assert (await states(region, "Organization"))["RTK"]["state"] == "live", "no list is behind for ever"
    its = (await states(region, studies(REFUSED)))["RTK"]
    assert (its["state"], its["refused"]) == ("behind", "patient")
    answer = await told.by_number(REFUSED)
    assert "images of this patient were refused" in str(answer.issues)
    assert "does not prove" in str(answer.issues)
    metrics = (await told.http("GET", f"{region.url('registry')}/metrics")).body.decode()
    assert 'crosslight_member_parked{member="RTK"} 1' in metrics

    async def shown() -> bool:  # the command reads what the running registry wrote a second ago
        said = region.command("registry", "members").output
        return (said.count("refused 1,"), said.count("refused 0,")) == (1, 1)

    await until("members shows it", shown, 20)
    assert "1 studies" in region.command("registry", "doctor").output
    assert f"{ROOT}.3" in region.command("RTK", "status").output
    for name in ("registry", "RTK"):
        log = region.running[name].output
        assert PATIENT not in log
        assert REFUSED not in log
