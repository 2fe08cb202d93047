"""Whoever tries credentials that do not hold is seen, and fills nothing: at every listener (H8)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from registry_room import TestClock
from tls_region import TlsRegion, tls_region
from whole_region import HOST, ROOT

from crosslight.pb import membership_pb2 as pb
from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.refusals import STRANGER, Refusals, RefusalsConfig, network_of
from crosslight.standards.problem import StorageError, Unavailable
from node.app import NodeApp
from registry.app import RegistryApp
from registry.link.handshakes import GRACE_S, REFUSED, Handshakes

TOO_MANY = 5


@contextlib.asynccontextmanager
async def region(folder: Path) -> AsyncIterator[TlsRegion]:
    few = {"refusals": {"alarm_per_minute": 1000}}
    async with tls_region(folder, registry=few, node=few) as made:
        yield made


def _forged() -> str:
    """A token of somebody else's key that says all the right things."""
    key = ECKey.generate_key("P-256", {"kid": "k1"})
    claims = {"iss": f"{ROOT}.1", "aud": f"{ROOT}.1", "sub": "person:dr.amos", "exp": 1 << 33, "iat": 1}
    return str(jwt.encode({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}, claims, key))


async def _get(url: str, tls: ssl.SSLContext, **headers: str) -> int:
    """The status of an answer; 0 where none came."""
    try:
        async with client_session(tls) as http, http.get(url, headers=headers, allow_redirects=False) as got:
            await got.read()
            return got.status
    except (aiohttp.ClientError, OSError):  # a refused handshake comes as several of these
        return 0


async def _seen(app: RegistryApp | NodeApp) -> list[Audited]:
    """What strangers tried, as the audit has it after a minute."""
    ground = app.parts.ground
    await ground.refusals.settle()
    return [act for act in await ground.audit.search() if act.action == "authenticate"]


async def _reasons(app: RegistryApp | NodeApp) -> set[tuple[str, str]]:
    return {(act.face, act.rule) for act in await _seen(app)}


async def test_every_listener_of_a_registry_tells_of_refused_credentials(tmp_path: Path) -> None:
    async with region(tmp_path) as here:
        app, anybody = here.registry, here.anybody()
        people, systems = app.people_url, app.addresses.systems
        before = len(await app.parts.ground.audit.search())
        assert await _get(f"{people}/fhir/Patient", anybody) == 401
        assert await _get(f"{people}/dicomweb/studies", anybody, Authorization=f"Bearer {_forged()}") == 401
        # a browser is sent to sign in, and is seen where it brought something
        page = {"Accept": "text/html", "Authorization": "Bearer x.y.z"}
        assert await _get(f"{people}/", anybody, **page) == 303
        assert (
            await _get(f"{people}/", anybody, Accept="text/html", Cookie="__Host-crosslight=guessed") == 303
        )
        assert await _get(f"{people}/signin/callback?state=x", anybody) == 401
        assert await _post_join(people, anybody) == 401
        assert await _get(f"{systems}/xds/registry", anybody) == 0
        assert await _get(f"{systems}/xds/registry", here.stranger()) == 0
        await _mllp(here, anybody)
        await _grpc(here)
        reasons = await _reasons(app)
        assert {face for face, _ in reasons} >= {"fhir", "dicomweb", "portal", "join", "xds", "hl7", "feed"}
        assert ("xds", "No client certificate was shown.") in reasons
        assert any(face == "xds" and "of no authority" in why for face, why in reasons)
        assert any(face == "dicomweb" and "token" in why for face, why in reasons)
        assert ("join", "This invitation is not known here.") in reasons
        seen = await _seen(app)
        assert all(act.who.subject == "stranger" and act.decision == "deny" for act in seen)
        assert {act.peer for act in seen} == {"127.0.0.0/24"}
        assert len(await app.parts.ground.audit.search()) == before + len(seen) + 1  # and the suspension


async def _post_join(people: str, tls: ssl.SSLContext) -> int:
    from node.membership.join import new_request

    _, csr = new_request("RXX", SystemIds())
    body = {"secret": "wrong", "csr_pem": csr.decode()}
    async with client_session(tls) as http, http.post(f"{people}/join", json=body) as got:
        return got.status


async def _mllp(here: TlsRegion, tls: ssl.SSLContext) -> None:
    host, _, port = here.registry.addresses.mllp.rpartition(":")
    client = MllpClient(host, int(port), tls=tls)
    with pytest.raises(Unavailable):
        await client.send(b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08|1|P|2.3.1\r")
    await client.close()


async def _grpc(here: TlsRegion) -> None:
    """A member that is suspended calls: its certificate holds, it may not come in."""
    app = here.registry
    await app.members.suspend("RTK", "a test")
    credentials = here.node.membership.credentials.grpc_channel()
    options = [("grpc.ssl_target_name_override", "gateway.crosslight.internal")]
    async with grpc.aio.secure_channel(app.addresses.grpc, credentials, options) as channel:
        stub: Any = pb_grpc.MembershipStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Renew(pb.RenewRequest(csr_pem=b"x"), timeout=10)


async def test_a_handshake_that_grpc_refuses_is_counted(tmp_path: Path) -> None:
    """By gRPC's own library, which says nothing: members' connections are not."""
    async with region(tmp_path) as here:
        app, refused = here.registry, here.registry.parts.ground.refusals.total
        host, _, port = app.addresses.grpc.rpartition(":")
        for tls in (here.anybody(), here.stranger()):
            with contextlib.suppress(OSError, ssl.SSLError):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
                await reader.read()
                writer.close()
        app.listeners.handshakes.settle(grace_s=0)
        assert refused["feed", REFUSED] == 2, "the node's own connection was followed by a call"


async def test_every_listener_of_a_node_tells_of_refused_credentials(tmp_path: Path) -> None:
    async with region(tmp_path) as here:
        app, anybody = here.node, here.anybody()
        people, systems = app.endpoints.base, app.endpoints.systems
        assert await _get(f"{people}/dicomweb/studies", anybody) == 401
        assert await _get(f"{people}/dicomweb/studies", anybody, Authorization=f"Bearer {_forged()}") == 401
        assert await _get(f"{systems}/dicomweb/studies", anybody) == 0
        assert await _get(f"{systems}/dicomweb/studies", here.stranger()) == 0
        await asyncio.to_thread(_dicom, app)
        reasons = await _reasons(app)
        assert ("dicomweb", "Sign in first.") in reasons
        assert ("dicomweb", "No client certificate was shown.") in reasons
        assert ("dimse", "caller not configured") in reasons
        assert any("of no authority" in why for _, why in reasons)
        assert any("token" in why for _, why in reasons)


def _dicom(app: NodeApp) -> None:
    ae = AE("NOBODY")
    ae.add_requested_context(Verification)
    assert not ae.associate(HOST, app.config.dimse.port, ae_title="RTK").is_established


async def test_strangers_fill_neither_audit_nor_log_and_raise_an_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"refusals": {"alarm_per_minute": 40}}
    async with tls_region(tmp_path, registry=few) as here:
        app, anybody = here.registry, here.anybody()
        before = await _entries(app.parts.ground.audit)
        url = f"{app.people_url}/signin/callback?state=x"
        with caplog.at_level(logging.WARNING, "crosslight.refusals"):
            async with client_session(anybody) as http:
                for _ in range(60):
                    async with http.get(url) as got:
                        assert got.status == 401
            assert await _entries(app.parts.ground.audit) == before  # nothing durable of their own
            (act,) = await _seen(app)
        assert (act.query["times"], act.text) == (60, "denied 60 times")
        lines = [record for record in caplog.records if record.name == "crosslight.refusals"]
        events = [record.getMessage() for record in lines]
        assert events.count("credentials refused") == 2  # the first, and the count
        assert [e for e in events if e.startswith("ALARM")] == ["ALARM: many credentials are refused"]
        ready, details = await app.ready()
        assert ready
        assert details["refused_credentials"].startswith("ALARM")
        metrics = await _metrics(app, anybody)
        assert "crosslight_refused_credentials_alarm 1.0" in metrics
        assert 'crosslight_refused_credentials_total{face="portal",reason="' in metrics


async def _entries(audit: AuditLog) -> int:
    return len(await audit.search(limit=100_000))


async def _metrics(app: RegistryApp, tls: ssl.SSLContext) -> str:
    async with client_session(tls) as http, http.get(f"{app.people_url}/metrics") as got:
        return await got.text()


# --- the bounds, by themselves ------------------------------------------------------------------------------


@pytest.fixture
async def refusals(tmp_path: Path) -> AsyncIterator[tuple[Refusals, AuditLog, TestClock]]:
    db, clock = SqliteDb(tmp_path / "audit.db"), TestClock()
    audit = AuditLog(db, clock)
    await audit.open()
    config = RefusalsConfig(alarm_per_minute=TOO_MANY, alarm_minutes=10, audit_per_minute=4)
    yield Refusals(audit, clock, SystemIds(), config), audit, clock
    await db.close()


Made = tuple[Refusals, AuditLog, TestClock]


async def test_many_networks_share_the_last_entry(refusals: Made) -> None:
    made, audit, _ = refusals
    for n in range(50):
        made.note("fhir", "The token has expired.", f"10.0.{n}.1")
    await made.settle()
    acts = await audit.search()
    assert len(acts) == 4
    assert sum(act.query["times"] for act in acts) == 50
    assert {act.peer for act in acts} == {"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "others"}
    await made.settle()
    assert len(await audit.search()) == 4  # a quiet minute has none


async def test_an_alarm_stands_for_its_time_and_comes_again(
    refusals: Made, caplog: pytest.LogCaptureFixture
) -> None:
    made, _, clock = refusals

    def tried(times: int) -> None:
        for _ in range(times):
            made.note("hl7", "No client certificate was shown.", "10.0.0.1")

    def alarms() -> int:
        return sum(record.getMessage().startswith("ALARM") for record in caplog.records)

    tried(TOO_MANY - 1)
    await made.settle()
    tried(TOO_MANY - 1)
    assert (made.alarm, made.health()["refused_credentials"]) == (False, "ok")
    tried(5)
    assert (made.alarm, alarms()) == (True, 1)
    await made.settle()
    await clock.sleep(9 * 60)
    assert made.alarm
    await clock.sleep(2 * 60)
    assert not made.alarm
    tried(TOO_MANY)
    assert (made.alarm, alarms()) == (True, 2)


async def test_what_cannot_be_audited_now_is_audited_later(
    refusals: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, audit, _ = refusals
    made.note("fhir", "Sign in first.", "10.0.0.1")

    async def full(*_: Any) -> None:
        raise StorageError("The database cannot be written: the disk is full.")

    with monkeypatch.context() as while_full:
        while_full.setattr(audit, "whole", full)
        await made.settle()
    made.note("fhir", "Sign in first.", "10.0.0.2")
    await made.settle()
    (act,) = await audit.search()
    assert (act.who.subject, act.query["times"]) == (STRANGER.subject, 2)


def test_a_network_is_what_one_owner_has() -> None:
    assert network_of("10.1.2.3") == "10.1.2.0/24"
    assert network_of("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == network_of("/run/socket") == ""


async def test_a_handshake_that_no_call_follows_in_time_came_to_nothing() -> None:
    clock, told = TestClock(), list[tuple[object, ...]]()
    handshakes = Handshakes(clock, lambda *said: told.append(said))
    for _ in range(3):
        handshakes.began()
    handshakes.called("ipv4:10.0.0.1:5000")
    handshakes.called("ipv4:10.0.0.1:5000")  # another call of the same
    await clock.sleep(GRACE_S - 1)
    handshakes.settle()
    assert told == []
    await clock.sleep(1)
    handshakes.settle()
    handshakes.settle()
    assert told == [("feed", REFUSED, "")] * 2
