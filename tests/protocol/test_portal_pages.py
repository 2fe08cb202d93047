"""The page over HTTP: what is in it, what is not, and its headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import portal_samples as samples
import pytest
import pytest_asyncio
from foreign_region import manifest
from page_clients import Clients, browse, closed_clients, find, opened_from, read_region
from page_region import PageRegion, page_region
from registry_samples import nhs

HOSTILE = "<b>X</b>\"'&^<script>alert(1)</script>"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageRegion]:
    async with read_region(tmp_path_factory.mktemp("region")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[PageRegion]:
    """The five trusts, which hold nothing yet."""
    async with page_region(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def clients() -> AsyncIterator[Clients]:
    async with closed_clients() as made:
        yield made


async def test_a_number_leads_to_the_patient_by_an_opaque_address(clients: Clients, own: PageRegion) -> None:
    await own.publish(*samples.STUDIES)
    await own.feed(own.bob("RXC", 9))
    client = await browse(clients, own)
    address, text = await find(client)
    assert re.fullmatch(r"/patients/[A-Za-z0-9_-]+", address)
    assert "999" not in address
    acts = await own.acts()
    assert [next(iter(act.query)) for act in acts] == ["Patients", "ByPatient"]
    assert acts[0].action == "search"
    assert acts[1].query["ByPatient"]["patient"]["fhir_id"] not in address
    shown = unescape(re.sub(r"<[^>]*>", " ", text))
    shown = re.sub(r"\s+", " ", shown)
    for expected in (
        "SMITH, Ada (Mrs)",
        "Born 14-Feb-1955 (71y)",
        "Gender Female",
        "NHS No. 999 000 0018",
        "6 studies at 5 trusts",
        (
            "Another record, at East Sussex Healthcare NHS Trust, claims this number: compare name and date"
            " of birth."
        ),
        "It is not shown here, so this list may not be complete.",
        "CT thorax with contrast",
        "21-Nov-2026 22:15",
        "3 series, 288 images",
        "1 series, 1 image",
        "Open now",
        "Arriving",
        "In conflict",
        "(2 copies)",
        "List read at 03:12",
    ):
        assert expected in shown, expected
    assert re.findall(r'data-study-uid="([^"]+)"', text) == [f"1.2.826.0.1.{n}" for n in (1, 2, 3, 4, 5, 6)]
    assert text.count('<h2 class="year">') == 4
    assert 'loading="lazy"' in text


async def test_headers_and_no_identifier_in_any_address(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    address, text = await find(client)
    for url in re.findall(r'(?:href|src|action|data-src)="([^"]*)"', text):
        assert "999" not in url
        assert "RTK-" not in url
        assert url.startswith(("/", "#")) or not url
    assert "style=" not in text
    assert "<script>" not in text
    async with client.get(address) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Frame-Options"] == "DENY"


async def test_members_are_called_what_the_region_calls_them(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared, word="board")
    address, text = await find(client)
    for path in ("/", address, f"{address}/studies/1.2.826.0.1.1"):
        async with client.get(path) as answer:
            seen = re.sub(r"<[^>]*>", " ", await answer.text())
        assert "trust" not in re.sub(r"(?i)nhs (?:foundation )?trust", "", seen).lower(), path
    assert "6 studies at 5 boards" in text
    assert "none of the 5 boards holds any" in (await find(client, number=nhs(1)))[1]


async def test_hostile_text_stays_text(clients: Clients, own: PageRegion) -> None:
    study = samples.holding("RTK", 1, '"><img src=x onerror=alert(1)>')
    await own.publish(study, whose=own.patient("RTK", pn=HOSTILE))
    client = await browse(clients, own)
    address, text = await find(client)
    assert "<script>alert" not in text.lower()
    assert "<img src=x" not in text
    assert "&lt;B&gt;X&lt;/B&gt;" in text
    async with client.get(f"{address}/studies/1.2.826.0.1.1") as answer:
        shown = await answer.text()
        assert answer.status == 200
    assert "<img src=x" not in shown
    assert "<script>alert" not in shown.lower()
    async with client.post("/search", data={"number": '"><script>1</script>9'}) as answer:
        assert '"><script>' not in await answer.text()


async def test_the_title_names_no_patient(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    _, text = await find(client)
    title = re.search(r"<title>(.*)</title>", text)
    assert title is not None
    assert "SMITH" not in title.group(1)


async def test_several_patients_are_shown_to_choose_from(clients: Clients, own: PageRegion) -> None:
    for code in ("RTK", "RYR"):  # no number says that they are one
        await own.feed(own.patient(code, others=()))
    client = await browse(clients, own)
    address, text = await find(client, family="Smith", day="14", month="2", year="1955")
    assert address == "/search"
    assert "2 patients with this name and date of birth" in text
    hrefs = re.findall(r'href="(/patients/[^"]+)"', text)
    assert len(set(hrefs)) == 2
    async with client.get(hrefs[0]) as answer:
        assert answer.status == 200


async def test_absence_is_not_overstated(clients: Clients, own: PageRegion) -> None:
    await own.feed(own.patient("RTK"))
    client = await browse(clients, own)
    _, text = await find(client)
    assert ">No imaging</h1>" in text
    own.away("RYR")
    _, text = await find(client)
    assert "No imaging" not in text
    assert ">None found so far</h1>" in text
    assert "University Hospitals Sussex NHS Foundation Trust has not answered since 01:12." in text


async def test_documents_that_cannot_be_listed_are_told(clients: Clients, own: PageRegion) -> None:
    await own.feed(own.patient("RTK"))
    for text in ("one", "two"):  # manifests that name no study, of a source that gives nothing out
        await own.register(manifest(text, cx=samples.NUMBER.cx(), references=()))
    own.heard()
    client = await browse(clients, own)
    for held in ((), samples.STUDIES):
        await own.publish(*held)
        _, text = await find(client)
        assert "There are 2 imaging documents of this patient whose studies are not known here." in text
        assert "This list may not be complete." in text
        assert "No imaging" not in text
        assert "Complete at" not in text
        assert 'data-coverage="lead"' not in text, "no poll may claim more"
        assert 'data-coverage="verdict"' not in text


async def test_nobody(clients: Clients, own: PageRegion) -> None:
    for record in await own.feed(own.patient("RA2"), own.bob("RXC")):  # an officer said that it is neither's
        await own.room.identity.decide(
            record, None, samples.NOW, who="officer", why="The number was mistyped."
        )
    own.away("RYR")
    client = await browse(clients, own, principal=replace(samples.CLINICIAN, organisation="RTK"))
    address, text = await find(client)
    assert address == "/search"
    assert "No patient found with this number" in text
    assert "other details exists at Royal Surrey" in text
    assert "None found so far" in text
    assert 'value="999 000 0018"' in text, "the digits can be checked, and mended"
    _, text = await find(client, family="Smith", day="14", month="2", year="1955")
    assert 'value="Smith"' in text
    assert "A record in doubt with these details exists at Royal Surrey" in text


async def test_the_preview(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    address, _ = await find(client)
    async with client.get(f"{address}/studies/1.2.826.0.1.1?series=1.2.826.0.1.1.2") as answer:
        text = await answer.text()
        assert answer.status == 200
    assert "Preview, not for diagnosis." in text
    assert "SMITH, Ada (Mrs)" in text
    assert re.findall(r'data-series="([^"]+)"', text) == [f"1.2.826.0.1.1.{i}" for i in (1, 2, 3)]
    assert 'data-series="1.2.826.0.1.1.2" data-modality="CT" aria-current="true"' in text
    act = (await shared.acts())[-1]
    assert (act.action, next(iter(act.query))) == ("read", "ByPatient")
    assert "<noscript><img" in text


async def test_copies_that_do_not_agree_are_shown_one_by_one(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    address, _ = await find(client)
    async with client.get(f"{address}/studies/1.2.826.0.1.5") as answer:
        text = await answer.text()
    assert "Trusts do not agree on this study." in text
    assert "data-root" not in text, "none is shown before one is chosen"
    assert "/dicomweb/" not in text
    assert re.findall(r'href="(\?copy=[^"]*)"', text) == ["?copy=RA2", "?copy=RYR"]
    async with client.get(address) as answer:
        row = re.search(r'<li id="study-1\.2\.826\.0\.1\.5".*?</li>', await answer.text(), re.S)
    assert row is not None
    assert "Choose a copy" in row.group(0)
    assert "/thumbnail" not in row.group(0)
    for copy, root in (("?copy=RA2", "/dicomweb/members/RA2"), ("?copy=RYR", "/dicomweb/members/RYR")):
        async with client.get(f"{address}/studies/1.2.826.0.1.5{copy}") as answer:
            text = await answer.text()
        assert f'data-root="{root}"' in text
        assert 'src="/dicomweb/studies/' not in text
        assert "Trusts do not agree on this study." in text


async def test_the_strip_is_polled_without_a_patient(clients: Clients, own: PageRegion) -> None:
    await own.publish(*samples.STUDIES)
    own.away("RTK")
    client = await browse(clients, own)
    async with client.get("/coverage.json?doubt=RXC") as answer:
        state = await answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
    assert not await own.acts()
    by_code = {site["code"]: site for site in state["sites"]}
    assert (by_code["RTK"]["opens"], by_code["RXC"]["level"], by_code["RA2"]["level"]) == (
        False,
        "doubt",
        "well",
    )
    assert state["lead"] == "This list may not be complete."
    assert (
        state["sentence"]
        == "Ashford and St Peter’s Hospitals NHS Foundation Trust has not answered since 01:12."
    )


async def test_static_files_are_kept_by_their_hash(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    async with client.get("/") as answer:
        text = await answer.text()
    for url in re.findall(r'(?:href|src)="(/static/[^"]+)"', text):
        async with client.get(url) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
            body = await answer.read()
            assert b"http:" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https:" not in body
    async with client.get("/static/../pages.py") as answer:
        assert answer.status == 404


#: What is typed, whose number it is said to be; whether the record opens at once, and what is asked.
TYPED = [
    ("999 000 0018", "", True, ["9990000018"]),
    ("rtk-00001", "", False, ["rtk-00001", "RTK-00001"]),
    ("rtk-00001", "RTK", True, ["{rtk}|rtk-00001", "{rtk}|RTK-00001"]),
    ("rtk-00001", "XXX", False, ["rtk-00001", "RTK-00001"]),
    # a national number that this patient does not hold: somebody's own, perhaps
    ("999 000 0026", "", False, ["9990000026"]),
]


@pytest.mark.parametrize(("number", "trust", "opens", "asked"), TYPED)
async def test_a_trusts_own_number_asks_whose_it_is(
    clients: Clients,
    shared: PageRegion,
    number: str,
    trust: str,
    opens: bool,
    asked: list[str],
) -> None:
    before = len(await shared.acts())
    client = await browse(clients, shared)
    async with client.get("/") as answer:
        assert (
            '<option value="RTK">Ashford and St Peter’s Hospitals NHS Foundation Trust</option>'
            in await answer.text()
        )
    address, text = await find(client, number=number, trust=trust)
    question = (await shared.acts())[before].query["Patients"]
    local = [
        f"{i.get('authority', '')}|{i['value']}".removeprefix("|")
        for i in question["patient"]["identifiers"]
        if i.get("authority") != samples.NUMBER.authority
    ]
    assert local == [one.format(rtk=shared.room.member("RTK").authority) for one in asked]
    assert address.startswith("/patients/") is opens
    assert ("Is this your patient?" in text) is not opens
    if not opens:
        assert "14-Feb-1955" in text
        async with client.get(opened_from((address, text))) as answer:
            assert "6 studies at 5 trusts" in re.sub(r"\s+", " ", await answer.text())


async def test_paper_says_when_and_by_whom(clients: Clients, shared: PageRegion) -> None:
    client = await browse(clients, shared)
    address, text = await find(client)
    async with client.get(f"{address}/studies/1.2.826.0.1.1") as answer:
        preview = await answer.text()
    for page in (text, preview):
        printed = re.search(r'<p class="printed">(.*?)</p>', page, re.S)
        assert printed is not None
        said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", printed.group(1)))
        assert "Imaging network. List read 22-Nov-2026 03:12 by Dr Ada Person, RA2." in said
        assert "state as of 03:12" in said
