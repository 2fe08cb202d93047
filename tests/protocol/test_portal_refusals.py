"""The page over HTTP: what it refuses, to whom, and what it says then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape

import portal_samples as samples
import pytest
import pytest_asyncio
from page_clients import Clients, browse, closed_clients, find, read_region
from page_region import PageRegion

from crosslight.runtime.shares import ShareLimits, Shares
from crosslight.standards.access import Principal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageRegion]:
    async with read_region(tmp_path_factory.mktemp("region")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def clients() -> AsyncIterator[Clients]:
    async with closed_clients() as made:
        yield made


async def test_an_address_that_leads_nowhere_is_a_page_in_a_browser(
    clients: Clients, shared: PageRegion
) -> None:
    client = await browse(clients, shared)
    async with client.get("/nothing/here", headers={"Accept": "text/html,*/*;q=0.8"}) as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
        assert "There is no such page." in await answer.text()
    async with client.get("/nothing/here", headers={"Accept": "*/*"}) as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")


@pytest.mark.parametrize(
    ("day", "told"), [("31", "Enter a date that exists"), ("", "Enter the day, month and year of birth")]
)
async def test_a_date_of_birth_that_is_none(
    clients: Clients, shared: PageRegion, day: str, told: str
) -> None:
    client = await browse(clients, shared)
    async with client.post(
        "/search", data={"family": "Smith", "day": day, "month": "2", "year": "1955"}
    ) as answer:
        assert answer.status == 400
        assert told in await answer.text()


async def test_form_errors_are_told_and_kept(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    async with client.post("/search", data={"number": "999 000 0019"}) as answer:
        text = await answer.text()
        assert answer.status == 400
    assert "There is a problem" in text
    assert 'value="999 000 0019"' in text
    assert "This is not a valid NHS number. Check the digits." in text
    assert "none of the" not in text


async def test_forms_are_bounded(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    async with client.post("/search", data={"number": "9" * 10000}) as answer:
        assert answer.status == 413
    async with client.post("/search", json={"number": "9"}) as answer:
        assert answer.status == 415
    async with client.get("/search", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_another_sites_form_is_refused(
    clients: Clients, shared: PageRegion, headers: dict[str, str]
) -> None:
    asked = len(await shared.acts())
    client = await browse(clients, shared)
    async with client.post("/search", data={"number": "9990000018"}, headers=headers) as answer:
        assert answer.status == 403
    assert len(await shared.acts()) == asked


async def test_without_sign_in(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared, principal=None)
    for method, path in (
        ("GET", "/"),
        ("POST", "/search"),
        ("GET", "/patients/x"),
        ("GET", "/patients/x/studies/1.2"),
    ):
        async with client.request(
            method, path, data={"number": "9990000018"} if method == "POST" else None
        ) as answer:
            assert answer.status == 401
            assert 'href="/signin"' in await answer.text()
    async with client.get("/coverage.json", headers={"Accept": "application/json"}) as answer:
        assert answer.status == 401


async def test_the_open_demo_says_so_loudly(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared, open_mode=True)
    async with client.get("/") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert "Open demo." in text
    assert "Sign out" not in text


async def test_policy_says_no(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared, principal=replace(samples.CLINICIAN, roles=frozenset({"porter"})))
    async with client.post("/search", data={"number": "9990000018"}) as answer:
        text = await answer.text()
        assert answer.status == 403
    assert "You may not see this" in text
    assert "9990000018" not in text


async def test_a_role_that_may_not_search_is_not_shown_a_form(clients: Clients, shared: PageRegion) -> None:
    porter = Principal(
        subject="p", name="Porter", roles=frozenset({"porter"}), organisation="RA2", evidence="session"
    )
    client = await browse(clients, shared, principal=porter)
    async with client.get("/") as answer:
        text = await answer.text()
        assert answer.status == 403
    assert 'action="/search"' not in text
    assert "Find a patient" not in text
    assert "may not look at patients" in unescape(text)


async def test_a_handle_is_for_one_person_and_a_time(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    address, _ = await find(client)
    other = await browse(clients, shared, principal=Principal(subject="bob", roles=frozenset({"clinician"})))
    for path in (address, address[:-4] + "AAAA", "/patients/x", "/patients/" + "A" * 500):
        async with other.get(path) as answer:
            assert answer.status == 404
            assert "Search for the patient again." in await answer.text()
    async with client.get(f"{address}/studies/1.9.9") as answer:
        assert answer.status == 404


async def test_where_it_is_busy_the_page_says_so_and_tries_again(
    clients: Clients, shared: PageRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await browse(clients, shared)
    address, _ = await find(client)
    one_at_a_time = Shares("questions", ShareLimits(total=1, each=1, waiting=0))
    monkeypatch.setattr(shared.room.ask, "near", one_at_a_time)
    async with one_at_a_time.turn("somebody else"):
        async with client.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"], answer.headers["Refresh"]) == (
                503,
                "5",
                "5",
            )
            text = await answer.text()
            assert "This is busy now" in text
            assert "tries again by itself" in text
        async with client.post("/search", data={"number": "999 000 0018"}) as answer:
            assert (answer.status, answer.headers.get("Refresh")) == (503, None)  # nothing is sent twice
    async with client.get(address) as answer:
        assert answer.status == 200
