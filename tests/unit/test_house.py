"""What holds the house together, counted: no reader has to take it on trust."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("crosslight", "node", "registry", "simulations")


def _production() -> list[Path]:
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if "_pb2" not in path.name)


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_only_the_two_engines_know_which_they_are() -> None:
    """Stores ask ``tx.dialect`` for what they mean; ``name`` chooses the deltas and nothing else."""
    asks = re.compile(r"\.engine\b|dialect\.name|[\"']postgres[\"']")
    found = {_named(path) for path in _production() if asks.search(path.read_text("utf-8"))}
    assert found == {"crosslight/runtime/postgres.py", "crosslight/runtime/schema.py", "crosslight/runtime/transactions.py"}
