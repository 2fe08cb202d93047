"""The identity officer's pages over HTTP, on a real index: what is in them, who may, and what is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from html import unescape

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from page_region import page_of
from registry_room import Room, clinician, make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.access import Principal
from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime

OFFICER = replace(clinician("RTK", "identity"), name="Jo Officer", evidence="session")


@pytest.fixture
async def room(database: Db) -> Room:
    """A number that RTK's patient holds and a record of RXC claims; one local id of RTK for two people."""
    room = await make_room(database)
    await room.identity.settle_holders()
    rtk, rxc = room.member("RTK"), room.member("RXC")
    for n, (code, who) in enumerate(
        (
            ("RTK", patient(rtk, "A1", number=nhs(1), family="Alpha", given="Anna", born="19800101")),
            (
                "RXC",
                patient(rxc, "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303", sex="M"),
            ),
            ("RTK", patient(rtk, "U1", number=nhs(3), family="Delta", given="Dora", born="19600606")),
            (
                "RTK",
                patient(rtk, "U1", number=nhs(2), family="Beta<b>", given="Boris", born="19900202", sex="M"),
            ),
        ),
        1,
    ):
        record = changed(study(who, n), time=StudyTime(date=f"2020{n:02d}15", time="101500"))
        assert await room.publish(code, record, n) == "accepted"
    return room


@asynccontextmanager
async def browsing(room: Room, who: Principal | None = OFFICER) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    async with TestClient(TestServer(page_of(room, principal=who))) as client:
        yield client


async def shown(answer: ClientResponse) -> str:
    """What is read on a page."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", await answer.text())))


async def addresses(client: TestClient) -> dict[str, str]:  # type: ignore[type-arg]
    """The addresses of the cases in the queue, by what they are."""
    async with client.get("/identity") as answer:
        rows = re.findall(r'href="(/identity/[0-9A-Z-]+)".*?data-label="What">([^<]+)<', await answer.text())
    return {what: address for address, what in rows}


async def version(client: TestClient, address: str) -> str:  # type: ignore[type-arg]
    async with client.get(address) as answer:
        found = re.search(r'name="version" value="([0-9a-f]+)"', await answer.text())
    assert found
    return found[1]


async def test_the_queue_and_both_kinds_of_case(room: Room) -> None:
    async with browsing(room) as client:
        async with client.get("/") as answer:
            assert '<a class="top__link" href="/identity">' in await answer.text()
        async with client.get("/identity") as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            queue = await shown(answer)
        assert "2 records wait for a decision" in queue
        assert not [name for name in ("ALPHA", "BETA", "Boris", "GAMMA", nhs(1)) if name in queue]
        cases = await addresses(client)
        async with client.get(cases["Claims a number held by another"]) as answer:
            page, text = await shown(answer), await answer.text()
        for said in (
            "GAMMA, Carl",
            "ALPHA, Anna",
            "03-Mar-1970",
            "01-Jan-1980",
            ": holds the number",
            "Differs",
            "15-Feb-2020",
            "15-Jan-2020",
            "The same person as",
            "Stands alone",
            "RXC Hospitals",
            "900 000 0017 (claimed, not held)",
        ):
            assert said in page, said
        assert "Another person" not in page
        assert not [
            address for address in re.findall(r'(?:href|action)="([^"]*)"', text) if "900000" in address
        ]
        async with client.get(cases["In doubt"]) as answer:
            page, text = await shown(answer), await answer.text()
        assert "BETA<B>, Boris" in page
        assert "<b>" not in text.lower().replace("<bdi>", "")
        for said in (
            "DELTA, Dora",
            "the record that it came under",
            "Another person",
            "only the users of RTK Hospitals",
        ):
            assert said in page, said


async def test_deciding_and_taking_back_on_the_page(room: Room) -> None:
    async with browsing(room) as client:
        address = (await addresses(client))["In doubt"]
        form = {
            "verdict": "another",
            "reason": "two people, by the file",
            "version": await version(client, address),
        }
        async with client.post(f"{address}/decide", data=form) as answer:
            assert (answer.status, answer.url.path) == (200, address)
            page, text = await shown(answer), await answer.text()
        assert "Nothing waits here." in page
        assert "Jo Officer (user@RTK): “two people, by the file”" in page
        found = re.search(r'name="decision" value="([^"]+)"', text)
        assert found
        async with client.post(f"{address}/decide", data=form) as answer:
            assert answer.status == 409
            assert "It is decided already" in await shown(answer)
        async with client.post(f"{address}/end", data={"decision": found[1], "reason": " "}) as answer:
            assert answer.status == 400
            assert "Give the reason for taking the decision back" in await shown(answer)
        async with client.post(f"{address}/end", data={"decision": found[1], "reason": "unsure"}) as answer:
            page = await shown(answer)
        assert "In doubt, since" in page
        assert re.search(r"Ended .*, Jo Officer \(user@RTK\): “unsure”", page)
        assert len(await addresses(client)) == 2
    acts = [
        (a.action, a.query.get("verdict"), a.text)
        for a in await room.audit.search()
        if a.action not in ("read", "search")
    ]
    assert sorted(acts, key=str) == [
        ("decide", "another", "ok"),
        ("decide", "another", "refused: Conflict"),
        ("end-decision", None, "ok"),
    ]


async def test_the_same_person_as_the_one_chosen(room: Room) -> None:
    async with browsing(room) as client:
        address = (await addresses(client))["Claims a number held by another"]
        async with client.get(address) as answer:
            found = re.search(r'value="(same [0-9A-Z-]+)"', await answer.text())
        assert found
        form = {"verdict": found[1], "reason": "seen them", "version": await version(client, address)}
        async with client.post(f"{address}/decide", data=form) as answer:
            assert "are the same person" in await shown(answer)
        assert "Claims a number held by another" not in await addresses(client)


async def test_what_is_not_done_says_why(room: Room) -> None:
    async with browsing(room) as client:
        address = (await addresses(client))["Claims a number held by another"]
        seen = await version(client, address)
        for form, status, said in (
            ({"verdict": "alone", "version": seen}, 400, "Give the reason"),
            ({"verdict": "alone", "reason": "x" * 501, "version": seen}, 400, "longer than 500"),
            ({"verdict": "", "reason": "x", "version": seen}, 400, "Choose what you decide"),
            ({"verdict": "another", "reason": "x", "version": seen}, 400, "cannot be said of this record"),
            (
                {"verdict": "alone", "reason": "x", "version": "0" * 24},
                409,
                "This has changed since it was opened here.",
            ),
        ):
            async with client.post(f"{address}/decide", data=form) as answer:
                assert answer.status == status, form
                page = await shown(answer)
            assert said in page, form
        for path, status in (("/identity/0000-0000", 404), ("/identity/nonsense!", 400)):
            async with client.get(path, headers={"Accept": "text/html"}) as answer:
                assert answer.status == status
                assert "Identity queue" in await shown(answer)
        for path in ("decide", "end"):
            async with client.get(f"{address}/{path}") as answer:
                assert answer.url.path == address, "a reload of a form's address"
        for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
            form = {"verdict": "alone", "reason": "x", "version": seen}
            async with client.post(f"{address}/decide", data=form, headers=headers) as answer:
                assert answer.status == 403
        assert len(await addresses(client)) == 2
        assert [d for d in await room.identity.decisions() if d.in_force] == []


@pytest.mark.parametrize("role", ["clinician", "ig", "operator", "porter", "open", ""])
async def test_for_others_there_is_no_such_page(room: Room, role: str) -> None:
    async with browsing(room) as client:
        address = (await addresses(client))["In doubt"]
    who = replace(clinician("RTK", role), evidence="session") if role else None
    async with browsing(room, who) as client:
        for method, path in (
            ("GET", "/identity"),
            ("GET", address),
            ("POST", f"{address}/decide"),
            ("POST", f"{address}/end"),
        ):
            data = {"verdict": "alone", "reason": "x", "decision": "00000000"} if method == "POST" else None
            async with client.request(method, path, data=data) as answer:
                assert answer.status == (403 if role else 401), (method, path)
                assert "Boris" not in await answer.text()
        async with client.get("/") as answer:
            assert "/identity" not in await answer.text()
    assert await room.identity.decisions() == []
