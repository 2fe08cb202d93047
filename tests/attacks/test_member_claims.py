"""One member whose certificate is good and whose word is not: its answers, its addresses, its copies.

The region is closed and real; the member's own listener is replaced by one that says whatever a test wants.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from closed_region import CLINICIAN, Closed, closed_region
from loopback import served
from members_region import TestRegistry as Registry
from node_serving import ct
from playwright.async_api import async_playwright
from registry_samples import nhs

from crosslight.standards.problem import Invalid

STUDY = "1.2.77"
SCRIPT = "<!doctype html><script>document.title='taken'; fetch('/taken')</script>"
INSTANCE = f"{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
PATHS = (
    f"{STUDY}",
    f"{STUDY}/metadata",
    f"{STUDY}/thumbnail",
    f"{INSTANCE}",
    f"{INSTANCE}/rendered",
    f"{INSTANCE}/frames/1",
)
#: What a rogue says of its page, and what the caller gets: nothing of it under a type that shows a page.
HEADERS: tuple[tuple[int, dict[str, str], int], ...] = (
    (200, {"Content-Type": "text/html"}, 502),
    (200, {"Content-Type": "text/html; charset=utf-8", "Content-Disposition": "inline"}, 502),
    (200, {"Content-Type": "application/xhtml+xml"}, 502),
    (200, {"Content-Type": "image/svg+xml"}, 502),
    (200, {"Content-Type": "text/xml"}, 502),
    (200, {"Content-Type": "application/pdf"}, 502),
    (200, {"Content-Type": "image/jpeg, text/html"}, 502),
    (200, {"Content-Type": "application/dicom; x=1, text/html"}, 502),
    (200, {"Content-Type": 'multipart/related; type="text/html"; boundary=x'}, 502),
    (200, {"Content-Type": "multipart/x-mixed-replace; boundary=x"}, 502),
    (206, {"Content-Type": "text/html"}, 502),
    (201, {"Content-Type": "application/dicom"}, 502),
    (302, {"Content-Type": "text/html", "Location": "https://evil.example/"}, 502),
    (401, {"Content-Type": "text/html", "WWW-Authenticate": "Basic"}, 401),
    (404, {"Content-Type": "text/html"}, 404),
    (500, {"Content-Type": "text/html"}, 502),
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def study(uid: str = STUDY, count: int = 1, **more: Any) -> list[Any]:
    """A study's objects."""
    return [ct(uid, f"{uid}.1", f"{uid}.1.{n}", number=n, **more) for n in range(1, count + 1)]


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[Closed]:
    async with closed_region(tmp_path) as made:
        await made.add("RYR", *study())
        yield made


def saying(status: int, headers: dict[str, str], body: str = SCRIPT) -> Answer:
    """A rogue's answer to everything."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=body.encode())

    return answer


# --- what it answers ----------------------------------------------------------------------------------------


async def test_no_page_of_a_member_comes_through_the_region(region: Closed) -> None:
    said: list[Answer] = [saying(200, {"Content-Type": "application/dicom"})]

    async def rogue(request: web.Request) -> web.StreamResponse:
        return await said[0](request)

    async with region.rogue("RYR", rogue) as port:
        await region.says("RYR", systems=f"https://127.0.0.1:{port}")
        for status, headers, expected in HEADERS:
            said[0] = saying(status, headers)
            for path in PATHS:
                async with region.http.get(
                    f"{region.base}/dicomweb/studies/{path}", allow_redirects=False
                ) as answer:
                    what = (status, headers, path)
                    assert answer.status == expected, what
                    assert answer.content_type == "application/problem+json", what
                    assert b"script" not in await answer.read(), what
                    assert "Location" not in answer.headers, what
                    assert answer.headers["Content-Security-Policy"].startswith("sandbox;"), what


async def test_what_a_member_says_of_caches_and_files_stays_behind(region: Closed) -> None:
    claims = {
        "Content-Type": "application/dicom",
        "Cache-Control": "public, max-age=31536000",
        "Vary": "Accept-Language",
        "Content-Disposition": 'inline; filename="run me.exe"',
        "Content-Security-Policy": "default-src *",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
        "Set-Cookie": "session=theirs",
        "Strict-Transport-Security": "max-age=0",
        "Server": "Rogue/1.0",
        "Clear-Site-Data": '"*"',
        "Refresh": "0; url=https://evil.example/",
        "Link": "<https://evil.example/>; rel=preload",
    }
    async with region.rogue("RYR", saying(200, claims)) as port:
        await region.says("RYR", systems=f"https://127.0.0.1:{port}")
        async with region.http.get(f"{region.base}/dicomweb/studies/{INSTANCE}") as answer:
            assert answer.status == 200
            headers = answer.headers
    assert headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in headers["Vary"]
    assert "Cookie" in headers["Vary"]
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Content-Security-Policy"].startswith("sandbox;")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Server"] == "Crosslight"
    absent = (
        *("Access-Control-Allow-Origin", "Set-Cookie", "Clear-Site-Data", "Refresh", "Link"),
        "Strict-Transport-Security",
    )
    assert [name for name in absent if name in headers] == []


async def test_chromium_runs_nothing_of_a_member(region: Closed) -> None:
    """As a signed-in clinician's browser that follows an address of the region."""
    token = region.registry.parts.access.tokens.issue_access_token(CLINICIAN)
    said: list[Answer] = [saying(200, {"Content-Type": "text/html"})]

    async def rogue(request: web.Request) -> web.StreamResponse:
        return await said[0](request)

    async with region.rogue("RYR", rogue) as port, async_playwright() as playwright:
        await region.says("RYR", systems=f"https://127.0.0.1:{port}")
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        context = await browser.new_context(
            ignore_https_errors=True, extra_http_headers={"Authorization": f"Bearer {token}"}
        )
        page = await context.new_page()
        await page.set_content(SCRIPT)
        assert await page.title() == "taken", "this browser runs scripts"
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for status, headers in (
            (200, {"Content-Type": "text/html"}),
            (404, {"Content-Type": "text/html"}),
            (404, {"Content-Type": "text/plain"}),
            (404, {"Content-Type": "application/problem+json"}),
            (200, {"Content-Type": "image/jpeg"}),
            (200, {"Content-Type": "image/svg+xml"}),
        ):
            said[0] = saying(status, headers)
            answer = await page.goto(f"{region.base}/dicomweb/studies/{INSTANCE}/rendered")
            assert answer is not None
            await page.wait_for_load_state("networkidle")
            assert await page.title() != "taken", (status, headers)
        assert not any(url.endswith("/taken") for url in asked)
        await browser.close()


# --- where it says it is ------------------------------------------------------------------------------------


async def test_a_member_leads_the_registry_nowhere_else(region: Closed) -> None:
    trapped: list[str] = []

    async def trap(request: web.Request) -> web.Response:
        trapped.append(request.path_qs)
        return web.Response(body=b"x", content_type="application/dicom")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", trap)
    async with served(app) as plain:
        for systems in (
            plain,
            f"{plain}/any/path?x=",
            "https://evil.example:8444",
            "https://127.0.0.1:8444/any/path?x=",
            "https://user:password@127.0.0.1:8444",
            "https://169.254.169.254",
            "https://[::1]:8444",
            "https://0.0.0.0:8444",
        ):
            believed = await region.says(
                "RYR", base=systems, systems=systems, dicomweb=systems, rad69=systems
            )
            assert (believed.base, believed.systems, believed.dicomweb, believed.rad69) == ("", "", "", "")
            async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}/metadata") as answer:
                assert answer.status == 504, systems
            async with region.http.get(f"{region.base}/fhir/Endpoint") as answer:
                published = await answer.text()
            for part in (plain, "evil", "any/path", "password", "169.254", "0.0.0.0", "::1"):
                assert part not in published, systems
    assert trapped == []


async def test_an_address_of_another_member_gives_it_nothing(region: Closed) -> None:
    """The host is in its certificate too; who answers there is proven in the handshake."""
    other = region.nodes["RTK"]
    await region.says("RYR", systems=other.endpoints.systems)
    async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}/metadata") as answer:
        assert answer.status == 504
    assert await other.parts.ground.audit.search(study=STUDY) == []


async def test_the_paths_are_the_regions(region: Closed) -> None:
    node = region.nodes["RYR"]
    mine = node.endpoints.systems
    believed = await region.says(
        "RYR", dicomweb=f"{mine}/elsewhere", rad69=f"{mine}/x?y=", xds_repository="https://evil.example/xds"
    )
    assert believed.dicomweb == f"{mine}/dicomweb"
    assert believed.rad69 == f"{mine}/rad69"
    assert believed.xds_repository == f"{mine}/xds/repository"


async def test_this_machine_is_nobodys_unless_configured(tmp_path: Path) -> None:
    async with closed_region(tmp_path, ("RTK",), members={"loopback": False}) as region:
        await region.add("RTK", *study())
        member = region.registry.members.by_code("RTK")
        assert member is not None
        assert (member.endpoints.base, member.endpoints.systems) == ("", "")
        async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}/metadata") as answer:
            assert answer.status == 504


# --- what it is called --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "gateway.crosslight.internal",
        "GATEWAY.CROSSLIGHT.INTERNAL",
        "Gateway.Crosslight.Internal.",
        "ｇａｔｅｗａｙ.crosslight.internal",
        "gateway。crosslight。internal",
        "internal",
        "*.crosslight.internal",
        "*.trust.example",
        "169.254.169.254",
        "0.0.0.0",
        "::ffff:169.254.169.254",
        "127.1",
        "trust.example/x",
        "spiffe://1.2.3/gateway",
        "",
    ],
)
async def test_nobody_is_invited_under_a_name_of_the_regions_own(tmp_path: Path, host: str) -> None:
    registry = Registry(tmp_path)
    await registry.members.open()
    with pytest.raises(Invalid):
        await registry.members.invite("RYR", "https://localhost", hosts=(host,))
    assert registry.members.by_code("RYR") is None
    await registry.db.close()


async def test_a_host_has_one_spelling(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    await registry.audit.open()
    await registry.members.open()
    spellings = ("Node.Trust.Example.", "node.trust.example")
    await registry.members.invite("RYR", "https://localhost", hosts=spellings)
    member = registry.members.by_code("RYR")
    assert member is not None
    row = registry.members.row(member.id)
    assert row is not None
    assert row.hosts == ("node.trust.example",)
    await registry.db.close()


# --- what it says it holds ----------------------------------------------------------------------------------


async def test_a_planted_copy_takes_nobodys_place(tmp_path: Path) -> None:
    """The same study UID, the patient's own number, and more images than anybody: no default, at no face."""
    number = nhs(7)
    more = {"PatientID": "L-1", "OtherPatientIDs": number}
    async with closed_region(tmp_path) as region:
        await region.add("RTK", *study(**more))
        await region.add("RYR", *study(count=5, **more))
        base = f"{region.base}/dicomweb"
        for path in ("", "/metadata", "/thumbnail", f"/series/{STUDY}.1/instances", f"/series/{STUDY}.1"):
            async with region.http.get(f"{base}/studies/{STUDY}{path}") as answer:
                assert answer.status == 409, path
                told = await answer.json(content_type="application/problem+json")
                links = answer.headers.getall("Link")
            assert [choice["code"] for choice in told["choices"]] == ["RTK", "RYR"]
            assert len(links) == 2
        for choice in told["choices"]:
            assert choice["address"] == f"{base}/members/{choice['code']}/studies/{STUDY}"
            async with region.http.get(f"{choice['address']}/metadata") as answer:
                assert answer.status == 200
                assert answer.headers["Crosslight-Holder"] == choice["code"]
                assert len(await answer.json(content_type=None)) == (1 if choice["code"] == "RTK" else 5)
            async with region.http.get(f"{choice['address']}/series") as answer:
                (series,) = await answer.json(content_type=None)
            assert series["00081190"]["Value"] == [f"{choice['address']}/series/{STUDY}.1"]
        async with region.http.get(f"{base}/studies", params={"StudyInstanceUID": STUDY}) as answer:
            rows = await answer.json(content_type=None)
        assert {row["00081190"]["Value"][0] for row in rows} == {c["address"] for c in told["choices"]}
        found = {"identifier": f"urn:oid:{STUDY}"}
        async with region.http.get(f"{region.base}/fhir/ImagingStudy", params=found) as answer:
            studies = [e["resource"] for e in (await answer.json(content_type=None))["entry"]]
        roads = [[e["reference"] for e in s["endpoint"]] for s in studies if "endpoint" in s]
        assert len(roads) == 2
        assert all(len(each) == 1 for each in roads), "each at its own holder, never through a default"
        assert roads[0] != roads[1]
