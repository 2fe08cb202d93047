"""Noisy neighbours: what a quiet caller's request takes alone, and beside one at its worst."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
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


async def neighbours(place: Place, options: Options) -> dict[str, Times]:
    """Listener -> seconds alone and beside the noise."""
    rounds = 8 if options.quick else 25
    results = {}
    for name, pair in (
        ("registry, people: a search beside 48 clients and 300 silent connections", _searches),
        ("registry, people: an image beside 60 readers who do not read", _images),
        ("node, people: a picture beside 24 large ones", _pictures),
        ("registry, HL7: a message beside 60 connections of another", _messages),
        ("node, DICOM: an echo beside 100 silent connections", _echoes),
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


Pair = tuple[Callable[[], Awaitable[None]], Callable[[], Any]]


async def _session(stack: AsyncExitStack, place: Place, token: str, address: str = "") -> ClientSession:
    here = (address, 0) if address else None
    connector = TCPConnector(ssl=trusting(place.made.ca) or True, limit=0, local_addr=here)
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
async def _going(tasks: list[asyncio.Task[None]], settled: float = 1.0) -> AsyncIterator[None]:
    """Noise that has begun, until the end of the block."""
    await asyncio.sleep(settled)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Over and over, whatever it is answered."""
    while True:
        with suppress(BadAnswerError, ClientError, OSError, TimeoutError):
            await work()
        await asyncio.sleep(0.01)


async def _searches(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet"))
    noisy = await _session(stack, place, await place.token("noisy"), NOISY_AT)
    url, kind = place.registry + place.search, "application/fhir+json"

    @asynccontextmanager
    async def noise() -> AsyncIterator[None]:
        tls = trusting(place.made.ca)
        async with AsyncExitStack() as held:
            for _ in range(300):
                _, writer = await asyncio.open_connection(
                    HOST, place.made.port_base, ssl=tls, local_addr=(NOISY_AT, 0)
                )
                held.callback(writer.close)
            tasks = [asyncio.create_task(_again(lambda: _get(noisy, url, kind))) for _ in range(48)]
            async with _going(tasks):
                yield

    return lambda: _get(quiet, url, kind), noise


async def _images(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet"))
    noisy = await _session(stack, place, await place.token("noisy"), NOISY_AT)
    base, kind = f"{place.registry}/dicomweb", 'multipart/related; type="application/dicom"'

    async def unread() -> None:
        async with noisy.get(base + place.study, headers={"Accept": kind}) as answer:
            answer.raise_for_status()
            await asyncio.sleep(3600)

    @asynccontextmanager
    async def noise() -> AsyncIterator[None]:
        async with _going([asyncio.create_task(_again(unread)) for _ in range(60)], 3.0):
            yield

    return lambda: _get(quiet, base + place.image, kind), noise


async def _pictures(place: Place, stack: AsyncExitStack) -> Pair:
    quiet = await _session(stack, place, await place.token("quiet", place.code))
    noisy = await _session(stack, place, await place.token("noisy", place.code), NOISY_AT)
    url, numbers = f"{place.made.node_base(place.code)}/dicomweb{place.image}/rendered", count(1)

    def picture(session: ClientSession, side: int) -> Awaitable[None]:
        asked = f"?viewport={side},{side}&window={next(numbers)},400,linear"  # each another picture
        return _get(session, url + asked, "image/jpeg")

    @asynccontextmanager
    async def noise() -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_again(lambda: picture(noisy, 8192))) for _ in range(24)]
        async with _going(tasks):
            yield

    return lambda: picture(quiet, 128), noise


async def _messages(place: Place, stack: AsyncExitStack) -> Pair:
    state = RegionState(place.made.node_folder(place.code) / "region", place.made.files)
    gateway = Identity("gateway", "", state.region.home_community_id)
    port = int(state.registry.mllp.rpartition(":")[2])
    client = MllpClient(HOST, port, tls=state.credentials.client(gateway))
    stack.push_async_callback(client.close)
    patient = Patient(
        local=Identifier("bench-1", state.member.authority), name=PersonName("Ng^Ada"), birth_date="19500101"
    )

    async def send() -> None:
        header = MessageHeader(control_id="1", time="20261122030000")
        answer = await client.send(render_adt(feed_message(patient, header, "A04")))
        if not parse_ack(answer).accepted:
            raise BadAnswerError("the feed was refused")

    @asynccontextmanager
    async def noise() -> AsyncIterator[None]:
        made = place.made
        if made.ca is None or made.client_cert is None:
            raise BadAnswerError("TLS is what is measured here")
        tls: ssl.SSLContext = client_context(made.ca, made.client_cert, made.client_key, expect=gateway)
        async with AsyncExitStack() as held:
            for number in range(60):
                _, writer = await asyncio.open_connection(HOST, port, ssl=tls)
                held.callback(writer.close)
                if number % 2:
                    writer.write(b"\x0bMSH|half of a message")
            yield

    return send, noise


async def _echoes(place: Place, stack: AsyncExitStack) -> Pair:
    dimse, port = place.made.dimse(place.code), place.made.ports(place.code).dimse

    @asynccontextmanager
    async def noise() -> AsyncIterator[None]:
        with ExitStack() as held:
            for _ in range(100):
                held.enter_context(socket.create_connection((HOST, port), source_address=(NOISY_AT, 0)))
            await asyncio.sleep(0.5)
            yield

    async def echo() -> None:
        await asyncio.to_thread(dimse.echo)

    return echo, noise
