"""``crosslight-node reject`` as a person runs it: what it names is hidden, by a note that others read too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dicom_objects as make
import pydicom
import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.reject_command import REASONS

SERIES = f"{make.STUDY}.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node that holds three instances of two series."""
    made, pile = tmp_path / "node", tmp_path / "pile"
    pile.mkdir()
    for number, series in ((1, "1"), (2, "1"), (3, "2")):
        (pile / f"{number}.dcm").write_bytes(make.part10(make.image(number, series=series)))
    assert CliRunner().invoke(main, ["init", str(made)]).exit_code == 0
    assert _run(made, "import", str(pile))[0] == 0
    return made


def _run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--dir", str(folder), *arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output


@pytest.mark.parametrize("reason", list(REASONS))
def test_the_note_names_what_is_rejected_and_why(folder: Path, tmp_path: Path, reason: str) -> None:
    note = tmp_path / "note.dcm"
    code, output = _run(
        folder, "reject", make.STUDY, "--series", SERIES, "--reason", reason, "--out", str(note)
    )
    assert (code, output) == (0, "2 instances are rejected and hidden.\n")
    read = pydicom.dcmread(note)
    assert read.ConceptNameCodeSequence[0].CodeValue == REASONS[reason]
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
        f"{SERIES}.1",
        f"{SERIES}.2",
    ]
    said = subprocess.run(["dciodvfy", note], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr
    code, output = _run(folder, "status")
    assert "2 instances" in next(line for line in output.splitlines() if "Hidden by rejection notes" in line)


def test_what_is_rejected_is_in_the_audit_with_the_reason(folder: Path) -> None:
    assert _run(folder, "reject", make.STUDY, "--reason", "safety")[0] == 0
    code, output = _run(folder, "audit", "--study", make.STUDY)
    assert code == 0
    assert "delete" in output
    assert _run(folder, "reject", make.STUDY, "--reason", "safety")[0] == 1, "nothing of it is left"
    code, output = _run(folder, "reject", "1.2.3", "--reason", "quality")
    assert (code, "Nothing of that is held here" in output) == (1, True)
    assert _run(folder, "reject", make.STUDY, "--reason", "because")[0] == 2
