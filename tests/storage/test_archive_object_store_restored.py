"""Databases that know less, or more, than the object store has: backups, and what a crash left."""

from __future__ import annotations

import shutil
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import held
from bucket_fixture import Switched, all_given, carried, carried_away, filled, objects, settings

from crosslight.runtime.backup_files import Vault
from node.archive import backup
from node.archive.model import Fault


async def test_an_older_database_finds_what_went_meanwhile(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        await filled(here, 2)
        await carried(here)
        await here.db.backup_to(tmp_path / "older.sqlite")
        for number in (2, 3):
            await here.put(make.image(number))
        before = await all_given(here)
        await carried(here)
    (tmp_path / "node.sqlite").unlink()
    for more in ("-wal", "-shm"):
        (tmp_path / f"node.sqlite{more}").unlink(missing_ok=True)
    (tmp_path / "older.sqlite").rename(tmp_path / "node.sqlite")
    shutil.rmtree(tmp_path / "archive" / "objects")
    (tmp_path / "archive" / "closed-cleanly").unlink()
    bucket = bucket.again()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        assert await all_given(here) == before, "two were not known"
        assert (await here.archive.verify()).ok
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 4
        assert len(bucket.keys()) == 4


async def test_a_database_from_before_finds_objects_that_the_disk_has_no_more(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        before = await filled(here)
        await here.settle()
        await here.db.backup_to(tmp_path / "older.sqlite")  # no object was carried then
        await carried(here)
        archive_id = (await here.archive.carrier.state()).archive_id
    (tmp_path / "older.sqlite").replace(tmp_path / "node.sqlite")
    for more in ("-wal", "-shm"):
        (tmp_path / f"node.sqlite{more}").unlink(missing_ok=True)
    for path in (tmp_path / "archive" / "objects").rglob("*.dcm"):
        path.unlink()
    async with held(tmp_path, bucket=bucket.again(), **settings()) as here:
        state = await here.archive.carrier.state()
        assert (state.archive_id, state.objects) == (archive_id, 0)
        assert await all_given(here) == before
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 4, "read there, and noted"
        assert (await here.archive.verify()).ok


async def test_a_backup_has_both_places_and_brings_back_what_the_store_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
        assert (await here.put(make.image(9))).state == "stored"
        await here.settle()
        report = await here.archive.backup(tmp_path / "backup")
        assert (report.objects, report.copied, report.faults) == (5, 5, ())
        assert here.left_in_tmp() == []
        vault = Vault(here.files)
    for name in ("node.sqlite", "archive"):
        (tmp_path / name).rename(tmp_path / f"lost-{name}")
    report = backup.restore(tmp_path / "backup", tmp_path / "node.sqlite", tmp_path / "archive", vault)
    assert (report.objects, report.copied) == (1, 1), "the others lie in the object store"
    async with held(tmp_path, bucket=bucket.again(), **settings()) as here:
        now = await all_given(here)
        assert before.items() <= now.items()
        assert len(now) == 5
        assert (await here.archive.verify()).ok
        for stored in await objects(here):
            here.archive.carrier.bucket.remove(bytes.fromhex(stored.ref.sha256))  # type: ignore[union-attr]  # there is one
        faults: tuple[Fault, ...] = (await here.archive.verify()).faults
        assert {fault.kind for fault in faults} == {"missing"}
        assert await here.archive.repair(faults, tmp_path / "backup", vault) == ()
        assert await all_given(here) == now
        assert (await here.archive.carrier.state()).waiting == len(faults) + 1
