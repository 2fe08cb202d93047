"""The seam for files: what it makes is its user's alone, and what it removes may be gone already."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from crosslight.runtime.files import SystemFiles

FILES = SystemFiles()


def test_a_new_file_is_private_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with FILES.create(path) as handle:
        handle.write(b"first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        FILES.create(path)
    assert path.read_bytes() == b"first"


def test_a_file_that_is_opened_again_is_read_and_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"abc")
    with FILES.reopen(path) as handle:
        assert handle.read(1) == b"a"
        handle.write(b"X")
    with FILES.open(path) as handle:
        assert handle.read() == b"aXc"
    with pytest.raises(FileNotFoundError):
        FILES.reopen(tmp_path / "missing")


def test_a_further_name_stays_when_the_first_goes(tmp_path: Path) -> None:
    path, name = tmp_path / "first", tmp_path / "second"
    path.write_bytes(b"abc")
    FILES.link(path, name)
    FILES.remove(path)
    FILES.remove(path)  # gone already
    assert name.read_bytes() == b"abc"


def test_folders_move_and_go_with_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_bytes(b"abc")
    FILES.move(tmp_path / "here", tmp_path / "there")
    assert (tmp_path / "there" / "file").read_bytes() == b"abc"
    FILES.remove_folder(tmp_path / "there")
    FILES.remove_folder(tmp_path / "there")
    assert list(tmp_path.iterdir()) == []
