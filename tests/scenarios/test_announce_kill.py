"""kill -9 of a node that has taken in a study and told nobody yet: its peer is told by the next start."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import dicom_objects as make
import pytest
from dimse_calls import store
from notified_peer import Taken, named, notified_peer
from ports import free_ports

CHILD = Path(__file__).parent.parent / "announce_child.py"
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]


async def child(folder: Path, peers_port: int) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(folder), str(peers_port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def test_what_was_acknowledged_is_told_of_after_a_kill(tmp_path: Path) -> None:
    (peers_port,), taken = free_ports(1), Taken()
    sent = []
    for number in range(1, 7):
        process, port = await child(tmp_path, peers_port)
        study = f"{make.STUDY}.{number % 2}"
        image = make.image(number, study=study)
        assert await asyncio.to_thread(store, port, image) == [0]
        sent.append(str(image.SOPInstanceUID))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    with notified_peer(peers_port, taken):
        process, _ = await child(tmp_path, peers_port)
        try:
            found: set[str] = set()
            while found != set(sent):
                found.update(named((await asyncio.to_thread(taken.get, True, 60))[1]))
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
