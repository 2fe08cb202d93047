"""A node asks the directory about whoever shows a certificate, at each use, and cuts what is open when the
answer changes; real mutual TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from node_serving import CLOCK, FILES, HOME, IDS, Served, ct, part10, serving

from crosslight.runtime.http import client_session
from crosslight.runtime.tls import Credentials, Identity, client_context, pem_blocks, server_context
from crosslight.standards.ids import Oid
from node.serve.authenticate import Authenticator
from registry.members.ca import CertificateAuthority

STUDY, MEGABYTE = "1.2.1", 1 << 20
DAY = timedelta(days=1)


class Region:
    """An authority, and contexts of those to whom it gave certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority(folder / "ca", Oid(HOME), "Test", CLOCK, IDS, FILES)
        self.ca.open()
        pair = folder / "server.pem"
        self.ca.write_pair(pair, None, ("127.0.0.1",), DAY)
        self.server = server_context(pair, pair, client_ca=self.ca.bundle)

    def client(self, kind: Any, name: str = "", life: timedelta = DAY) -> tuple[ssl.SSLContext, str]:
        """How whoever has this name calls, and the serial number of the certificate."""
        pair = self.folder / f"{kind}{name}.pem"
        self.ca.write_pair(pair, Identity(kind, name, HOME), (), life)
        leaf = x509.load_pem_x509_certificate(pem_blocks(pair.read_bytes())[1])
        return client_context(self.ca.bundle, pair), f"{leaf.serial_number:x}"


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[tuple[Served, Region]]:
    """The systems listener of a node whose gate is watched, as a running node's is."""
    region = Region(folder / "region")
    async with serving(folder, open_mode=False, listener="systems", tls=region.server) as node:
        assert isinstance(node.gate, Authenticator)
        watching = asyncio.create_task(node.gate.watch())
        try:
            yield node, region
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def says(
    node: Served, context: ssl.SSLContext, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and text of a search on a connection of its own."""
    async with (
        client_session(context) as session,
        session.get(
            f"{node.url}/dicomweb/studies?StudyInstanceUID={STUDY}", headers=headers or {}
        ) as response,
    ):
        return response.status, await response.text()


async def opened(
    node: Served, context: ssl.SSLContext, path: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which ``path`` was asked for and its head has come; it reads little ahead."""
    host, port = node.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname=host, limit=1024
    )
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    return reader, writer


async def rest(reader: asyncio.StreamReader, within_s: float = 20) -> int:
    """How much still comes until the connection ends."""
    size = 0
    async with asyncio.timeout(within_s):
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(1 << 16):
                size += len(data)
    return size


async def test_the_directory_decides_at_each_use(tmp_path: Path) -> None:
    async with edge(tmp_path) as (node, region):
        (member, serial), (system, _), (gateway, gateway_serial) = (
            region.client("member", "RXC"),
            region.client("system", "PACS"),
            region.client("gateway"),
        )
        node.hears(systems=["PACS"])
        assert "suspended" not in (await says(node, member))[1]
        assert (await says(node, system))[0] == 200
        node.hears(members={"RTK": "active", "RXC": "suspended"}, systems=["OTHER"])
        status, text = await says(node, member)
        assert (status, "This member is suspended." in text) == (403, True)
        status, text = await says(node, system)
        assert (status, "No system of this region" in text) == (401, True)
        node.hears(members={"RTK": "active"})
        status, text = await says(node, member)
        assert (status, "No member of this region" in text) == (401, True)
        node.hears(withdrawn=[serial, gateway_serial])
        for context in (member, gateway):
            status, text = await says(node, context, node.release(STUDY))
            assert (status, "was withdrawn" in text) == (401, True)
        node.hears()
        status, text = await says(node, member)
        assert "withdrawn" not in text, "the region may change its mind"


async def test_a_running_answer_and_an_idle_connection_are_cut(tmp_path: Path) -> None:
    async with edge(tmp_path) as (node, region):
        images = 48
        pixels = ct(side=700)
        for n in range(images):
            await node.add(part10(ct(side=700, sop=f"1.2.1.1.{n + 1}", number=n + 1)))
        node.hears(systems=["PACS", "OTHER"])
        (system, _), (other, _) = region.client("system", "PACS"), region.client("system", "OTHER")
        running, writer = await opened(node, system, f"/dicomweb/studies/{STUDY}")
        idle, idle_writer = await opened(node, system, "/dicomweb/studies/1.2.99/series")
        kept, kept_writer = await opened(node, other, "/dicomweb/studies/1.2.99/series")
        node.hears(systems=["OTHER"])
        assert await rest(running) < images * len(pixels.PixelData) - MEGABYTE
        await rest(idle)
        kept_writer.write(b"GET /dicomweb/studies/1.2.99/series HTTP/1.1\r\nHost: x\r\n\r\n")
        await kept.readuntil(b"HTTP/1.1 ")
        for one in (writer, idle_writer, kept_writer):
            one.transport.abort()


async def test_a_certificate_that_ends_takes_its_connections_with_it(tmp_path: Path) -> None:
    async with edge(tmp_path) as (node, region):
        node.hears(systems=["PACS"])
        system, _ = region.client("system", "PACS", timedelta(seconds=3))
        reader, writer = await opened(node, system, "/dicomweb/studies/1.2.99/series")
        await rest(reader)
        writer.transport.abort()


@pytest.mark.parametrize(("age_h", "alone"), [(0, 200), (25, 200), (49, 503)])
async def test_nobody_comes_in_by_a_certificate_alone_when_the_region_is_silent(
    tmp_path: Path, age_h: float, alone: int
) -> None:
    """A person's token opens as before: it is short, and verified without the registry (ADR 0035)."""
    async with edge(tmp_path) as (node, region):
        node.hears(age_h=age_h, systems=["PACS"])
        (system, _), (gateway, _) = region.client("system", "PACS"), region.client("gateway")
        assert (await says(node, system))[0] == alone
        assert (await says(node, system, node.access()))[0] == 200
        ours = Credentials(region.folder / "gateway.pem", region.folder / "gateway.pem", region.ca.bundle)
        status, text = await says(node, gateway, node.release("1.2.99", presenter=ours.thumbprint))
        assert (status, "other studies" in text) == (403, True), "the token is read, not the directory's age"


async def test_before_the_first_directory_a_certificate_alone_opens_nothing(tmp_path: Path) -> None:
    async with edge(tmp_path) as (node, region):
        system, _ = region.client("system", "PACS")
        assert (await says(node, system))[0] == 503
        assert (await says(node, system, node.access()))[0] == 200
