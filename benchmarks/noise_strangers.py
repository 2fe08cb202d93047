"""Noisy neighbours where nobody has shown a token yet: links, systems' listeners, sign-in, joining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import ClientSession, TCPConnector

from benchmarks.load import BadAnswerError
from benchmarks.noise import NOISY_AT, Maker, Pair, Place, again, elsewhere, silent
from crosslight.client.http import trusting
from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.seams import system_seams
from node.membership.state import RegionState
from simulations.region import DemoRegion

_BUSY = (429, 503, 504)
_UNKNOWN_STUDY = 1_000_000  # versions far beyond what the demo's nodes give


async def registry_systems(place: Place, stack: AsyncExitStack) -> Pair:
    """A question beside 300 connections that say nothing."""
    return await _systems(place, stack, place.made.systems + "/fhir/metadata", place.made.port_base + 3)


async def node_systems(place: Place, stack: AsyncExitStack) -> Pair:
    """The same at a node."""
    made, port = place.made, place.made.ports(place.code).systems
    return await _systems(place, stack, f"{made.scheme}://127.0.0.1:{port}/health/ready", port)


async def _systems(place: Place, stack: AsyncExitStack, url: str, port: int) -> Pair:
    made = place.made
    tls = trusting(made.ca, made.client_cert, made.client_key) or True
    session = await stack.enter_async_context(ClientSession(connector=TCPConnector(ssl=tls)))

    async def quiet() -> None:
        async with session.get(url) as answer:
            await answer.read()
            if answer.status != 200:
                raise BadAnswerError(f"{url}: status {answer.status}")

    files = (made.ca, made.client_cert, made.client_key)
    return quiet, lambda: elsewhere(_silent_systems, port, files)


async def _silent_systems(port: int, files: tuple[Path | None, Path | None, Path | None]) -> None:
    held = await silent(port, trusting(*files), 300)
    await asyncio.sleep(3600)
    held.clear()


async def feeds(place: Place, stack: AsyncExitStack) -> Pair:
    """A member's message beside thirty-two of another at a time."""
    noisy, quiet, *_ = (code for code in place.made.topology.codes if code != place.code)
    stub = await stack.enter_async_context(_Feed(place.made, quiet))
    folder = place.made.node_folder(noisy) / "region"
    return stub.publish, lambda: elsewhere(_many_messages, folder)


class _Feed:
    """A member's feed, by its own certificate.

    Args:
        made: The region. code: Whose.
    """

    def __init__(self, made: DemoRegion, code: str) -> None:
        state = RegionState(made.node_folder(code) / "region", made.files)
        self._channel = system_seams().link.channel(state.registry.grpc, state.credentials, [])
        self._stub: Any = pb_grpc.IndexFeedStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._numbers = 0

    async def __aenter__(self) -> _Feed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def publish(self) -> None:
        """Say of one study that nobody knows that it is gone.

        Raises:
            BadAnswerError: if the registry does not take the message.
        """
        self._numbers += 1
        act = pb.Act(study_uid=f"1.2.{self._numbers}", withdraw=pb.Withdraw(reason="bench"))
        act.version.epoch, act.version.n = 1, _UNKNOWN_STUDY + self._numbers
        try:
            await self._stub.Publish(pb.PublishRequest(acts=[act]), timeout=60)
        except grpc.aio.AioRpcError as error:
            raise BadAnswerError(f"the feed: {error.code()}") from error


async def _many_messages(region_folder: Path) -> None:
    from crosslight.runtime.files import SystemFiles

    state = RegionState(region_folder, SystemFiles())
    channel = system_seams().link.channel(state.registry.grpc, state.credentials, [])
    stub: Any = pb_grpc.IndexFeedStub(channel)  # type: ignore[no-untyped-call]  # generated
    numbers = iter(range(10**9))

    async def message() -> None:
        acts = []
        for n in (next(numbers) for _ in range(100)):
            act = pb.Act(study_uid=f"1.2.{n}", withdraw=pb.Withdraw(reason="bench"))
            act.version.epoch, act.version.n = 1, _UNKNOWN_STUDY + n
            acts.append(act)
        try:
            await stub.Publish(pb.PublishRequest(acts=acts), timeout=60)
        except grpc.aio.AioRpcError as error:
            raise BadAnswerError(str(error.code())) from error

    await again(32, message)


async def sign_ins(place: Place, stack: AsyncExitStack) -> Pair:
    """A sign-in that begins beside those that twenty-four clients begin."""
    session = await stack.enter_async_context(
        ClientSession(connector=TCPConnector(ssl=trusting(place.made.ca) or True))
    )
    url = f"{place.registry}/signin"
    return lambda: _begin(session, url), lambda: elsewhere(_many_sign_ins, place.made.ca, url)


async def _begin(session: ClientSession, url: str) -> None:
    async with session.get(url, allow_redirects=False) as answer:
        await answer.read()
        if answer.status not in (200, 302, 303):
            raise BadAnswerError(f"{url}: status {answer.status}")


def _stranger(ca: Path | None) -> ClientSession:
    return ClientSession(connector=TCPConnector(ssl=trusting(ca) or True, limit=0, local_addr=(NOISY_AT, 0)))


async def _many_sign_ins(ca: Path | None, url: str) -> None:
    async with _stranger(ca) as session:
        await again(24, lambda: _begin(session, url))


async def joins(place: Place, stack: AsyncExitStack) -> Pair:
    """A request to join, which is refused, beside sixty that come byte by byte."""
    session = await stack.enter_async_context(
        ClientSession(connector=TCPConnector(ssl=trusting(place.made.ca) or True))
    )
    url = f"{place.registry}/join"

    async def quiet() -> None:
        async with session.post(url, data=b"{}") as answer:
            await answer.read()
            if answer.status in _BUSY:
                raise BadAnswerError(f"{url}: status {answer.status}")

    return quiet, lambda: elsewhere(_dripping_joins, place.made.ca, url)


async def _dripping_joins(ca: Path | None, url: str) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield b'{"secret": "'
        while True:
            await asyncio.sleep(1)
            yield b"a"

    async with _stranger(ca) as session:

        async def ask() -> None:
            async with session.post(url, data=drip()) as answer:
                await answer.read()

        await again(60, ask)


#: What the table calls each, and how it is made.
ROWS: Mapping[str, Maker] = {
    "registry, systems: a question beside 300 silent connections": registry_systems,
    "node, systems: a question beside 300 silent connections": node_systems,
    "registry, gRPC: a member's message beside 32 of another at a time": feeds,
    "registry, sign-in: one begins beside 24 clients that begin": sign_ins,
    "registry, join: a request beside 60 that come byte by byte": joins,
}
