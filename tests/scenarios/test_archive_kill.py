"""kill -9 at any moment of an ingest: nothing that was acknowledged is lost, nothing is half there.

``CROSSLIGHT_KILLS`` says how often (10; 200 in the soak).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import Held, data_set_at, held
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

KILLS = int(os.environ.get("CROSSLIGHT_KILLS", "10"))
CHILD = Path(__file__).parent.parent / "archive_child.py"
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(60 + KILLS * 20)]


class Sender(threading.Thread):
    """Sends slices, each as soon as the last was acknowledged, until the archive is gone."""

    def __init__(
        self, port: int, study: str, first: int, acknowledged: dict[str, str], started: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.port, self.study, self.number, self.acknowledged, self.started = (
            port,
            study,
            first,
            acknowledged,
            started,
        )
        self.refused: list[int] = []

    def run(self) -> None:
        ae = AE("CT1")
        ae.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        assoc = ae.associate("127.0.0.1", self.port, ae_title="RTK")
        while assoc.is_established:
            self.number += 1
            dataset = self._slice()
            try:
                status = assoc.send_c_store(dataset)
            except (RuntimeError, ValueError):  # the association has ended
                break
            if "Status" not in status:
                break
            if status.Status != 0:
                self.refused.append(status.Status)
                continue
            digest = hashlib.sha256(make.data_set_of(make.part10(dataset))).hexdigest()
            self.acknowledged[str(dataset.SOPInstanceUID)] = digest
            self.started.set()
        assoc.kill()

    def _slice(self) -> Any:
        size = 64 << (self.number % 3)  # from 8 kB to 128 kB
        dataset = make.image(
            self.number,
            study=self.study,
            Rows=size,
            Columns=size,
            pixels=bytes([self.number % 251]) * size * size * 2,
        )
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return dataset


async def _start(folder: Path) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = await process.stdout.readline()
    assert line, "the archive did not start"
    return process, int(line)


async def _check(here: Held, studies: list[str], acknowledged: dict[str, str]) -> int:
    """Every acknowledged object is there, whole, and counted once; how many there are."""
    await here.archive.reconcile()
    assert here.left_in_tmp() == []
    kept: dict[str, str] = {}
    for study in studies:
        found = await here.archive.objects(study)
        record = await here.archive.record(study)
        mark = await here.archive.mark(study)
        rows = await here.archive.metadata(await here.archive.objects(study))
        counted = await here.archive.study_uids()
        if not found:
            assert record is None
            assert study not in counted
            continue
        assert record is not None
        assert mark is not None
        assert len(found) == record.n_instances == len(rows) == mark.change, (
            "rows, counts, metadata and mark are one commit"
        )
        kept |= {o.ref.sop_uid: o.ref.sha256 for o in found}
        for one in found:
            data_set = await data_set_at(here.archive, one)
            assert hashlib.sha256(data_set).hexdigest() == one.ref.sha256
    lost = {uid for uid, digest in acknowledged.items() if kept.get(uid) != digest}
    assert not lost, f"{len(lost)} acknowledged objects are lost"
    assert {path.stem for path in here.object_files()} == set(kept.values()), "no file without its row"
    return len(kept)


async def test_nothing_acknowledged_is_lost_and_nothing_is_half_visible(tmp_path: Path) -> None:
    seed = int(os.environ.get("CROSSLIGHT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    dice = random.Random(seed)
    print("seed", seed)
    acknowledged: dict[str, str] = {}
    studies: list[str] = []
    kept = 0
    for kill in range(KILLS):
        process, port = await _start(tmp_path)
        started = threading.Event()
        fresh = [f"1.2.826.0.1.3680043.10.{kill}.{n}" for n in range(2)]
        studies += fresh
        senders = [Sender(port, study, 0, acknowledged, started) for study in fresh]
        try:
            for sender in senders:
                sender.start()
            assert await asyncio.to_thread(started.wait, 30), "nothing was ever acknowledged"
            await asyncio.sleep(dice.uniform(0, 0.5))  # the moment is the dice's
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        for sender in senders:
            await asyncio.to_thread(sender.join, 30)
            assert not sender.is_alive()
            assert sender.refused == []
        if kill % 5 == 4 or kill == KILLS - 1:  # else the next start of the archive itself has to cope
            async with held(tmp_path) as here:
                kept = await _check(here, studies, acknowledged)
    assert kept >= len(acknowledged) >= KILLS
    async with held(tmp_path) as here:
        assert (await here.archive.verify()).ok
        assert (await here.archive.status()).quarantined == 0
