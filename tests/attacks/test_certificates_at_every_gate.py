"""Whoever shows a certificate, at every gate that takes one: what each is told, as data.

The certificates, the TLS and the services are real.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import grpc.aio
import pytest
from cryptography import x509
from whole_region import FILES, IDS, Whole, until, whole_region

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.tls import (
    Credentials,
    Identity,
    IdentityKind,
    client_context,
    gateway_channel_options,
    pem_blocks,
)
from crosslight.standards.access import Grants
from crosslight.standards.hl7.framing import frame
from crosslight.standards.ids import Oid
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import CrosslightError
from node.membership.joined import Joined
from registry.members.ca import CertificateAuthority
from registry.members.service import MemberService

CLOCK = SystemClock()
SYSTEMS, GRPC, MLLP, NODE = "registry systems", "registry gRPC", "registry MLLP", "node systems"
GATES = (SYSTEMS, GRPC, MLLP, NODE)

#: What a gate says, and the words by which it is known.
VERDICTS: Final = {
    "suspended": "This member is suspended",
    "ended": "The client certificate has expired",
    "withdrawn": "The client certificate was withdrawn",
    "other region": "The client certificate is of another region",
    "nobody": "of this region has this name",
    "nameless": "names no member, gateway or system",
    "no caller": "opens nothing here",
    "no member": "is not a member's of this region",
}
IN, HANDSHAKE = "in", "handshake"


def everywhere(verdict: str) -> dict[str, str]:
    """The same at every gate."""
    return dict.fromkeys(GATES, verdict)


def of_gateway(node: str) -> dict[str, str]:
    """It is no caller of its own registry."""
    return everywhere("no caller") | {NODE: node}


#: The table of truth: who, in which state, is told what at which gate.
TRUTH: Final[dict[tuple[IdentityKind, str], dict[str, str]]] = {
    ("member", "active"): everywhere(IN),
    ("member", "suspended"): everywhere("suspended"),
    ("member", "expired"): everywhere(HANDSHAKE),
    ("member", "superseded"): everywhere("withdrawn"),
    ("member", "unknown"): everywhere("nobody"),
    ("member", "other region"): everywhere("other region"),
    ("member", "other authority"): everywhere(HANDSHAKE),
    ("gateway", "active"): of_gateway(IN),
    ("gateway", "expired"): everywhere(HANDSHAKE),
    ("gateway", "superseded"): of_gateway("withdrawn"),
    ("gateway", "unknown"): everywhere("nameless"),
    ("gateway", "other region"): everywhere("other region"),
    ("gateway", "other authority"): everywhere(HANDSHAKE),
    ("system", "active"): everywhere(IN) | {GRPC: "no member"},
    ("system", "suspended"): everywhere("nobody"),  # its operator has ended it
    ("system", "expired"): everywhere(HANDSHAKE),
    ("system", "superseded"): everywhere("withdrawn"),
    ("system", "unknown"): everywhere("nobody"),
    ("system", "other region"): everywhere("other region"),
    ("system", "other authority"): everywhere(HANDSHAKE),
}
STATES = ("active", "suspended", "expired", "superseded", "unknown", "other region", "other authority")


def test_the_table_is_whole() -> None:
    kinds: tuple[IdentityKind, ...] = ("member", "gateway", "system")
    every = {(kind, state) for kind in kinds for state in STATES} - {("gateway", "suspended")}
    assert set(TRUTH) == every, "nobody suspends the gateway"
    assert all(set(row) == set(GATES) for row in TRUTH.values())


@dataclass
class Gates:
    """A region, and whoever comes to its gates."""

    region: Whole
    folder: Path
    stranger: CertificateAuthority
    number: int = 0

    @property
    def members(self) -> MemberService:
        return self.region.registry.members

    async def heard(self) -> None:
        """Until the node has the registry's newest directory."""

        async def has_it() -> bool:
            membership = self.region.homes["RTK"].app.membership
            assert isinstance(membership, Joined)
            version, _ = self.members.signed_directory()
            return membership.state.directory is not None and membership.state.directory.version == version

        await until(has_it)

    async def admit(self, code: str) -> None:
        """A member that has no node."""
        text = await self.members.invite(code, self.region.base, name=code)
        await self.members.store.use_invitation(Invitation.parse(text).secret, 0)
        await self.members.refresh()

    async def certificate(
        self,
        kind: IdentityKind,
        name: str,
        *,
        community: str = "",
        life: timedelta = timedelta(days=1),
        by: CertificateAuthority | None = None,
    ) -> Path:
        """Key and certificate as a file, noted as the registry notes what it issues."""
        self.number += 1
        path, members = self.folder / f"{self.number}.pem", self.members
        home = members.region.home_community_id
        identity = Identity(kind, name, community or home)
        issued = (by or members.ca).write_pair(path, identity, (), life)
        await members.store.credentials.certificate(issued.serial, identity.uri, None, issued.expires)
        return path

    async def caller(self, kind: IdentityKind, state: str) -> Path:
        """Somebody of this kind in this state."""
        name = "" if kind == "gateway" else {"member": "RXC", "system": "PACS"}[kind]
        members = self.members
        match state:
            case "suspended" if kind == "member":
                return await self.certificate(kind, "OUT")
            case "suspended":
                return await self.certificate(kind, "ENDED")
            case "expired":
                path = await self.certificate(kind, name, life=timedelta(seconds=1))
                await until(lambda: _ended(path))
                return path
            case "superseded":
                path = await self.certificate(kind, name)
                leaf = _leaf(path)
                await members.store.credentials.withdraw(
                    "certificate", f"{leaf.serial_number:x}", leaf.not_valid_after_utc
                )
                await members.refresh()
                await self.heard()
                return path
            case "unknown":
                return await self.certificate(kind, "NOBODY")
            case "other region":
                return await self.certificate(kind, name, community="1.2.826.0.1.9999")
            case "other authority":
                return await self.certificate(kind, name, by=self.stranger)
        return await self.certificate(kind, name)

    async def at(self, gate: str, pair: Path) -> str:
        """What whoever has this certificate is told at a gate."""
        asked = {SYSTEMS: self._systems, GRPC: self._grpc, MLLP: self._mllp, NODE: self._node}
        return await asked[gate](pair)

    async def _https(self, url: str, pair: Path) -> str:
        try:
            async with client_session(client_context(self.members.ca.bundle, pair)) as session:
                async with session.get(url) as response:
                    return _verdict(await response.text(), in_=response.status not in (401, 500))
        except (aiohttp.ClientError, ssl.SSLError, ConnectionError):
            return HANDSHAKE

    async def _systems(self, pair: Path) -> str:
        return await self._https(f"{self.region.registry.addresses.systems}/dicomweb/studies?limit=1", pair)

    async def _node(self, pair: Path) -> str:
        systems = self.region.homes["RTK"].app.endpoints.systems
        return await self._https(f"{systems}/dicomweb/studies?limit=1", pair)

    async def _grpc(self, pair: Path) -> str:
        credentials = Credentials(pair, pair, self.members.ca.bundle).grpc_channel()
        address = self.region.registry.addresses.grpc
        async with grpc.aio.secure_channel(
            address, credentials, options=gateway_channel_options()
        ) as channel:
            stub = pb_grpc.IndexFeedStub(channel)  # type: ignore[no-untyped-call]  # generated
            try:
                await stub.Publish(pb.PublishRequest(), timeout=10)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return HANDSHAKE
                return _verdict(error.details() or "", in_=False)
        return IN

    async def _mllp(self, pair: Path) -> str:
        gateway = Identity("gateway", "", self.members.region.home_community_id)
        host, _, port = self.region.registry.addresses.mllp.rpartition(":")
        client = MllpClient(host, int(port), tls=client_context(self.members.ca.bundle, pair, expect=gateway))
        try:
            answer = (await client.send(MESSAGE)).decode()
            return _verdict(answer, in_="MSA|" in answer)
        except CrosslightError:
            return HANDSHAKE
        finally:
            await client.close()


MESSAGE = (
    b"MSH|^~\\&|A|F|R|G|20200101||ADT^A04|c1|P|2.3.1\rEVN|A04\rPID|||1^^^&1.2.3.4&ISO||DOE^Ann||19500101|F\r"
)


def _verdict(text: str, *, in_: bool) -> str:
    said = [verdict for verdict, words in VERDICTS.items() if words in text]
    assert len(said) <= 1, text
    if said:
        return said[0]
    return IN if in_ else f"neither in nor told why: {text}"


def _leaf(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem_blocks(path.read_bytes())[1])


async def _ended(path: Path) -> bool:
    return CLOCK.now() > _leaf(path).not_valid_after_utc


@asynccontextmanager
async def gates_of(folder: Path) -> AsyncIterator[Gates]:
    """A region with a node, members that have none, and systems of which one was ended."""
    stranger = CertificateAuthority(folder / "stranger", Oid("1.2.3"), "Test", CLOCK, IDS, FILES)
    stranger.open()
    async with whole_region(folder / "region", {"RTK": "grpc"}, secured=True) as region:
        gates, members = Gates(region, folder, stranger), region.registry.members
        for code in ("RXC", "OUT"):
            await gates.admit(code)
        await members.suspend("OUT", "a test")
        for name in ("PACS", "ENDED"):
            await members.systems.grant(name, Grants(capabilities=frozenset({"find", "open"})))
        await members.store.credentials.end_system("ENDED")
        await members.refresh()
        await gates.heard()
        yield gates


async def test_every_gate_asks_who_shows_a_certificate(tmp_path: Path) -> None:
    async with gates_of(tmp_path) as gates:
        told = {}
        for kind, state in TRUTH:
            pair = await gates.caller(kind, state)
            told[kind, state] = {gate: await gates.at(gate, pair) for gate in GATES}
    assert told == TRUTH


#: What the region does to a holder, and at which gates that has something open.
ENDS: Final[dict[str, tuple[IdentityKind, tuple[str, ...]]]] = {
    "the member is suspended": ("member", GATES),
    "the member's certificate is withdrawn": ("member", GATES),
    "the system is ended": ("system", (SYSTEMS, MLLP, NODE)),
}


@pytest.mark.parametrize("event", ENDS)
async def test_what_is_open_ends_with_the_rights_of_its_certificate(tmp_path: Path, event: str) -> None:
    kind, where = ENDS[event]
    async with gates_of(tmp_path) as gates, AsyncExitStack() as stack:
        pair, members = await gates.caller(kind, "active"), gates.members
        over = {gate: await stack.enter_async_context(opened(gates, gate, pair)) for gate in where}
        assert not any(one.done() for one in over.values())
        match event:
            case "the member is suspended":
                await members.suspend("RXC", "a test")
            case "the system is ended":
                await members.store.credentials.end_system("PACS")
            case _:
                leaf = _leaf(pair)
                await members.store.credentials.withdraw(
                    "certificate", f"{leaf.serial_number:x}", leaf.not_valid_after_utc
                )
        ended, still = await asyncio.wait(over.values(), timeout=30)
        assert [gate for gate in where if over[gate] in still] == []
        assert all(one.exception() is None for one in ended)


@asynccontextmanager
async def opened(gates: Gates, gate: str, pair: Path) -> AsyncIterator[asyncio.Task[None]]:
    """Something open at a gate that was let in; the task is done when it ends."""
    if gate == GRPC:
        credentials = Credentials(pair, pair, gates.members.ca.bundle).grpc_channel()
        address = gates.region.registry.addresses.grpc
        async with grpc.aio.secure_channel(
            address, credentials, options=gateway_channel_options()
        ) as channel:
            call = pb_grpc.IndexFeedStub(channel).Compare()  # type: ignore[no-untyped-call]  # generated
            await call.write(pb.CompareRequest())
            yield asyncio.create_task(_stream_ends(call))
            call.cancel()
        return
    urls = {
        SYSTEMS: gates.region.registry.addresses.systems,
        NODE: gates.region.homes["RTK"].app.endpoints.systems,
        MLLP: f"mllp://{gates.region.registry.addresses.mllp}",
    }
    host, port = urls[gate].partition("://")[2].split(":")
    tls = client_context(gates.members.ca.bundle, pair)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=host)
    if gate == MLLP:
        writer.write(frame(MESSAGE))
        assert b"MSA|" in await reader.readuntil(b"\x1c\r")
    else:
        writer.write(f"GET /dicomweb/studies?limit=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    task = asyncio.create_task(_connection_ends(reader))
    try:
        yield task
    finally:
        task.cancel()
        writer.transport.abort()


async def _connection_ends(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while await reader.read(1 << 16):
            pass


async def _stream_ends(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
