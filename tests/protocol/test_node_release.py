"""The one way out of a node: who gets what, and what the audit says of it; both listeners, with real mutual
TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectorError, ClientError, ServerDisconnectedError
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from node_serving import (
    CLINICIAN,
    CLOCK,
    CODE,
    FILES,
    HOME,
    IDS,
    INTEGRATOR,
    Served,
    ct,
    part10,
    related,
    serving,
)

from crosslight.runtime.http import client_session
from crosslight.runtime.tls import Credentials, Identity, client_context, server_context
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import Action, Decision, Face, Principal
from crosslight.standards.ids import Oid
from registry.members.ca import CertificateAuthority

STUDY, OTHER = "1.2.1", "1.2.2"
ONE = f"/studies/{STUDY}/series/1.2.1.1/instances/1.2.1.1.1"
#: Every road by which something leaves over DICOMweb.
WAYS_OUT = (
    "/studies",
    "/series",
    "/instances",
    f"/studies/{STUDY}/series",
    f"/studies/{STUDY}/instances",
    f"/studies/{STUDY}/series/1.2.1.1/instances",
    f"/studies/{STUDY}",
    f"/studies/{STUDY}/series/1.2.1.1",
    ONE,
    f"/studies/{STUDY}/metadata",
    f"/studies/{STUDY}/series/1.2.1.1/metadata",
    ONE + "/metadata",
    ONE + "/frames/1",
    ONE + "/rendered",
    ONE + "/thumbnail",
    ONE + "/frames/1/rendered",
    f"/studies/{STUDY}/thumbnail",
    f"/studies/{STUDY}/series/1.2.1.1/thumbnail",
)
Headers = Callable[[Served], dict[str, str]]


async def status(node: Served, path: str, headers: dict[str, str] | None = None) -> int:
    async with node.session.get(f"{node.url}/dicomweb{path}", headers=headers or {}) as response:
        await response.read()
        return response.status


@pytest.fixture
async def systems(tmp_path: Path) -> AsyncIterator[Served]:
    """The systems listener of an open-mode node: the same tokens over plain http, and nothing without one but
    OPEN.
    """
    async with serving(tmp_path, listener="systems") as node:
        await node.add(part10(ct()), part10(ct(study=OTHER, sop="1.2.2.1")))
        yield node


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, open_mode=False) as node:
        await node.add(part10(ct()), part10(ct(study=OTHER, sop="1.2.2.1")))
        yield node


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def foreign(node: Served, **how: Any) -> dict[str, str]:
    """A release token by another region's key."""
    signer = TokenSigner(ECKey.generate_key("P-256", parameters={"kid": "k1"}), HOME, CLOCK, IDS)
    return bearer(signer.release(CLINICIAN, holder=CODE, patient="p", studies=(STUDY,), correlation="c"))


def unsigned(node: Served) -> dict[str, str]:
    good = node.release(STUDY)["Authorization"].removeprefix("Bearer ").split(".")
    return bearer(".".join([good[0], good[1], ""]))


def symmetric(node: Served) -> dict[str, str]:
    claims: dict[str, Any] = {
        "iss": HOME,
        "aud": CODE,
        "typ": "release",
        "exp": 9999999999,
        "iat": 1,
        "stu": [STUDY],
    }
    claims |= {"roles": ["clinician"], "pou": "TREAT"}
    token = jwt.encode(
        {"alg": "HS256", "kid": "k1", "typ": "release+jwt"}, claims, OctKey.import_key("k" * 32)
    )
    return bearer(token)


ATTACKS: dict[str, tuple[Headers, int]] = {
    "none of our tokens": (lambda n: bearer("x.y.z"), 401),
    "for another holder": (lambda n: n.release(STUDY, holder="RXC"), 401),
    "expired": (lambda n: n.release(STUDY, ttl_s=-3600), 401),
    "for another study": (lambda n: n.release(OTHER), 403),
    "for no study": (lambda n: n.release(), 403),
    "of another key": (foreign, 401),
    "without signature": (unsigned, 401),
    "of another algorithm": (symmetric, 401),
    "an access token for the registry": (lambda n: n.access(audience=HOME), 401),
    "for a porter": (
        lambda n: n.release(STUDY, principal=Principal(subject="p", roles=frozenset({"porter"}))),
        403,
    ),
    "for the gateway itself": (lambda n: n.release(STUDY, principal=Principal(subject="g")), 403),
    "for an unknown purpose": (lambda n: n.release(STUDY, principal=replace(CLINICIAN, purpose="X")), 403),
    "not a bearer": (lambda n: {"Authorization": "Basic abc"}, 401),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_release_tokens_that_open_nothing(systems: Served, attack: str) -> None:
    make, expected = ATTACKS[attack]
    for path in (
        f"/studies/{STUDY}",
        ONE + "/frames/1",
        f"/studies/{STUDY}/metadata",
        f"/studies/{STUDY}/series",
        ONE + "/rendered",
    ):
        assert await status(systems, path, make(systems)) == expected, path


async def test_a_release_token_opens_its_studies_and_nothing_else(systems: Served) -> None:
    token = systems.release(STUDY)
    for path in WAYS_OUT:
        expected = 403 if path in ("/studies", "/series", "/instances") else 200
        assert await status(systems, path, token) == expected, path
    assert await status(systems, f"/instances?StudyInstanceUID={STUDY}", token) == 200
    assert await status(systems, f"/instances?StudyInstanceUID={STUDY},{OTHER}", token) == 403
    assert await status(systems, f"/studies/{OTHER}", token) == 403
    assert await status(systems, "/studies/1.2.99", systems.release("1.2.99")) == 404
    body, content_type = related([("application/dicom", part10(ct(sop="1.2.1.1.7")))])
    async with systems.session.post(
        f"{systems.url}/dicomweb/studies/{STUDY}", data=body, headers=token | {"Content-Type": content_type}
    ) as response:
        assert response.status == 403
    assert len(await systems.archive.objects(STUDY)) == 1


async def test_a_release_token_is_not_for_people(people: Served) -> None:
    assert await status(people, f"/studies/{STUDY}", people.release(STUDY)) == 401


async def test_nothing_leaves_without_credentials(people: Served) -> None:
    for path in WAYS_OUT:
        assert await status(people, path) == 401, path
    for path in ("/rad69", "/xds/repository", "/dicomweb"):
        async with people.session.post(people.url + path, data=b"") as response:
            assert response.status == 401
    async with people.session.get(f"{people.url}/dicomweb/studies") as response:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("principal", "search", "retrieve"),
    [
        (CLINICIAN, 200, 200), (INTEGRATOR, 200, 200),
        (Principal(subject="x", roles=frozenset({"porter"})), 403, 403),
        (Principal(subject="x", roles=frozenset({"operator", "ig", "identity"})), 403, 403),
        (Principal(subject="x"), 403, 403),
    ],
)  # fmt: skip
async def test_access_tokens_open_what_the_table_says(
    people: Served, principal: Principal, search: int, retrieve: int
) -> None:
    headers = people.access(principal)
    for path in WAYS_OUT:
        if path in ("/studies", "/series", "/instances"):
            assert await status(people, path, headers) == 403, "it names nobody"
            assert await status(people, f"{path}?PatientID=L-1", headers) == search, path
        else:
            searching = path.endswith(("/series", "/instances"))
            assert await status(people, path, headers) == (search if searching else retrieve), path
    assert await status(people, "/studies", people.access(principal, audience=HOME)) == 401
    assert await status(people, "/studies", people.access(principal, ttl_s=-600)) == 401


async def test_only_those_who_may_store_store(people: Served) -> None:
    body, content_type = related([("application/dicom", part10(ct(sop="1.2.1.1.8")))])
    for principal, expected in ((CLINICIAN, 403), (INTEGRATOR, 200)):
        headers = people.access(principal) | {"Content-Type": content_type}
        async with people.session.post(
            f"{people.url}/dicomweb/studies", data=body, headers=headers
        ) as response:
            assert response.status == expected


async def test_a_suspended_node_releases_nothing_to_its_region(systems: Served) -> None:
    systems.state["suspended"] = True
    for path in WAYS_OUT:
        assert await status(systems, path, systems.release(STUDY)) == 403, path
        assert await status(systems, path, systems.access()) == 403, path
    assert (await systems.acts(limit=1))[0].rule == "node suspended"
    systems.state["suspended"] = False
    assert await status(systems, f"/studies/{STUDY}", systems.release(STUDY)) == 200


@pytest.mark.parametrize(
    ("skew", "expected"), [(None, 200), (59.0, 200), (-59.0, 200), (61.0, 503), (-61.0, 503)]
)
async def test_a_wrong_clock_stops_new_retrieves(systems: Served, skew: float | None, expected: int) -> None:
    systems.state["skew"] = skew
    assert await status(systems, f"/studies/{STUDY}", systems.release(STUDY)) == expected
    # lists are still given
    assert await status(systems, f"/studies/{STUDY}/series", systems.release(STUDY)) == 200


async def test_the_trust_has_the_last_word(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str, tuple[str, ...]]] = []

    def policy(principal: Principal, face: Face, action: Action, studies: Sequence[str]) -> Decision:
        asked.append((principal.subject, face, action, tuple(studies)))
        return Decision(principal.organisation != "RA2" or action != "retrieve", "not to RA2")

    async with serving(tmp_path, listener="systems", policy=policy) as node:
        await node.add(part10(ct()))
        assert await status(node, f"/studies/{STUDY}", node.release(STUDY)) == 403
        assert await status(node, f"/studies/{STUDY}/metadata", node.release(STUDY)) == 200
        assert asked == [
            ("dr.who", "dicomweb", "retrieve", (STUDY,)),
            ("dr.who", "dicomweb", "read", (STUDY,)),
        ]


async def test_every_act_is_a_pair_under_the_tokens_correlation(systems: Served) -> None:
    await status(systems, f"/studies/{STUDY}", systems.release(STUDY, correlation="corr-42"))
    await status(systems, ONE + "/frames/9", systems.release(STUDY, correlation="corr-43"))
    await status(systems, f"/studies/{STUDY}", systems.release(OTHER, correlation="corr-44"))
    (act,) = await systems.acts(correlation="corr-42")
    assert (act.face, act.action, act.decision, act.text) == (
        "dicomweb",
        "retrieve",
        "permit",
        "ok 1 instances",
    )
    assert (act.who.subject, act.who.organisation, act.who.purpose) == ("dr.who", "RA2", "TREAT")
    assert (act.studies, [p.rpartition("|")[2] for p in act.patients]) == ((STUDY,), ["L-1"])
    assert (await systems.acts(correlation="corr-43"))[0].text == "refused: NotFound"
    (denied,) = await systems.acts(correlation="corr-44")
    assert (denied.decision, denied.text) == ("deny", "denied")


async def test_what_a_search_found_is_in_the_audit(people: Served) -> None:
    exporter = replace(CLINICIAN, roles=frozenset({"exporter"}))
    await status(people, "/studies?PatientName=smith*", people.access(exporter))
    (act,) = await people.acts(study=STUDY)
    assert (act.action, act.text, sorted(act.studies)) == ("export", "ok 2 rows", [STUDY, OTHER])
    assert act.query == {"level": "study", "PatientName": "smith*"}
    assert [p.rpartition("|")[2] for p in act.patients] == ["L-1"]


async def test_a_corrected_patient_is_audited_as_such(systems: Served) -> None:
    await status(systems, f"/studies/{STUDY}", systems.release(STUDY))
    await systems.archive.delete(STUDY, "wrong patient")
    await systems.add(part10(ct(PatientID="L-9", sop="1.2.1.1.5")))
    await status(systems, f"/studies/{STUDY}", systems.release(STUDY, correlation="again"))
    (act,) = await systems.acts(correlation="again")
    assert [p.rpartition("|")[2] for p in act.patients] == ["L-9"]


# --- the systems listener with certificates -----------------------------------------------------------------


class Authority:
    """A region's CA, and client sessions of its kinds of holder."""

    def __init__(self, folder: Path, community: str = HOME) -> None:
        self.folder, self.community = folder, community
        self.ca = CertificateAuthority(folder / "ca", Oid(community), "Test", CLOCK, IDS, FILES)
        self.ca.open()

    def server(self) -> ssl.SSLContext:
        pair = self.folder / "server.pem"
        self.ca.write_pair(pair, None, ("127.0.0.1",), timedelta(days=1))
        return server_context(pair, pair, client_ca=self.ca.bundle)

    def thumbprint(self, kind: str, name: str = "") -> str:
        """Of the certificate that :meth:`client` made last for this holder."""
        pair = self.folder / f"{kind}{name}.pem"
        return Credentials(pair, pair, self.ca.bundle).thumbprint

    def client(self, kind: Any, name: str = "", *, trust: Path | None = None) -> ssl.SSLContext:
        pair = self.folder / f"{kind}{name}.pem"
        self.ca.write_pair(pair, Identity(kind, name, self.community), (), timedelta(days=1))
        return client_context(trust or self.ca.bundle, pair)


async def over_tls(
    node: Served, context: ssl.SSLContext, headers: dict[str, str], path: str = f"/studies/{STUDY}"
) -> int:
    async with (
        client_session(context) as session,
        session.get(f"{node.url}/dicomweb{path}", headers=headers) as response,
    ):
        await response.read()
        return response.status


async def test_certificates_and_what_each_opens(tmp_path: Path) -> None:
    region, stranger = Authority(tmp_path / "region"), Authority(tmp_path / "stranger", "1.9.9")
    async with serving(tmp_path, open_mode=False, listener="systems", tls=region.server()) as node:
        await node.add(part10(ct()))
        gateway, member, system = (
            region.client("gateway"),
            region.client("member", "RXC"),
            region.client("system", "PACS"),
        )
        node.hears(systems=["PACS"])
        ours, theirs = region.thumbprint("gateway"), region.thumbprint("member", "RXC")
        table: list[tuple[str, ssl.SSLContext, dict[str, str], int]] = [
            ("the gateway alone", gateway, {}, 403),
            ("the gateway for a person", gateway, node.release(STUDY, presenter=ours), 200),
            ("the gateway with a token that is bound to nobody", gateway, node.release(STUDY), 401),
            ("the gateway with another's token", gateway, node.release(STUDY, presenter=theirs), 401),
            ("another member with the gateway's token", member, node.release(STUDY, presenter=ours), 401),
            ("another member with a token of its own", member, node.release(STUDY, presenter=theirs), 401),
            ("the gateway with an access token", gateway, node.access(), 401),
            ("the gateway for another study", gateway, node.release(OTHER, presenter=ours), 403),
            ("another member alone", member, {}, 403),
            ("another member with somebody's release token", member, node.release(STUDY), 401),
            ("a registered system", system, {}, 200),
            ("a registered system for a clinician", system, node.access(), 200),
            (
                "a registered system with somebody's release token",
                system,
                node.release(STUDY, presenter=ours),
                401,
            ),
        ]
        for name, context, headers, expected in table:
            assert await over_tls(node, context, headers) == expected, name
        acts = await node.acts(study=STUDY)
        assert {act.who.evidence for act in acts} == {"certificate", "gateway-token", "bearer"}
        assert any("gateway" in act.peer for act in acts)
        for context in (stranger.client("gateway", trust=region.ca.bundle), client_context(region.ca.bundle)):
            with pytest.raises(
                (ClientConnectorError, ClientError, ServerDisconnectedError, ConnectionError, ssl.SSLError)
            ):
                await over_tls(node, context, node.release(STUDY))


async def test_a_certificate_for_another_community_is_nobody(tmp_path: Path) -> None:
    region = Authority(tmp_path / "region")
    async with serving(tmp_path, open_mode=False, listener="systems", tls=region.server()) as node:
        region.community = "1.9.9"
        assert await over_tls(node, region.client("gateway"), node.release(STUDY)) == 401
