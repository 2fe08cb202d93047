"""The registry is killed: store, find and retrieve go on at the node, and so do the region's lists."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from aiohttp import ClientSession
from dicom_objects import part10
from scenario_hand import HOST, Hand, set_keys, slices
from scenario_processes import until

from crosslight.client.dimse import DimseClient
from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.tls import client_context
from crosslight.standards.hl7.ack import Ack, parse_ack
from crosslight.standards.ids import NHS_NUMBER_OID, NHS_NUMBER_SYSTEM
from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
ROOT = "1.2.826.0.1.3680043.10.91"
FIRST, SECOND = f"{ROOT}.1", f"{ROOT}.2"
PATIENT, LATER = nhs_number(9101), nhs_number(9102)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    """A registry and one node that listens to orders."""
    hand = Hand(tmp_path_factory.mktemp("continuity"), {"RTK": "grpc"})
    try:
        hand.make_registry()
        _set_list(hand.folders["registry"] / "registry.toml", "order_lists", "RTK")
        hand.serve("registry")
        hand.told()
        asyncio.run(hand.up("registry"))
        hand.make_node("RTK")
        path = hand.folders["RTK"] / "node.toml"
        set_keys(path, "continuity", enabled=True, port=order_port(hand))
        _set_list(path, "senders", HOST)
        hand.serve("RTK")
        asyncio.run(hand.up("RTK"))
        yield hand
    finally:
        hand.close()


def _set_list(path: Path, key: str, value: str) -> None:
    text, count = re.subn(rf"(?m)^# {key} = .*$", f'{key} = ["{value}"]', path.read_text())
    assert count == 1
    path.write_text(text)


def order_port(hand: Hand) -> int:
    return hand.node_base("RTK") + 4


async def store(hand: Hand, study: str, *, local: str, national: str) -> None:
    """C-STORE of one object, as the PACS does."""
    client = DimseClient(HOST, hand.node_base("RTK") + 2, called="RTK", calling="PACS1")
    files = [
        pydicom.dcmread(io.BytesIO(part10(ds))) for ds in slices(study, 1, local=local, national=national)
    ]
    assert await asyncio.to_thread(client.store, files) == 1


async def send(hand: Hand, number: str, national: str, control: str = "NW") -> Ack:
    message = (
        f"MSH|^~\\&|RIS|RTK|NODE|RTK|20261201||ORM^O01|{number}|P|2.3.1\r"
        f"PID|1||L1^^^RTK~{national}^^^NHS^NH||Doe^Jane\rORC|{control}|{number}\rOBR|1|{number}||CT\r"
    )
    client = MllpClient(HOST, order_port(hand))
    try:
        return parse_ack(await client.send(message.encode()))
    finally:
        await client.close()


@asynccontextmanager
async def as_system(hand: Hand) -> AsyncIterator[ClientSession]:
    """With the certificate of a registered system, which a node checks without its registry."""
    tls = hand.told()["tls"]
    context = client_context(tls["ca"], tls["client_cert"], tls["client_key"])
    async with client_session(context) as session:
        yield session


async def kept(hand: Hand, national: str) -> tuple[int, dict[str, Any]]:
    """The list at the node: status and body."""
    url = f"https://{HOST}:{hand.node_base('RTK') + 3}/kept/ImagingStudy"
    query = {"patient.identifier": f"{NHS_NUMBER_SYSTEM}|{national}"}
    async with as_system(hand) as http, http.get(url, params=query) as response:
        return response.status, json.loads(await response.read())


def listed(bundle: dict[str, Any]) -> list[str]:
    return [
        entry["resource"]["identifier"][0]["value"].removeprefix("urn:oid:")
        for entry in bundle["entry"]
        if entry["search"]["mode"] == "match"
    ]


async def found(hand: Hand, study: str) -> list[Any]:
    """QIDO-RS and WADO-RS at the node: the study's rows, after its objects were read whole."""
    base = f"https://{HOST}:{hand.node_base('RTK') + 3}/dicomweb/studies"
    async with as_system(hand) as http:
        async with http.get(base, params={"StudyInstanceUID": study}) as response:
            assert response.status == 200
            rows: list[Any] = json.loads(await response.read())
        async with http.get(f"{base}/{study}") as response:
            assert response.status == 200
            assert b"DICM" in await response.read()
    return rows


async def acts(hand: Hand) -> list[Audited]:
    """The node's audit, once it has stopped."""
    db = SqliteDb(hand.folders["RTK"] / "audit.db")
    try:
        audit = AuditLog(db, SystemClock())
        await audit.open()
        return await audit.search()
    finally:
        await db.close()


def test_the_node_goes_on_without_its_registry(region: Hand) -> None:
    async def before() -> None:
        await store(region, FIRST, local="L1", national=PATIENT)

        async def published() -> bool:
            return await region.holds({FIRST: 1})

        await until("the region lists the study", published, 60)
        assert (await send(region, "ORD1", PATIENT)).accepted

        async def said() -> bool:
            status, bundle = await kept(region, PATIENT)
            return status == 200 and listed(bundle) == [FIRST]

        await until("the region has said its list", said, 60)

    async def after() -> None:
        status, bundle = await kept(region, PATIENT)
        assert (status, listed(bundle)) == (200, [FIRST])
        (outcome,) = (e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "outcome")
        texts = [issue["details"]["text"] for issue in outcome["issue"]]
        assert texts[0].startswith("As the region said at ")
        assert " min ago, for an order here." in texts[0]
        assert all(text.startswith("Said at ") for text in texts[1:])
        await store(region, SECOND, local="L2", national=LATER)
        assert len(await found(region, FIRST)) == len(await found(region, SECOND)) == 1
        assert (await send(region, "ORD2", LATER)).accepted
        status, problem = await kept(region, LATER)
        assert status == 503, "there is an order, and nobody who could have said anything"
        assert "nothing of what the region holds" in json.dumps(problem)
        status, problem = await kept(region, nhs_number(9103))
        assert status == 404
        assert "nothing of what the region holds" in json.dumps(problem)

    asyncio.run(before())
    assert region.stop("registry", signal.SIGKILL) == -signal.SIGKILL
    asyncio.run(after())
    assert region.stop("RTK") == 0
    read = [act for act in asyncio.run(acts(region)) if act.query.get("kept list")]
    assert {act.who.subject for act in read} == {"system:consumer"}
    given = [act for act in read if act.query.get("said")]
    assert {act.query["order"] for act in given} == {"ORD1"}
    assert {patient for act in given for patient in act.patients} == {f"{NHS_NUMBER_OID}|{PATIENT}"}
    assert all(act.text.startswith("ok 1 rows") for act in given)
    region.serve("RTK")

    async def again() -> bool:
        return (await kept(region, PATIENT))[0] == 200

    asyncio.run(_until_kept(again))
    assert asyncio.run(send(region, "ORD1", PATIENT, "CA")).accepted
    assert asyncio.run(kept(region, PATIENT))[0] == 404


async def _until_kept(again: Any) -> None:
    await until("the list is there after a restart without the registry", again, 60)
