"""Every object is read again, in the background; what is damaged or missing is set apart, and heals."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import Held, data_set_at, file_of, held

from crosslight.standards.problem import StorageError
from node.archive.care import DAY_S, PAGE
from node.archive.config import CareConfig
from node.archive.model import Fault
from node.archive.pace import SLOWER

CHILD = Path(__file__).parent.parent / "care_child.py"
FAST = CareConfig(mb_per_s=10_000)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path / "here", care=FAST) as made:
        yield made


class Told:
    """Hears what the care of an archive says."""

    def __init__(self, here: Held) -> None:
        self.found: list[Fault] = []
        self.healed: list[Fault] = []
        here.archive.care.told = self

    async def __call__(self, found: list[Fault], healed: list[Fault]) -> None:
        self.found += found
        self.healed += healed


def damage(path: Path) -> bytes:
    """Another last byte; the bytes of the file then."""
    data = path.read_bytes()
    data = data[:-1] + bytes([data[-1] ^ 1])
    path.write_bytes(data)
    return data


async def whole_pass(here: Held) -> None:
    """The next reading, due or not."""
    here.clock.ahead += timedelta(days=91)
    while await here.archive.care.step():
        pass


async def one(here: Held, number: int = 1) -> Any:
    (found,) = await here.archive.objects(make.STUDY, sop_uid=f"{make.STUDY}.1.{number}")
    return found


async def test_what_is_damaged_or_missing_is_found_set_apart_and_given_to_nobody(here: Held) -> None:
    for n in (1, 2, 3):
        await here.put(make.image(n))
    told = Told(here)
    damaged, missing = [await file_of(here.archive, await one(here, n)) for n in (1, 2)]
    left = damage(damaged)
    missing.unlink()
    await whole_pass(here)
    assert {(f.kind, f.sop_uid) for f in told.found} == {
        ("damaged", f"{make.STUDY}.1.1"),
        ("missing", f"{make.STUDY}.1.2"),
    }
    assert not damaged.exists()
    assert (here.archive.layout.damaged / damaged.name).read_bytes() == left, "it may be all that is left"
    objects = await here.archive.objects(make.STUDY)
    assert [o.damaged for o in objects] == [True, True, False], "they are held, and known to be not whole"
    for stored in objects[:2]:
        with pytest.raises(StorageError, match="damaged in its archive"):
            await here.archive.open_object(stored)
    assert await data_set_at(here.archive, objects[2])
    state = await here.archive.care.state()
    assert (state.standing, state.whole_objects, state.whole_faults) == (2, 3, 2)
    assert not state.going
    assert {f.sop_uid for f, _ in await here.archive.faults(10)} == {o.ref.sop_uid for o in objects[:2]}


@pytest.mark.parametrize("how", ["damaged", "missing"])
async def test_the_same_object_heals_it_when_it_comes_again(here: Held, how: str) -> None:
    await here.put(make.image(1))
    path = await file_of(here.archive, await one(here))
    whole = path.read_bytes()
    assert (await here.put(make.image(1))).state == "duplicate"
    if how == "damaged":
        damage(path)
    else:
        path.unlink()
    await whole_pass(here)
    result = await here.put(make.image(1))
    assert (result.state, result.status) == ("stored", 0)
    assert path.read_bytes() == whole
    assert await file_of(here.archive, await one(here)) == path
    assert list(here.archive.layout.damaged.iterdir()) == []
    assert (await here.archive.care.state()).standing == 0
    assert (await here.put(make.image(1))).state == "duplicate"
    assert (await here.archive.verify()).ok


async def test_a_file_that_cannot_be_trusted_is_replaced_even_where_it_still_stands(here: Held) -> None:
    """As a crash leaves it between the row and the move; the other way round is found by the next reading."""
    await here.put(make.image(1))
    path = await file_of(here.archive, await one(here))
    whole = path.read_bytes()
    damage(path)
    await whole_pass(here)
    (here.archive.layout.damaged / path.name).rename(path)
    assert (await here.put(make.image(1))).state == "stored"
    assert path.read_bytes() == whole


async def test_a_moved_file_without_its_row_is_found_as_damaged(here: Held) -> None:
    await here.put(make.image(1))
    told = Told(here)
    path = await file_of(here.archive, await one(here))
    damage(path)
    path.rename(here.archive.layout.damaged / path.name)
    await whole_pass(here)
    assert [(f.kind, f.path) for f in told.found] == [("damaged", here.archive.layout.damaged / path.name)]


async def test_what_reads_whole_again_goes_back(here: Held) -> None:
    """A disk or a cable that lied for a while."""
    await here.put(make.image(1))
    told = Told(here)
    path = await file_of(here.archive, await one(here))
    whole = path.read_bytes()
    damage(path)
    await whole_pass(here)
    assert [f.kind for f in told.found] == ["damaged"]
    (here.archive.layout.damaged / path.name).write_bytes(whole)
    await whole_pass(here)
    assert [f.sop_uid for f in told.healed] == [f"{make.STUDY}.1.1"]
    assert await data_set_at(here.archive, await one(here))
    assert (await here.archive.care.state()).whole_faults == 0


async def test_a_disk_that_is_not_there_is_no_fault_of_any_object(here: Held) -> None:
    for n in range(5):
        await here.put(make.image(n))
    await here.settle()
    here.archive.layout.objects.rename(here.folder / "unmounted")
    here.archive.layout.objects.mkdir()
    with pytest.raises(StorageError, match="disk is not there"):
        await whole_pass(here)
    assert (await here.archive.care.state()).standing == 0
    here.archive.layout.objects.rmdir()
    (here.folder / "unmounted").rename(here.archive.layout.objects)
    while await here.archive.care.step():
        pass
    state = await here.archive.care.state()
    assert (state.whole_objects, state.whole_faults) == (5, 0), "it goes on where it was"


async def test_a_sector_that_cannot_be_read_is_damage_and_other_trouble_is_not(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.put(make.image(1))
    await here.put(make.image(2))
    bad = await file_of(here.archive, await one(here, 1))
    stale = await file_of(here.archive, await one(here, 2))
    real = here.files.open

    def refuse(path: Path, offset: int, size: int | None = None) -> bytes:
        raise OSError(errno.EIO if path == bad else errno.ESTALE, "no")

    def opened(path: Path) -> Any:
        if path in (bad, stale):
            raise OSError(errno.EIO, "no")
        return real(path)

    monkeypatch.setattr(here.files, "open", opened)
    monkeypatch.setattr("node.archive.faults.digest_of", refuse)
    told = Told(here)
    await whole_pass(here)
    assert [f.sop_uid for f in told.found] == [f"{make.STUDY}.1.1"]
    assert stale.exists()


async def test_what_is_purged_is_no_fault(here: Held) -> None:
    await here.put(make.image(1))
    path = await file_of(here.archive, await one(here))
    await here.archive.delete(make.STUDY, "test")
    here.clock.ahead = timedelta(days=31)  # the purge is due, and has removed the file but not yet its row
    path.unlink()
    told = Told(here)
    await whole_pass(here)
    assert told.found == []
    assert (await here.archive.verify()).ok
    await here.archive.purge()


async def test_a_purge_takes_what_was_set_apart_too(here: Held) -> None:
    await here.put(make.image(1))
    damage(await file_of(here.archive, await one(here)))
    await whole_pass(here)
    assert len(list(here.archive.layout.damaged.iterdir())) == 1
    await here.archive.delete(make.STUDY, "test")
    here.clock.ahead += timedelta(days=31)
    await here.archive.purge()
    assert list(here.archive.layout.damaged.iterdir()) == []
    assert (await here.archive.care.state()).standing == 0


async def test_the_next_reading_waits_for_its_time(here: Held) -> None:
    await here.put(make.image(1))
    await whole_pass(here)
    assert here.archive.care.objects == 1
    assert not await here.archive.care.step()
    here.clock.ahead += timedelta(days=89)
    assert not await here.archive.care.step()
    assert here.archive.care.objects == 1
    here.clock.ahead += timedelta(days=2)
    await here.archive.care.step()
    assert here.archive.care.objects == 2


async def test_it_can_be_off(tmp_path: Path) -> None:
    async with held(tmp_path, care=CareConfig(period_days=0)) as here:
        await here.put(make.image(1))
        await whole_pass(here)
        assert here.archive.care.objects == 0


@pytest.mark.parametrize("busy", [False, True], ids=["at night", "while objects come and go"])
async def test_no_more_is_read_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with held(tmp_path, care=CareConfig(mb_per_s=0.5)) as here:
        for n in range(4):
            await here.put(make.image(n, Rows=256, Columns=256, pixels=bytes(256 * 256 * 2)))
        await here.settle()
        start = here.clock.monotonic_s()
        monkeypatch.setattr(here.clock, "sleep", sleep)
        monkeypatch.setattr(here.clock, "monotonic_s", lambda: start + (0 if busy else 100))
        await whole_pass(here)
        least = here.archive.care.bytes / 0.5e6 * (SLOWER if busy else 1)
        assert sum(slept) == pytest.approx(least, rel=0.05)


async def test_it_runs_by_itself_and_says_why_it_stands_still(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        await here.put(make.image(n))
    await here.settle()
    pauses: asyncio.Queue[str] = asyncio.Queue()
    going_on = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        if seconds >= 1:
            pauses.put_nowait(here.archive.care.trouble)
            await going_on.acquire()

    monkeypatch.setattr(here.clock, "sleep", sleep)
    here.archive.layout.objects.rename(here.folder / "unmounted")
    running = asyncio.create_task(here.archive.care.run())
    async with asyncio.timeout(30):
        assert await pauses.get() == "", "the start of the node comes first"
        going_on.release()
        assert "disk is not there" in await pauses.get()
        (here.folder / "unmounted").rename(here.archive.layout.objects)
        going_on.release()
        assert await pauses.get() == ""
    running.cancel()
    assert (await here.archive.care.state()).whole_objects == 3


async def test_a_process_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    total = 3 * PAGE + 5
    async with held(tmp_path) as here:
        for n in range(total):
            await here.put(make.image(n))
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    async with asyncio.timeout(60):
        came_to = int(await child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    await child.wait()
    assert PAGE <= came_to < total
    async with held(tmp_path, care=FAST) as here:
        begun = await here.archive.care.state()
        assert begun.going
        assert begun.last_id >= came_to
        while await here.archive.care.step():
            pass
        state = await here.archive.care.state()
        assert (state.whole_objects, state.whole_faults) == (total, 0)
        assert here.archive.care.objects == total - begun.objects, "nothing is read twice"
        assert state.began_unix == begun.began_unix
        assert state.whole_unix - state.began_unix < DAY_S
