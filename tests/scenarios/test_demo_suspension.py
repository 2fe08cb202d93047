"""``crosslight-registry suspend`` from another process: within 5 s nothing of the member's goes anywhere, not
even what runs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import dicom_objects as make
import grpc
import grpc.aio
import pytest
from scenario_demo import STORY_S, Demo, Told
from scenario_processes import until

from crosslight.client.http import HttpClient, read, trusting
from crosslight.client.xds import XdsClient
from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.tls import Credentials, gateway_channel_options
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]
CODE, WITHIN_S = "RTK", 5.0
MEGABYTE = 1 << 20
IMAGES = 64  # of a megabyte each: more than the buffers on the way hold


def pile(folder: Path, study: str, images: int, size: int) -> Path:
    """``images`` CT slices of ``size`` bytes each."""
    folder.mkdir(parents=True)
    for number in range(1, images + 1):
        pixels = bytes([number % 251]) * size
        ds = make.image(number, study=study, Rows=size // 1024, Columns=512, pixels=pixels, PatientID="SUSP1")
        (folder / f"{number}.dcm").write_bytes(make.part10(ds))
    return folder


class Stream:
    """A WADO-RS retrieve by a slow reader: what is not read waits at its source."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self.size = reader, writer, 0

    @classmethod
    async def open(cls, told: Told, url: str, at: str = "") -> Stream:
        """Ask for ``url``, at the member ``at`` or the registry, and read the first megabyte."""
        host, _, path = url.partition("://")[2].partition("/")
        address, port = host.split(":")
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, int(port)))
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=trusting(told.path("ca")), server_hostname=address
        )
        writer.write(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {told.token('clinician', at)}\r\n"
            'Accept: multipart/related; type="application/dicom"; transfer-syntax=*\r\n\r\n'.encode()
        )
        stream = cls(reader, writer)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        stream.size = len(await reader.readexactly(MEGABYTE))
        return stream

    async def rest(self, within_s: float) -> int:
        """Read to the end, whatever that is; how much came in all, and 1 << 62 more where it never ended."""
        try:
            async with asyncio.timeout(within_s):
                while data := await self._reader.read(1 << 18):
                    self.size += len(data)
        except TimeoutError:
            self.size += 1 << 62
        except OSError:
            pass  # cut
        finally:
            self._writer.transport.abort()
        return self.size


class Held:
    """A connection on which somebody's certificate was let in, and that is kept."""

    def __init__(self, where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.where, self._reader, self._writer = where, reader, writer

    @classmethod
    async def open(cls, where: str, url: str, tls: ssl.SSLContext) -> Held:
        """Ask once, and read the answer's head."""
        address, port = url.partition("://")[2].partition("/")[0].split(":")
        reader, writer = await asyncio.open_connection(address, int(port), ssl=tls, server_hostname=address)
        writer.write(f"GET /dicomweb/studies?limit=1 HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
        return cls(where, reader, writer)

    async def ends(self, within_s: float) -> bool:
        """Whether it is cut in time."""
        try:
            async with asyncio.timeout(within_s):
                while await self._reader.read(1 << 16):
                    pass
        except TimeoutError:
            return False
        except (OSError, ssl.SSLError):
            pass
        finally:
            self._writer.transport.abort()
        return True


class Member:
    """What holds the member's own certificate and calls as it does."""

    def __init__(self, told: Told) -> None:
        self.told = told
        region = Path(told.node(CODE)["data"]) / "region"
        self.identity, self.bundle = region / "identity.pem", region / "bundle.pem"
        self.gates = {
            n["code"]: n["xds_repository"].removesuffix("/xds/repository")
            for n in told["nodes"]
            if n["code"] != CODE
        } | {"registry": told.registry["xds_registry"].removesuffix("/xds/registry")}

    def tls(self) -> ssl.SSLContext:
        """With its certificate."""
        return trusting(self.bundle, self.identity, self.identity)

    async def holds(self) -> list[Held]:
        """A connection at every other member and at the registry."""
        return [await Held.open(where, url, self.tls()) for where, url in self.gates.items()]

    async def told_at(self, where: str) -> str:
        """What a new connection is told there."""
        async with HttpClient(self.tls()) as client:
            async with client.request("GET", f"{self.gates[where]}/dicomweb/studies?limit=1") as response:
                return (await read(response)).decode()

    async def feed(self) -> grpc.StatusCode:
        """An empty batch on a connection of its own."""
        credentials = Credentials(self.identity, self.identity, self.bundle).grpc_channel()
        async with grpc.aio.secure_channel(
            self.told.registry["grpc"], credentials, options=gateway_channel_options()
        ) as channel:
            stub = pb_grpc.IndexFeedStub(channel)  # type: ignore[no-untyped-call]
            try:
                await stub.Publish(pb.PublishRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async def asks_xds(self) -> str:
        """ITI-18 as the member; '' when it is answered."""
        async with XdsClient(tls=trusting(self.bundle, self.identity, self.identity)) as client:
            try:
                await client.find_documents(
                    self.told.registry["xds_registry"], Identifier("1", "2.16.840.1.113883.2.1.4.1")
                )
            except CrosslightError as error:
                return str(error)
        return ""


async def status_of(told: Told, url: str, at: str = "") -> tuple[int, bytes]:
    """WADO-RS metadata at the registry, or at the member ``at``: status and body."""
    token = told.token("clinician", at)
    answer = await told.http(
        "GET", f"{url}/metadata", token=token, headers={"Accept": "application/dicom+json"}
    )
    return answer.status, answer.body


async def test_suspension_cuts_everything_and_readmission_brings_it_back(
    secured: Demo, tmp_path: Path
) -> None:
    told = secured.up()
    stamp = time.time_ns()
    large, later = f"1.2.826.0.1.3680043.10.77.{stamp}", f"1.2.826.0.1.3680043.10.78.{stamp}"
    node, registry = told.node(CODE), ("--dir", told.registry["data"])
    done = secured.family.run(
        "node", "--dir", node["data"], "import", str(pile(tmp_path / "large", large, IMAGES, MEGABYTE))
    )
    assert done.status == 0, done.output

    async def discoverable(uid: str, images: int) -> bool:
        matches = (await told.study(uid)).matches
        return bool(matches) and matches[0]["numberOfInstances"] == images

    await until("the large study is discoverable", lambda: discoverable(large, IMAGES), 40)
    member = Member(told)
    assert await member.feed() == grpc.StatusCode.OK
    assert "suspended" not in await member.asks_xds()
    at_region, at_node = f"{told.registry['dicomweb']}/studies/{large}", f"{node['dicomweb']}/studies/{large}"
    assert (await status_of(told, at_region))[0] == 200
    held = await member.holds()
    assert len(held) == len(told["nodes"]), "every other member, and the registry"
    by_gateway, direct = await Stream.open(told, at_region), await Stream.open(told, at_node, CODE)

    try:
        done = secured.family.run("registry", *registry, "suspend", CODE, "--reason", "under investigation")
        assert done.status == 0, done.output
        suspended = time.monotonic()

        async def refused() -> bool:
            assert await member.feed() == grpc.StatusCode.PERMISSION_DENIED
            assert "suspended" in await member.asks_xds()
            status, body = await status_of(told, at_region)
            assert status == 504
            assert b"suspended" in body
            assert (await status_of(told, at_node, CODE))[0] == 403
            for where in member.gates:
                assert "This member is suspended" in await member.told_at(where), where
            return True

        await until("every way is closed", refused, WITHIN_S)
        print(f"closed {time.monotonic() - suspended:.1f} s after the command")
        left_s = max(0.1, suspended + WITHIN_S - time.monotonic())
        ended = await asyncio.gather(*(one.ends(left_s) for one in held))
        assert all(ended), [one.where for one, over in zip(held, ended, strict=True) if not over]
        # until when streams may still end
        await asyncio.sleep(max(0.0, suspended + WITHIN_S - time.monotonic()))
        for stream, where in ((by_gateway, "gateway"), (direct, "node")):
            assert await stream.rest(10) < IMAGES * MEGABYTE, (
                f"the running stream through the {where} was not cut"
            )
        answer = await told.study(large)
        assert any(f"({CODE})" in w and "suspended" in w for w in answer.warnings), answer.warnings
        assert large in answer.study_uids, "what is known of it stays listed"
        shown = secured.family.run("registry", *registry, "members").output
        assert "suspended" in next(line for line in shown.splitlines() if CODE in line)

        # it goes on taking images in; they become known once it is a member again
        done = secured.family.run(
            "node", "--dir", node["data"], "import", str(pile(tmp_path / "later", later, 2, 1 << 18))
        )
        assert done.status == 0, done.output
        assert not (await told.study(later)).matches
    finally:
        done = secured.family.run("registry", *registry, "readmit", CODE)
    assert done.status == 0, done.output

    async def welcome() -> bool:
        assert await discoverable(later, 2)
        assert await member.feed() == grpc.StatusCode.OK
        assert (await status_of(told, at_region))[0] == 200
        assert (await status_of(told, at_node, CODE))[0] == 200
        return not [w for w in (await told.study(later)).warnings if CODE in w]

    _, took = await until("it is back and has caught up", welcome, 60)
    print(f"back and caught up after {took:.1f} s")
    for uid in (large, later):  # others count what the story made
        done = secured.family.run("node", "--dir", node["data"], "delete", uid, "--reason", "made for a test")
        assert done.status == 0, done.output
