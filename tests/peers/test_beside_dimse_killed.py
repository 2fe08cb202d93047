"""A node that is filled by DIMSE from dcmqrscp, and killed; and an archive that goes while one node stays."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import dicom_objects as make
from beside_dimse import OTHER, Beside, behind, beside, dcmqrscp, given, put, silent, uids, until
from ports import free_ports
from pydicom.dataset import Dataset

STUDIES = 40
TESTS = Path(__file__).parents[1]


def studies() -> list[Dataset]:
    """Of all months, two series each."""
    return [
        make.image(series, study=f"{OTHER}.{n}", series=str(series), StudyDate=f"2025{n % 12 + 1:02}10")
        for n in range(STUDIES)
        for series in (1, 2)
    ]


async def known(folder: Path) -> int:
    """How many instances the node has described."""
    found = list(folder.glob("node.sqlite"))
    with suppress(sqlite3.OperationalError):
        for path in found:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                return int(db.execute("SELECT count(*) FROM instance").fetchone()[0])
    return 0


async def killed_when(folder: Path, port: int, at_least: int) -> int:
    """Run a node until it knows so many instances, and kill it; how many it knew then."""
    process = subprocess.Popen(  # noqa: ASYNC220 - starting is quick
        [sys.executable, str(TESTS / "beside_dimse_child.py"), str(folder), str(port), "600"],
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
    )
    try:
        async with asyncio.timeout(120):
            while await known(folder) < at_least:
                assert process.poll() is None, "the node ended"
                await asyncio.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return await known(folder)


async def test_a_node_that_is_killed_in_mid_backfill_goes_on(tmp_path: Path) -> None:
    (port,), made, folder = free_ports(1), studies(), tmp_path / "node"
    wanted = sorted(str(one.SOPInstanceUID) for one in made)
    async with dcmqrscp(tmp_path / "qr", port):
        await asyncio.to_thread(put, port, "QRSCP", *made)
        before = [await killed_when(folder, port, at_least) for at_least in (1, 15, 30)]
        assert before == sorted(before), "what was known stays"
        assert before[-1] < len(wanted), "it was in the middle of it"
        async with beside(folder, port, "QRSCP") as node:
            await until(lambda: uids(node.archive), wanted)
            await until(lambda: behind(node.sources), False)
            marks = {mark.study_uid: mark.change for mark in await node.archive.marks()}
            assert marks == {f"{OTHER}.{n}": 2 for n in range(STUDIES)}, "each series once, and no more"
            assert len(await given(node.archive, f"{OTHER}.0")) == 2


async def test_an_archive_that_goes_while_the_node_stays_is_gone_on_with(tmp_path: Path) -> None:
    (port,), made = free_ports(1), studies()
    wanted = sorted(str(one.SOPInstanceUID) for one in made)
    async with dcmqrscp(tmp_path / "qr", port) as pid:
        await asyncio.to_thread(put, port, "QRSCP", *made)
        beginning = beside(tmp_path / "node", port, "QRSCP", studies_per_minute=600)
        node = await beginning.__aenter__()
        try:
            await until(lambda: _some(node, 10), True)
            os.killpg(pid, signal.SIGKILL)  # a process of its for each association too
            await until(lambda: silent(node.sources), True)
        except BaseException:
            await beginning.__aexit__(None, None, None)
            raise
    try:
        before = await uids(node.archive)
        assert 10 <= len(before) < len(wanted)
        assert node.sources.behind
        async with dcmqrscp(tmp_path / "qr", port):
            await until(lambda: uids(node.archive), wanted)
            await until(lambda: behind(node.sources), False)
            assert not await silent(node.sources)
    finally:
        await beginning.__aexit__(None, None, None)


async def _some(node: Beside, count: int) -> bool:
    return len(await uids(node.archive)) >= count
