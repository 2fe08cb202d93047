"""The servers that are measured, as real processes on loopback: Orthanc, a region of ours, a registry alone,
a floor.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from benchmarks.load import get, load
from benchmarks.meter import cpu_s
from crosslight.runtime.process import die_with_parent
from simulations.region import DemoRegion
from simulations.topology import read_topology

ORTHANC = ("/usr/sbin/Orthanc", "/usr/bin/Orthanc")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
HOST = "127.0.0.1"
START_S = 60.0
NODELAY = {**os.environ, "TCP_NODELAY": "1"}  # DCMTK leaves Nagle's algorithm on: 40 ms a message on loopback


class MissingError(Exception):
    """A program that is measured against is not installed."""


def quiet(_text: str) -> None:
    """Report progress to nobody: for runs that print only their result."""


async def listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens on ``port``.

    Raises:
        MissingError: the process ended, or it took too long.
    """
    for _ in range(int(START_S / 0.1)):
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise MissingError(f"{process.args!r} does not listen: {log.read_text('utf-8', 'replace')[-1500:]}")


@asynccontextmanager
async def child(
    command: Sequence[str], port: int, log: Path, env: dict[str, str] | None = None
) -> AsyncIterator[int]:
    """A process that listens on ``port``, and its pid."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting is quick
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
            env=env,
        )
    try:
        await listening(port, process, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- Orthanc ------------------------------------------------------------------------------------------------


def orthanc_program() -> str:
    """Debian's Orthanc.

    Raises:
        MissingError: saying what to install.
    """
    program = next((p for p in ORTHANC if Path(p).exists()), None) or shutil.which("Orthanc")
    if program is None or not DICOMWEB_PLUGIN.exists():
        raise MissingError(
            "Orthanc with its DICOMweb plugin is missing: apt-get install orthanc orthanc-dicomweb"
        )
    return program


@asynccontextmanager
async def orthanc(folder: Path, port: int, **more: Any) -> AsyncIterator[int]:
    """Orthanc on HTTP ``port`` and DICOM ``port + 1``: every file fsynced, TCP_NODELAY, DICOMweb at
    /dicom-web; ``more`` of its configuration.
    """
    folder.mkdir(parents=True)
    storage = str(folder / "storage")
    config = {
        "Name": "ANCHOR",
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "SyncStorageArea": True,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpThreadsCount": 50,
        "DicomAet": "ORTHANC",
        "DicomPort": port + 1,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "StorageCompression": False,
        "OverwriteInstances": True,
        "StableAge": 5,
        "LimitFindResults": 0,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
        **more,
    }
    path, log = folder / "orthanc.json", folder / "log"
    path.write_bytes(orjson.dumps(config))
    async with child([orthanc_program(), str(path)], port, log, NODELAY) as pid:
        yield pid


async def settle(*pids: int, longest_s: float = 30.0) -> None:
    """Wait until these processes rest: what they still do for what came before is no part of what comes
    now."""
    for _ in range(int(longest_s)):
        before = cpu_s(*pids)
        await asyncio.sleep(1.0)
        if cpu_s(*pids) - before < 0.05:
            return


# --- ours ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def region(
    folder: Path,
    port: int,
    codes: Sequence[str],
    say: Callable[[str], None] = quiet,
    *,
    more: str = "",
) -> AsyncIterator[DemoRegion]:
    """The demo's region without TLS, of which the registry and the nodes ``codes`` run.

    ``more`` comes at the end of each node's configuration.
    """
    made = DemoRegion(
        topology=read_topology(), data=folder, port_base=port, open_mode=True, restart_after_s=0
    )
    try:
        await made.make(say)
        for code in codes:
            with (made.node_folder(code) / "node.toml").open("a", encoding="utf-8") as file:
                file.write(more)
            await made.start(code)
        await linked(made, codes)
        yield made
    finally:
        await made.stop()


async def linked(made: DemoRegion, codes: Sequence[str]) -> None:
    """Wait until these nodes are linked to the registry.

    Raises:
        MissingError: they are not in time.
    """
    answers: list[bytes] = []
    request = get(f"{HOST}:{made.port_base}", "/health/ready", "application/json")
    for _ in range(int(START_S / 0.1)):
        await load(HOST, made.port_base, [request], keep=answers)
        states = orjson.loads(answers[-1])["members"]
        if all("unreachable" not in states[code] for code in codes):
            return
        await asyncio.sleep(0.1)
    raise MissingError("the nodes are not linked to the registry")


def module(name: str, *arguments: str) -> list[str]:
    """The command of one of our modules."""
    return [sys.executable, "-m", name, *arguments]


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row on which nothing listens."""
    for base in range(21000, 60000, 100):
        with suppress(OSError):
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind((HOST, port))
            return base
    raise MissingError("there are no free ports")
