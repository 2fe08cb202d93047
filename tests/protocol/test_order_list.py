"""The list of a patient with an order, as a member's node asks the registry for it (ADR 0060)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from fhir_region import NUMBER, QUERY, SYSTEM, FhirRegion, fill, resources
from member_room import member_room
from registry_room import room_config
from room_faces import room_faces

from crosslight.standards.access import OPEN, Principal
from crosslight.standards.fhir.order_list import OrderAsked
from registry.ask.config import AskConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED = OrderAsked(order="ORD-77", system=SYSTEM, value=NUMBER)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FhirRegion]:
    """``Authorization`` names the member whose node asks."""
    config = room_config(ask=AskConfig(order_lists=("RXC", "RPC", "RA2")))
    async with member_room(tmp_path_factory.mktemp("region"), config=config) as room:

        def asking(request: web.Request) -> Principal:
            code = request.headers.get("Authorization")
            if code is None:
                return OPEN
            return Principal(
                subject=f"member {code}",
                roles=frozenset({"member"}),
                organisation=code,
                evidence="certificate",
                member=int(room.member(code).id),
            )

        async with room_faces(room, asking) as there, aiohttp.ClientSession() as http:
            made = FhirRegion(room, there.base, http)
            await fill(made)
            yield made


async def ask(region: FhirRegion, body: bytes, *, who: str = "RXC", status: int = 200) -> Any:
    headers = {"Content-Type": "application/fhir+json"} | ({"Authorization": who} if who else {})
    url = f"{region.base}/fhir/ImagingStudy/$for-order"
    async with region.http.post(url, data=body, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None)


async def test_a_member_is_given_the_whole_list_and_the_act_names_order_and_patient(
    region: FhirRegion,
) -> None:
    bundle = await ask(region, ASKED.parameters())
    everything = resources(await region.get("ImagingStudy", params=QUERY))
    assert [s["id"] for s in resources(bundle)] == [s["id"] for s in everything]
    assert len(everything) == bundle["total"] == 7, "of other members too"
    assert [link["relation"] for link in bundle["link"]] == ["self"]
    act = next(act for act in reversed(await region.acts()) if act.action == "list-for-order")
    assert act.query["ByPatient"]["order"] == "ORD-77"
    assert act.query["ByPatient"]["patient"]["identifiers"][0]["value"] == NUMBER
    assert act.text == "ok 7 given"


async def test_a_member_still_searches_nobody(region: FhirRegion) -> None:
    for path in ("ImagingStudy", "Patient"):
        query = QUERY if path == "ImagingStudy" else {"identifier": NUMBER}
        await region.get(path, status=403, params=query, headers={"Authorization": "RXC"})


async def test_nobody_else_asks_for_an_order(region: FhirRegion) -> None:
    await ask(region, ASKED.parameters(), who="", status=403)


async def test_a_member_whom_the_operator_does_not_name_is_refused_and_it_is_in_the_audit(
    region: FhirRegion,
) -> None:
    outcome = await ask(region, ASKED.parameters(), who="RTK", status=403)
    assert "ask.order_lists" in str(outcome)
    act = next(act for act in reversed(await region.acts()) if act.action == "list-for-order")
    assert act.text == "denied"


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (OrderAsked(order="", system=SYSTEM, value=NUMBER), "order"),
        (OrderAsked(order="x" * 65, system=SYSTEM, value=NUMBER), "order"),
        (OrderAsked(order="1", system=SYSTEM, value="1234567890"), "patient"),
        (OrderAsked(order="1", system="urn:oid:1.2.3", value="H1"), "patient"),
        (OrderAsked(order="1", system=SYSTEM, value=""), "patient"),
    ],
)
async def test_without_an_order_or_a_national_number_there_is_no_list(
    region: FhirRegion, asked: OrderAsked, where: str
) -> None:
    outcome = await ask(region, asked.parameters(), status=400)
    assert where in str(outcome)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"resourceType": "Patient", "parameter": []}'])
async def test_what_is_no_parameters_resource_is_refused(region: FhirRegion, body: bytes) -> None:
    await ask(region, body, status=400)


async def test_a_member_that_goes_through_numbers_is_stopped(region: FhirRegion) -> None:
    limit = region.room.ask.permits.config.order_lists_per_minute
    for _ in range(limit):
        await ask(region, ASKED.parameters(), who="RPC")
    await ask(region, ASKED.parameters(), who="RPC", status=429)
    await ask(region, ASKED.parameters(), who="RA2")
