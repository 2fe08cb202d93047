"""This release beside an earlier one: quick runs of both, in turn, each with its own benchmark's code.

What a benchmark asks is alike in both; what it is compared with may have changed (a floor of another kind),
so only what each says of itself is compared, or of Orthanc, which is the same program.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.options import Options
from benchmarks.peers import MissingError, module
from benchmarks.report import Section, number, times

ROUNDS = 3
RUN_S = 1200.0
HERE = Path(__file__).resolve().parent.parent
#: part -> (table, column, whether more is better)
COMPARED = {
    "registry": (("Registry: above a floor", "CPU ms each", False),),
    "dicom": (
        ("DICOM: a node beside Orthanc", "ratio", True),
        ("DICOM: a node beside Orthanc", "ratio of processor time", True),
    ),
}
Page = Mapping[str, Mapping[str, Mapping[str, str]]]  # table -> operation -> column -> text


def measure(options: Options, before: Path) -> Section:
    """Run both.

    Args:
        before: A checkout of an earlier release in which ``make dev`` was run.

    Raises:
        MissingError: when that is none, or a run of either fails.
    """
    python = before / ".venv" / "bin" / "python"
    if not (python.exists() and (before / "benchmarks" / "__main__.py").exists()):
        raise MissingError(f"{before} is no checkout in which `make dev` was run")
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for nth in range(ROUNDS):
        both = [("before", before, str(python)), ("after", HERE, sys.executable)]
        for which, where, program in both if nth % 2 == 0 else reversed(both):
            for part, compared in COMPARED.items():
                options.say(f"{which}, {part}, {nth + 1} of {ROUNDS}")
                page = _run(options, where, program, part)
                for table, column, _ in compared:
                    for operation, cells in page.get(table, {}).items():
                        if (value := _value(cells.get(column, ""))) is not None:
                            found[table, column, operation][which].append(value)
    return _section(found, _release(before))


def _run(options: Options, where: Path, python: str, part: str) -> Page:
    out = options.folder / "before-after.md"
    command = [python, *module("benchmarks", "--quick", "--only", part, "--out", str(out))[1:]]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode:
        raise MissingError(f"{part} in {where}: {(done.stdout + done.stderr)[-600:]}")
    return tables(out.read_text("utf-8"))


def tables(page: str) -> dict[str, dict[str, dict[str, str]]]:
    """The tables of a page that :func:`benchmarks.report.write` wrote: title -> row -> column -> text."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    title, columns = "", list[str]()
    for line in page.splitlines():
        if line.startswith("## "):
            title, columns = line[3:], []
        elif title and line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not columns:
                columns = cells
            else:
                found.setdefault(title, {})[cells[0]] = dict(zip(columns, cells, strict=False))
    return found


def _value(text: str) -> float | None:
    match = re.match(r"[\d,]+(\.\d+)?", text)
    return float(match.group().replace(",", "")) if match else None


def _release(where: Path) -> str:
    found = re.search(r'^version = "([^"]+)"', (where / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return found.group(1) if found else "an earlier one"


def _section(found: Mapping[tuple[str, str, str], Mapping[str, Sequence[float]]], release: str) -> Section:
    rows = []
    for part in COMPARED.values():
        for table, column, more in part:
            for (of, which, operation), values in found.items():
                if (of, which) == (table, column) and {"before", "after"} <= set(values):
                    a, b = (statistics.median(values[when]) for when in ("before", "after"))
                    unit = "processor ms" if not more else f"{column}, Orthanc's = 1"
                    gain = (b / a if more else a / b) if a and b else float("nan")
                    rows.append((operation, unit, number(a), number(b), times(gain)))
    return Section(
        name="before and after",
        title="Before and after",
        intro=(
            f"Release {release} and this one, {ROUNDS} quick runs of each in turn on the same machine, each"
            " with its own benchmark's code; medians. A gain above 1 is this release's."
        ),
        columns=("Operation", "what", f"{release}", "this one", "gain"),
        rows=rows,
        notes=("Repeat: `make bench BEFORE=FOLDER`, a checkout of the earlier release after `make dev`.",),
    )
