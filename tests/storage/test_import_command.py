"""``crosslight-node import``, ``status`` and ``notes`` as a person runs them."""

from __future__ import annotations

from pathlib import Path

import dicom_objects as make
import pytest
from click.testing import CliRunner

from node.__main__ import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "node"
    assert CliRunner().invoke(main, ["init", str(made)]).exit_code == 0
    return made


def _run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--dir", str(folder), *arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("name", "data", "status", "said"),
    [
        ("AUTORUN.INF", b"[autorun]", 0, "AUTORUN.INF: no DICOM"),
        (
            "IM1",
            make.data_set_of(make.part10(make.image(1))),
            0,
            "IM1: has no file meta: read as Explicit VR Little Endian",
        ),
        ("IM1", b"\x08\0\x05\0" + b"\xff" * 300, 1, "IM1: seems to be DICOM"),
        ("IM1.dcm", b"", 1, "IM1.dcm: seems to be DICOM"),
        (
            "IM1",
            make.part10(make.image(1))[:-9],
            1,
            "IM1: refused: An element claims more bytes than there are.",
        ),
    ],
)
def test_import_ends_with_what_was_left(
    folder: Path, tmp_path: Path, name: str, data: bytes, status: int, said: str
) -> None:
    pile = tmp_path / "pile"
    pile.mkdir()
    (pile / name).write_bytes(data)
    (pile / "whole").write_bytes(make.part10(make.image(2)))
    code, output = _run(folder, "import", str(pile))
    assert code == status, output
    assert said in output
    assert "whole" not in output
    again, output = _run(folder, "import", str(pile))
    assert again == status, "what was left is left the next time too"


def test_notes_are_counted_and_listed(folder: Path, tmp_path: Path) -> None:
    padded, twice = tmp_path / "padded", tmp_path / "twice"
    padded.write_bytes(make.part10(make.image(1)) + bytes(3))
    twice.write_bytes(make.raw_part10(make.IDENTITY + make.element(0x00090010, "LO", b"TEST") * 2))
    assert _run(folder, "import", str(padded), str(twice))[0] == 0
    _, output = _run(folder, "status")
    assert "note: padding: 1 study: Padding" in output
    assert "note: doubled: 1 study: An element" in output
    assert _run(folder, "notes") == (0, f"1.2.3 doubled\n{make.STUDY} padding\n")
    assert _run(folder, "notes", "--only", "doubled") == (0, "1.2.3 doubled\n")
