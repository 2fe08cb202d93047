"""Who comes with what, at both listeners: bearer tokens, certificates, nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from access_region import TestAccess, access, browser
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from members_region import CLOCK, FAST, IDS, REGION, until

from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tls import client_context
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import Principal
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import Invalid
from node.membership.join import new_request

CLINICIAN = Principal(subject="person:x", name="X", roles=frozenset({"clinician"}), organisation="RA2")


# --- tokens -------------------------------------------------------------------------------------------------


def _attacks(a: TestAccess) -> dict[str, str]:
    tokens, keys = a.access.tokens, a.members.keys
    good = tokens.issue_access_token(CLINICIAN)
    head, body, signature = good.split(".")
    stranger = ECKey.generate_key("P-256")
    stranger.ensure_kid()
    issuer = REGION.home_community_id
    claims = jwt.decode(good, keys.signing, algorithms=["ES256"]).claims
    public = keys.jwks()["keys"][0]
    return {
        "another key": TokenSigner(stranger, issuer, CLOCK, IDS).access(CLINICIAN, audience=issuer, ttl_s=60),
        "no signature": f"{head}.{body}.",
        "changed body": f"{head}.{body[:-2]}AA.{signature}",
        "alg none": "eyJhbGciOiJub25lIn0." + body + ".",
        "public key as secret": jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(public["x"])),
        "another issuer": (
            TokenSigner(keys.signing, "1.2.3", CLOCK, IDS).access(CLINICIAN, audience=issuer, ttl_s=60)
        ),
        "another audience": tokens.signer.access(CLINICIAN, audience="RTK", ttl_s=60),
        "expired": tokens.signer.access(CLINICIAN, audience=issuer, ttl_s=-120),
        "release token": tokens.signer.release(
            CLINICIAN, holder=issuer, patient="", studies=(), correlation="c"
        ),
        "the directory": a.members.signed_directory()[1],
        "rubbish": "x.y.z",
        "empty parts": "..",
        "long": "a" * 20000,
    }


async def test_bearer_tokens_and_attacks(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:

        async def status(header: str) -> int:
            async with session.get(f"{a.people}/fhir/x", headers={"Authorization": header}) as response:
                return response.status

        good = a.access.tokens.issue_access_token(CLINICIAN)
        assert await status(f"Bearer {good}") == 200
        assert await status(f"bearer {good}") == 200
        for name, token in _attacks(a).items():
            if name != "long":  # over the header limit: refused before it is read
                assert await status(f"Bearer {token}") == 401, name
        assert await status(f"Basic {good}") == 401
        assert await status("Bearer ") == 401
        async with session.get(f"{a.people}/fhir/x") as response:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        with pytest.raises(Invalid):
            a.access.tokens.issue_access_token(replace(CLINICIAN, roles=frozenset({"gateway"})))
        async with session.get(f"{a.people}/.well-known/jwks.json") as response:
            published = await response.json()
        assert published == a.members.keys.jwks()
        assert "d" not in published["keys"][0]


# --- systems ------------------------------------------------------------------------------------------------


async def _member_client(a: TestAccess, code: str, folder: Path) -> aiohttp.ClientSession:
    """A client with a member's certificate."""
    secret = Invitation.parse(await a.members.invite(code, a.people)).secret
    row = await a.members.store.use_invitation(secret, 0)
    await a.members.refresh()
    key, csr = new_request(code, IDS)
    issued = a.members.ca.member(csr, code, row.hosts, timedelta(days=a.members.config.certificate_days))
    folder.mkdir()
    SystemFiles().write_atomic(folder / "id.pem", key + issued.chain_pem)
    context = client_context(a.members.ca.bundle, folder / "id.pem")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_systems_need_a_certificate(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{a.systems}/fhir/x")
        files = await a.members.systems.issue("workstation-1", tmp_path / "system")
        assert files.key.stat().st_mode & 0o777 == 0o600
        context = client_context(files.ca, files.cert, files.key)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as system:
            async with system.get(f"{a.systems}/fhir/x") as response:
                me = await response.json()
            assert (me["subject"], me["roles"], me["evidence"]) == (
                "system:workstation-1",
                ["integrator"],
                "certificate",
            )
            bearer = {"Authorization": f"Bearer {a.access.tokens.issue_access_token(CLINICIAN)}"}
            async with system.get(f"{a.systems}/fhir/x", headers=bearer) as response:
                me = await response.json()
                assert (me["roles"], me["via"]) == (["clinician"], "system:workstation-1")


async def test_suspension_closes_http_connections_and_refuses_new_ones(tmp_path: Path) -> None:
    async with access(tmp_path / "a") as a, await _member_client(a, "RTK", tmp_path / "m") as member:
        async with member.get(f"{a.systems}/fhir/x") as response:
            me = await response.json()
        assert (me["roles"], me["organisation"]) == (["member"], "RTK")
        assert me["member"] == a.members.active("RTK").id
        response = await member.get(f"{a.systems}/slow")  # a stream under way
        await response.content.read(100)
        await a.members.suspend("RTK", "test")
        async with asyncio.timeout(60):  # the stream has no end of its own
            with contextlib.suppress(aiohttp.ClientError):
                while await response.content.read(100000):
                    pass
        async with member.get(f"{a.systems}/fhir/x") as response:
            assert response.status == 403
        await a.members.readmit("RTK")
        async with member.get(f"{a.systems}/fhir/x") as response:
            assert response.status == 200


async def test_a_certificate_ends_on_a_live_connection(tmp_path: Path) -> None:
    short = replace(FAST, certificate_days=2 / 86400)
    async with access(tmp_path / "a", members=short) as a:
        a.members.own.renew_due()
        async with await _member_client(a, "RTK", tmp_path / "m") as member:

            async def ask() -> int:
                try:
                    async with member.get(f"{a.systems}/fhir/x") as response:
                        return response.status
                except aiohttp.ClientError:
                    return 0  # the connection was cut, and no other can be made

            statuses = [await ask()]
            async with asyncio.timeout(60):
                while statuses[-1] == 200:
                    await asyncio.sleep(0.1)
                    statuses.append(await ask())
            assert statuses[0] == 200
            assert statuses[-1] in (0, 401)
        late = aiohttp.TCPConnector(ssl=client_context(a.members.ca.bundle, tmp_path / "m" / "id.pem"))
        async with aiohttp.ClientSession(connector=late) as member:
            with pytest.raises(aiohttp.ClientError):
                await member.get(f"{a.systems}/fhir/x")


async def test_own_certificates_renew_in_the_live_listener(tmp_path: Path) -> None:
    short = replace(FAST, certificate_days=3 / 86400)
    async with access(tmp_path, members=short) as a:
        people = a.members.own.people
        assert people is not None
        first = people.leaf()
        await until(lambda: people.leaf().serial_number != first.serial_number)
        await until(lambda: CLOCK.now() > first.not_valid_after_utc)
        async with browser(a) as session, session.get(f"{a.people}/.well-known/jwks.json") as response:
            assert response.status == 200


async def test_open_mode(tmp_path: Path) -> None:
    async with access(tmp_path, open_mode=True) as a, aiohttp.ClientSession() as session:
        for base in (a.people, a.systems):
            async with session.get(f"{base}/fhir/x") as response:
                me = await response.json()
            assert (me["subject"], me["roles"]) == ("open", ["open"])
        await a.members.invite("RTK", a.people)
        async with session.get(f"{a.systems}/fhir/x", headers={"Crosslight-Member": "RTK"}) as response:
            assert response.status == 401  # invited is not joined
        bearer = {"Authorization": f"Bearer {a.access.tokens.issue_access_token(CLINICIAN)}"}
        async with session.get(f"{a.people}/fhir/x", headers=bearer) as response:
            assert (await response.json())["roles"] == ["clinician"]


async def test_what_is_public(tmp_path: Path) -> None:
    async with access(tmp_path) as a, browser(a) as session:
        for path, expected in (
            ("/health/live", 404),
            ("/metrics", 404),
            ("/join", 404),
            ("/fhir/x", 401),
            ("/healthy", 401),
            ("/", 401),
            ("/fhir/metadata", 404),
            ("/fhir/metadata/x", 401),
            ("/signinx", 401),
        ):
            async with session.get(f"{a.people}{path}") as response:
                assert response.status == expected, path
        preflight = {"Origin": "https://x", "Access-Control-Request-Method": "GET"}
        async with session.options(f"{a.people}/fhir/x", headers=preflight) as response:
            assert response.status == 405  # let through to whoever answers CORS
