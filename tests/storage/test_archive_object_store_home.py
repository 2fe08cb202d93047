"""An archive comes back from its object store to the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import held
from bucket_fixture import Switched, all_given, carried, carried_away, filled, objects, settings
from click.testing import CliRunner
from node_serving import ct, part10

from crosslight.runtime.serving import FolderLock
from crosslight.standards.problem import ConfigError, OutOfSpace, Unavailable
from node.__main__ import main


async def test_all_come_back_and_the_store_is_needed_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
        await here.archive.carrier.turn(home=True)
        bucket.away = True
        with pytest.raises(Unavailable):
            await carried(here)
        bucket.away = False
        await here.put(make.image(9))
        here.files.free = 100
        with pytest.raises(OutOfSpace, match="nearly full"):
            await carried(here)
        here.files.free = 1 << 40
        before = {**before, **(await all_given(here))}
        await carried(here)
        state = await here.archive.carrier.state()
        assert (state.objects, state.bytes, state.here_bytes) == (0, 0, 0)
        assert len(here.object_files()) == 5
        assert len(bucket.keys()) == 4, "nothing was removed, and what is new does not go there"
    async with held(tmp_path, min_free_bytes=0) as here:
        assert await all_given(here) == before
        assert (await here.archive.verify()).ok
    async with held(tmp_path, bucket=bucket.again(), **settings()) as here:
        await here.archive.carrier.turn(home=False)
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 5, "and there again"


async def test_a_copy_that_rots_on_the_disk_meanwhile_comes_again(tmp_path: Path) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings(1.0)) as here:
        before = await filled(here)
        await carried(here)
        first, second, *_ = here.object_files()
        first.write_bytes(first.read_bytes()[:-1] + b"!")
        assert (await here.archive.verify()).ok
        assert (await here.archive.carrier.state()).here_bytes == sum(
            path.stat().st_size for path in here.object_files()
        )
        second.unlink()  # and nobody noted it
        await here.archive.carrier.turn(home=True)
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 0
        third = here.object_files()[0]
        third.write_bytes(third.read_bytes()[:-1] + b"!")
        assert (await here.archive.verify()).ok, "the store has it still"
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 0
    async with held(tmp_path, min_free_bytes=0) as here:
        assert await all_given(here) == before
        assert (await here.archive.verify()).ok


async def test_what_is_damaged_there_does_not_come_back_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with held(tmp_path, bucket=bucket, **settings()) as here:
        before = await filled(here)
        await carried_away(here, monkeypatch)
        first = (await objects(here))[0]
        bucket.damage(bytes.fromhex(first.ref.sha256))
        await here.archive.carrier.turn(home=True)
        await carried(here)
        assert len(here.object_files()) == 3
        assert (await here.archive.carrier.state()).objects == 1
        assert (await here.archive.care.state()).standing == 1
    with pytest.raises(ConfigError, match="1 object of this archive"):
        async with held(tmp_path):
            pass
    async with held(tmp_path, bucket=bucket.again(), **settings()) as here:
        number = int(first.ref.sop_uid.rpartition(".")[2])
        assert (await here.put(make.image(number))).state == "stored"
        await carried(here)
        assert (await here.archive.carrier.state()).objects == 0
    async with held(tmp_path, min_free_bytes=0) as here:
        assert await all_given(here) == before


def test_the_command_checks_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, pile, bucket = tmp_path / "node", tmp_path / "pile", Switched()
    pile.mkdir()
    (pile / "one.dcm").write_bytes(part10(ct()))

    def run(*words: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, ["--dir", str(node), *words])
        assert result.exit_code == status, result.output
        return " ".join(result.output.split())

    assert CliRunner().invoke(main, ["init", str(node)]).exit_code == 0
    run("import", str(pile))
    assert "No object store is configured" in run("archive", "move", "--to-object-store", status=1)
    assert "Name one of" in run("archive", "move", status=2)
    monkeypatch.setattr("node.parts.make_bucket", lambda config, folder: bucket.again())
    config = node / "node.toml"
    section = "[archive.object_store]\n"
    config.write_text(config.read_text().replace(section, f'{section}url = "s3://images"\n'))
    lock = FolderLock(node)
    lock.acquire()
    try:
        assert "The node runs." in run("archive", "move", "--to-object-store", status=1)
    finally:
        lock.release()
    assert "The images go to s3://images." in run("archive", "move", "--to-object-store")
    shown = run("status")
    assert "0 objects, 0 bytes, in s3://images" in shown
    assert "1 object," in shown.partition("Waiting for the object store")[2]
    assert "The images go to the disk." in run("archive", "move", "--to-disk")
    assert "all are there" in run("status").partition("Back to the disk")[2]
    shutil.rmtree(pile)
