"""The page over HTTP: records and studies of which it is in doubt whose they are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import portal_samples as samples
import pytest
import pytest_asyncio
from page_clients import Clients, browse, closed_clients, find, opened_from
from page_region import PageRegion, page_region
from registry_samples import nhs

from crosslight.standards.ids import NHS_NUMBER_OID, Identifier

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[PageRegion]:
    """The five trusts, which hold nothing yet."""
    async with page_region(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def clients() -> AsyncIterator[Clients]:
    async with closed_clients() as made:
        yield made


async def test_two_records_of_one_number(clients: Clients, own: PageRegion) -> None:
    """The users of a disputed record's own trust see it beside the holder's."""
    await own.feed(own.patient("RTK"))
    await own.feed(own.bob("RYR"))
    client = await browse(clients, own, principal=replace(samples.CLINICIAN, organisation="RYR"))
    _, text = await find(client)
    assert "1 patient with this number" in text
    assert "In doubt: 1 record that gives the same number" in text
    _, by_local = await find(client, number="RTK-00001")
    assert "In doubt: 1 record that gives the same national number" in by_local, (
        "not the local number that was asked for"
    )
    assert "It is listed below under its own local number" in text
    assert "It is not shown here" not in text
    assert text.count("Disputed record") == 1


async def test_a_page_never_mixes_two_people(clients: Clients, own: PageRegion) -> None:
    await own.publish(*samples.STUDIES)
    somebody = own.bob("RYR", 77)  # who is shown beside: they claim the number
    await own.publish(samples.holding("RYR", 9, "Of somebody else"), whose=somebody)
    client = await browse(clients, own)
    address, text = await find(client)
    assert "6 studies at 5 trusts" in re.sub(r"\s+", " ", text)
    assert "Of somebody else" not in text
    async with client.get(f"{address}/studies/1.2.826.0.1.9") as answer:
        assert answer.status == 404


async def test_the_preview_of_a_disputed_record_says_so(clients: Clients, own: PageRegion) -> None:
    """And its picture is signed with the number it has, not with the one it does not hold."""
    await own.feed(own.bob("RYR"))
    await own.publish(samples.STUDIES[0])
    client = await browse(clients, own)
    address = opened_from(await find(client, number="RTK-00001"))
    where = "Ashford and St Peter’s Hospitals NHS Foundation Trust"
    for page in (address, f"{address}/studies/1.2.826.0.1.1"):
        async with client.get(page) as answer:
            text = await answer.text()
        assert "This record is disputed." in text
        assert f"Its number: RTK-00001 at {where}." in text
    whose = re.search(r'id="whose">([^<]+)<', text)
    assert whose is not None
    assert whose.group(1) == f"SMITH, Ada (Mrs), Local No. RTK-00001 at {where}, disputed"


async def test_what_is_in_doubt_says_so_on_its_row_and_its_picture(clients: Clients, own: PageRegion) -> None:
    # two people under one number of the trust
    bob = own.bob("RYR", 2, others=(Identifier(nhs(1), NHS_NUMBER_OID),))
    await own.publish(samples.holding("RYR", 8, "Of somebody else"), whose=bob)
    await own.publish(samples.STUDIES[1], whose=own.patient("RYR", 2, pn="SMYTH^Ada"))
    client = await browse(clients, own, principal=replace(samples.CLINICIAN, organisation="RYR"))
    async with client.get(opened_from(await find(client))) as answer:
        assert "This record is in doubt." in await answer.text()
    await own.publish(samples.STUDIES[0])
    address, text = await find(client)
    where = "University Hospitals Sussex NHS Foundation Trust"
    assert "Some studies here are in doubt." in text
    assert text.count(f"In doubt whose it is: SMYTH, Ada, Local No. RYR-00002 at {where}.") == 1
    for uid, doubtful in (("1", False), ("2", True)):
        async with client.get(f"{address}/studies/1.2.826.0.1.{uid}") as answer:
            preview = await answer.text()
        assert ("This study is in doubt." in preview) is doubtful
        assert (f'id="whose">SMYTH, Ada, Local No. RYR-00002 at {where}, in doubt<' in preview) is doubtful


async def test_studies_in_doubt_under_a_patients_own_number_claim_nothing(
    clients: Clients, own: PageRegion
) -> None:
    await own.publish(*samples.STUDIES)
    await own.feed(own.patient("RXC"))
    bob = own.bob("RXC", others=(Identifier(nhs(1), NHS_NUMBER_OID),))
    await own.publish(samples.holding("RXC", 8, "Of somebody else"), whose=bob)
    client = await browse(clients, own)
    _, text = await find(client)
    assert (
        "Studies under this patient’s local number at East Sussex Healthcare NHS Trust are in doubt" in text
    )
    assert "claims this number" not in text
