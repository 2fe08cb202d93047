"""TLS between our own ends: who may be called, who may call, and certificates replaced while listeners and
sessions live.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from members_region import CLOCK, FILES, IDS
from ports import free_ports

from crosslight.runtime.http import peer_certificate
from crosslight.runtime.listener import Listener
from crosslight.runtime.tls import Credentials, Identity, client_context, expires_at, peer_identity
from crosslight.standards.ids import Oid
from crosslight.standards.problem import ConfigError
from node.membership.join import new_request
from registry.members.ca import CertificateAuthority

COMMUNITY = Oid("1.2.3")


class Ends:
    """An authority, and certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority(folder / "ca", COMMUNITY, "Test", CLOCK, IDS, FILES)
        self.ca.open()

    def member(self, code: str, life_s: float = 3600, hosts: tuple[str, ...] = ("localhost",)) -> Credentials:
        key, csr = new_request(code, IDS)
        chain = self.ca.member(csr, code, hosts, timedelta(seconds=life_s)).chain_pem
        path = self.folder / f"{code}.pem"
        FILES.write_atomic(path, key + chain)
        return Credentials(path, path, self.ca.bundle)


@asynccontextmanager
async def serving(context: ssl.SSLContext, seen: list[str]) -> AsyncIterator[str]:
    async def hello(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        certificate = peer_certificate(request)
        assert certificate is not None
        assert expires_at(certificate) > CLOCK.now()
        return web.Response(text=peer_identity(certificate).uri)

    app = web.Application()
    app.add_routes([web.get("/", hello)])
    (port,) = free_ports(1)
    listener = Listener(app, "127.0.0.1", port, context)
    await listener.start()
    try:
        yield f"https://127.0.0.1:{port}/"
    finally:
        await listener.stop()


async def get(url: str, context: ssl.SSLContext) -> str:
    headers = {"Authorization": "Bearer secret"}
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers=headers) as response:
        return await response.text()


async def test_the_expected_member_is_checked_before_a_byte_is_sent(tmp_path: Path) -> None:
    ends, seen = Ends(tmp_path), list[str]()
    caller = ends.member("RA2")
    # its certificate does not name 127.0.0.1
    async with serving(ends.member("RTK").server(mutual=True), seen) as url:
        assert (
            await get(url, caller.client(Identity("member", "RTK", COMMUNITY))) == "spiffe://1.2.3/member/RA2"
        )
        seen.clear()
        for other in (
            Identity("member", "RXC", COMMUNITY),
            Identity("member", "RTK", "1.2.4"),
            Identity("gateway", "", COMMUNITY),
        ):
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await get(url, caller.client(other))
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(url, caller.client())  # by host name
        assert seen == []


async def test_only_certificates_of_the_region_get_in(tmp_path: Path) -> None:
    ends, strangers, seen = Ends(tmp_path / "a"), Ends(tmp_path / "b"), list[str]()
    rtk = Identity("member", "RTK", COMMUNITY)
    async with serving(ends.member("RTK").server(mutual=True), seen) as url:
        with pytest.raises(aiohttp.ClientError):
            await get(url, client_context(ends.ca.bundle, expect=rtk))
        stranger = strangers.member("RA2")
        with pytest.raises(aiohttp.ClientError):
            await get(url, client_context(ends.ca.bundle, stranger.cert, stranger.key, expect=rtk))
        with pytest.raises(aiohttp.ClientError):
            await get(url, stranger.client(rtk))  # who does not trust the server either
        old = client_context(ends.ca.bundle, ends.member("RA2").cert, expect=rtk)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await get(url, old) == "spiffe://1.2.3/member/RA2"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(aiohttp.ClientError):
            await get(url, old)
        assert len(seen) == 1


async def test_renewed_files_are_used_without_a_restart(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    server, caller = ends.member("RTK", life_s=1.5), ends.member("RA2", life_s=1.5)
    rtk = Identity("member", "RTK", COMMUNITY)
    context = caller.client(rtk)
    async with serving(server.server(mutual=True), []) as url:
        assert await get(url, context)
        before = server.leaf().serial_number
        assert not server.reload_if_changed()
        ends.member("RTK")
        ends.member("RA2")
        assert server.leaf().serial_number != before
        assert server.reload_if_changed()
        assert caller.reload_if_changed()
        assert not caller.reload_if_changed()
        await CLOCK.sleep(2)  # past the end of the first ones
        assert await get(url, context)


def test_broken_files_are_named(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    good = ends.member("RTK")
    good.cert.write_text("rubbish")
    with pytest.raises(ConfigError, match=r"RTK\.pem"):
        good.server(mutual=True)
