"""A caller has one name on every road, and its certificate is told: at each listener, over mutual TLS."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from access_region import TestAccess, access
from cryptography import x509
from members_region import CLOCK, FILES, IDS
from node_serving import HOME, ct, part10, serving

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.caller import Caller
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient, MllpServer, Peer
from crosslight.runtime.tls import (
    Credentials,
    Identity,
    client_context,
    gateway_channel_options,
    pem_blocks,
    server_context,
)
from crosslight.standards.ids import Oid
from crosslight.standards.membership import Invitation
from registry.ihe.iti8 import certificate_principal
from registry.link.callers import Callers, grpc_caller
from registry.members.ca import CertificateAuthority

CALLERS: dict[str, tuple[Identity, str]] = {
    "a member": (Identity("member", "RTK"), "member:RTK"),
    "a system": (Identity("system", "PAS"), "system:PAS"),
    "the gateway": (Identity("gateway"), "gateway"),
}


def shown(pair: Path) -> str:
    """How the audit names the certificate in this file."""
    return (
        f"certificate {x509.load_pem_x509_certificates(pem_blocks(pair.read_bytes())[1])[0].serial_number:x}"
    )


async def over_http(a: TestAccess, pair: Path) -> str:
    """The registry's listener for systems."""
    async with client_session(client_context(a.members.ca.bundle, pair)) as session:
        async with session.get(f"{a.systems}/fhir/x") as response:
            said = await response.json()
            return f"{said['subject']} {said['credential']}"


async def over_mllp(a: TestAccess, pair: Path) -> str:
    """The registry's HL7 listener."""

    async def handle(data: bytes, peer: Peer) -> bytes:
        principal = certificate_principal(peer, a.members)
        return f"{principal.subject} {principal.credential}".encode()

    assert a.members.own.gateway is not None
    server = MllpServer(handle, "127.0.0.1", 0, tls=a.members.own.gateway.server(mutual=True))
    await server.start()
    gateway = Identity("gateway", "", a.members.region.home_community_id)
    client = MllpClient(
        "127.0.0.1", server.port, tls=client_context(a.members.ca.bundle, pair, expect=gateway)
    )
    try:
        return (await client.send(b"who")).decode()
    finally:
        await client.close()
        await server.stop()


async def over_grpc(a: TestAccess, pair: Path) -> str:
    """The members' port."""
    heard: list[Caller] = []
    callers = Callers(a.members)

    class Feed(pb_grpc.IndexFeedServicer):
        async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishReply:
            heard.append(grpc_caller(context, await callers.member(context), IDS, open_mode=False))
            return pb.PublishReply()

    assert a.members.own.gateway is not None
    server = grpc.aio.server()
    pb_grpc.add_IndexFeedServicer_to_server(Feed(), server)  # type: ignore[no-untyped-call]
    port = server.add_secure_port("127.0.0.1:0", a.members.own.gateway.grpc_server())
    await server.start()
    mine = Credentials(pair, pair, a.members.ca.bundle)
    try:
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{port}", mine.grpc_channel(), options=gateway_channel_options()
        ) as channel:
            await pb_grpc.IndexFeedStub(channel).Publish(pb.PublishRequest())  # type: ignore[no-untyped-call]
    finally:
        await server.stop(0)
    assert heard[0].peer == "127.0.0.1"
    return f"{heard[0].principal.subject} {heard[0].principal.credential}"


async def over_a_nodes_http(folder: Path, identity: Identity) -> tuple[str, str]:
    """A node's listener for systems; as its audit has it, and the certificate that was shown."""
    ca = CertificateAuthority(folder / "ca", Oid(HOME), "Test", CLOCK, IDS, FILES)
    ca.open()
    own, theirs = folder / "own.pem", folder / "theirs.pem"
    ca.write_pair(own, None, ("127.0.0.1",), timedelta(days=1))
    ca.write_pair(theirs, Identity(identity.kind, identity.name, HOME), (), timedelta(days=1))
    tls = server_context(own, own, client_ca=ca.bundle)
    async with serving(folder, open_mode=False, listener="systems", tls=tls) as node:
        await node.add(part10(ct()))
        node.hears(systems=["PAS"])
        async with client_session(client_context(ca.bundle, theirs)) as session:
            async with session.get(f"{node.url}/dicomweb/studies/1.2.1/metadata") as response:
                await response.read()
        (act,) = await node.acts()
        return f"{act.who.subject} {act.who.credential}", shown(theirs)


@pytest.mark.parametrize("who", CALLERS)
async def test_a_certificate_is_called_the_same_at_every_listener(tmp_path: Path, who: str) -> None:
    identity, subject = CALLERS[who]
    async with access(tmp_path / "registry") as a:
        await a.members.store.use_invitation(
            Invitation.parse(await a.members.invite("RTK", a.people)).secret, 0
        )
        await a.members.systems.grant("PAS")
        await a.members.refresh()
        pair = tmp_path / "caller.pem"
        community = a.members.region.home_community_id
        a.members.ca.write_pair(
            pair, Identity(identity.kind, identity.name, community), (), timedelta(days=1)
        )
        expected = f"{subject} {shown(pair)}"
        if identity.kind != "gateway":  # which is no caller of its own registry
            assert await over_http(a, pair) == expected
            assert await over_mllp(a, pair) == expected
        if identity.kind == "member":  # nobody else publishes there
            assert await over_grpc(a, pair) == expected
    name, certificate = await over_a_nodes_http(tmp_path / "node", identity)
    assert name == f"{subject} {certificate}"
