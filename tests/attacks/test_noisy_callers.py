"""One caller at its worst beside another: DICOM associations, questions, and the bodies of SOAP requests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

from aiohttp import ClientSession, TCPConnector
from callers import caller
from dimse_node import ECHO, associate
from dimse_node import node as dimse_node
from members_region import until
from registry_room import make_room, room_config
from room_faces import room_faces

from crosslight.runtime.db import SqliteDb
from crosslight.standards.access import Principal
from crosslight.standards.xds.wire.soap import render_envelope
from node.dimse.config import KnownCaller
from registry.ask.config import AskConfig
from registry.ask.question import ByPopulation, DirectoryQuestion, StudyFilter

NOISY, QUIET = "127.0.0.2", "127.0.0.3"


async def test_one_dicom_caller_leaves_others_their_associations(tmp_path: Path) -> None:
    callers = tuple(KnownCaller(ae_title=title, addresses=("127.0.0.0/8",)) for title in ("CT1", "MR1"))
    bounds = {"max_associations": 8, "max_associations_per_caller": 4, "max_connections_per_address": 6}
    async with dimse_node(tmp_path, callers=callers, **bounds) as made:
        port = made.service.port

        def noise(stack: ExitStack) -> list[bool]:
            for _ in range(40):  # says nothing: the oldest of the same address gives way
                silent = socket.create_connection(("127.0.0.1", port), source_address=(NOISY, 0))
                stack.enter_context(silent)
            held = [associate(port, ECHO, calling="CT1", bind_address=(NOISY, 0)) for _ in range(5)]
            for assoc in held:
                stack.callback(assoc.abort)
            return [assoc.is_established for assoc in held]

        def quiet() -> int:
            assoc = associate(port, ECHO, calling="MR1", bind_address=(QUIET, 0))
            assert assoc.is_established
            status = assoc.send_c_echo().Status
            assoc.release()
            return int(status)

        with ExitStack() as stack:
            assert await asyncio.to_thread(noise, stack) == [True, True, True, True, False]
            assert await asyncio.to_thread(quiet) == 0x0000
            assert made.service.associations["busy"] == 1
        await until(lambda: made.service.connected == 0)


def exporter(name: str) -> Principal:
    return Principal(subject=f"person:{name}", name=name, roles=frozenset({"exporter"}), organisation="RA2")


async def test_questions_of_one_caller_leave_others_theirs(tmp_path: Path) -> None:
    db, let_go, order = SqliteDb(tmp_path / "registry.sqlite"), threading.Event(), list[str]()
    try:
        room = await make_room(db)
        question = ByPopulation(filter=StudyFilter())

        async def ask(name: str) -> None:
            await room.asked(question, exporter(name), action="export")
            order.append(name)

        held = db._wide.submit(let_go.wait, 30)
        noisy = [asyncio.ensure_future(ask("noisy")) for _ in range(10)]
        await until(lambda: room.ask.wide.queue.waiting == 9)
        quiet = asyncio.ensure_future(ask("quiet"))
        await until(lambda: room.ask.wide.queue.running == 2)
        let_go.set()
        await asyncio.gather(quiet, *noisy)
        assert held.result()
        assert order.index("quiet") <= 1, order
    finally:
        let_go.set()
        await db.close()


async def test_a_question_within_a_question_waits_for_nobody(tmp_path: Path) -> None:
    """A request that asks more within its own question could else wait for itself."""
    db = SqliteDb(tmp_path / "registry.sqlite")
    try:
        room = await make_room(db, config=room_config(ask=AskConfig(questions=1, turn_timeout_s=0.2)))
        question = DirectoryQuestion()
        asking = caller(exporter("one"), "c1")

        async def both() -> None:
            async with (
                room.ask.question(asking, face="fhir", action="search", question=question),
                room.ask.question(asking, face="fhir", action="read", question=question),
            ):
                assert room.ask.near.queue.running == 1

        async def waiting_for_a_member() -> None:
            async with room.ask.question(asking, face="fhir", action="search", question=question):
                await room.ask.rest()
                await both_done.wait()

        both_done = asyncio.Event()
        slow = asyncio.create_task(waiting_for_a_member())
        await asyncio.gather(both(), both())  # beside one that waits for somebody else
        both_done.set()
        await slow
        assert room.ask.near.queue.running == 0
    finally:
        await db.close()


async def test_dripping_soap_bodies_of_one_system_leave_others_theirs(tmp_path: Path) -> None:
    db, ended = SqliteDb(tmp_path / "registry.sqlite"), asyncio.Event()
    try:
        room = await make_room(db)

        async def drip() -> AsyncIterator[bytes]:
            yield b"<"
            await ended.wait()

        async def post(caller: ClientSession, url: str, body: object) -> bytes:
            headers = {"Content-Type": "application/soap+xml; charset=utf-8"}
            async with caller.post(url, data=body, headers=headers) as answer:
                return await answer.read()

        async with (
            room_faces(room, kind="systems") as there,
            ClientSession(connector=TCPConnector(local_addr=(NOISY, 0))) as noisy_one,
            ClientSession(connector=TCPConnector(local_addr=(QUIET, 0))) as quiet_one,
        ):
            queue, url = there.faces.registry.bodies.queue, f"{there.base}/xds/registry"
            noisy = [asyncio.ensure_future(post(noisy_one, url, drip())) for _ in range(12)]
            await until(lambda: (queue.running, queue.waiting) == (4, 8))
            asked = render_envelope("urn:nothing", b"<x/>", message_id="urn:uuid:1")
            assert b"ActionNotSupported" in await post(quiet_one, url, asked)  # read, and answered
            assert (queue.running, queue.waiting) == (4, 8)
            for task in noisy:
                task.cancel()
            await asyncio.gather(*noisy, return_exceptions=True)
    finally:
        await db.close()
