"""Every kind of credential is listed with its last use, and ended by the command; the gateway's own too.

Over real TLS: a registry and two members in one process.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from attacked_region import DOCTOR, STUDY, AttackedRegion, attacked
from click.testing import CliRunner
from whole_region import until

from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context, server_context
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import Conflict
from node.membership.config import RegionConfig
from node.membership.gateway_proof import GatewayProof
from node.membership.state import RegionState
from registry import commands
from registry.__main__ import main
from registry.access.issued import Listed
from registry.access.sessions import COOKIE
from registry.credential_commands import opened_credentials

SEARCH = f"/dicomweb/studies?StudyInstanceUID={STUDY}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AttackedRegion]:
    async with attacked(tmp_path_factory.mktemp("ended")) as made:
        yield made


async def command(region: AttackedRegion, *args: str) -> str:
    """What the operator's command says."""
    folder = str(region.region.registry.folder)
    ran = await asyncio.to_thread(CliRunner().invoke, main, ["--dir", folder, *args], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


async def listed(region: AttackedRegion, kind: str, whom: str) -> Listed:
    async with opened_credentials(region.region.registry.folder) as issued:
        (one,) = [c for c in await issued.all() if (c.kind, c.whom) == (kind, whom) and not c.withdrawn]
    return one


@pytest.mark.asyncio(loop_scope="module")
async def test_a_session_is_ended(region: AttackedRegion) -> None:
    registry = region.region.registry
    session = await registry.parts.access.sessions.begin(DOCTOR)
    cookie = {"Cookie": f"{COOKIE}={session.id}"}

    async def status() -> int:
        tls = client_context(registry.members.ca.bundle)
        async with (
            client_session(tls) as http,
            http.get(registry.people_url + SEARCH, headers=cookie) as said,
        ):
            return said.status

    assert await status() == 200
    one = await listed(region, "session", DOCTOR.subject)
    assert one.used is not None
    assert "Ended: session" in await command(region, "credentials", "end", "session", one.id[:12])
    assert await status() == 401


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_is_listed_with_its_last_use_and_ended(region: AttackedRegion) -> None:
    registry = region.region.registry
    token = await commands.issue_token(registry.folder, role="clinician", user="reader")
    assert (await listed(region, "token", "token:reader")).used is None

    async def status() -> int:
        return (await region.ask("GET", registry.people_url + SEARCH, token))[0]

    assert await status() == 200

    async def used() -> bool:
        return (await listed(region, "token", "token:reader")).used is not None

    await until(used)
    one = await listed(region, "token", "token:reader")
    assert "used 20" in await command(region, "credentials", "--kind", "token")
    await command(region, "credentials", "end", "token", one.id)

    async def refused() -> bool:
        return await status() == 401

    await until(refused)
    assert "reader" not in await command(region, "credentials", "--kind", "token")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_certificate_is_listed_with_its_last_use_and_ended(region: AttackedRegion) -> None:
    registry = region.region.registry

    async def status() -> int:
        return (await region.ask("GET", registry.addresses.systems + SEARCH, by="system"))[0]

    assert await status() == 200

    async def used() -> bool:
        return (await listed(region, "certificate", "system:app-server")).used is not None

    await until(used)
    assert (await listed(region, "certificate", "member:RTK")).used is not None, "its link shows it"
    one = await listed(region, "certificate", "system:app-server")
    await command(region, "credentials", "end", "certificate", one.id)

    async def refused() -> bool:
        return await status() == 401

    await until(refused)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_invitation_is_ended(region: AttackedRegion) -> None:
    registry = region.region.registry
    secret = Invitation.parse(await commands.invite(registry.folder, "RX9")).secret
    one = await listed(region, "invitation", "member:RX9")
    await command(region, "credentials", "end", "invitation", one.id)
    with pytest.raises(Conflict):
        await registry.members.store.use_invitation(secret, 0)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_gateways_certificate_is_withdrawn_and_the_region_goes_on(
    region: AttackedRegion, tmp_path: Path
) -> None:
    """A copy of it opens nothing from then on, and the gateway calls members with another."""
    registry = region.region.registry
    stolen = Path(shutil.copy(registry.folder / "tls" / "gateway.pem", tmp_path))
    release, reader = region.release(STUDY), region.issue(DOCTOR)
    at = region.region.homes["RTK"].app.endpoints

    async def by_the_thief() -> tuple[int, str]:
        tls = client_context(registry.members.ca.bundle, stolen, None)
        headers = {"Authorization": f"Bearer {release}"}
        url = f"{at.systems}/dicomweb/studies/{STUDY}/metadata"
        async with client_session(tls) as http, http.get(url, headers=headers) as said:
            return said.status, await said.text()

    async def by_the_gateway() -> int:
        url = f"{registry.people_url}/dicomweb/members/RTK/studies/{STUDY}/metadata"
        return (await region.ask("GET", url, reader))[0]

    assert (await by_the_thief())[0] == await by_the_gateway() == 200
    one = await listed(region, "certificate", "gateway")
    assert "gateway" in await command(region, "credentials", "--kind", "certificate")
    await command(region, "credentials", "end", "certificate", one.id)

    async def refused() -> bool:
        status, text = await by_the_thief()
        return status == 401 and "withdrawn" in text

    await until(refused)
    assert await by_the_gateway() == 200
    assert (await listed(region, "certificate", "gateway")).id != one.id
    assert registry.members.own.serial != one.id
    await nobody_else_is_the_registry(region, stolen)


async def nobody_else_is_the_registry(region: AttackedRegion, stolen: Path) -> None:
    """A node that was told of it links to nobody who shows the copy, and to the registry as before."""
    registry, state = region.region.registry, region.region.homes["RTK"].app.membership.state  # type: ignore[attr-defined]  # it has joined
    context = server_context(stolen, stolen, client_ca=registry.members.ca.bundle)
    context.set_alpn_protocols(["h2"])
    thief = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    real = RegionState(state.folder, registry.seams.files)
    real.accept_directory(registry.members.signed_directory()[1], registry.seams.clock.now())
    led = copy.copy(real)
    led.registry = replace(real.registry, grpc=f"127.0.0.1:{thief.sockets[0].getsockname()[1]}")
    peers = []
    for one in (real, led):
        proof = GatewayProof(one, registry.seams.link, RegionConfig(), open_mode=False)
        await proof.renew()
        peers.append(proof.peer)
    thief.close()
    own = registry.members.own.gateway
    assert own is not None
    assert own.cert.read_bytes().find(peers[0].split(b"\n")[1]) > 0
    assert peers[1] == real.credentials.cert.read_bytes(), "of a thief nothing is proven"
