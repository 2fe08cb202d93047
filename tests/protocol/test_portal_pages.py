"""The page over HTTP: what is in it, what is not, and its headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape

import portal_samples as samples
import pytest
from aiohttp.test_utils import TestClient, TestServer

from crosslight.standards.access import Principal
from crosslight.standards.study import PersonName
from registry.ask.question import ByPatient, Patients
from registry.identity.model import RecordKey

HOSTILE = "<b>X</b>\"'&^<script>alert(1)</script>"


@pytest.fixture
async def clients() -> AsyncIterator[list[TestClient]]:  # type: ignore[type-arg]
    made: list[TestClient] = []  # type: ignore[type-arg]
    yield made
    for client in made:
        await client.close()


async def browse(clients: list[TestClient], ask: samples.FakeAsk, **how: object) -> TestClient:  # type: ignore[type-arg]
    client = TestClient(TestServer(samples.app_of(ask, **how)))  # type: ignore[arg-type]
    await client.start_server()
    clients.append(client)
    return client


async def find(client: TestClient, **form: str) -> tuple[str, str]:  # type: ignore[type-arg]
    """Post a search; the address it led to and its text."""
    async with client.post("/search", data=form or {"number": "999 000 0018"}) as answer:
        assert answer.status == 200
        return answer.url.path_qs, await answer.text()


def opened_from(found: tuple[str, str]) -> str:
    """The address of the one record that a page asks to confirm."""
    address, text = found
    assert address == "/search"
    (href,) = re.findall(r'href="(/patients/[^"]+)"', text)
    return str(href)


async def test_a_number_leads_to_the_patient_by_an_opaque_address(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    cover = samples.coverage(RXC=lambda p: replace(p, identity_doubt=True))
    ask = samples.one_patient(disputed=(samples.notice("RXC"),), cover=cover)
    client = await browse(clients, ask)
    address, text = await find(client)
    assert re.fullmatch(r"/patients/[A-Za-z0-9_-]+", address)
    assert "999" not in address
    assert samples.one_patient().persons[0].fhir_id not in address
    assert [type(q) for _, q in ask.asked] == [Patients, ByPatient]
    assert ask.asked[0][0] == "portal search"
    shown = unescape(re.sub(r"<[^>]*>", " ", text))
    shown = re.sub(r"\s+", " ", shown)
    for expected in (
        "SMITH, Ada (Mrs)", "Born 14-Feb-1955 (71y)", "Gender Female", "NHS No. 999 000 0018", "6 studies at 5 trusts",
        "Another record, at East Sussex Healthcare NHS Trust, claims this number: compare name and date of birth.",
        "It is not shown here, so this list may not be complete.",
        "CT thorax with contrast", "21-Nov-2026 22:15", "3 series, 288 images", "1 series, 1 image", "Open now", "Arriving",
        "In conflict", "(2 copies)", "List read at 03:12",
    ):  # fmt: skip
        assert expected in shown, expected
    assert re.findall(r'data-study-uid="([^"]+)"', text) == [f"1.2.826.0.1.{n}" for n in (1, 2, 3, 4, 5, 6)]
    assert text.count('<h2 class="year">') == 4
    assert 'loading="lazy"' in text


async def test_headers_and_no_identifier_in_any_address(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
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


async def test_members_are_called_what_the_region_calls_them(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient(), word="board")
    address, text = await find(client)
    for path in ("/", address, f"{address}/studies/1.2.826.0.1.1"):
        async with client.get(path) as answer:
            seen = re.sub(r"<[^>]*>", " ", await answer.text())
        assert "trust" not in re.sub(r"(?i)nhs (?:foundation )?trust", "", seen).lower(), path
    assert "6 studies at 5 boards" in text
    nobody = await browse(clients, samples.FakeAsk(), word="board")
    assert "none of the 5 boards holds any" in (await find(nobody))[1]


async def test_hostile_text_stays_text(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    bad = samples.record(1, "RTK")
    bad = replace(bad, patient=replace(bad.patient, name=PersonName(HOSTILE)))
    study = samples.holding("RTK", 1, '"><img src=x onerror=alert(1)>')
    ask = samples.FakeAsk(persons=(samples.person(bad),), holdings=(study,))
    client = await browse(clients, ask)
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


async def test_the_title_names_no_patient(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    _, text = await find(client)
    title = re.search(r"<title>(.*)</title>", text)
    assert title is not None
    assert "SMITH" not in title.group(1)


async def test_several_patients_are_shown_to_choose_from(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    one, two = samples.person(samples.record(1, "RTK")), samples.person(samples.record(2, "RYR", birth="19550215"))
    client = await browse(clients, samples.FakeAsk(persons=(one, replace(two, fhir_id="other")), holdings=()))
    address, text = await find(client, family="Smith", day="14", month="2", year="1955")
    assert address == "/search"
    assert "2 patients with this name and date of birth" in text
    hrefs = re.findall(r'href="(/patients/[^"]+)"', text)
    assert len(set(hrefs)) == 2
    async with client.get(hrefs[0]) as answer:
        assert answer.status == 200


async def test_absence_is_not_overstated(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    whose = samples.person(samples.record(1, "RTK"))
    client = await browse(clients, samples.FakeAsk(persons=(whose,)))
    _, text = await find(client)
    assert ">No imaging</h1>" in text
    client = await browse(clients, samples.FakeAsk(persons=(whose,), cover=samples.coverage(RYR=samples.away)))
    _, text = await find(client)
    assert "No imaging" not in text
    assert ">None found so far</h1>" in text
    assert "University Hospitals Sussex NHS Foundation Trust has not answered since 01:12." in text


async def test_documents_that_cannot_be_listed_are_told(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    whose = samples.person(samples.record(1, "RTK"))
    for held in ((), samples.one_patient().holdings):
        client = await browse(clients, samples.FakeAsk(persons=(whose,), holdings=held, unread=2))
        _, text = await find(client)
        assert "There are 2 imaging documents of this patient whose studies are not known here." in text
        assert "This list may not be complete." in text
        assert "No imaging" not in text
        assert "Complete at" not in text
        assert 'data-coverage="lead"' not in text, "no poll may claim more"
        assert 'data-coverage="verdict"' not in text


async def test_nobody(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.FakeAsk(disputed=(samples.notice("RA2"),), cover=samples.coverage(RYR=samples.away)))
    address, text = await find(client)
    assert address == "/search"
    assert "No patient found with this number" in text
    assert "other details exists at Royal Surrey" in text
    assert "None found so far" in text
    assert 'value="999 000 0018"' in text, "the digits can be checked, and mended"
    _, text = await find(client, family="Smith", day="14", month="2", year="1955")
    assert 'value="Smith"' in text
    assert "A record in doubt with these details exists at Royal Surrey" in text


async def test_an_address_that_leads_nowhere_is_a_page_in_a_browser(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    async with client.get("/nothing/here", headers={"Accept": "text/html,*/*;q=0.8"}) as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
        assert "There is no such page." in await answer.text()
    async with client.get("/nothing/here", headers={"Accept": "*/*"}) as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")


@pytest.mark.parametrize(("day", "told"), [("31", "Enter a date that exists"), ("", "Enter the day, month and year of birth")])
async def test_a_date_of_birth_that_is_none(clients: list[TestClient], day: str, told: str) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    async with client.post("/search", data={"family": "Smith", "day": day, "month": "2", "year": "1955"}) as answer:
        assert answer.status == 400
        assert told in await answer.text()


async def test_form_errors_are_told_and_kept(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.FakeAsk())
    async with client.post("/search", data={"number": "999 000 0019"}) as answer:
        text = await answer.text()
        assert answer.status == 400
    assert "There is a problem" in text
    assert 'value="999 000 0019"' in text
    assert "This is not a valid NHS number. Check the digits." in text
    assert "none of the" not in text


async def test_a_handle_is_for_one_person_and_a_time(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    address, _ = await find(client)
    other = await browse(clients, samples.one_patient(), principal=Principal(subject="bob", roles=frozenset({"clinician"})))
    for path in (address, address[:-4] + "AAAA", "/patients/x", "/patients/" + "A" * 500):
        async with other.get(path) as answer:
            assert answer.status == 404
            assert "Search for the patient again." in await answer.text()
    async with client.get(f"{address}/studies/1.9.9") as answer:
        assert answer.status == 404


async def test_the_preview(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    ask = samples.one_patient()
    client = await browse(clients, ask)
    address, _ = await find(client)
    async with client.get(f"{address}/studies/1.2.826.0.1.1?series=1.2.826.0.1.1.2") as answer:
        text = await answer.text()
        assert answer.status == 200
    assert "Preview, not for diagnosis." in text
    assert "SMITH, Ada (Mrs)" in text
    assert re.findall(r'data-series="([^"]+)"', text) == [f"1.2.826.0.1.1.{i}" for i in (1, 2, 3)]
    assert 'data-series="1.2.826.0.1.1.2" data-modality="CT" aria-current="true"' in text
    assert ask.asked[-1][0] == "portal read"
    assert isinstance(ask.asked[-1][1], ByPatient)
    assert "<noscript><img" in text


async def test_copies_that_do_not_agree_are_shown_one_by_one(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    address, _ = await find(client)
    for copy, root in (("", "/dicomweb/members/RA2"), ("?copy=RYR", "/dicomweb/members/RYR")):
        async with client.get(f"{address}/studies/1.2.826.0.1.5{copy}") as answer:
            text = await answer.text()
        assert f'data-root="{root}"' in text
        assert 'src="/dicomweb/studies/' not in text
        assert "Trusts do not agree on this study." in text


async def test_two_records_of_one_number(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    """The users of a disputed record's own trust see it beside the holder's."""
    holder, loser = samples.person(samples.record(1, "RTK")), samples.person(samples.record(2, "RYR", disputed=True))
    ask = samples.FakeAsk(persons=(holder, replace(loser, fhir_id="other")), disputed=(samples.notice("RYR"),))
    client = await browse(clients, ask)
    _, text = await find(client)
    assert "1 patient with this number" in text
    assert "In doubt: 1 record that gives the same number" in text
    _, by_local = await find(client, number="K563756")
    assert "In doubt: 1 record that gives the same national number" in by_local, "not the local number that was asked for"
    assert "It is listed below under its own local number" in text
    assert "It is not shown here" not in text
    assert text.count("Disputed record") == 1


async def test_a_page_never_mixes_two_people(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    ask = samples.one_patient()
    ask.holdings = (*ask.holdings, samples.holding("RYR", 9, "Of somebody else", key=77))
    client = await browse(clients, ask)
    address, text = await find(client)
    assert "6 studies at 5 trusts" in re.sub(r"\s+", " ", text)
    assert "Of somebody else" not in text
    async with client.get(f"{address}/studies/1.2.826.0.1.9") as answer:
        assert answer.status == 404


async def test_the_strip_is_polled_without_a_patient(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    ask = samples.one_patient(cover=samples.coverage(RTK=samples.away))
    client = await browse(clients, ask)
    async with client.get("/coverage.json?doubt=RXC") as answer:
        state = await answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
    assert not ask.asked
    by_code = {site["code"]: site for site in state["sites"]}
    assert (by_code["RTK"]["opens"], by_code["RXC"]["level"], by_code["RA2"]["level"]) == (False, "doubt", "well")
    assert state["lead"] == "This list may not be complete."
    assert state["sentence"] == "Ashford and St Peter’s Hospitals NHS Foundation Trust has not answered since 01:12."


async def test_without_sign_in(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient(), principal=None)
    for method, path in (("GET", "/"), ("POST", "/search"), ("GET", "/patients/x"), ("GET", "/patients/x/studies/1.2")):
        async with client.request(method, path, data={"number": "9990000018"} if method == "POST" else None) as answer:
            assert answer.status == 401
            assert 'href="/signin"' in await answer.text()
    async with client.get("/coverage.json", headers={"Accept": "application/json"}) as answer:
        assert answer.status == 401


async def test_the_open_demo_says_so_loudly(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient(), open_mode=True)
    async with client.get("/") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert "Open demo." in text
    assert "Sign out" not in text


async def test_policy_says_no(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient(refuse=True))
    async with client.post("/search", data={"number": "9990000018"}) as answer:
        text = await answer.text()
        assert answer.status == 403
    assert "You may not see this" in text
    assert "9990000018" not in text


async def test_a_role_that_may_not_search_is_not_shown_a_form(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    porter = Principal(subject="p", name="Porter", roles=frozenset({"porter"}), organisation="RA2", evidence="session")
    client = await browse(clients, samples.one_patient(), principal=porter)
    async with client.get("/") as answer:
        text = await answer.text()
        assert answer.status == 403
    assert 'action="/search"' not in text
    assert "Find a patient" not in text
    assert "may not look at patients" in unescape(text)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_another_sites_form_is_refused(clients: list[TestClient], headers: dict[str, str]) -> None:  # type: ignore[type-arg]
    ask = samples.one_patient()
    client = await browse(clients, ask)
    async with client.post("/search", data={"number": "9990000018"}, headers=headers) as answer:
        assert answer.status == 403
    assert not ask.asked


async def test_forms_are_bounded(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    async with client.post("/search", data={"number": "9" * 10000}) as answer:
        assert answer.status == 413
    async with client.post("/search", json={"number": "9"}) as answer:
        assert answer.status == 415
    async with client.get("/search", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/"


async def test_static_files_are_kept_by_their_hash(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
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


async def test_the_preview_of_a_disputed_record_says_so(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    """And its picture is signed with the number it has, not with the one it does not hold."""
    record = samples.record(1, "RTK", disputed=True)
    loser = replace(samples.person(record), domain_id=record.patient.local)
    client = await browse(clients, samples.FakeAsk(persons=(loser,), holdings=samples.STUDIES[:1]))
    address = opened_from(await find(client))
    where = "Ashford and St Peter’s Hospitals NHS Foundation Trust"
    for page in (address, f"{address}/studies/1.2.826.0.1.1"):
        async with client.get(page) as answer:
            text = await answer.text()
        assert "This record is disputed." in text
        assert f"Its number: RTK-00001 at {where}." in text
    whose = re.search(r'id="whose">([^<]+)<', text)
    assert whose is not None
    assert whose.group(1) == f"SMITH, Ada (Mrs), Local No. RTK-00001 at {where}, disputed"


async def test_what_is_in_doubt_says_so_on_its_row_and_its_picture(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    sure, part = samples.record(1, "RTK"), samples.record(2, "RYR", pn="SMYTH^Ada", part_of=RecordKey(9), in_doubt=True)
    studies = (samples.STUDIES[0], replace(samples.STUDIES[1], record_key=RecordKey(9), part=RecordKey(2)))
    client = await browse(clients, samples.FakeAsk(persons=(samples.person(sure, part),), holdings=studies))
    address, text = await find(client)
    where = "University Hospitals Sussex NHS Foundation Trust"
    assert "Some studies here are in doubt." in text
    assert text.count(f"In doubt whose it is: SMYTH, Ada, Local No. RYR-00002 at {where}.") == 1
    for uid, doubtful in (("1", False), ("2", True)):
        async with client.get(f"{address}/studies/1.2.826.0.1.{uid}") as answer:
            preview = await answer.text()
        assert ("This study is in doubt." in preview) is doubtful
        assert (f'id="whose">SMYTH, Ada, Local No. RYR-00002 at {where}, in doubt<' in preview) is doubtful
    only = samples.FakeAsk(persons=(replace(samples.person(part), domain_id=part.patient.local),), holdings=studies[1:])
    client = await browse(clients, only)
    async with client.get(opened_from(await find(client))) as answer:
        assert "This record is in doubt." in await answer.text()


async def test_studies_in_doubt_under_a_patients_own_number_claim_nothing(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    told = replace(samples.notice("RXC"), claims=False)
    client = await browse(clients, samples.one_patient(disputed=(told,)))
    _, text = await find(client)
    assert "Studies under this patient’s local number at East Sussex Healthcare NHS Trust are in doubt" in text
    assert "claims this number" not in text


#: What is typed, whose number it is said to be; whether the record opens at once, and what is asked.
TYPED = [
    ("999 000 0018", "", True, ["9990000018"]),
    ("rtk-00001", "", False, ["rtk-00001", "RTK-00001"]),
    ("rtk-00001", "RTK", True, ["1.5.3|rtk-00001", "1.5.3|RTK-00001"]),
    ("rtk-00001", "XXX", False, ["rtk-00001", "RTK-00001"]),
    ("999 000 0026", "", False, ["9990000026"]),  # a national number that this patient does not hold: somebody's own, perhaps
]


@pytest.mark.parametrize(("number", "trust", "opens", "asked"), TYPED)
async def test_a_trusts_own_number_asks_whose_it_is(
    clients: list[TestClient],
    number: str,
    trust: str,
    opens: bool,
    asked: list[str],  # type: ignore[type-arg]
) -> None:
    ask = samples.one_patient()
    client = await browse(clients, ask)
    async with client.get("/") as answer:
        assert '<option value="RTK">Ashford and St Peter’s Hospitals NHS Foundation Trust</option>' in await answer.text()
    address, text = await find(client, number=number, trust=trust)
    question = ask.asked[0][1]
    assert isinstance(question, Patients)
    own = [
        f"{i.authority}|{i.value}".removeprefix("|")
        for i in question.patient.identifiers
        if i.authority != samples.NUMBER.authority
    ]
    assert own == asked
    assert address.startswith("/patients/") is opens
    assert ("Is this your patient?" in text) is not opens
    if not opens:
        assert "14-Feb-1955" in text
        async with client.get(opened_from((address, text))) as answer:
            assert "6 studies at 5 trusts" in re.sub(r"\s+", " ", await answer.text())


async def test_paper_says_when_and_by_whom(clients: list[TestClient]) -> None:  # type: ignore[type-arg]
    client = await browse(clients, samples.one_patient())
    address, text = await find(client)
    async with client.get(f"{address}/studies/1.2.826.0.1.1") as answer:
        preview = await answer.text()
    for page in (text, preview):
        printed = re.search(r'<p class="printed">(.*?)</p>', page, re.S)
        assert printed is not None
        said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", printed.group(1)))
        assert "Imaging network. List read 22-Nov-2026 03:12 by Dr Ada Person, RA2." in said
        assert "state as of 03:12" in said
