"""What an outside system does with the certificate or token that it has: what was granted, and nothing else.

Over real TLS: a registry, two members and outside systems in one process (ADR 0036; findings H3, H2, L3, L4).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign_region import Submitted, manifest
from node_serving import part10, related
from road_studies import NUMBER, image
from whole_region import ROOT, Whole, until, whole_region

from crosslight.client.xds import DocumentRequest, XdsClient
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.tls import Identity, client_context
from crosslight.standards.access import Grants
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Forbidden, NotFound, PeerError, Unauthenticated
from crosslight.standards.xds.wire.ebrim_write import render_remove_objects, render_submit_objects
from crosslight.standards.xds.wire.response import parse_registry_response
from node.membership.state import IDENTITY
from registry import commands
from registry.credential_commands import opened_credentials
from registry.ihe import iti42, iti62
from registry.members.systems import asked_grants

STUDY = "1.2.9.1"
OURS, ELSES = f"{ROOT}.91.1", f"{ROOT}.92.1"  # repositories of outside sources
OTHER_NUMBER = "9990000026"
CX = Identifier(NUMBER, NHS_NUMBER_OID).cx()


@dataclass
class Attacked:
    """The region, and the outside systems in it."""

    region: Whole
    folder: Path
    keys: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def systems(self) -> str:
        """The registry's systems listener."""
        return self.region.registry.addresses.systems

    def node(self, code: str) -> str:
        """A node's systems listener."""
        config = self.region.homes[code].app.config
        return f"https://127.0.0.1:{config.listen.systems_port}"

    async def system(self, name: str, grants: Grants) -> None:
        """A new one, granted by the operator."""
        files = await self.region.registry.members.systems.issue(name, self.folder / name, grants)
        self.keys[name] = files.cert, files.key
        await self.heard(name, grants)

    async def heard(self, name: str, grants: Grants | None) -> None:
        """Until every node has the directory that says so."""

        async def told() -> bool:
            states = [home.app.membership.state for home in self.region.homes.values()]  # type: ignore[attr-defined]  # both have joined
            return all(s.directory is not None and s.directory.grants_of(name) == grants for s in states)

        await until(told)

    def tls(self, name: str, **more: Any) -> Any:
        """With the certificate of a system, or with none."""
        cert, key = self.keys.get(name, (None, None))
        return client_context(self.region.registry.members.ca.bundle, cert, key, **more)

    async def http(
        self, name: str, method: str, url: str, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of one request."""
        async with (
            client_session(self.tls(name)) as session,
            session.request(method, url, data=data or None, headers=headers) as response,
        ):
            return response.status, (await response.read()).decode("utf-8", "replace")

    @asynccontextmanager
    async def xds(self, name: str) -> AsyncIterator[XdsClient]:
        """As an XDS consumer."""
        async with XdsClient(tls=self.tls(name)) as client:
            yield client

    async def soap(self, name: str, action: str, body: bytes) -> tuple[bool, str]:
        """A transaction of the registry: whether it was done, and what was said."""
        async with client_session(self.tls(name)) as session:
            client = SoapClient(session, SystemIds())
            reply = parse_registry_response(
                (await client.call(f"{self.systems}/xds/registry", action, body)).body
            )
        return reply.success, " ".join(error.context for error in reply.errors)

    async def hl7(self, name: str, pid3: str, event: str = "A08", mrg: str = "") -> tuple[bool, str]:
        """A message of a patient feed."""
        members = self.region.registry.members
        gateway = Identity("gateway", "", members.region.home_community_id)
        host, port = self.region.registry.addresses.mllp.split(":")
        client = MllpClient(host, int(port), tls=self.tls(name, expect=gateway))
        lines = [
            f"MSH|^~\\&|A|F|R|G|20260301||ADT^{event}|c1|P|2.3.1||||||UNICODE UTF-8",
            f"EVN|{event}",
            f"PID|||{pid3}||STOLEN^NAME||19011231|M",
            *([f"MRG|{mrg}"] if mrg else []),
            "PV1||O",
        ]
        try:
            ack = parse_ack(await client.send(("\r".join(lines) + "\r").encode()))
        finally:
            await client.close()
        return ack.accepted, ack.text

    async def stow(self, name: str, code: str, token: str = "") -> tuple[int, str]:
        """Store an image of the victim's into a trust's archive."""
        body, content_type = related([("application/dicom", part10(image(7, who=NUMBER)))])
        headers = {"Content-Type": content_type, **({"Authorization": f"Bearer {token}"} if token else {})}
        at = self.region.homes[code].app.endpoints
        return await self.http(
            name, "POST", f"{at.base if token else at.systems}/dicomweb/studies", body, headers
        )

    async def everything(self) -> Any:
        """What a clinician finds of the victim, and every stored row of identity and index."""
        db = self.region.registry.parts.ground.db
        tables = (
            "patient_record",
            "national_number",
            "subsumed_id",
            "holding",
            "xds_object",
            "entry_owner",
            "member",
        )
        rows = await db.read(
            "all", lambda tx: {t: sorted(map(repr, tx.rows(f"SELECT * FROM {t}"))) for t in tables}
        )
        held = {code: len(await home.app.archive.objects(STUDY)) for code, home in self.region.homes.items()}
        return rows, held


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    folder = tmp_path_factory.mktemp("grants")
    async with whole_region(folder, {"RTK": "grpc", "RXC": "grpc"}, secured=True) as region:
        for code in ("RTK", "RXC"):
            await region.homes[code].add([image(1, who=NUMBER), image(1, number=2, who=NUMBER)])
            await region.homes[code].settled()
        made = Attacked(region, folder)
        await made.system("owner", asked_grants(("find",), publishes=(ELSES,)))
        yield made


def documents(one: Submitted) -> bytes:
    return render_submit_objects(one.objects)


Call = Callable[[Attacked, str], Awaitable[tuple[bool, str]]]


def _get(path: str, code: str = "") -> Call:
    async def call(a: Attacked, name: str) -> tuple[bool, str]:
        status, text = await a.http(name, "GET", (a.node(code) if code else a.systems) + path)
        assert status in (200, 206, 401, 403), (status, text)
        return status < 300, text

    return call


async def _find(a: Attacked, name: str) -> tuple[bool, str]:
    async with a.xds(name) as client:
        found = await client.find_documents(f"{a.systems}/xds/registry", Identifier(NUMBER, NHS_NUMBER_OID))
    return bool(found.entries), ""


def _iti43(code: str) -> Call:
    async def call(a: Attacked, name: str) -> tuple[bool, str]:
        (entry,) = [
            holding.publication
            for holding in await a.region.holdings(STUDY)
            if holding.member == a.region.registry.members.active("RTK").id
        ]
        asked = DocumentRequest(entry.source.repository_unique_id, entry.manifest.document_uid)
        url = f"{a.node(code) if code else a.systems}/xds/repository"
        async with a.xds(name) as client, client.retrieve(url, [asked]) as stream:
            return bool([part async for part in stream.parts()]), ""

    return call


def _publish(repository: str) -> Call:
    async def call(a: Attacked, name: str) -> tuple[bool, str]:
        one = manifest(f"by {name}", study_uid=f"{ROOT}.5", repository=repository, cx=CX)
        return await a.soap(name, iti42.ACTION_REQUEST, documents(one))

    return call


def _feed(code: str) -> Call:
    async def call(a: Attacked, name: str) -> tuple[bool, str]:
        return await a.hl7(name, f"{name}1^^^&{a.region.homes[code].authority}&ISO", "A04")

    return call


def _store(code: str) -> Call:
    async def call(a: Attacked, name: str) -> tuple[bool, str]:
        status, text = await a.stow(name, code)
        return status == 200, text

    return call


_SEARCH = f"/dicomweb/studies?PatientID={NUMBER}"
_PATIENT = f"patient.identifier=https://fhir.nhs.uk/Id/nhs-number|{NUMBER}"
CALLS: dict[str, Call] = {
    "FHIR at the registry": _get(f"/fhir/ImagingStudy?{_PATIENT}"),
    "QIDO-RS at the registry": _get(_SEARCH),
    "ITI-18": _find,
    "QIDO-RS at RTK": _get(f"/dicomweb/studies?StudyInstanceUID={STUDY}", "RTK"),
    "WADO-RS through the gateway": _get(f"/dicomweb/members/RTK/studies/{STUDY}"),
    "ITI-43 at the registry": _iti43(""),
    "ITI-43 at RTK": _iti43("RTK"),
    "WADO-RS at RTK": _get(f"/dicomweb/studies/{STUDY}", "RTK"),
    "ITI-42 for its repository": _publish(OURS),
    "ITI-42 for another's": _publish(ELSES),
    "ITI-8 of RTK": _feed("RTK"),
    "ITI-8 of RXC": _feed("RXC"),
    "STOW-RS at RTK": _store("RTK"),
    "STOW-RS at RXC": _store("RXC"),
}
_READS = {"FHIR at the registry", "QIDO-RS at the registry", "ITI-18", "QIDO-RS at RTK"}
_OPENS = {"WADO-RS through the gateway", "ITI-43 at the registry", "ITI-43 at RTK", "WADO-RS at RTK"}
#: What is granted, and which calls that opens.
TABLE: list[tuple[str, Callable[[Attacked], Grants], set[str]]] = [
    ("nothing", lambda a: Grants(), set()),
    ("find", lambda a: asked_grants(("find",)), _READS),
    ("open", lambda a: asked_grants(("open",)), _OPENS),
    ("publish", lambda a: asked_grants(publishes=(OURS,)), {"ITI-42 for its repository"}),
    ("feed", lambda a: asked_grants(feeds=(a.region.homes["RTK"].authority,)), {"ITI-8 of RTK"}),
    ("link", lambda a: asked_grants(("link",)), set()),
    ("store", lambda a: asked_grants(stores_at="RTK"), {"STOW-RS at RTK"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("granted", "grants", "opens"), TABLE, ids=[row[0] for row in TABLE])
async def test_a_certificate_does_what_was_granted_and_nothing_else(
    attacked: Attacked, granted: str, grants: Callable[[Attacked], Grants], opens: set[str]
) -> None:
    name = f"system-{granted}"
    await attacked.system(name, grants(attacked))
    done = {}
    for call, attempt in CALLS.items():
        try:
            done[call], text = await attempt(attacked, name)
        except (Forbidden, Unauthenticated) as error:
            done[call], text = False, str(error)
        if not done[call]:
            assert "was not granted" in text or "STOW" in call, (call, text)
    assert {call for call, permitted in done.items() if permitted} == opens


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stolen_nodes_key_opens_nothing_and_changes_nothing_of_others(attacked: Attacked) -> None:
    """RXC's certificate and key, and no person behind them (H2)."""
    state = attacked.region.homes["RXC"].app.membership.state  # type: ignore[attr-defined]  # it has joined
    attacked.keys["thief"] = (state.folder / IDENTITY, state.folder / IDENTITY)
    for home in attacked.region.homes.values():
        await home.settled()
    before = await attacked.everything()
    done = {}
    for call, attempt in CALLS.items():
        if call != "ITI-8 of RXC":  # its own patients it may feed
            try:
                done[call], _ = await attempt(attacked, "thief")
            except PeerError:
                done[call] = False
    assert done == dict.fromkeys(done, False)
    assert await attacked.everything() == before


def _token_call(path: str, code: str = "", method: str = "GET") -> Any:
    async def call(a: Attacked, tokens: Mapping[str, str]) -> int:
        token = tokens[code]
        if method == "POST":
            return (await a.stow("", code, token))[0]
        base = a.region.homes[code].app.endpoints.base if code else a.region.base
        status, text = await a.http("", "GET", base + path, headers={"Authorization": f"Bearer {token}"})
        assert status != 403 or "was not granted" in text
        return status

    return call


TOKEN_CALLS = {
    "FHIR": _token_call(f"/fhir/ImagingStudy?{_PATIENT}"),
    "QIDO-RS": _token_call(_SEARCH),
    "WADO-RS through the gateway": _token_call(f"/dicomweb/members/RTK/studies/{STUDY}"),
    "QIDO-RS at RTK": _token_call(f"/dicomweb/studies?StudyInstanceUID={STUDY}", "RTK"),
    "WADO-RS at RTK": _token_call(f"/dicomweb/studies/{STUDY}", "RTK"),
    "STOW-RS at RTK": _token_call("", "RTK", "POST"),
    "STOW-RS at RXC": _token_call("", "RXC", "POST"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("grants", "opens"),
    [
        (Grants(), set()),
        (asked_grants(("find",)), {"FHIR", "QIDO-RS", "QIDO-RS at RTK"}),
        (asked_grants(("open",)), {"WADO-RS through the gateway", "WADO-RS at RTK"}),
        (asked_grants(stores_at="RTK"), {"STOW-RS at RTK"}),
        (asked_grants(feeds=(NHS_NUMBER_OID,), publishes=(OURS,)), set()),
    ],
)
async def test_a_token_does_what_was_granted_and_nothing_else(
    attacked: Attacked, grants: Grants, opens: set[str]
) -> None:
    folder = attacked.region.registry.folder
    tokens = {
        code: await commands.issue_token(
            folder, role="integrator", user="person:dr", member=code, grants=grants
        )
        for code in ("", "RTK", "RXC")
    }
    statuses = {call: await attempt(attacked, tokens) for call, attempt in TOKEN_CALLS.items()}
    assert {call for call, status in statuses.items() if status < 300} == opens, statuses
    assert set(statuses.values()) <= {200, 403}
    acts = await attacked.region.registry.parts.ground.audit.search(limit=20)
    who = {
        act.who.subject for act in acts if act.who.roles == {"integrator"} and act.who.evidence == "bearer"
    }
    assert not who - {"token:person:dr"}, "an app is never taken for a person"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stolen_certificate_changes_nothing_of_others(attacked: Attacked) -> None:
    """The scripts of the review: identities rewritten, images planted, others' documents removed."""
    rtk, rxc = (attacked.region.homes[code].authority for code in ("RTK", "RXC"))
    theirs = manifest("theirs", study_uid=f"{ROOT}.6", repository=ELSES, cx=CX)
    assert (await attacked.soap("owner", iti42.ACTION_REQUEST, documents(theirs)))[0]
    await attacked.system("stolen", asked_grants(("find", "open"), feeds=(rtk,), publishes=(OURS,)))
    before = await attacked.everything()
    members = attacked.region.registry.members
    next_member = f"{members.root_oid}.10.{max(m.id for m in members.everyone()) + 2}.1"
    planted = [
        manifest("planted", study_uid=STUDY, repository=repository, cx=CX)
        for repository in (
            f"{ROOT}.99.1",
            next_member,
            str(members.active("RTK").repository_unique_id),
            ELSES,
        )
    ]
    national = f"^^^&{NHS_NUMBER_OID}&ISO"
    scripts: list[Awaitable[tuple[bool, str]]] = [
        attacked.hl7("stolen", f"L-1^^^&{rxc}&ISO"),
        attacked.hl7("stolen", f"{NUMBER}{national}"),
        attacked.hl7("stolen", f"{OTHER_NUMBER}{national}", "A40", f"{NUMBER}{national}"),
        attacked.hl7("stolen", f"L-2^^^&{rxc}&ISO", "A40", f"L-1^^^&{rxc}&ISO"),
        attacked.hl7("stolen", f"x^^^&{rtk}&ISO", "A40", f"L-1^^^&{rxc}&ISO"),
        *(attacked.soap("stolen", iti42.ACTION_REQUEST, documents(one)) for one in planted),
        attacked.soap(
            "stolen",
            iti42.ACTION_REQUEST,
            documents(manifest("newer", study_uid=f"{ROOT}.6", repository=OURS, cx=CX, replaces=theirs)),
        ),
        attacked.soap("stolen", iti62.ACTION_REQUEST, render_remove_objects(theirs.uuids)),
    ]
    for script in scripts:
        try:
            done, text = await script
        except PeerError as error:
            done, text = False, str(error)
        assert not done, text
        assert text
    for code in ("RTK", "RXC"):
        assert (await attacked.stow("stolen", code))[0] == 403
    assert await attacked.everything() == before, "nothing changed"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_ended_opens_nothing_anywhere(attacked: Attacked) -> None:
    """A certificate, a system, a token: at the registry's listeners, and at a node by its directory alone."""
    folder, reads = attacked.region.registry.folder, asked_grants(("find", "open"))
    await attacked.system("leaver", reads)
    tokens = {
        code: await commands.issue_token(folder, role="integrator", user="app-9", member=code, grants=reads)
        for code in ("", "RTK")
    }
    search = f"/dicomweb/studies?StudyInstanceUID={STUDY}"

    async def statuses() -> list[int]:
        at, found = attacked.region.homes["RTK"].app.endpoints, []
        for name, url, token in (
            ("leaver", f"{attacked.systems}{search}", ""),
            ("leaver", f"{at.systems}{search}", ""),
            ("", f"{attacked.region.base}{search}", tokens[""]),
            ("", f"{at.base}{search}", tokens["RTK"]),
        ):
            headers = {"Authorization": f"Bearer {token}"} if token else None
            found.append((await attacked.http(name, "GET", url, headers=headers))[0])
        return found

    assert await statuses() == [200, 200, 200, 200]
    async with opened_credentials(folder) as issued:
        assert {one.kind for one in await issued.end_user("app-9")} == {"token"}
        ended = await issued.end("system", "leaver")
        assert (ended.whom, ended.may) == ("system:leaver", "find; open")
        for kind, named in (("token", "0" * 32), ("session", "nobody"), ("system", "leaver")):
            with pytest.raises(NotFound):
                await issued.end(kind, named)  # type: ignore[arg-type]  # each is one of the kinds
        listed = {(one.kind, one.whom): one.withdrawn for one in await issued.all()}
        assert listed["token", "token:app-9"]
        assert listed["certificate", "system:leaver"]

    async def refused() -> bool:
        return await statuses() == [401, 401, 401, 401]

    await until(refused)
    with suppress(PeerError):  # it has no connection, or no word
        assert not (await attacked.hl7("leaver", "x^^^&1.2&ISO"))[0]
    await commands.system(folder, "leaver", folder.parent / "again", reads)  # a new certificate, granted anew

    async def back() -> bool:
        return "leaver" in attacked.region.registry.members.issued.systems

    await until(back)
    assert (await statuses())[:2] == [401, 401], "the old certificate stays withdrawn"
    acts = await attacked.region.registry.parts.ground.audit.search()
    ended_kinds = {act.query["kind"] for act in acts if act.action == "end-credential"}
    assert ended_kinds == {"token", "system"}
