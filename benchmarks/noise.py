"""Noisy neighbours: what a quiet caller's request takes alone, and beside one at its worst."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, TCPConnector

from benchmarks.load import BadAnswerError
from benchmarks.options import Options
from benchmarks.peers import HOST
from crosslight.client.http import trusting
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.tls import Identity, client_context
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.hl7.adt import MessageHeader, feed_message, render_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient, PersonName
from node.membership.state import RegionState
from registry import commands
from simulations.people import SyntheticPatient
from simulations.region import DemoRegion

NOISY_AT = "127.0.0.2"
BEGUN_S = 5.0  # for noise to begin
FHIR, PARTS = "application/fhir+json", 'multipart/related; type="application/dicom"'
Times = tuple[list[float], list[float]]  # seconds alone, and beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A secured region, and what is asked there."""

    made: DemoRegion
    code: str
    search: str
    study: str
    image: str
    patient: SyntheticPatient

    @property
    def registry(self) -> str:
        """Base of the registry's listener for people."""
        return f"https://{HOST}:{self.made.port_base}"

    async def token(self, user: str, member: str = "") -> str:
        """A clinician's token, for the registry or a member."""
        return await commands.issue_token(
            self.made.registry_folder, role="clinician", user=user, organisation=self.code, member=member
        )


Pair = tuple[Callable[[], Awaitable[None]], Callable[[], Any]]
Maker = Callable[[Place, AsyncExitStack], Awaitable[Pair]]


async def neighbours(place: Place, options: Options, more: Mapping[str, Maker]) -> dict[str, Times]:
    """Listener -> seconds alone and beside the noise; ``more`` makes rows beside those here."""
    rounds = 8 if options.quick else 25
    results = {}
    for name, pair in (
        ("registry, people: a search beside 48 clients and 300 silent connections", _searches),
        ("registry, people: an image beside 60 readers who do not read", _images),
        ("node, people: a picture beside 24 large ones", _pictures),
        ("registry, HL7: a message beside 60 connections of another", _messages),
        ("node, DICOM: an echo beside 100 silent connections", _echoes),
        *more.items(),
    ):
        options.say(name)
        async with AsyncExitStack() as stack:
            quiet, noise = await pair(place, stack)
            await quiet()  # connections, caches
            alone = [await _timed(quiet) for _ in range(rounds)]
            async with noise():
                results[name] = alone, [await _timed(quiet) for _ in range(rounds)]
    return results


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def _session(stack: AsyncExitStack, place: Place, token: str) -> ClientSession:
    connector = TCPConnector(ssl=trusting(place.made.ca) or True, limit=0)
    headers = {"Authorization": f"Bearer {token}"}
    return await stack.enter_async_context(
        ClientSession(connector=connector, headers=headers, auto_decompress=False)
    )


async def _get(session: ClientSession, url: str, accept: str) -> None:
    async with session.get(url, headers={"Accept": accept}) as answer:
        body = await answer.read()
        if answer.status != 200:
            raise BadAnswerError(f"{url}: status {answer.status}: {body[:300]!r}")


@asynccontextmanager
async def elsewhere(noise: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> AsyncIterator[None]:
    """Noise in a process of its own, which has begun, until the end of the block."""
    process = get_context("spawn").Process(target=_run, args=(noise, args), daemon=True)
    process.start()
    await asyncio.sleep(BEGUN_S)
    try:
        if not process.is_alive():
            raise BadAnswerError("the noise has ended")
        yield
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


def _run(noise: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...]) -> None:
    asyncio.run(noise(*args))


async def again(clients: int, work: Callable[[], Awaitable[None]]) -> None:
    """Over and over, whatever it is answered."""

    async def client() -> None:
        while True:
            with suppress(BadAnswerError, ClientError, OSError, TimeoutError):
                await work()
            await asyncio.sleep(0.001)

    await asyncio.gather(*(client() for _ in range(clients)))


def _noisy(ca: Path | None, token: str) -> ClientSession:
    connector = TCPConnector(ssl=trusting(ca) or True, limit=0, local_addr=(NOISY_AT, 0))
    return ClientSession(
        connector=connector, headers={"Authorization": f"Bearer {token}"}, auto_decompress=False
    )


async def silent(port: int, tls: ssl.SSLContext | None, count: int, begun: bytes = b"") -> list[Any]:
    """Connections that say nothing, or half of something."""
    held = []
    for number in range(count):
        held.append(await asyncio.open_connection(HOST, port, ssl=tls, local_addr=(NOISY_AT, 0)))
        if number % 2:
            held[-1][1].write(begun)
    return held


async def _many_searches(ca: Path | None, port: int, url: str, token: str) -> None:
    held = await silent(port, trusting(ca), 300)
    async with _noisy(ca, token) as session:
        await again(48, lambda: _get(session, url, FHIR))
    held.clear()


async def _unread(ca: Path | None, url: str, token: str) -> None:
    async with _noisy(ca, token) as session:

        async def open_() -> None:
            async with session.get(url, headers={"Accept": PARTS}) as answer:
                answer.raise_for_status()
                await asyncio.sleep(3600)

        await again(60, open_)


async def _large_pictures(ca: Path | None, url: str, token: str) -> None:
    numbers = count(1_000_000)
    async with _noisy(ca, token) as session:
        asked = url + "?viewport=8192,8192&window={},400,linear"  # each another picture
        await again(24, lambda: _get(session, asked.format(next(numbers)), "image/jpeg"))


async def _half_messages(port: int, files: tuple[Path, Path, Path | None], community: str) -> None:
    tls = client_context(*files, expect=Identity("gateway", "", community))
    held = await silent(port, tls, 60, b"\x0bMSH|half of a message")
    await asyncio.sleep(3600)
    held.clear()


async def _silent_callers(port: int) -> None:
    held = await silent(port, None, 100)
    await asyncio.sleep(3600)
    held.clear()


async def _searches(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet"))
    noisy, url = await place.token("noisy"), place.registry + place.search
    return lambda: _get(quiet, url, FHIR), lambda: elsewhere(
        _many_searches, place.made.ca, place.made.port_base, url, noisy
    )


async def _images(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet"))
    noisy, base = await place.token("noisy"), f"{place.registry}/dicomweb"
    return lambda: _get(quiet, base + place.image, PARTS), lambda: elsewhere(
        _unread, place.made.ca, base + place.study, noisy
    )


async def _pictures(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet", place.code))
    noisy, numbers = await place.token("noisy", place.code), count(1)
    url = f"{place.made.node_base(place.code)}/dicomweb{place.image}/rendered"

    def small() -> Awaitable[None]:
        return _get(quiet, f"{url}?viewport=128,128&window={next(numbers)},400,linear", "image/jpeg")

    return small, lambda: elsewhere(_large_pictures, place.made.ca, url, noisy)


async def _messages(place: Place, stack: AsyncExitStack) -> Pair:
    made, state = place.made, RegionState(place.made.node_folder(place.code) / "region", place.made.files)
    community, port = state.region.home_community_id, int(state.registry.mllp.rpartition(":")[2])
    client = MllpClient(HOST, port, tls=state.credentials.client(Identity("gateway", "", community)))
    stack.push_async_callback(client.close)
    patient = Patient(
        local=Identifier("bench-1", state.member.authority), name=PersonName("Ng^Ada"), birth_date="19500101"
    )

    async def send() -> None:
        header = MessageHeader(control_id="1", time="20261122030000")
        answer = await client.send(render_adt(feed_message(patient, header, "A04")))
        if not parse_ack(answer).accepted:
            raise BadAnswerError("the feed was refused")

    if made.ca is None or made.client_cert is None:
        raise BadAnswerError("TLS is what is measured here")
    files = made.ca, made.client_cert, made.client_key
    return send, lambda: elsewhere(_half_messages, port, files, str(community))


async def _echoes(place: Place, stack: AsyncExitStack) -> Pair:
    dimse, port = place.made.dimse(place.code), place.made.ports(place.code).dimse
    return lambda: asyncio.to_thread(dimse.echo), lambda: elsewhere(_silent_callers, port)
