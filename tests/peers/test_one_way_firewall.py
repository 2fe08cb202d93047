"""A member behind a firewall that lets nothing in: its studies are found and opened through the region."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from closed_region import Closed, closed_region
from connect_proxy import ConnectProxy
from node_serving import ct, part10
from one_way import INSIDE, OUTSIDE, OneWay, one_way
from outside_authority import OutsideAuthority
from ports import free_ports
from scenario_demo import Demo, assert_story_told
from scenario_processes import ROOT, Family
from whole_region import FILES, PACE, until

from node.setup import init_node
from registry.members.model import Presence

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
    "PYTHONPATH": str(ROOT),
}
CODE, STUDY, AET = "RTK", "1.2.7", "RTK_NODE"
PARTS = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its trust runs it, behind its firewall."""

    place: OneWay
    folder: Path
    systems_port: int
    dimse_port: int

    def node(self, *words: str) -> list[str]:
        """A command of it."""
        return self.place.command(sys.executable, "-m", "node", "--dir", str(self.folder), *words)


@pytest.fixture
def place() -> Iterator[OneWay]:
    with one_way() as made:
        yield made


@pytest.fixture
async def region(place: OneWay, tmp_path: Path) -> AsyncIterator[Closed]:
    listen = {"host": OUTSIDE, "public_host": OUTSIDE}
    async with closed_region(tmp_path, (), listen=listen) as found:
        yield found


@pytest.fixture
async def member(region: Closed, place: OneWay, tmp_path: Path) -> AsyncIterator[Member]:
    made = _made(place, tmp_path / CODE)
    await _run(made.node("join", await _invitation(region)), ENVIRONMENT)
    async with _serving(region, made):
        yield made


def _made(place: OneWay, folder: Path, *, road: str = "grpc", **more: Any) -> Member:
    """A node that has not joined yet, and publishes by ``road``; ``more`` of its [region]."""
    people, systems, dimse = free_ports(3)
    init_node(
        folder,
        FILES,
        {
            "listen": {
                "host": "0.0.0.0",
                "public_host": INSIDE,
                "people_port": people,
                "systems_port": systems,
            },
            "dimse": {"host": "0.0.0.0", "port": dimse, "ae_title": AET, "callers": [{"ae_title": "CT1"}]},
            "archive": {"min_free_bytes": 0},
            "publish": {**PACE, "road": road},
            "region": {"heartbeat_s": 0.5, "missed_acks": 4, **more},
        },
    )
    return Member(place, folder, systems, dimse)


async def _invitation(region: Closed) -> str:
    return await region.registry.members.invite(CODE, region.base, name=f"{CODE} Hospitals", hosts=(INSIDE,))


@asynccontextmanager
async def _serving(region: Closed, made: Member) -> AsyncIterator[None]:
    with (made.folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *made.node("serve"), env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        await until(lambda: _is(region, lambda presence: presence.reach == "tunnel"), 90)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def _is(region: Closed, holds: object) -> bool:
    member = region.registry.members.by_code(CODE)
    assert callable(holds)
    return member is not None and bool(holds(region.registry.members.presence(member.id)))


async def _scanned(region: Closed, member: Member, folder: Path, images: int) -> list[bytes]:
    """A modality inside the trust sends a study, and the region lists all of it; its pictures' pixels."""
    folder.mkdir()
    draw, side = Random(images), 1024
    pictures = [draw.randbytes(2 * side * side) for _ in range(images)]
    for n, pixels in enumerate(pictures, 1):
        image = ct(STUDY, f"{STUDY}.1", f"{STUDY}.1.{n}", side=side, number=n, PixelData=pixels)
        (folder / f"{n}.dcm").write_bytes(part10(image))
    sent = [
        "/usr/bin/storescu",
        "-aet",
        "CT1",
        "-aec",
        AET,
        "+sd",
        "127.0.0.1",
        str(member.dimse_port),
        str(folder),
    ]
    await _run(member.place.command(*sent))

    async def listed() -> bool:
        url = f"{region.base}/dicomweb/studies?StudyInstanceUID={STUDY}&includefield=00201208"
        async with region.http.get(url) as answer:
            rows = await answer.json(content_type=None) if answer.status == 200 else []
        return bool(rows) and rows[0]["00201208"].get("Value") == [images]

    await until(listed, 90)
    return pictures


async def test_a_study_is_found_and_opened_though_nothing_is_let_in(
    region: Closed, member: Member, tmp_path: Path
) -> None:
    for port in (member.systems_port, member.dimse_port):
        with pytest.raises((OSError, TimeoutError)):
            async with asyncio.timeout(2):
                await asyncio.open_connection(INSIDE, port)
    # it listens all the same: the firewall is what keeps us out
    code = f"import socket; socket.create_connection(('{INSIDE}', {member.systems_port}), 5)"
    await _run(member.place.command(sys.executable, "-c", code))
    pictures = await _scanned(region, member, tmp_path / "scan", 3)
    async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}", headers=PARTS) as answer:
        body = await answer.read()
        assert answer.status == 200, body
    assert all(body.count(one) == 1 for one in pictures)
    image = f"{region.base}/dicomweb/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
    async with region.http.get(f"{image}/rendered", headers={"Accept": "image/jpeg"}) as answer:
        assert (await answer.read()).startswith(b"\xff\xd8"), "the preview"
    shown = await _run(member.node("status"))
    assert "through the link (tunnel)" in shown


@pytest.mark.parametrize("road", ["grpc", "soap"])
async def test_a_member_that_reaches_nothing_but_a_proxy_joins_and_all_else_goes_on(
    region: Closed, place: OneWay, tmp_path: Path, road: str
) -> None:
    secret = "Basic " + b64encode(b"node:p@ss").decode()
    async with ConnectProxy(host=OUTSIDE, sign_in=secret) as proxy:
        place.only(int(proxy.address.rpartition(":")[2]))
        invitation = await _invitation(region)
        alone = _made(place, tmp_path / "alone", proxy="")
        with pytest.raises(AssertionError, match="cannot be reached"):
            await _run(alone.node("join", invitation), ENVIRONMENT)
        stranger = _made(place, tmp_path / "stranger", proxy=f"http://{proxy.address}")
        with pytest.raises(AssertionError, match="asks for a name and a password"):
            await _run(stranger.node("join", invitation), ENVIRONMENT)
        member = _made(place, tmp_path / CODE, road=road, proxy=f"http://node:p%40ss@{proxy.address}")
        await _run(member.node("join", invitation), ENVIRONMENT)
        async with _serving(region, member):
            said = await _run(member.node("doctor"), ENVIRONMENT)
            for found in ("FHIR 4.0.1 answers", "ITI-18 answers", "the certificate is good until"):
                assert found in said, said
            pictures = await _scanned(region, member, tmp_path / "scan", 2)
            async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}", headers=PARTS) as answer:
                body = await answer.read()
            assert all(body.count(one) == 1 for one in pictures)
        listen = region.registry.config.listen
        ports = [listen.people_port, listen.grpc_port, listen.systems_port]
        ports += [listen.mllp_port] if road == "soap" else []
        assert set(proxy.asked) == {f"{OUTSIDE}:{port}" for port in ports}


async def test_a_proxy_that_opens_tls_is_told_no_invitation(
    region: Closed, place: OneWay, tmp_path: Path
) -> None:
    """One that passes what everybody may read, the bundle, and then shows a certificate of its own."""
    opens = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OutsideAuthority(tmp_path).issue(tmp_path / "opens.pem", tmp_path / "opens.key")
    opens.load_cert_chain(tmp_path / "opens.pem", tmp_path / "opens.key")
    async with ConnectProxy(host=OUTSIDE, opens=opens, first_unopened=1) as proxy:
        member = _made(place, tmp_path / CODE, proxy=f"http://{proxy.address}")
        with pytest.raises(AssertionError) as refused:
            await _run(member.node("join", await _invitation(region)), ENVIRONMENT)
        wanted = ("The invitation was not sent", f"the proxy {proxy.address}", "“Outside authority”")
    for part in wanted:
        assert part in " ".join(str(refused.value).split())


def test_the_whole_story_holds_though_no_member_takes_a_connection(place: OneWay, tmp_path: Path) -> None:
    """The demo in a place of its own, where nothing gets to a node's listener for systems."""
    demo = Demo(tmp_path, family=Family(within=tuple(place.command())))
    place.refuse(*(demo.base + 10 * nth + 3 for nth in range(1, demo.members + 1)))
    try:
        assert_story_told(demo.once())
        assert place.refused(), "the region tried"
        assert not demo.family.alive()
    finally:
        demo.close()


async def test_a_line_that_falls_silent_in_the_middle_of_a_study_costs_time_and_nothing_else(
    region: Closed, member: Member, tmp_path: Path
) -> None:
    """No end is told to either side: both find out by themselves, link anew, and go on."""
    pictures = await _scanned(region, member, tmp_path / "scan", 40)
    body = bytearray()
    async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}", headers=PARTS) as answer:
        body += await answer.content.readexactly(8 << 20)
        member.place.silence()
        await until(lambda: _is(region, _away), 60)
        member.place.heal()
        body += await answer.content.read()
    assert all(body.count(one) == 1 for one in pictures)
    carrier = region.registry.parts.retrieves.tunnels.carrier(region.registry.members.active(CODE).id)
    assert carrier is not None
    assert carrier.mux.received_bytes < len(body) * 1.01 + 1_000_000  # what was asked before is small


def _away(presence: Presence) -> bool:
    return not presence.reachable
