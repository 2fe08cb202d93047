"""An archive whose objects go to an object store: nothing is lost, whatever fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import Held, held
from bucket_fixture import (
    OTHER,
    Switched,
    all_given,
    carried,
    carried_away,
    filled,
    given,
    not_open_any_more,
    objects,
    settings,
)
from dimse_calls import until

from crosslight.standards.problem import ConfigError, Conflict, StorageError, Unavailable
from node.holdings import Local, Passed


async def _all_of(opened: Passed, got: list[bytes]) -> None:
    async for data in opened.chunks:
        got.append(data)


def _none_left(here: Held) -> bool:
    return not here.left_in_tmp()


async def test_objects_are_carried_and_then_given_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        state = await here.archive.carrier.state()
        assert (state.objects, state.waiting, state.waiting_bytes) == (0, 4, sum(map(len, before.values())))
        await carried(here)
        assert len(here.object_files()) == 4, "the study is open"
        not_open_any_more(here, monkeypatch)
        await carried(here)
        assert here.object_files() == []
        assert len(bucket.keys()) == 4
        state = await here.archive.carrier.state()
        assert (state.objects, state.waiting, state.here_bytes) == (4, 0, 0)
        assert await all_given(here) == before
        assert here.object_files() == [], "keep_local_gb is 0"
        assert here.left_in_tmp() == []
        assert (await here.put(make.image(1))).state == "duplicate"
        assert (await here.archive.verify()).ok
    async with held(tmp_path, bucket=bucket.again(), **settings()) as here:
        assert await all_given(here) == before
        await here.put(make.image(9))
        await carried(here)
        assert len(bucket.keys()) == 5


async def test_the_disk_keeps_what_was_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Switched()
    pixels = bytes(64 * 64 * 2)
    async with held(tmp_path, bucket=bucket, **settings(30_000 / 1e9)) as here:
        for n in range(3):
            await here.put(make.image(n, Rows=64, Columns=64, pixels=pixels))
            await here.put(make.image(n, study=OTHER, Rows=64, Columns=64, pixels=pixels))
        await here.settle()
        first = (await objects(here, OTHER))[0]
        await given(here, first)
        await carried(here)
        left = {path.stem for path in here.object_files()}
        assert left == {o.ref.sha256 for o in await objects(here, OTHER)}, "it is open"
        for stored in await objects(here, OTHER):
            assert isinstance(await here.archive.open_object(stored), Local)
        not_open_any_more(here, monkeypatch)
        one = (await objects(here))[0]
        await given(here, one)
        assert one.ref.sha256 in {path.stem for path in here.object_files()}, "what is fetched stays"
        assert isinstance(await here.archive.open_object(one), Local)
        await carried(here)
        state = await here.archive.carrier.state()
        assert state.here_bytes == sum(path.stat().st_size for path in here.object_files()) <= 30_000


async def test_a_disk_that_is_nearly_full_keeps_only_what_it_must(tmp_path: Path) -> None:
    async with held(tmp_path, bucket=Switched(), **settings(1.0, min_free_bytes=1000)) as here:
        for number in range(4):
            await here.put(make.image(number))
        await carried(here)
        assert len(here.object_files()) == 4
        size = here.object_files()[0].stat().st_size
        here.files.free = 2000 - size
        await here.archive.carrier.make_room(0)
        assert len(here.object_files()) == 3, "so much is free again"


async def test_what_a_crash_left_of_the_sums_is_put_right(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        await filled(here)
        await carried(here)
    (tmp_path / "archive" / "closed-cleanly").unlink()
    for path in here.object_files()[1:]:
        path.unlink()  # and the process ended before it could be noted
    async with held(tmp_path, bucket=bucket.again(), **settings(1.0)) as here:
        await carried(here)
        (left,) = here.object_files()
        assert (await here.archive.carrier.state()).here_bytes == left.stat().st_size


async def test_a_store_that_does_not_keep_what_is_written_gets_no_row(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        bucket.lies = True
        with pytest.raises(Unavailable, match="does not keep"):
            await carried(here)
        assert len(here.object_files()) == 4
        assert (await here.archive.carrier.state()).objects == 0
        bucket.lies = False
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 4
        assert await all_given(here) == before


async def test_while_the_store_is_away_nothing_is_lost_or_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
        bucket.away = True
        assert (await here.put(make.image(9))).state == "stored", "storing goes on"
        fresh = (await here.archive.objects(make.STUDY, sop_uid=f"{make.STUDY}.1.9"))[0]
        assert isinstance(await here.archive.open_object(fresh), Local)
        away = next(o for o in await objects(here) if o is not fresh)
        with pytest.raises(StorageError, match="object store, which does not give it now") as refused:
            await here.archive.open_object(away)
        assert refused.value.http_status == 503
        with pytest.raises(Unavailable):
            await carried(here)
        with pytest.raises(StorageError, match="cannot be read now"):
            await here.archive.verify()
        with pytest.raises(StorageError):
            await here.archive.care.step()
        assert (await here.archive.care.state()).standing == 0
        assert (await here.archive.carrier.state()).waiting == 1
        await here.archive.delete(make.STUDY, "test")
        here.clock.ahead = timedelta(days=31)
        assert await here.archive.purge() == 0, "it goes from both places, or from none"
        here.clock.ahead = timedelta()
        await here.archive.restore(make.STUDY)
        bucket.away = False
        here.archive.fetcher._silent_s = 0.0  # a few seconds have passed
        del before[next(iter(before))]
        now = await all_given(here)
        assert before.items() <= now.items()
        assert len(now) == 5
        assert (await here.archive.verify()).ok


async def test_what_is_damaged_there_is_set_apart_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
        stored = (await objects(here))[0]
        sha256 = bytes.fromhex(stored.ref.sha256)
        bucket.damage(sha256)
        with pytest.raises(StorageError, match="damaged in its archive"):
            await here.archive.open_object(stored)
        assert (await here.archive.care.state()).standing == 1
        assert (await objects(here))[0].damaged
        assert len((await here.archive.verify()).faults) == 1
        number = int(stored.ref.sop_uid.rpartition(".")[2])
        assert (await here.put(make.image(number))).state == "stored"
        assert (await here.archive.care.state()).standing == 0
        assert len(here.object_files()) == 1
        assert (await here.archive.carrier.state()).waiting == 1, "it is carried again"
        await carried(here)
        assert bucket.bytes_of(sha256) == before[stored.ref.sop_uid]
        assert await all_given(here) == before
        assert (await here.archive.verify()).ok


async def test_what_is_gone_there_is_missing_and_what_comes_back_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        await filled(here)
        await carried_away(here, monkeypatch)
        sha256 = bytes.fromhex((await objects(here))[0].ref.sha256)
        kept = bucket.bytes_of(sha256)
        bucket.remove(sha256)
        (fault,) = (await here.archive.verify()).faults
        assert fault.kind == "missing"
        bucket.put_back(sha256, kept)
        assert (await here.archive.verify()).ok
        assert (await here.archive.care.state()).standing == 0
        assert here.object_files() == []


async def test_a_damaged_copy_on_the_disk_is_no_damage(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        before = await filled(here)
        await carried(here)
        first, *_ = here.object_files()
        first.write_bytes(first.read_bytes()[:-1] + b"!")
        assert (await here.archive.verify()).ok
        assert not first.exists()
        assert await all_given(here) == before


async def test_a_large_object_goes_as_it_comes_and_ends_only_if_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    pixels = bytes(range(256)) * (2048 * 2560 * 2 // 256)
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        await here.put(make.image(0, Rows=2560, Columns=2048, pixels=pixels))
        await here.settle()
        (stored,) = await objects(here)
        whole = await given(here, stored)
        await carried_away(here, monkeypatch)
        assert await given(here, stored) == whole
        streams = bucket.streams
        both = [await here.archive.open_object(stored) for _ in range(2)]
        for opened in both:
            assert isinstance(opened, Passed)
            assert b"".join([data async for data in opened.chunks]) == whole
        assert bucket.streams == streams + 1, "two readers, one fetch"
        opened = await here.archive.open_object(stored)
        assert isinstance(opened, Passed)
        assert opened.file is not None
        local = await opened.file()
        assert Path(local.file).read_bytes()[: local.length] == whole
        await opened.chunks.aclose()
        assert here.left_in_tmp() == [], "it stays as long as it is open"
        bucket.damage(bytes.fromhex(stored.ref.sha256))
        opened = await here.archive.open_object(stored)
        assert isinstance(opened, Passed)
        got: list[bytes] = []
        with pytest.raises(StorageError, match="damaged in its archive"):
            await _all_of(opened, got)
        assert sum(map(len, got)) < len(whole), "its end is kept back"
        assert (await here.archive.care.state()).standing == 1
        assert here.left_in_tmp() == []


async def test_who_goes_away_ends_the_fetch_that_nobody_else_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        await here.put(make.image(0, Rows=2560, Columns=2048, pixels=bytes(2048 * 2560 * 2)))
        await here.settle()
        (stored,) = await objects(here)
        await carried_away(here, monkeypatch)
        bucket.held_up = asyncio.Event()
        opened = await here.archive.open_object(stored)
        assert isinstance(opened, Passed)
        await opened.chunks.aclose()
        await until(partial(_none_left, here), 30)
        bucket.held_up = None
        assert len(await given(here, stored)) == stored.size


async def test_a_purge_removes_both(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        await filled(here)
        await carried(here)
        await here.archive.delete(make.STUDY, "test")
        here.clock.ahead = timedelta(days=31)
        assert await here.archive.purge() == 4
        assert (bucket.keys(), here.object_files()) == ([], [])
        state = await here.archive.carrier.state()
        assert (state.objects, state.bytes, state.here_bytes, state.waiting) == (0, 0, 0, 0)


async def test_a_bucket_belongs_to_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Switched()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with held(tmp_path / "one", bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
    async with held(tmp_path / "other", bucket=bucket.again(), **settings()) as here:
        await filled(here)
        with pytest.raises(Conflict, match="another archive's"):
            await carried(here)
        assert (await here.archive.carrier.state()).objects == 0
    async with held(tmp_path / "one", bucket=Switched(), **settings()) as here:
        with pytest.raises(Unavailable, match="is not the one in which"):
            await carried(here)
        with pytest.raises(StorageError, match="not the one in which"):
            await here.archive.open_object((await objects(here))[0])
        with pytest.raises(StorageError):
            await here.archive.verify()
        assert (await here.archive.care.state()).standing == 0
    with pytest.raises(ConfigError, match="4 objects of this archive lie in an object store"):
        async with held(tmp_path / "one"):
            pass
    async with held(tmp_path / "one", bucket=bucket.again(), **settings()) as here:
        assert await all_given(here) == before
