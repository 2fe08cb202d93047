"""A node beside a folder of files: all of it is listed, stays right, and is given out as it is."""

from __future__ import annotations

import os
import shutil
from contextlib import aclosing
from pathlib import Path

import dicom_objects as make
import pytest
from beside_files import beside_files, until

from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.problem import ConfigError, Unavailable
from node.holdings import Passed, Received
from node.sources.config import SourcesConfig
from node.sources.files import folder, follow
from node.sources.files.config import FolderSource
from node.sources.files.folder import FolderFiles

OTHER = "1.2.826.0.1.3680043.10.1.2"


def source(path: Path, **values: object) -> SourcesConfig:
    made = {"look_every_s": 0.2, "settle_s": 0.0, "read_per_s": 5000.0, **values}
    return SourcesConfig(folder=(FolderSource(name="VNA", path=str(path), **made),))  # type: ignore[arg-type]


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part~").write_bytes(data)
    path.with_suffix(".part~").rename(path)


def uid(number: int, study: str = make.STUDY) -> str:
    return f"{study}.1.{number}"


@pytest.fixture
def vna(tmp_path: Path) -> Path:
    (tmp_path / "vna").mkdir()
    return tmp_path / "vna"


@pytest.mark.parametrize("at_once", [1000, 2], ids=["one page", "many pages"])
async def test_what_is_there_is_listed_and_stays_right(
    tmp_path: Path, vna: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(folder, "PAGE", at_once)
    monkeypatch.setattr(follow, "_ROWS", at_once)
    for number in (1, 2, 3):
        put(vna / "2026" / f"{number}.dcm", make.part10(make.image(number)))
    put(vna / "2026-a", make.part10(make.image(1, study=OTHER, PatientID="L002")))  # sorts before 2026/
    put(vna / "notes.txt", b"no image")
    put(vna / "empty", b"")
    async with beside_files(tmp_path / "node", source(vna)) as node:
        assert await node.behind(), "nobody has looked yet: the node does not know all"
        await until(node.counts, {"HELD": 4, "OTHER": 2})
        await until(node.behind, False)
        assert await node.uids() == [uid(1), uid(2), uid(3), uid(1, OTHER)]

        put(vna / "2026" / "4.dcm", make.part10(make.image(4)))
        (vna / "2026" / "1.dcm").unlink()
        put(vna / "2026-a", make.part10(make.image(7, study=OTHER, PatientID="L003")))
        await until(node.uids, [uid(2), uid(3), uid(4), uid(7, OTHER)])
        assert await node.uids(PatientID="L002") == []

        (vna / "2026" / "2.dcm").rename(vna / "moved")
        await until(node.counts, {"HELD": 4, "OTHER": 2})
        await until(node.uids, [uid(2), uid(3), uid(4), uid(7, OTHER)])
        shutil.rmtree(vna / "2026")
        await until(node.uids, [uid(2), uid(7, OTHER)])
        await until(node.behind, False)


async def test_a_node_that_was_stopped_goes_on_and_reads_nothing_twice(tmp_path: Path, vna: Path) -> None:
    for number in range(1, 13):
        put(vna / f"{number}.dcm", make.part10(make.image(number)))
    slow = source(vna, read_per_s=1.0)
    async with beside_files(tmp_path / "node", slow) as node:
        await until(lambda: _some(node.uids), True)
        assert len(await node.uids()) < 12
        assert await node.behind()
        await until(lambda: _estimated(node.figures), True)
    (vna / "8.dcm").unlink()
    async with beside_files(tmp_path / "node", source(vna)) as node:
        await until(node.uids, sorted(uid(number) for number in range(1, 13) if number != 8))
        await until(node.behind, False)


async def _estimated(figures: object) -> bool:
    known = await figures()  # type: ignore[operator]
    return known.waiting > 0 and known.left_s is not None and known.left_s > 0


async def _some(asked: object) -> bool:
    return len(await asked()) >= 2  # type: ignore[operator]


async def test_two_files_of_one_instance(tmp_path: Path, vna: Path) -> None:
    put(vna / "b", make.part10(make.image(1)))
    async with beside_files(tmp_path / "node", source(vna)) as node:
        await until(node.counts, {"HELD": 1})
        put(vna / "c", make.part10(make.image(1)))
        await until(node.counts, {"HELD": 1, "SAME": 1})
        await until(node.behind, False)
        put(vna / "a", make.part10(make.image(1, PatientID="L002")))
        await until(node.counts, {"HELD": 1, "SAME": 1, "CONFLICT": 1})
        assert await node.uids(PatientID="L001") == [uid(1)], "the first one counts"
        await until(node.behind, True)
        assert (await node.figures()).conflicts == (uid(1),)
        (vna / "b").unlink()  # the conflict is settled by whoever keeps the folder
        (vna / "c").unlink()
        await until(node.counts, {"HELD": 1})
        await until(lambda: node.uids(PatientID="L002"), [uid(1)])
        assert await node.uids(PatientID="L001") == []
        await until(node.behind, False)


async def test_an_object_passes_through_and_a_file_that_changed_is_refused(tmp_path: Path, vna: Path) -> None:
    data = make.part10(make.image(1, Rows=512, Columns=512, pixels=bytes(range(256)) * 2048))
    put(vna / "1.dcm", data)
    async with beside_files(tmp_path / "node", source(vna, look_every_s=3600.0)) as node:
        await until(node.counts, {"HELD": 1})
        stored = await node.stored(make.STUDY, uid(1))
        assert await node.given(stored) == data
        assert await node.given(stored) == data, "and once more, by its digest"
        other = make.part10(make.image(1, PatientName="Miller^Anne"))
        put(vna / "1.dcm", other)
        with pytest.raises(Unavailable, match="changed since"):
            await node.given(stored)
        await until(lambda: node.uids(PatientName="Miller^Anne"), [uid(1)])  # listed for that alone
        await until(node.behind, False)
        assert await node.given(await node.stored(make.STUDY, uid(1))) == other


async def test_other_bytes_behind_the_same_version_do_not_go_out_as_whole(tmp_path: Path, vna: Path) -> None:
    data = make.part10(make.image(1))
    put(vna / "1.dcm", data)
    was = (vna / "1.dcm").stat()
    async with beside_files(tmp_path / "node", source(vna, look_every_s=3600.0)) as node:
        await until(node.counts, {"HELD": 1})
        stored = await node.stored(make.STUDY, uid(1))
        assert await node.given(stored) == data
        with (vna / "1.dcm").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        os.utime(vna / "1.dcm", ns=(was.st_atime_ns, was.st_mtime_ns))
        with pytest.raises(Unavailable, match="changed since"):
            await node.given(stored)


async def test_a_file_that_changes_while_it_goes_out_breaks_off(tmp_path: Path, vna: Path) -> None:
    put(vna / "1.dcm", make.part10(make.image(1, Rows=1024, Columns=512, pixels=bytes(1 << 20))))
    async with beside_files(tmp_path / "node", source(vna, look_every_s=3600.0)) as node:
        await until(node.counts, {"HELD": 1})
        opened = await node.archive.open_object(await node.stored(make.STUDY, uid(1)))
        assert isinstance(opened, Passed)
        async with aclosing(opened.chunks) as chunks:
            await anext(chunks)
            with (vna / "1.dcm").open("r+b") as file:
                file.write(b"\xff")
            with pytest.raises(Unavailable, match="changed since"):
                async for _ in chunks:
                    pass


async def test_what_is_cut_off_or_broken_is_counted_and_read_once_it_is_whole(
    tmp_path: Path, vna: Path
) -> None:
    data = make.part10(make.image(1))
    put(vna / "half", data[:-20])
    put(vna / "bare", data[gate_offset(data) :])
    put(
        vna / "DICOMDIR",
        data[:128] + b"DICM" + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10\2\0\x10\0UI\x14\x00"
        b"1.2.840.10008.1.2.1\0",
    )
    async with beside_files(tmp_path / "node", source(vna)) as node:
        await until(node.counts, {"OTHER": 1, "REFUSED": 2})
        assert await node.behind(), "they may be images of anyone"
        put(vna / "half", data)
        (vna / "bare").unlink()
        await until(node.counts, {"HELD": 1, "OTHER": 1})
        await until(node.behind, False)


def gate_offset(data: bytes) -> int:
    from crosslight.standards.dicom.file.gate import read_meta

    return read_meta(data)[1]


async def test_an_empty_folder_where_files_were_is_not_mounted(tmp_path: Path, vna: Path) -> None:
    put(vna / "1.dcm", make.part10(make.image(1)))
    async with beside_files(tmp_path / "node", source(vna)) as node:
        await until(node.behind, False)
        vna.rename(tmp_path / "away")
        await until(node.behind, True)
        vna.mkdir()  # the place where it would be mounted
        await until(lambda: _trouble(node.figures), "Nothing is listed where files were.")
        assert await node.uids() == [uid(1)], "nothing is forgotten"
        with pytest.raises(Unavailable):
            await node.given(await node.stored(make.STUDY, uid(1)))
        vna.rmdir()
        (tmp_path / "away").rename(vna)
        await until(node.behind, False)
        assert len(await node.given(await node.stored(make.STUDY, uid(1)))) > 0
    async with beside_files(tmp_path / "node", source(vna, empty_is_true=True)) as node:
        (vna / "1.dcm").unlink()
        await until(node.uids, [])


async def _trouble(figures: object) -> str:
    known = await figures()  # type: ignore[operator]
    return str(known.walk.trouble).partition(" It is")[0]


async def test_what_lies_here_goes_first(tmp_path: Path, vna: Path) -> None:
    async with beside_files(tmp_path / "node", source(vna)) as node:
        staged = node.archive.stage()
        staged.write(make.part10(make.image(1)))
        assert (await node.archive.ingest_async(staged, Received(road="import", peer="here"))).status == 0
        put(vna / "notes", b"no image")
        put(vna / "1.dcm", make.part10(make.image(1, PatientID="L009")))
        await until(node.counts, {"OTHER": 1, "PASSED": 1})
        (vna / "1.dcm").unlink()
        await until(node.counts, {"OTHER": 1})
        assert await node.uids(PatientID="L001") == [uid(1)]


async def test_a_listing_goes_on_anywhere_in_the_order_of_keys(tmp_path: Path) -> None:
    names = [b"a", b"a-b", b"a/b", b"a/c/d", b"a0", b"\xc3\xa9/x", b"\xff\xfe", b"z"]
    names.remove(b"a")
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(b"x")
    os.symlink("/etc", tmp_path / "link")
    os.symlink("/etc/hostname", tmp_path / "link2")
    os.mkfifo(tmp_path / "pipe")
    workers = SystemWorkers(threads=1)
    try:
        files = FolderFiles(tmp_path, workers)
        for after in [b"", *names]:
            found = [entry.key async for page in files.pages(after) for entry in page.entries]
            assert found == sorted(name for name in names if name > after)
    finally:
        await workers.close()


def test_a_part_of_a_path_and_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="whole path"):
        source(Path("images")).check()
    with pytest.raises(ConfigError, match="name of its own"):
        SourcesConfig(folder=(*source(tmp_path).folder, *source(tmp_path).folder)).check()
