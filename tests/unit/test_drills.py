"""What drills are made of: verdicts, the protocol, a line that is slow or dead, orders to a demo."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from ports import free_base

from crosslight.standards.problem import ConfigError, Unavailable
from simulations.__main__ import main
from simulations.drills.attached import attached, lives
from simulations.drills.record import Record
from simulations.drills.relay import CarryingLine, Relay
from simulations.drills.report import render, verdict
from simulations.drills.table import DRILLS
from simulations.orders import NONE, Order, Orders
from simulations.topology import read_topology

HOST = "127.0.0.1"


def record() -> Record:
    return Record("site-loss", "A trust is lost", "One node is killed.")


async def true() -> bool:
    return True


async def false() -> bool:
    return False


async def never() -> bool:
    raise Unavailable("It does not answer.")


async def hangs() -> bool:
    await asyncio.Event().wait()
    return True


# --- verdicts -----------------------------------------------------------------------------------------------


def test_a_drill_that_judged_nothing_has_not_passed() -> None:
    assert not record().passed


async def test_all_that_had_to_hold_must_have_held() -> None:
    played = record()
    played.judge("The first", True)
    assert await played.within("The second", true, 5)
    assert played.passed
    assert (took := played.judged[1].took_s) is not None
    assert took < 5
    played.judge("The third", False, "otherwise")
    assert not played.passed
    assert verdict([played]) == "1 of 1 drills failed: A trust is lost."


@pytest.mark.parametrize("check", [false, never, hangs])
async def test_what_does_not_come_in_time_has_not_held(check: object) -> None:
    played = record()
    assert not await played.within("It comes", check, 0.05)  # type: ignore[arg-type]  # one of three coroutines
    assert not played.passed
    assert (played.judged[0].took_s, played.judged[0].within_s) == (None, 0.05)
    assert "NOT within" in played.entries[0].text


def test_a_drill_that_broke_off_has_failed_and_says_why() -> None:
    played = record()
    played.judge("The first", True)
    played.broke_off(Unavailable("The registry does not answer.", why="refused"))
    assert not played.passed
    assert "The registry does not answer." in played.judged[-1].seen


# --- the protocol -------------------------------------------------------------------------------------------


def test_the_report_is_one_file_that_shows_text_as_text() -> None:
    played = record()
    played.did("A node <script>alert(1)</script> was killed.")
    played.judge("It came back", False, "<b>no</b>")
    played.end()
    page = render([played], read_topology(), "on a region made for it")
    assert "1 of 1 drills failed" in page
    assert "&lt;script&gt;" in page
    assert "<b>no" not in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_protocol_as_json_has_times_and_verdicts() -> None:
    played = record()
    played.judge("It came back", True)
    plain = orjson.loads(orjson.dumps(played.plain()))
    assert plain["passed"] is True
    assert plain["expectations"][0] == {
        "what": "It came back",
        "held": True,
        "seen": "",
        "took_s": None,
        "within_s": None,
    }
    assert plain["protocol"][0]["at"] >= plain["started"]


# --- the command --------------------------------------------------------------------------------------------


def test_without_a_name_it_lists_them_and_plays_none() -> None:
    done = CliRunner().invoke(main, ["drill"])
    assert done.exit_code == 0
    for one in DRILLS:
        assert one.name in done.output
        assert one.line in done.output


def test_an_unknown_drill_is_refused_with_those_that_there_are() -> None:
    done = CliRunner().invoke(main, ["drill", "fire"])
    assert done.exit_code == 2
    assert "no drill fire" in done.output
    assert "site-loss" in done.output


@pytest.mark.parametrize(
    "content", [b"no json", b"{}", b'{"nodes": [], "registry": {"data": "x", "base": "y"}}']
)
async def test_a_file_that_names_no_demo_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        await attached(path, read_topology())


async def test_an_open_demo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    registry = {"data": str(tmp_path / "registry"), "base": "http://127.0.0.1:1"}
    path.write_bytes(orjson.dumps({"nodes": [{}], "registry": registry, "open": True}))
    with pytest.raises(ConfigError, match="TLS"):
        await attached(path, read_topology())


# --- orders -------------------------------------------------------------------------------------------------


def test_an_order_is_read_as_it_was_given_and_taken_back(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders")
    assert orders.of("RTK") == NONE
    orders.give("RTK", Order(down=True, clock_ahead_s=-1200.0))
    assert Orders(tmp_path / "orders").of("RTK") == Order(down=True, clock_ahead_s=-1200.0)
    assert orders.of("RXC") == NONE
    orders.give("RTK", NONE)
    assert orders.of("RTK") == NONE


def test_an_order_of_somebody_who_is_gone_holds_no_more(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "RTK.json"
    path.write_bytes(orjson.dumps({"by": ended.pid, "down": True, "clock_ahead_s": 0.0}))
    assert Orders(tmp_path).of("RTK") == NONE
    path.write_bytes(orjson.dumps({"by": os.getpid(), "down": True, "clock_ahead_s": 0.0}))
    assert Orders(tmp_path).of("RTK") == Order(down=True)
    path.write_bytes(b"[")
    assert Orders(tmp_path).of("RTK") == NONE


ENDS_FIRST = """
import ctypes, socket, sys, threading
held = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=sys.stdin.read, daemon=True).start()
print("here", flush=True)
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)  # the first thread only: so it is for a moment after a kill
"""
EXIT_OF_A_THREAD = {"x86_64": 60, "aarch64": 93}


def test_a_process_lives_as_long_as_one_of_its_threads_holds_its_ports() -> None:
    number = str(EXIT_OF_A_THREAD[os.uname().machine])
    started = subprocess.Popen(
        [sys.executable, "-c", ENDS_FIRST, number], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdin is not None
    assert started.stdout is not None
    try:
        assert started.stdout.readline() == b"here\n"
        state = Path(f"/proc/{started.pid}/stat")
        while state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
            os.sched_yield()
        assert lives(started.pid)
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()
    assert not lives(started.pid)


# --- the line -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def echo_over(line: CarryingLine) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection over the line to what says everything back."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    base = free_base(1)
    server = await asyncio.start_server(answer, HOST, base)
    async with Relay(line, {(HOST, base + 1): (HOST, base)}):
        reader, writer = await asyncio.open_connection(HOST, base + 1)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            server.close()


async def test_a_slow_line_carries_every_byte_in_order_and_the_end() -> None:
    async with echo_over(CarryingLine(delay_s=0.02, bytes_per_s=4e6)) as (reader, writer):
        sent = bytes(range(256)) * 4096
        writer.write(sent)
        writer.write_eof()
        began = asyncio.get_running_loop().time()
        assert await reader.read(-1) == sent
        assert asyncio.get_running_loop().time() - began >= 0.04 + len(sent) / 4e6


async def test_a_dead_line_carries_nothing_until_it_is_mended() -> None:
    line = CarryingLine()
    async with echo_over(line) as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        line.dead = True
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.readexactly(3)
        line.dead = False
        assert await reader.readexactly(3) == b"two"
