"""Every address of every listener, with and without credentials: what its answers tell browsers and caches.

It walks the routers themselves, so that a new address is asked too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from closed_region import Closed, closed_region
from node_serving import ct

from crosslight.runtime.answer_headers import is_remembered
from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from node.listeners import web_application as node_application
from registry.listeners import web_application as registry_application
from registry.members.systems import asked_grants

UIDS = {"study": "1.2.1", "series": "1.2.1.1", "instance": "1.2.1.1.1", "frames": "1", "code": "RTK"}
PAGES = ("text/html",)


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[Closed]:
    async with closed_region(tmp_path, ("RTK",)) as made:
        await made.add("RTK", ct())
        yield made


def paths(app: web.Application) -> Iterator[tuple[str, str]]:
    """Method and address of each route, its variables filled in."""
    for route in app.router.routes():
        template = route.resource.canonical if route.resource is not None else "/"
        path = re.sub(r"\{(\w+)[^}]*\}", lambda found: UIDS.get(found[1], "other"), template)
        methods = ("GET", "HEAD", "POST") if route.method == "*" else (route.method,)
        for method in methods:
            yield method, path
    yield "GET", "/nothing/here"
    yield "DELETE", "/dicomweb/studies"
    yield "GET", "/dicomweb/studies/1.2.1/bogus"


def check(what: str, headers: Mapping[str, str], status: int) -> list[str]:
    """What is wrong with the headers of an answer."""
    wrong = []
    policy = headers.get("Content-Security-Policy", "")
    page = headers.get("Content-Type", "").startswith(PAGES)
    if not policy or "default-src 'none'" not in policy or "frame-ancestors 'none'" not in policy:
        wrong.append(f"policy {policy!r}")
    if not page and not policy.startswith("sandbox;"):
        wrong.append("no sandbox")
    if headers.get("X-Content-Type-Options") != "nosniff":
        wrong.append("no nosniff")
    if headers.get("Cross-Origin-Resource-Policy") != "same-origin":
        wrong.append("may be embedded")
    kept = headers.get("Cache-Control", "")
    public = any(part in what for part in ("/static/", "/.well-known/"))
    if kept not in ("no-store", "private, no-cache") and not public:
        wrong.append(f"cache {kept!r}")
    if headers.get("Server") != "Crosslight":
        wrong.append(f"server {headers.get('Server')!r}")
    return [f"{what} {status}: {each}" for each in wrong]


async def walked(session: ClientSession, base: str, app: web.Application) -> tuple[list[str], set[int]]:
    wrong, statuses = [], set()
    for method, path in paths(app):
        async with session.request(
            method, base + path, data=b"" if method == "POST" else None, allow_redirects=False
        ) as answer:
            statuses.add(answer.status)
            wrong += check(f"{method} {path}", answer.headers, answer.status)
    return wrong, statuses


async def test_every_answer_says_what_it_is_not(region: Closed) -> None:
    registry, node = region.registry, region.nodes["RTK"]
    authority = region.folder / "registry" / "ca" / "ca.pem"
    files = await registry.members.systems.issue(
        "viewer", region.folder / "systems", asked_grants(("find", "open"))
    )
    nobody = client_context(authority)
    system = client_context(authority, files.cert, files.key)
    seen: set[int] = set()
    async with client_session(nobody) as stranger, client_session(system) as known:
        people, systems = (stranger, region.http), (known,)
        for base, app, sessions in (
            (region.base, registry_application(registry.parts, registry._health, "people"), people),
            (
                registry.addresses.systems,
                registry_application(registry.parts, registry._health, "systems"),
                systems,
            ),
            (node.endpoints.base, node_application(node.parts, node._health, "people"), people),
            (node.endpoints.systems, node_application(node.parts, node._health, "systems"), systems),
        ):
            for session in sessions:
                wrong, statuses = await walked(session, base, app)
                assert not wrong, "\n".join(wrong)
                seen |= statuses
    assert {200, 303, 400, 401, 404, 405} <= seen, "good answers and refusals of all kinds were looked at"
    await unreadable_requests_name_no_program(region)


async def unreadable_requests_name_no_program(region: Closed) -> None:
    port = int(region.base.rpartition(":")[2])
    context = client_context(region.folder / "registry" / "ca" / "ca.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"NONSENSE\r\n\r\n")
    answer = await reader.read(4096)
    writer.close()
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


@pytest.mark.parametrize(
    ("host", "remembered"),
    [
        ("registry.example", True),
        ("registry.example:8600", True),
        ("localhost:8600", False),
        ("LOCALHOST", False),
        ("127.0.0.1:8600", False),
        ("[::1]:8600", False),
    ],
)
def test_browsers_remember_names_alone(host: str, remembered: bool) -> None:
    """HSTS: addresses cannot be remembered, and localhost is everybody's."""
    assert is_remembered(host) is remembered
