"""The page that benchmarks write, and what is read of it again."""

from __future__ import annotations

from pathlib import Path

from benchmarks.before_after import tables
from benchmarks.report import Section, write


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = [("C-STORE, 1 association", "1.20 ×"), ("FHIR, 20", "1,234")]
    first = Section(name="a", title="A: beside B", intro="Words.", columns=("Operation", "ratio"), rows=rows)
    second = Section(
        name="c", title="C", intro="More.", columns=("What", "ms"), rows=[("x", "–")], notes=("n",)
    )
    write(tmp_path / "page.md", [("Cores", "2")], "", [first, second])
    found = tables((tmp_path / "page.md").read_text("utf-8"))
    assert found == {
        "A: beside B": {name: {"Operation": name, "ratio": value} for name, value in rows},
        "C": {"x": {"What": "x", "ms": "–"}},
    }
