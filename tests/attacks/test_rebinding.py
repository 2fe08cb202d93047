"""A member's name that resolves to the registry's own machine leads nowhere (finding H5: DNS rebinding).

Nothing stands in for the resolver: the names here are those by which any machine knows itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientConnectorError, ClientError
from registry_room import make_room, room_config
from registry_samples import member
from room_faces import new_key, retrieves_of

from crosslight.runtime.address_guard import elsewhere, is_own_address
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import SystemHttp
from registry.config import ListenConfig
from registry.members.config import MembersConfig
from registry.reach.config import ReachConfig
from registry.reach.sessions import MemberSessions

#: Addresses of this machine, or of none -> refused at connect.
REFUSED = ["127.0.0.1", "127.8.9.10", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1%1", "224.0.0.1"]


def own_addresses() -> set[str]:
    """By which this machine knows itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): nothing is sent
        return {"127.0.0.1", probe.getsockname()[0]}


@pytest.mark.parametrize("address", REFUSED)
def test_a_socket_is_made_to_other_machines_only(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(OSError, match="not called from here"):
        elsewhere((family, socket.SOCK_STREAM, 6, "", (address, 443)))
    elsewhere((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))).close()


def test_what_is_this_machines() -> None:
    assert all(is_own_address(address) for address in own_addresses())
    assert not is_own_address("192.0.2.1")


@asynccontextmanager
async def listening(host: str) -> AsyncIterator[tuple[int, list[str]]]:
    """Something that listens on this machine, and who connected."""
    met: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], met
    finally:
        server.close()


@pytest.mark.parametrize("own_machine", [False, True])
async def test_no_name_of_a_member_leads_to_the_registrys_own_machine(own_machine: bool) -> None:
    for address in own_addresses():
        async with listening(address) as (port, met):
            names = [address] if address != "127.0.0.1" else [address, "localhost"]
            for name in names:
                sessions = MemberSessions(ReachConfig(), SystemHttp(), own_machine=own_machine)
                met.clear()
                with pytest.raises(ClientError) as refused:
                    await sessions(member("RTK", 1)).get(f"http://{name}:{port}/dicomweb/studies/1")
                await sessions.close()
                assert bool(met) is own_machine, (name, refused.value)
                if not own_machine:
                    assert isinstance(refused.value, ClientConnectorError)


@pytest.mark.parametrize(
    ("open_mode", "loopback", "own_machine"),
    [(False, False, False), (False, True, True), (True, False, True)],
)
async def test_whether_it_may_is_configured(
    tmp_path: Path, open_mode: bool, loopback: bool, own_machine: bool
) -> None:
    room = await make_room(
        SqliteDb(tmp_path / "r.sqlite"),
        config=room_config(listen=ListenConfig(open=open_mode), members=MembersConfig(loopback=loopback)),
    )
    reaching = retrieves_of(room, new_key())
    async with listening("127.0.0.1") as (port, met):
        with pytest.raises(ClientError):
            await reaching.sessions(room.member("RTK")).get(f"http://localhost:{port}/")
        assert bool(met) is own_machine
    await reaching.sessions.close()
