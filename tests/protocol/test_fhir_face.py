"""The FHIR face over HTTP: search, read, pages, caching, completeness, errors; an outside client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhirpy import AsyncFHIRClient
from member_room import MemberRoom, member_room
from registry_samples import nhs, patient, study
from room_faces import room_faces

from crosslight.runtime.audit import Audited
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.membership import Endpoints
from crosslight.standards.study import StudyRecord, StudyTime

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBER = nhs(1)
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
QUERY = {"patient.identifier": f"{SYSTEM}|{NUMBER}"}
HOLDERS = ("RA2", "RPC", "RTK")


@dataclass
class Region:
    """One person at three members with seven studies, another person at one."""

    room: MemberRoom
    base: str
    http: aiohttp.ClientSession
    held: list[tuple[str, StudyRecord]] = field(default_factory=list)  # of the person: by whom
    versions: int = 0

    async def get(self, path: str, status: int = 200, **kwargs: Any) -> Any:
        async with self.http.get(f"{self.base}/fhir/{path}", **kwargs) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body) if body else None

    async def publish(self, code: str, record: StudyRecord) -> None:
        """One study more, or one version more of it; then every member is heard of."""
        self.versions += 1
        assert await self.room.publish(code, record, self.versions) == "accepted"
        self.room.said()

    async def acts(self) -> list[Audited]:
        """What was asked here, oldest first."""
        await self.room.audit.settle()
        return [act for act in reversed(await self.room.audit.search()) if act.face == "fhir"]

    async def id_of(self, study_uid: str) -> str:
        """A study's id, as a search gives it."""
        found = resources(await self.get("ImagingStudy", params={"identifier": study_uid}))
        return str(found[0]["id"])


async def fill(region: Region) -> None:
    room = region.room
    for member in room.members.all():
        host = f"https://{member.code.lower()}.example"
        endpoints = Endpoints(
            base=host, systems=f"{host}:8443", dicomweb=f"{host}:8443/dicomweb", aet=member.code
        )
        await room.reached_at(member.code, endpoints)
    for n in range(7):
        code = HOLDERS[n % 3]
        record = study(
            patient(room.member(code), f"H{1 + n % 3}", number=NUMBER), n, modality="CT" if n % 2 else "MR"
        )
        record = replace(record, time=StudyTime(date=f"2024070{n + 1}", time="120000", zone="Europe/London"))
        region.held.append((code, record))
        await region.publish(code, record)
    await region.publish("RXC", study(patient(room.member("RXC"), "X1", family="Zed"), 99, modality="CT"))


def principal(request: web.Request) -> Principal:
    who = request.headers.get("Authorization", "")
    if who == "porter":
        return Principal(subject="p", roles=frozenset({"porter"}))
    return replace(OPEN, subject=who, organisation=who if who in HOLDERS else "")


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[Region]:
    async with (
        member_room(folder) as room,
        room_faces(room, principal) as there,
        aiohttp.ClientSession() as http,
    ):
        made = Region(room, there.base, http)
        await fill(made)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Region]:
    """For tests that only read."""
    async with filled(tmp_path_factory.mktemp("region")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def changing(tmp_path: Path) -> AsyncIterator[Region]:
    """For a test that changes what is held, or who is well."""
    async with filled(tmp_path) as made:
        yield made


def resources(bundle: dict[str, Any], mode: str = "match") -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle.get("entry", []) if e["search"]["mode"] == mode]


def issues(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    (outcome,) = resources(bundle, "outcome")
    found: list[dict[str, Any]] = outcome["issue"]
    return found


async def test_search_by_national_number(region: Region) -> None:
    bundle = await region.get("ImagingStudy", params=QUERY)
    Bundle.model_validate(bundle)
    found = resources(bundle)
    assert bundle["total"] == len(found) == 7
    assert [s["started"][:10] for s in found] == [f"2024-07-0{n}" for n in range(7, 0, -1)]
    assert all(
        e["fullUrl"].startswith(f"{region.base}/fhir/")
        for e in bundle["entry"]
        if e["search"]["mode"] == "match"
    )
    assert [(i["severity"], i["code"]) for i in issues(bundle)] == [("information", "informational")]
    act = (await region.acts())[-1]
    assert (act.action, act.text) == ("search", "ok 7 given")
    assert "ByPatient" in act.query


@pytest.mark.parametrize(
    "pairs",
    [
        {"patient:identifier": f"{SYSTEM}|{NUMBER}"},
        {"subject:Patient.identifier": NUMBER},
        {"patient": "{person}"},
        {"patient.identifier": "urn:oid:{authority}|H1"},
    ],
)
async def test_every_way_of_naming_the_patient_gives_the_same(region: Region, pairs: dict[str, str]) -> None:
    expected = resources(await region.get("ImagingStudy", params=QUERY))
    person, authority = expected[0]["subject"]["reference"], region.room.member("RA2").authority
    asked = {name: value.format(person=person, authority=authority) for name, value in pairs.items()}
    assert resources(await region.get("ImagingStudy", params=asked)) == expected


async def test_post_search_is_the_same(region: Region) -> None:
    expected = resources(await region.get("ImagingStudy", params=QUERY))
    async with region.http.post(f"{region.base}/fhir/ImagingStudy/_search", data=QUERY) as response:
        assert response.status == 200
        assert resources(await response.json(content_type=None)) == expected
    async with region.http.post(f"{region.base}/fhir/ImagingStudy/_search", json=QUERY) as response:
        assert response.status == 415
        OperationOutcome.model_validate(await response.json(content_type=None))


async def test_criteria_narrow(region: Region) -> None:
    cases: list[tuple[dict[str, str], int]] = [
        ({"modality": "CT"}, 3),
        ({"modality:not": "CT"}, 4),
        ({"started": "ge2024-07-05"}, 3),
        ({"custodian": "RA2"}, 3),
        ({"started": "2024-07-02", "modality": "CT"}, 1),
        ({"status": "registered"}, 0),
    ]
    for extra, count in cases:
        bundle = await region.get("ImagingStudy", params={**QUERY, **extra})
        assert bundle["total"] == count, extra
    pairs = [*QUERY.items(), ("started", "ge2024-07-02"), ("started", "le2024-07-03")]
    assert (await region.get("ImagingStudy", params=pairs))["total"] == 2


async def test_pages_are_whole_stable_and_hold_no_identifier(changing: Region) -> None:
    expected = [s["id"] for s in resources(await changing.get("ImagingStudy", params=QUERY))]
    seen: list[str] = []
    bundle = await changing.get("ImagingStudy", params={**QUERY, "_count": "2"})
    for page in range(4):
        assert bundle["total"] == 7 + (1 if page > 0 else 0)
        seen += [s["id"] for s in resources(bundle)]
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        assert all(NUMBER not in url and "identifier" not in url for url in links.values())
        if page == 0:  # one that sorts before all comes in between: nothing is repeated or lost
            newest = study(patient(changing.room.member("RA2"), "H1", number=NUMBER), 50)
            await changing.publish(
                "RA2", replace(newest, time=StudyTime(date="20250101", time="120000", zone="+0000"))
            )
        if "next" not in links:
            break
        async with changing.http.get(links["next"]) as response:
            bundle = await response.json(content_type=None)
    assert seen == expected


async def test_a_page_link_is_the_askers_own(region: Region) -> None:
    bundle = await region.get("ImagingStudy", params={**QUERY, "_count": "2"}, headers={"Authorization": "a"})
    address = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    for headers, status in (({"Authorization": "a"}, 200), ({"Authorization": "b"}, 400)):
        async with region.http.get(address, headers=headers) as response:
            assert response.status == status
    async with region.http.get(address + "&modality=CT", headers={"Authorization": "a"}) as response:
        assert response.status == 400


async def test_region_wide_pages(region: Region) -> None:
    seen, params = [], {"_count": "3", "modality": "CT,MR"}
    bundle = await region.get("ImagingStudy", params=params)
    assert "total" not in bundle
    assert "modality=CT" in bundle["link"][0]["url"]  # nothing to hide here
    while True:
        seen += [s["id"] for s in resources(bundle)]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        async with region.http.get(following[0]) as response:
            bundle = await response.json(content_type=None)
    assert len(seen) == len(set(seen)) == 8


async def test_includes_never_count(region: Region) -> None:
    params = [
        *QUERY.items(),
        ("_count", "3"),
        *[("_include", f"ImagingStudy:{x}") for x in ("patient", "endpoint", "custodian")],
    ]
    bundle = await region.get("ImagingStudy", params=params)
    Bundle.model_validate(bundle)
    assert len(resources(bundle)) == 3
    included = {f"{r['resourceType']}/{r['id']}" for r in resources(bundle, "include")}
    wanted = {s["subject"]["reference"] for s in resources(bundle)} | {
        e["reference"] for s in resources(bundle) for e in s["endpoint"]
    }
    assert wanted <= included
    assert sum(name.startswith("Organization/") for name in included) == 3


async def test_count_elements_and_total(region: Region) -> None:
    whole = resources(await region.get("ImagingStudy", params=QUERY))
    assert resources(await region.get("ImagingStudy", params={**QUERY, "_summary": "true"})) == whole
    bundle = await region.get("ImagingStudy", params={**QUERY, "_summary": "count"})
    assert bundle["total"] == 7
    assert resources(bundle) == []
    bundle = await region.get("ImagingStudy", params={**QUERY, "_elements": "modality"})
    one = resources(bundle)[0]
    assert set(one) == {"resourceType", "id", "meta", "status", "subject", "modality"}
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"


@pytest.mark.parametrize("kind", ["ImagingStudy", "Patient", "Endpoint", "Organization"])
async def test_a_read_applies_its_parameters_or_refuses_them(region: Region, kind: str) -> None:
    params = {"Patient": {"identifier": f"{SYSTEM}|{NUMBER}"}, "ImagingStudy": QUERY}.get(kind, {})
    whole = resources(await region.get(kind, params=params))[0]
    path = f"{kind}/{whole['id']}"
    assert await region.get(path, params={"_summary": "true", "_pretty": "true"}) == whole
    some = next(name for name in whole if name not in ("resourceType", "id", "meta"))
    cut = await region.get(path, params={"_elements": some})
    assert cut[some] == whole[some]
    assert cut["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(cut) < set(whole)
    text = await region.get(path, params={"_summary": "text"})
    assert text["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(text) <= set(cut) | {"status", "subject", "connectionType", "payloadType", "address"}
    searched = resources(await region.get(kind, params={**params, "_summary": "text"}))[0]
    assert searched == text, "search and read cut alike"
    for name, value in (("bogus", "1"), ("_summary", "count"), ("_include", "*"), ("_count", "1")):
        outcome = await region.get(path, 400, params={name: value})
        assert outcome["issue"][0]["location"] == [f"http.{name}"]


@pytest.mark.parametrize(
    "sort", ["-started,_id", "-started,-_lastUpdated", "_lastUpdated,-_id", "-_id", "started,_id"]
)
async def test_pages_in_the_order_of_several_keys(region: Region, sort: str) -> None:
    whole = resources(await region.get("ImagingStudy", params={**QUERY, "_sort": sort}))
    values = {
        "started": lambda s: s.get("started", "9"),
        "_id": lambda s: s["id"],
        "_lastUpdated": lambda s: s["meta"]["lastUpdated"],
    }
    ordered = whole
    for key in reversed(sort.split(",")):
        value, undated = (
            values[key.removeprefix("-")],
            [s for s in ordered if key.endswith("started") and "started" not in s],
        )
        ordered = (
            sorted((s for s in ordered if s not in undated), key=value, reverse=key.startswith("-")) + undated
        )
    assert [s["id"] for s in whole] == [s["id"] for s in ordered]
    seen, bundle = [], await region.get("ImagingStudy", params={**QUERY, "_sort": sort, "_count": "2"})
    while True:
        seen += resources(bundle)
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        async with region.http.get(following[0]) as response:
            bundle = await response.json(content_type=None)
    assert seen == whole


async def test_several_keys_have_no_index_over_the_region(region: Region) -> None:
    outcome = await region.get("ImagingStudy", 400, params={"_sort": "-started,_id"})
    assert (outcome["issue"][0]["code"], outcome["issue"][0]["location"]) == ("too-costly", ["http._sort"])


async def test_read_etag_and_head(changing: Region) -> None:
    one = resources(await changing.get("ImagingStudy", params=QUERY))[0]
    address = f"{changing.base}/fhir/ImagingStudy/{one['id']}"
    async with changing.http.get(address) as response:
        assert response.status == 200
        assert await response.json(content_type=None) == one
        tag = response.headers["ETag"]
        assert tag == f'W/"{one["meta"]["versionId"]}"'
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in response.headers["Vary"]
        assert response.content_type == "application/fhir+json"
    async with changing.http.get(address, headers={"If-None-Match": f'"x", {tag}'}) as response:
        assert response.status == 304
    async with changing.http.head(address) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 100
        assert await response.read() == b""
    assert "ByObject" in (await changing.acts())[-1].query
    code, record = changing.held[-1]  # the newest, which is listed first
    await changing.publish(code, replace(record, description="Described anew"))
    changed = await changing.get(f"ImagingStudy/{one['id']}")
    before, after = (found["meta"]["versionId"].rsplit(".", 2) for found in (one, changed))
    assert (before[0], int(before[1]) < int(after[1])) == (after[0], True)


async def test_search_etag_follows_states_not_times(changing: Region) -> None:
    async def tag() -> str:
        async with changing.http.get(f"{changing.base}/fhir/ImagingStudy", params=QUERY) as response:
            return response.headers["ETag"]

    first = await tag()
    async with changing.http.get(
        f"{changing.base}/fhir/ImagingStudy", params=QUERY, headers={"If-None-Match": first}
    ) as response:
        assert response.status == 304
        assert "RTK;state=live" in response.headers["Crosslight-Coverage"]
    changing.room.lost("RTK")
    down = await tag()
    assert down != first
    changing.room.clock.moment += timedelta(seconds=5)
    changing.room.said("RTK")
    assert await tag() == first
    changing.room.lost("RTK")  # since another moment
    assert await tag() == down


async def test_gone_and_missing(changing: Region) -> None:
    (code, sealed), (other, withdrawn) = changing.held[:2]
    ids = [await changing.id_of(record.study_uid) for record in (sealed, withdrawn)]
    assert (
        await changing.room.availability(code, sealed.study_uid, "Deprecated", changing.versions + 1)
        == "accepted"
    )
    outcome = await changing.get(f"ImagingStudy/{ids[0]}", 410)
    assert outcome["issue"][0]["code"] == "deleted"
    assert await changing.room.withdraw(other, withdrawn.study_uid, changing.versions + 1) == "accepted"
    await changing.get(f"ImagingStudy/{ids[1]}", 410)
    outcome = await changing.get("ImagingStudy/def", 404)
    OperationOutcome.model_validate(outcome)
    assert outcome["issue"][0]["code"] == "not-found"
    assert outcome["issue"][0]["expression"] == ["ImagingStudy.id"]
    assert "search" in outcome["issue"][0]["diagnostics"].casefold(), "what to do"
    assert len(resources(await changing.get("ImagingStudy", params=QUERY))) == 5
    nothing = (await changing.get("Observation", 404))["issue"][0]
    assert nothing["code"] == "not-found"
    assert "ImagingStudy" in nothing["diagnostics"], "what there is"
    assert "expression" not in nothing
    async with changing.http.delete(f"{changing.base}/fhir/ImagingStudy/def") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        OperationOutcome.model_validate(await response.json(content_type=None))


async def test_degraded_members_are_named(changing: Region) -> None:
    room = changing.room
    for code in ("RA2", "RYR"):  # a record of somebody else that gives the same number
        await room.feed(
            code,
            patient(
                room.member(code), "C1", number=NUMBER, family="Zed", given="Zoe", born="19990909", sex="M"
            ),
        )
    room.said("RA2", waiting=7)
    room.lost("RTK")
    since = room.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    asked = changing.http.get(
        f"{changing.base}/fhir/ImagingStudy", params=QUERY, headers={"Authorization": "RA2"}
    )
    async with asked as response:
        header = response.headers["Crosslight-Coverage"]
        bundle = await response.json(content_type=None)
    assert "RTK;state=unreachable;" in header
    assert "RA2;state=behind" in header
    told = issues(bundle)
    assert {i["severity"] for i in told} == {"warning"}
    texts = [i["details"]["text"] for i in told]
    assert any(
        t.startswith(f"RTK Hospitals NHS Foundation Trust (RTK) is unreachable since {since}") for t in texts
    )
    assert any("(RA2) is behind" in t and "7 waiting" in t for t in texts), texts
    assert sum("(RA2) in this answer is disputed" in t for t in texts) == 1, texts
    assert sum("(RYR), claims this number: compare name and date of birth." in t for t in texts) == 1
    assert len(resources(bundle)) == 7
    assert {i["code"] for i in told} == {"transient", "incomplete", "conflict"}


async def test_an_empty_list_says_what_it_proves(changing: Region) -> None:
    params = {**QUERY, "modality": "US"}
    texts = [i["details"]["text"] for i in issues(await changing.get("ImagingStudy", params=params))]
    assert any("Nothing matches, at any member" in t for t in texts)
    changing.room.said("RA2", census_equal=None, census_at="")
    texts = [i["details"]["text"] for i in issues(await changing.get("ImagingStudy", params=params))]
    assert any("does not prove that there is none" in t for t in texts)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("ImagingStudy?colour=red", "colour"),
        ("ImagingStudy?started=x", "started"),
        ("ImagingStudy?bodysite=CHEST", "bodysite"),
        ("ImagingStudy?patient.identifier=http://wrong|1", "patient"),
        ("Patient?family=Baker", "birthdate"),
        ("ImagingStudy?_page=abc", "_page"),
    ],
)
async def test_strict_errors_name_the_parameter(region: Region, path: str, parameter: str) -> None:
    outcome = await region.get(path, 400)
    OperationOutcome.model_validate(outcome)
    assert outcome["issue"][0]["location"] == [f"http.{parameter}"]
    assert "expression" not in outcome["issue"][0]
    assert outcome["issue"][0]["severity"] == "error"


async def test_lenient_says_what_was_not_used(region: Region) -> None:
    bundle = await region.get(
        "ImagingStudy", params={**QUERY, "colour": "red"}, headers={"Prefer": "handling=lenient"}
    )
    assert bundle["total"] == 7
    (ignored,) = [i for i in issues(bundle) if i["severity"] == "warning"]
    assert "colour" in ignored["details"]["text"]


async def test_formats(region: Region) -> None:
    for accept in (
        "*/*",
        "application/fhir+json",
        "application/json;q=0.9, text/html",
        "application/fhir+xml, */*;q=0.1",
        "application/fhir+json; fhirVersion=4.0",
    ):
        await region.get("ImagingStudy", params=QUERY, headers={"Accept": accept})
    for accept in ("application/fhir+xml", "text/html", "application/fhir+json; fhirVersion=5.0"):
        outcome = await region.get("ImagingStudy", 406, params=QUERY, headers={"Accept": accept})
        assert outcome["issue"][0]["code"] == "not-supported"
    await region.get("ImagingStudy", 406, params={**QUERY, "_format": "xml"})
    await region.get(
        "metadata", params={"_format": "application/fhir+json"}, headers={"Accept": "application/fhir+xml"}
    )


async def test_capability(region: Region) -> None:
    found = await region.get("metadata")
    CapabilityStatement.model_validate(found)
    assert found["fhirVersion"] == "4.0.1"
    assert found["implementation"]["url"] == f"{region.base}/fhir"


async def test_policy_refuses_before_a_byte(region: Region) -> None:
    outcome = await region.get("ImagingStudy", 403, params=QUERY, headers={"Authorization": "porter"})
    assert outcome["issue"][0]["code"] == "forbidden"


async def test_patient_search_and_read(region: Region) -> None:
    found: list[dict[str, Any]] = []
    for params in (
        {"identifier": f"{SYSTEM}|{NUMBER}"},
        {"family": "baker", "birthdate": "1961-02-03"},
        {"name": "Baker", "birthdate": "1961-02-03", "gender": "female"},
    ):
        bundle = await region.get("Patient", params=params)
        Bundle.model_validate(bundle)
        (one,) = found = resources(bundle)
        assert one["identifier"][0]["value"] == NUMBER
        assert sorted(i["value"] for i in one["identifier"][1:]) == ["H1", "H2", "H3"]
    assert await region.get(f"Patient/{found[0]['id']}") == found[0]
    await region.get("Patient/nobody", 404)
    for extra, count in (
        ({"gender": "male"}, 0),
        ({"birthdate": "1961-02-04"}, 0),
        ({"birthdate": "1961-02"}, 1),
        ({"given": "an"}, 1),
    ):
        assert len(resources(await region.get("Patient", params={"identifier": NUMBER, **extra}))) == count, (
            extra
        )


async def test_directory(changing: Region) -> None:
    bundle = await changing.get(
        "Organization", params={"identifier": "RTK", "_include": "Organization:endpoint"}
    )
    (trust,) = resources(bundle)
    assert trust["name"].startswith("RTK")
    assert {e["address"] for e in resources(bundle, "include")} == {
        f"{changing.base}/dicomweb",
        "https://rtk.example/dicomweb",
    }
    assert (await changing.get(f"Organization/{trust['id']}"))["id"] == trust["id"]
    bundle = await changing.get("Endpoint", params={"organization": f"Organization/{trust['id']}"})
    # where apps need no certificate
    assert [e["address"] for e in resources(bundle)] == ["https://rtk.example/dicomweb"]
    for chain in ("organization.identifier", "organization:identifier"):
        assert resources(await changing.get("Endpoint", params={chain: "RTK"})) == resources(bundle)
        assert resources(await changing.get("Endpoint", params={chain: "NOBODY"})) == []
    seen = []
    bundle = await changing.get("Organization", params={"_count": "4"})
    seen += resources(bundle)
    async with changing.http.get(
        next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    ) as response:
        seen += resources(await response.json(content_type=None))
    assert len({o["id"] for o in seen}) == 6
    await changing.get("Endpoint/nothing", 404)
    rtk = changing.room.member("RTK")
    await changing.room.reached_at("RTK", Endpoints())  # one that lets nobody in: through the gateway
    assert (await changing.get(f"Endpoint/member-{rtk.id}-wado"))[
        "address"
    ] == f"{changing.base}/dicomweb/members/RTK"


async def test_fhirpy_follows_pages(region: Region) -> None:
    client = AsyncFHIRClient(f"{region.base}/fhir", authorization="Bearer x")
    search = client.resources("ImagingStudy").search(
        **{"patient.identifier": f"{SYSTEM}|{NUMBER}", "started__ge": "2024-07-02"}
    )
    found = await search.limit(2).fetch_all()
    assert sum(r.resource_type == "ImagingStudy" for r in found) == 6
    assert await search.count() == 6
    who = await client.resources("Patient").search(identifier=f"{SYSTEM}|{NUMBER}").first()
    assert who is not None
    again = await client.reference("Patient", who["id"]).to_resource()
    assert again["birthDate"] == "1961-02-03"


async def test_no_address_that_we_make_holds_a_number(region: Region) -> None:
    for path, params in (
        ("ImagingStudy", QUERY),
        ("Patient", {"identifier": NUMBER}),
        ("ImagingStudy", {"accession": "RA123"}),
    ):
        bundle = await region.get(path, params=params)
        for link in bundle["link"]:
            assert urlparse(link["url"]).query.startswith("_page=")


async def test_pages_in_the_order_of_ids(region: Region) -> None:
    """As FHIR-PYrate asks (``_sort=_id``); through the whole region no index has this order."""
    bundle = await region.get("ImagingStudy", params={**QUERY, "_sort": "_id", "_count": "3"})
    found = [r["id"] for r in resources(bundle)]
    while further := [link["url"] for link in bundle["link"] if link["relation"] == "next"]:
        async with region.http.get(further[0]) as response:
            bundle = await response.json(content_type=None)
        found += [r["id"] for r in resources(bundle)]
    assert found == sorted(set(found))
    assert len(found) == 7
    await region.get("ImagingStudy", 400, params={"modality": "CT", "_sort": "_id"})


async def test_undated_studies_match_and_come_last(changing: Region) -> None:
    code, record = changing.held[3]
    await changing.publish(code, replace(record, time=StudyTime()))
    for sort in ("-started", "started"):
        found = resources(
            await changing.get("ImagingStudy", params={**QUERY, "started": "ge2024-07-01", "_sort": sort})
        )
        assert len(found) == 7
        assert "started" not in found[-1]
        assert found[-1]["_started"]["extension"][0]["valueCode"] == "unknown"
