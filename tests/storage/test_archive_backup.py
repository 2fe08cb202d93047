"""Backups: digests checked both ways, all that is whole restored, repair from one, and encrypted to a public
key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import Held, held

from crosslight.runtime.backup_files import Vault, identities_of, new_identity, recipients_of
from crosslight.runtime.files import SystemFiles
from crosslight.standards.problem import ConfigError, Conflict, Invalid, NotFound
from node.archive import backup
from node.archive.layout import Layout

PLAIN = Vault(SystemFiles())


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    """Three objects of two studies."""
    async with held(tmp_path / "here") as made:
        for number, study in ((1, f"{make.STUDY}.1"), (2, f"{make.STUDY}.1"), (3, f"{make.STUDY}.2")):
            await made.put(make.image(number, study=study))
        yield made


def flip(path: Path) -> None:
    """One bit of the last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Vault, Vault]:
    """To write with, to read with."""
    public = new_identity(tmp_path / "backup.key", SystemFiles())
    assert (tmp_path / "backup.key").stat().st_mode & 0o777 == 0o600
    writing = Vault(SystemFiles(), recipients=recipients_of([public]))
    return writing, Vault(SystemFiles(), identities=identities_of([tmp_path / "backup.key"]))


async def test_what_is_damaged_here_is_named_and_left_out(here: Held, tmp_path: Path) -> None:
    first, second, third = here.object_files()
    flip(first)
    second.unlink()
    report = await here.archive.backup(tmp_path / "backup")
    assert (report.objects, report.copied, report.missing, report.damaged) == (3, 1, 1, 1)
    assert {one.path for one in report.faults} == {first, second}
    assert all(one.study_uid.startswith(make.STUDY) and one.sop_uid for one in report.faults)
    copied = [p.name for p in (tmp_path / "backup" / "archive" / "objects").rglob("*.dcm")]
    assert copied == [third.name]
    flip(first)  # whole again
    again = await here.archive.backup(tmp_path / "backup")
    assert (again.copied, again.missing, again.damaged) == (1, 1, 0)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
async def test_all_that_is_whole_is_restored(
    here: Held, tmp_path: Path, keys: tuple[Vault, Vault], sealed: bool
) -> None:
    writing, reading = keys if sealed else (PLAIN, PLAIN)
    await here.archive.backup(tmp_path / "backup", writing)
    stored = sorted((tmp_path / "backup" / "archive" / "objects").rglob("*.dcm*"))
    flip(stored[0])
    stored[1].unlink()
    target = tmp_path / "new"
    report = backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", reading)
    assert (report.objects, report.copied, report.missing, report.damaged) == (3, 1, 1, 1)
    assert {one.path for one in report.faults} == {stored[0], stored[1]}
    async with held(target) as restored:
        found = await restored.archive.verify()
        assert (found.checked, len(found.missing), len(found.damaged)) == (
            3,
            2,
            0,
        ), "nothing damaged was put in place"


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
async def test_repair_from_a_backup(
    here: Held, tmp_path: Path, keys: tuple[Vault, Vault], sealed: bool
) -> None:
    writing, reading = keys if sealed else (PLAIN, PLAIN)
    await here.archive.backup(tmp_path / "backup", writing)
    first, second, third = here.object_files()
    flip(first)
    second.unlink()
    flip(third)
    # of this one nothing is whole
    flip(writing.name(Layout(tmp_path / "backup" / "archive").object(bytes.fromhex(third.stem))))
    faults = (await here.archive.verify()).faults
    apart = {path: here.archive.layout.damaged / path.name for path in (first, third)}
    assert {(one.kind, one.path) for one in faults} == {
        ("damaged", apart[first]),
        ("missing", second),
        ("damaged", apart[third]),
    }
    left = await here.archive.repair(faults, tmp_path / "backup", reading)
    assert [one.path for one in left] == [apart[third]]
    assert {one.path for one in (await here.archive.verify()).faults} == {apart[third]}
    assert not apart[first].exists(), "whole again in its place"
    assert apart[third].exists(), "all that is left of it"
    with pytest.raises(NotFound):
        await here.archive.repair(faults, tmp_path, reading)


async def test_an_encrypted_backup_holds_nothing_in_the_clear(
    here: Held, tmp_path: Path, keys: tuple[Vault, Vault]
) -> None:
    writing, reading = keys
    report = await here.archive.backup(tmp_path / "backup", writing)
    assert report.copied == 3
    assert (await here.archive.backup(tmp_path / "backup", writing)).copied == 0, "only what is new"
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".age", ".json"}
    for path in files:
        data = path.read_bytes()
        assert path.name == "backup.json" or data.startswith(b"age-encryption.org/v1\n"), path
        assert b"SQLite" not in data
        assert b"DICM" not in data
    target = tmp_path / "new"
    assert not backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", reading).faults
    async with held(target) as restored:
        for study in (f"{make.STUDY}.1", f"{make.STUDY}.2"):
            assert await restored.archive.record(study) == await here.archive.record(study)
        assert (await restored.archive.verify()).ok
    assert not list((here.folder / "archive" / "tmp").glob("backup.*")), (
        "the clear copy of the database is gone"
    )


async def test_the_wrong_key_or_none_opens_nothing(
    here: Held, tmp_path: Path, keys: tuple[Vault, Vault]
) -> None:
    await here.archive.backup(tmp_path / "backup", keys[0])
    new_identity(tmp_path / "other.key", SystemFiles())
    other = Vault(SystemFiles(), identities=identities_of([tmp_path / "other.key"]))
    target = tmp_path / "new"
    with pytest.raises(ConfigError, match="does not open"):
        backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", other)
    with pytest.raises(Invalid):
        backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", PLAIN)
    assert not (target / "node.sqlite").exists()
    with pytest.raises(ConfigError):
        new_identity(tmp_path / "other.key", SystemFiles())


async def test_a_folder_holds_one_kind(here: Held, tmp_path: Path, keys: tuple[Vault, Vault]) -> None:
    await here.archive.backup(tmp_path / "plain")
    await here.archive.backup(tmp_path / "sealed", keys[0])
    for folder, vault in (("plain", keys[0]), ("sealed", PLAIN)):
        with pytest.raises(Conflict):
            backup.check_target(tmp_path / folder, vault)
    backup.check_target(tmp_path / "plain", PLAIN)
    backup.check_target(tmp_path / "new", keys[0])


async def test_a_damaged_database_is_said(here: Held, tmp_path: Path) -> None:
    await here.archive.backup(tmp_path / "backup")
    (tmp_path / "backup" / backup.DATABASE).write_bytes(b"no database" * 1000)
    target = tmp_path / "new"
    with pytest.raises(Invalid, match="damaged"):
        backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", PLAIN)
    assert not (target / "node.sqlite").exists()


@pytest.mark.parametrize("text", ["age1", "age1xyz", "age1" + "q" * 58])
def test_keys_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid):
        recipients_of([text])
    (tmp_path / "f").write_text(f"# a comment\n{text}\n")
    with pytest.raises(Invalid):
        recipients_of([str(tmp_path / "f")])
    with pytest.raises(Invalid):
        identities_of([tmp_path / "f"])
    (tmp_path / "f").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid):
        identities_of([tmp_path / "f"])


def test_constant_memory(tmp_path: Path, keys: tuple[Vault, Vault]) -> None:
    """A file passes in pieces of bounded size, both ways."""
    sizes: list[int] = []

    class Watched:
        def __init__(self, handle: object) -> None:
            self._handle = handle

        def read(self, size: int = -1) -> bytes:
            data: bytes = self._handle.read(size)  # type: ignore[attr-defined]
            sizes.append(len(data))
            return data

    import pyrage

    big = tmp_path / "big"
    big.write_bytes(bytes(8 << 20))
    with big.open("rb") as source, (tmp_path / "out").open("wb") as target:
        pyrage.encrypt_io(Watched(source), target, list(keys[0].recipients))
    with (tmp_path / "out").open("rb") as source, (tmp_path / "back").open("wb") as target:
        pyrage.decrypt_io(Watched(source), target, list(keys[1].identities))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert max(sizes) <= 1 << 17
