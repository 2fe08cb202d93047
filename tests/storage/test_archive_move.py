"""An archive's objects go to another disk: really another one, where the machine has one in memory."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import Held, data_set_at, file_of, held
from click.testing import CliRunner
from dimse_calls import until
from node_serving import ct, part10

from crosslight.runtime.backup_files import Vault
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.serving import FolderLock
from crosslight.standards.problem import StorageError
from node.__main__ import main
from node.archive import backup
from node.archive.layout import Layout, begin_move, layout_in
from node.archive.mover import GRACE_S

CHILD = Path(__file__).parent.parent / "move_child.py"
FAST: dict[str, Any] = {"move_mb_per_s": 10_000, "min_free_bytes": 0}


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder / "images"
    shutil.rmtree(folder, ignore_errors=True)


async def filled(folder: Path, count: int = 4, **more: Any) -> dict[str, bytes]:
    """An archive with objects, closed; their files' bytes by SOP Instance UID."""
    async with held(folder, **FAST) as here:
        for n in range(count):
            assert (await here.put(make.image(n, **more))).state == "stored"
        return {o.ref.sop_uid: (await file_of(here.archive, o)).read_bytes() for o in await objects(here)}


async def objects(here: Held) -> list[Any]:
    return list(await here.archive.objects(make.STUDY))


def begin(folder: Path, target: Path) -> None:
    """As the command does once the node has ended."""
    begin_move(layout_in(folder / "archive"), target, SystemFiles())


async def all_moved(here: Held) -> None:
    assert not await here.archive.mover.step()
    here.clock.ahead += timedelta(seconds=GRACE_S + 1)
    assert await here.archive.mover.step()


def left_in(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file() and path.parent.name != place.name]


def has_so_many(place: Path, wanted: int) -> bool:
    return len(left_in(place / "objects")) >= wanted


async def test_objects_follow_while_they_are_read(tmp_path: Path, other_disk: Path) -> None:
    before = await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        for stored in await objects(here):
            assert (await file_of(here.archive, stored)).is_relative_to(tmp_path)
        await here.put(make.image(9))
        (fresh,) = await here.archive.objects(make.STUDY, sop_uid=f"{make.STUDY}.1.9")
        assert (await file_of(here.archive, fresh)).is_relative_to(other_disk), (
            "what is new goes there at once"
        )
        assert (await here.put(make.image(1))).state == "duplicate"
        assert not await here.archive.mover.step()
        state = await here.archive.mover.state()
        assert state is not None
        assert (state.folders, state.objects, state.bytes) == (256, 4, sum(map(len, before.values())))
        assert len(left_in(tmp_path / "archive" / "objects")) == 4, "nothing is removed yet"
        for stored in await objects(here):
            path = await file_of(here.archive, stored)
            assert path.is_relative_to(other_disk)
            if stored.ref.sop_uid in before:
                assert path.read_bytes() == before[stored.ref.sop_uid]
        assert not await here.archive.mover.step(), "whoever opened one before is not done with it yet"
        here.clock.ahead = timedelta(seconds=GRACE_S + 1)
        assert await here.archive.mover.step()
        assert left_in(tmp_path / "archive" / "objects") == []
        assert (await here.archive.verify()).ok
    (tmp_path / "archive" / "objects").rename(tmp_path / "gone")  # the old disk is taken away
    async with held(tmp_path, **FAST) as here:
        assert here.archive.layout.before is None
        assert len([await data_set_at(here.archive, stored) for stored in await objects(here)]) == 5
        assert await here.archive.mover.step()


async def test_a_note_of_where_it_came_from_comes_along(tmp_path: Path, other_disk: Path) -> None:
    await filled(tmp_path, 1)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        (stored,) = await objects(here)
        note = here.files.noted(await file_of(here.archive, stored))
        await here.archive.mover.step()
        kept = here.files.noted(await file_of(here.archive, stored))
        assert kept in (note, b""), "b'' where that file system keeps none"


async def test_what_is_damaged_is_not_copied_as_good(tmp_path: Path, other_disk: Path) -> None:
    await filled(tmp_path)
    async with held(tmp_path, **FAST) as here:
        first, second, *_ = here.object_files()
        first.write_bytes(first.read_bytes()[:-1] + b"!")
        assert len((await here.archive.verify()).faults) == 1  # set apart before
        second.write_bytes(second.read_bytes()[:-1] + b"!")  # and found on the way
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        await all_moved(here)
        assert (await here.archive.care.state()).standing == 2
        assert {path.name for path in (other_disk / "damaged").iterdir()} == {first.name, second.name}
        assert not (other_disk / "objects" / first.parent.name / first.name).exists()
        assert left_in(tmp_path / "archive") == []
        for n in range(4):
            await here.put(make.image(n))
        assert (await here.archive.verify()).ok, "and it heals there"
        assert list((other_disk / "damaged").iterdir()) == []


async def test_damage_is_found_in_both_places(tmp_path: Path, other_disk: Path) -> None:
    await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        old = sorted((tmp_path / "archive" / "objects").rglob("*.dcm"))
        old[0].write_bytes(b"other bytes")
        faults = (await here.archive.verify()).faults
        assert [f.path for f in faults] == [tmp_path / "archive" / "damaged" / old[0].name]
        await here.archive.mover.step()
        moved = other_disk / "objects" / old[1].parent.name / old[1].name
        moved.write_bytes(b"other bytes")
        faults = (await here.archive.verify()).faults
        assert {f.path for f in faults} == {
            tmp_path / "archive" / "damaged" / old[0].name,
            other_disk / "damaged" / moved.name,
        }
        assert len((await here.archive.verify()).faults) == 1, "the old copy is whole, and not removed yet"
        here.clock.ahead = timedelta(seconds=GRACE_S + 1)
        assert await here.archive.mover.step(), "it is copied once more"
        assert moved.exists()
        assert len((await here.archive.verify()).faults) == 1


async def test_what_was_refused_comes_along(tmp_path: Path, other_disk: Path) -> None:
    async with held(tmp_path, **FAST) as here:
        assert (await here.put(b"no dicom" * 100)).state == "refused"
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        await all_moved(here)
        (entry,) = await here.archive.quarantine.entries()
        assert entry.path.is_relative_to(other_disk)
        assert entry.path.read_bytes() == b"no dicom" * 100


async def test_a_purge_removes_both_copies(tmp_path: Path, other_disk: Path) -> None:
    await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        await here.archive.mover.step()
        await here.archive.delete(make.STUDY, "test")
        here.clock.ahead = timedelta(days=31)
        assert await here.archive.purge() == 4
        assert left_in(tmp_path / "archive" / "objects") == []
        assert left_in(other_disk / "objects") == []
        assert await here.archive.mover.step()


async def test_a_disk_that_lies_gets_nothing_and_nothing_is_removed(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        real = here.files.drop_cached

        def rots(handle: Any, offset: int) -> bool:
            path = Path(handle.name)
            if path.is_relative_to(other_disk) and path.parent.name == "moving":
                path.write_bytes(b"x" * path.stat().st_size)
            return real(handle, offset)

        monkeypatch.setattr(here.files, "drop_cached", rots)
        with pytest.raises(StorageError, match="does not keep what is written"):
            await here.archive.mover.step()
        assert left_in(other_disk / "objects") == []
        assert len(left_in(tmp_path / "archive" / "objects")) == 4


async def test_a_disk_that_is_not_mounted_is_said_and_nothing_is_made_in_its_place(
    tmp_path: Path, other_disk: Path
) -> None:
    await filled(tmp_path)
    begin(tmp_path, other_disk)
    other_disk.rename(other_disk.with_name("unmounted"))
    with pytest.raises(StorageError, match="disk is not there"):
        Held(tmp_path)
    assert not other_disk.exists()
    other_disk.with_name("unmounted").rename(other_disk)
    (tmp_path / "archive" / "objects").rename(tmp_path / "gone")
    async with held(tmp_path, **FAST) as here:
        with pytest.raises(StorageError, match="moved from is not there"):
            await here.archive.mover.step()
        with pytest.raises(StorageError, match="disk is not there"):
            await here.archive.verify()
        assert (await here.archive.care.state()).standing == 0


async def test_a_process_that_is_killed_goes_on_and_loses_nothing(tmp_path: Path, other_disk: Path) -> None:
    before = await filled(tmp_path, 40, Rows=64, Columns=64, pixels=bytes(64 * 64 * 2))
    begin(tmp_path, other_disk)
    for wanted in (5, 15):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        async with asyncio.timeout(60):
            assert await child.stdout.readline() == b"begun\n"
        await until(partial(has_so_many, other_disk, wanted), 60)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    half = len(left_in(other_disk / "objects"))
    assert 15 <= half < 40
    async with held(tmp_path, **FAST) as here:
        assert (await here.archive.verify()).ok
        await all_moved(here)
        found = {o.ref.sop_uid: (await file_of(here.archive, o)).read_bytes() for o in await objects(here)}
        assert found == before
        assert (await here.archive.verify()).ok
        assert left_in(tmp_path / "archive" / "objects") == []
        assert list((other_disk / "moving").iterdir()) == []


async def test_it_runs_by_itself_to_the_end(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:

        async def sleep(seconds: float) -> None:
            here.clock.ahead += timedelta(seconds=seconds)

        monkeypatch.setattr(here.clock, "sleep", sleep)
        async with asyncio.timeout(60):
            await here.archive.mover.run()
        state = await here.archive.mover.state()
        assert state is not None
        assert state.ended_unix - state.copied_unix > GRACE_S
        assert left_in(tmp_path / "archive" / "objects") == []
        assert (await here.archive.verify()).ok


async def test_a_backup_is_made_on_the_way_and_restored_where_the_images_are(
    tmp_path: Path, other_disk: Path
) -> None:
    before = await filled(tmp_path)
    begin(tmp_path, other_disk)
    async with held(tmp_path, **FAST) as here:
        await here.put(make.image(9))  # one in each place
        assert (await here.archive.backup(tmp_path / "backup")).faults == ()
        vault = Vault(here.files)
    (tmp_path / "node.sqlite").rename(tmp_path / "lost.sqlite")
    shutil.rmtree(tmp_path / "archive" / "objects")
    report = backup.restore(tmp_path / "backup", tmp_path / "node.sqlite", tmp_path / "archive", vault)
    assert (report.objects, report.faults) == (len(before) + 1, ())
    async with held(tmp_path, **FAST) as here:
        assert (await here.archive.verify()).ok


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_checks_and_says_what_to_do(tmp_path: Path, other_disk: Path) -> None:
    node, pile = tmp_path / "node", tmp_path / "pile"
    pile.mkdir()
    (pile / "one.dcm").write_bytes(part10(ct()))

    def run(*words: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, ["--dir", str(node), *words])
        assert result.exit_code == status, result.output
        return " ".join(result.output.split())

    assert CliRunner().invoke(main, ["init", str(node)]).exit_code == 0
    run("import", str(pile))
    assert "is where the images are" in run("archive", "move", "--to", str(node / "archive" / "x"), status=1)
    assert "is not empty" in run("archive", "move", "--to", str(pile), status=1)
    lock = FolderLock(node)
    lock.acquire()
    try:
        assert "The node runs." in run("archive", "move", "--to", str(other_disk), status=1)
    finally:
        lock.release()
    assert layout_in(node / "archive") == Layout(node / "archive"), "nothing was begun"
    assert "1 object" in run("archive", "move", "--to", str(other_disk))
    assert layout_in(node / "archive").before == node / "archive"
    assert "goes on already" in run("archive", "move", "--to", str(tmp_path / "third"), status=1)
    assert "1 study" in run("status")
    assert "1 objects checked, 0 missing, 0 damaged." in run("verify")
