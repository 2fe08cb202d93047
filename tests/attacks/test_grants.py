"""What an outside system does with the certificate or token that it has: what was granted, and nothing else.

Over real TLS: a registry, two members and outside systems in one process (ADR 0036; findings H3, H2, L3, L4).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from foreign_region import manifest
from granted_region import CX, ELSES, OURS, STUDY, Attacked, documents, granted_region
from road_studies import NUMBER
from whole_region import ROOT

from crosslight.client.xds import DocumentRequest
from crosslight.standards.access import Grants
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Forbidden, PeerError, Unauthenticated
from node.membership.state import IDENTITY
from registry import commands
from registry.ihe import iti42
from registry.members.systems import asked_grants


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    async with granted_region(tmp_path_factory.mktemp("grants")) as made:
        yield made


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
async def test_a_refused_submission_leaves_no_source(attacked: Attacked) -> None:
    """What was never accepted has no source: a row, a code, a place among those of its system."""
    repository, members = "1.2.826.0.1.3680043.10.9999.88", attacked.region.registry.members
    await attacked.system("first-sight", asked_grants(publishes=(repository,)))
    stranger = Identifier("9999999468", NHS_NUMBER_OID).cx()
    before = await attacked.everything(), members.everyone()
    for cx, registered in ((stranger, False), (CX, True)):
        one = manifest("at first sight", study_uid=f"{ROOT}.6", repository=repository, cx=cx)
        done, text = await attacked.soap("first-sight", iti42.ACTION_REQUEST, documents(one))
        assert done is registered, text
        if not registered:
            assert (await attacked.everything(), members.everyone()) == before
    assert members.by_repository(repository) is not None
