"""What a node, a registry and their backups hold is its owner's alone, whatever the umask; restored too."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from dicom_objects import image, part10
from private_files import open_to_others
from whole_region import whole_region

from crosslight.runtime.backup_files import new_identity
from crosslight.runtime.command import Commands
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import keep_private, private_folder
from crosslight.runtime.seams import system_seams
from crosslight.runtime.terminal import make_console
from node import commands
from registry.backup import backup as backup_registry
from registry.backup import restore as restore_registry
from registry.commands import system


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """Nothing is taken away by the umask: only what the code says is left."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_a_region_and_its_backups_are_for_nobody_else(tmp_path: Path) -> None:
    console, seams = make_console(), system_seams()
    region_folder, backups, restored = (tmp_path / name for name in ("region", "backups", "restored"))
    key = tmp_path / "backup.key"
    public = new_identity(key, seams.files)
    private_folder(region_folder)
    async with whole_region(region_folder, {"RTK": "grpc", "RXC": "soap"}) as region:
        for number, home in enumerate(region.homes.values()):
            await home.add([part10(image(n, study=f"1.2.826.0.1.3680043.10.92.{number}")) for n in (1, 2)])
            await home.add([b"no object"], expect=("refused",))
        await commands.backup_node(region_folder / "RTK", backups / "RTK", console, ())
        await commands.backup_node(region_folder / "RXC", backups / "RXC", console, (public,))
        await system(region_folder / "registry", "viewer", tmp_path / "systems")
        await backup_registry(region_folder / "registry", backups / "registry", seams)
        assert open_to_others(region_folder) == []
    await commands.restore_node(backups / "RTK", restored / "RTK", console, ())
    await commands.restore_node(backups / "RXC", restored / "RXC", console, (key,))
    await restore_registry(backups / "registry", restored / "registry", seams)
    for folder in (backups, restored, tmp_path / "systems", key):
        assert open_to_others(folder) == []


async def test_a_database_that_others_could_read_is_taken_from_them(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with closing(sqlite3.connect(path)) as older:
        older.execute("PRAGMA journal_mode=WAL")
        older.execute("CREATE TABLE t (a)")
        older.commit()
        assert open_to_others(tmp_path) != []
        db = SqliteDb(path)
        try:
            await db.write("t", lambda tx: tx.execute("INSERT INTO t VALUES (1)"))
            assert {
                p.name: oct(p.stat().st_mode) for p in tmp_path.iterdir() if p.stat().st_mode & 0o077
            } == {}
        finally:
            await db.close()


def test_what_is_copied_with_its_modes_is_taken_from_others(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    (folder / "older").mkdir(parents=True)
    (folder / "older" / "ca.pem").write_text("x")
    (folder / "elsewhere").symlink_to(tmp_path / "gone")
    keep_private(folder)
    assert open_to_others(folder) == []


def test_what_a_command_and_its_programs_make_is_for_nobody_else(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def make() -> None:
        subprocess.run(["touch", str(made)], check=True)

    group = Commands("any")
    group.command("make")(make)
    assert CliRunner().invoke(group, ["make"]).exit_code == 0
    assert oct(made.stat().st_mode & 0o777) == "0o600"
    assert os.umask(0) == 0, "and it is put back"


_MAKE_KEYS = """
import sys
from pathlib import Path
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.standards.ids import Oid
from registry.keys import TokenKeys
from registry.members.ca import CertificateAuthority
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
ca = CertificateAuthority(folder / "ca", Oid("1.2.3"), "A region", SystemClock(), SystemIds(), SystemFiles())
ca.open()
keys = TokenKeys(folder / "keys" / "token-keys.json", SystemFiles(), SystemIds())
keys.open()
print(ca.certificate.serial_number, keys.signing.kid, flush=True)
"""


def test_a_service_and_commands_that_start_at_once_have_the_same_keys(tmp_path: Path) -> None:
    """Whoever comes first makes them: a command beside ``serve`` in a new folder once made others."""
    for attempt in range(3):
        at_once = [
            subprocess.Popen(
                [sys.executable, "-c", _MAKE_KEYS, str(tmp_path / str(attempt))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(4)
        ]  # fmt: skip
        for process in at_once:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        said = set()
        for process in at_once:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in at_once:
            said.add(process.communicate(timeout=60)[0])
        assert len(said) == 1
        assert said != {""}
