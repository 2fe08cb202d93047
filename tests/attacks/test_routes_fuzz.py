"""Every address of every listener, asked by whoever may see nothing: nothing of a patient, and no failure.

The addresses are read from the applications themselves, so that a new one joins by itself. Over real TLS.
``CROSSLIGHT_SOAK`` asks many more.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_serving import ct
from tls_region import TlsRegion, tls_region
from whole_region import ROOT, Home
from yarl import URL

import node.health
import node.listeners
import registry.health
import registry.listeners
from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from crosslight.standards.access import Principal
from registry.access.sessions import COOKIE
from registry.members.systems import app_principal

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = 10_000 if os.environ.get("CROSSLIGHT_SOAK") else 150
STUDY = "1.2.826.0.1.3680043.10.777.42"
SERIES, INSTANCE = f"{STUDY}.1", f"{STUDY}.1.1"
#: What nobody here may be told, in no form; none of it is ever asked for.
CANARY = {
    "PatientName": "Quaxolotl^Zebedina",
    "PatientID": "KANARI-77310",
    "PatientBirthDate": "19310227",
    "AccessionNumber": "ACC-KANARI-9",
    "StudyDescription": "Kanarienvogel survey",
}
TOLD = re.compile(rb"quaxolotl|zebedina|kanari|19310227|1931-02-27|27.feb\w*.1931", re.IGNORECASE)
MAX_ANSWER = 1 << 20
PORTER = Principal(subject="p.porter", name="P. Porter", roles=frozenset({"porter"}), organisation="RTK")


CALLERS = (
    "a stranger",
    "a stranger with a forged token",
    "a porter",
    "a porter at a node",
    "a porter's browser",
    "a system for a porter",
    "a new system",
    "a new app",
)


@dataclass(frozen=True)
class Address:
    """A route of a listener."""

    listener: str  # registry | node, people | systems
    method: str
    path: str  # with {names}

    def __str__(self) -> str:
        return f"{self.listener} {self.method} {self.path}"


class Fuzzed:
    """The region, what is asked of it, and by whom."""

    def __init__(self, region: TlsRegion, bases: Mapping[str, str]) -> None:
        self.region, self.bases = region, bases
        self.addresses = _addresses(region)
        self.callers: dict[str, tuple[aiohttp.ClientSession, dict[str, str]]] = {}

    async def signed_in(self) -> dict[str, str]:
        """What a browser sends in a session that has just begun: what is asked may end it."""
        registry = self.region.registry
        session = await registry.parts.access.sessions.begin(PORTER)
        cookie = f"{COOKIE}={session.id}"
        return {"Cookie": cookie, "X-CSRF-Token": session.csrf, "Origin": registry.people_url}

    def reaches(self, caller: str, address: Address) -> bool:
        """Systems' listeners end the handshake of whoever has no certificate."""
        return "system" in caller or not address.listener.endswith("systems")

    async def ask(
        self,
        caller: str,
        address: Address,
        path: str,
        *,
        method: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """The status, and all that was said: of headers and body as much as may be."""
        session, own = self.callers[caller]
        if caller == "a porter's browser":
            own = await self.signed_in()
        url = URL(self.bases[address.listener] + path, encoded=True)
        async with (
            asyncio.timeout(30),
            session.request(
                method or address.method,
                url,
                headers={**own, **(headers or {})},
                data=body,
                allow_redirects=False,
            ) as got,
        ):
            said = await got.content.read(MAX_ANSWER + 1)
            while len(said) <= MAX_ANSWER and (more := await got.content.read(MAX_ANSWER)):
                said += more
            assert len(said) <= MAX_ANSWER, f"{caller} got {len(said)} bytes of {address}"
            return got.status, b"\n".join([*(k + b": " + v for k, v in got.raw_headers), said])


def _routes(app: web.Application, listener: str) -> list[Address]:
    found = []
    for route in app.router.routes():
        at = route.resource
        path = at.canonical if at is not None else "/"
        methods = ["GET", "POST", "PUT", "DELETE"] if route.method == "*" else [route.method]
        if isinstance(at, web.StaticResource):
            path += "/{file}"
        found += [Address(listener, method, path) for method in methods]
    return found


def _addresses(region: TlsRegion) -> list[Address]:
    found = []
    for kind in ("people", "systems"):
        parts = region.registry.parts
        app = registry.listeners.web_application(parts, registry.health.Health(parts), kind)  # type: ignore[arg-type]  # one of the two
        found += _routes(app, f"registry {kind}")
        home = region.node
        app = node.listeners.web_application(home.parts, node.health.Health(home.parts), kind)  # type: ignore[arg-type]  # as above
        found += _routes(app, f"node {kind}")
    return found


@asynccontextmanager
async def fuzzed(folder: Path) -> AsyncIterator[Fuzzed]:
    """A region with one patient, and callers who may not see them."""
    near = {"root_oid": f"{ROOT}.3", "poll_s": 0.2, "heartbeat_s": 0.5, "loopback": True}
    async with tls_region(folder, registry={"members": near}) as region:
        home = Home(region.node, "grpc")
        await home.add([ct(STUDY, SERIES, INSTANCE, **CANARY)])
        await home.settled()
        own, ends = region.registry, region.node.endpoints
        bases = {
            "registry people": own.people_url,
            "registry systems": own.addresses.systems,
            "node people": ends.base,
            "node systems": ends.systems,
        }
        made = Fuzzed(region, bases)
        issue = own.parts.access.tokens.issue_access_token
        token, at_node = issue(PORTER), issue(PORTER, member="RTK")
        new_app = issue(app_principal("new-app", "integrator"))
        files = await own.members.systems.issue("new-system", folder / "system")
        ca = own.members.ca.bundle
        plain, system = client_context(ca), client_context(ca, files.cert, files.key)
        async with client_session(plain) as stranger, client_session(system) as signed:
            forged = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
            made.callers = {
                "a stranger": (stranger, {}),
                "a stranger with a forged token": (stranger, {"Authorization": f"Bearer {forged}"}),
                "a porter": (stranger, {"Authorization": f"Bearer {token}"}),
                "a porter at a node": (stranger, {"Authorization": f"Bearer {at_node}"}),
                "a porter's browser": (stranger, {}),
                "a system for a porter": (signed, {"Authorization": f"Bearer {token}"}),
                "a new system": (signed, {}),
                "a new app": (stranger, {"Authorization": f"Bearer {new_app}"}),
            }
            assert set(made.callers) == set(CALLERS)
            yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fuzzed]:
    async with fuzzed(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


KNOWN = {
    "study": STUDY,
    "series": SERIES,
    "instance": INSTANCE,
    "frames": "1",
    "frame": "1",
    "code": "RTK",
    "id": "1",
}
UNKNOWN = {**KNOWN, "study": STUDY + "9", "series": SERIES + "9", "instance": INSTANCE + "9"}
NAME = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")


def _filled(path: str, values: Mapping[str, str]) -> str:
    return NAME.sub(lambda match: values.get(match[1], "1"), path)


def _judge(caller: str, address: Address, asked: str, status: int, said: bytes) -> None:
    # 501: an act of the standard that nobody does here; SOAP 1.2 says by 500 what the sender did wrong
    told_so = status == 501 or (status == 500 and b"<s:Value>s:Sender</s:Value>" in said)
    assert status < 500 or told_so, f"{caller}: {address} as {asked}: {status} {said[-300:]!r}"
    assert not TOLD.search(said), f"{caller} is told of the patient by {address} as {asked}: {status}"


async def test_who_may_is_told(at: Fuzzed) -> None:
    """The canary is there to be seen: else nothing below would prove anything."""
    doctor = Principal(subject="d", name="D", roles=frozenset({"clinician"}), organisation="RTK")
    token = at.region.registry.parts.access.tokens.issue_access_token(doctor)
    at.callers["a doctor"] = (at.callers["a stranger"][0], {"Authorization": f"Bearer {token}"})
    try:
        for path in (f"/dicomweb/studies/{STUDY}/metadata", f"/dicomweb/studies?StudyInstanceUID={STUDY}"):
            status, said = await at.ask("a doctor", Address("registry people", "GET", path), path)
            assert status == 200, said
            assert TOLD.search(said)
    finally:
        del at.callers["a doctor"]


async def test_every_address_by_everybody(at: Fuzzed) -> None:
    """As it is meant, of what is there and of what is not: the answers differ in nothing that matters."""
    assert len(at.addresses) > 100, at.addresses
    assert {a.listener for a in at.addresses} == set(at.bases)
    for caller in at.callers:
        for address in at.addresses:
            if not at.reaches(caller, address):
                continue
            statuses = []
            for values in (KNOWN, UNKNOWN):
                asked = _filled(address.path, values)
                status, said = await at.ask(caller, address, asked)
                _judge(caller, address, asked, status, said)
                statuses.append(status)
            assert statuses[0] == statuses[1], f"{caller} learns from {address} whether a study is there"


async def test_a_systems_listener_is_closed_to_whoever_has_no_certificate(at: Fuzzed) -> None:
    for listener in ("registry systems", "node systems"):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await at.ask("a porter", Address(listener, "GET", "/health/live"), "/health/live")


TEXTS = st.one_of(
    st.sampled_from(
        [*KNOWN.values(), *["..", ".", "*", "%", "0", "-1"], "1,2", "9" * 400, "a" * 1000, "\0", "\r\nX: y"]
    ),
    st.text(max_size=40),
    st.from_regex(r"[0-9.]{1,70}", fullmatch=True),
)
NAMES = """PatientID PatientName StudyInstanceUID 00100010 limit offset includefield viewport window quality
fuzzymatching accept _count _include _format _id patient.identifier identifier patient status started
_lastUpdated return state code by number token secret handle page cursor"""
KEYS = st.one_of(st.sampled_from(NAMES.split()), st.text(max_size=20))
TYPES = st.sampled_from(
    [
        "application/json",
        "application/fhir+json",
        "application/fhir+xml",
        "application/dicom+json",
        "application/dicom",
        "application/x-www-form-urlencoded",
        "application/soap+xml; charset=utf-8",
        'multipart/related; type="application/dicom"',
        'multipart/related; boundary=b; type="application/xop+xml"; start="<a>"',
        "text/html",
        "text/plain; charset=utf-7",
        "application/json; charset=x",
        "image/jpeg;q=0.x",
        *("*/*", "", "a/b/c", ";;;"),
    ]
)
ODD = {
    "Range": ["bytes=0-10", "bytes=-5", "bytes=5-1", "bytes=0-0,5-9", "lines=1", "bytes=" + "9" * 30],
    "If-None-Match": ["*", '"x"', "W/", '"' * 50],
    "If-Modified-Since": ["yesterday", "Sat, 01 Jan 2000 00:00:00 GMT"],
    "X-Correlation-Id": ["x" * 300, "a b", "<script>"],
    "Accept-Encoding": ["gzip", "br", "gzip;q=9", "identity;q=0"],
    "Content-Encoding": ["gzip", "x"],
    "X-Forwarded-For": ["1.2.3.4, ::1"],
    "Host": ["evil.example", "localhost:1", ""],
    "Origin": ["https://evil.example", "null"],
    "SOAPAction": ["urn:ihe:iti:2007:RegistryStoredQuery"],
    "Authorization": ["Basic eDp5", "Bearer ", "Bearer a.b.c", "Bearer " + "e30." * 3, "Negotiate x"],
    "Cookie": ["__Host-session=x", "a=b; ; =", "x=" + "y" * 1000],
}
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": TYPES,
        "Content-Type": TYPES,
        **{name: st.sampled_from(values) for name, values in ODD.items()},
    },
)
SOAP = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    b'xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header><a:Action>'
    b"urn:ihe:iti:2007:RegistryStoredQuery</a:Action></s:Header><s:Body>%s</s:Body></s:Envelope>"
)
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=300),
    st.sampled_from(
        [
            *(b"{}", b"[" * 2000, b'{"resourceType": "Bundle"}', b"<a/>", b"\x1f\x8b\x08junk", b"x" * 5000),
            *(SOAP % b"", SOAP % b"<x/>", SOAP[:90], b"\xff\xfe" + "<a/>".encode("utf-16-le")),
            *(b"grant_type=x&subject_token=y", b"code=a&name=b&csr=c"),
            b"--b\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--b--",
        ]
    ),
    st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4).map(lambda d: repr(d).encode()),
)
METHODS = st.sampled_from(["", "", "", "", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
QUERIES = st.lists(st.tuples(KEYS, TEXTS), max_size=5).map(
    lambda pairs: "&".join(f"{quote(key)}={quote(value[:250])}" for key, value in pairs)
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    caller=st.sampled_from(CALLERS),
    nth=st.integers(0, 9999),
    values=st.lists(TEXTS, min_size=6, max_size=6),
    safe=st.sampled_from(["", "/", "/:%"]),
    query=QUERIES,
    method=METHODS,
    headers=HEADERS,
    body=BODIES,
)
async def test_property_nothing_is_told_and_nothing_fails(
    at: Fuzzed,
    caller: str,
    nth: int,
    values: list[str],
    safe: str,
    query: str,
    method: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    reached = [address for address in at.addresses if at.reaches(caller, address)]
    address = reached[nth % len(reached)]
    given_names = dict(zip(NAME.findall(address.path), values, strict=False))
    asked = _filled(address.path, {name: quote(value, safe=safe) for name, value in given_names.items()})
    asked = (asked + (f"?{query}" if query else ""))[:7000]
    sent = None if (method or address.method) in ("GET", "HEAD", "OPTIONS") else body
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        status, said = await at.ask(caller, address, asked, method=method, headers=headers, body=sent)
    except (aiohttp.ClientError, ValueError):
        return  # no request, or cut off as none
    _judge(caller, address, asked, status, said)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 << 10, f"{caller}: {address} as {asked}: {grown_kib} KiB more"
