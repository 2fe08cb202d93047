"""The registry's command line as an operator types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from registry import commands
from registry.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["suspend", "RTK"], "No reason given."),
        (["suspend", "RTK", "--reason", "under investigation"], "under investigation"),
    ],
)
def test_suspending_is_quick(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    """In a hurry a code is enough."""
    asked: list[tuple[str, str]] = []

    async def suspend(folder: Path, code: str, why: str) -> None:
        asked.append((code, why))

    monkeypatch.setattr(commands, "suspend", suspend)
    done = CliRunner().invoke(main, ["--dir", str(tmp_path), *arguments])
    assert done.exit_code == 0, done.output
    assert asked == [("RTK", reason)]
