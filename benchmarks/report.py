"""Rows of results, as a table on the terminal and as docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crosslight import __version__

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report, with the text around it.

    ``measured`` are service times for ``crosslight simulate``, by their names there.
    """

    name: str
    title: str
    intro: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)


def number(value: float) -> str:
    """Three digits that mean something."""
    if value != value:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(value: float) -> str:
    """A ratio as the report shows it, such as ``1.8 ×``."""
    return f"{number(value)} ×" if value == value else "–"


def show(console: Console, sections: Iterable[Section]) -> None:
    """Print the tables."""
    for section in sections:
        table = Table(title=section.title, title_justify="left")
        for i, column in enumerate(section.columns):
            table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
        for note in section.notes:
            console.print(f"  {note}", style="dim", markup=False)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr


def _debian(package: str) -> str:
    match = re.search(r"^Version: (?:\d+:)?([0-9.]+)", _output("dpkg", "-s", package), re.MULTILINE)
    return match.group(1) if match else "not installed"


def machine() -> list[tuple[str, str]]:
    """What the machine is; nothing that names it."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "",
    )
    memory = next(
        (int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    libraries = ("aiohttp", "grpcio", "lxml", "orjson", "psycopg", "pydicom", "zstandard")
    return [
        ("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("Cores", f"{os.cpu_count()} ({cpu})"),
        ("Memory", f"{memory + 1} GiB"),
        ("Load before the run", f"{os.getloadavg()[0]:.1f}"),
        ("Crosslight", __version__),
        ("Python", f"{platform.python_version()} on Linux {platform.release().split('-')[0]}"),
        ("Libraries", ", ".join(f"{name} {version(name)}" for name in libraries)),
        (
            "Orthanc",
            (
                f"{_debian('orthanc')}, DICOMweb plugin {_debian('orthanc-dicomweb')} (Debian's; upstream is"
                " newer)"
            ),
        ),
        ("DCMTK", _debian("dcmtk")),
        (
            "PostgreSQL",
            (_output("sh", "-c", "ls -1 /usr/lib/postgresql 2>/dev/null").split() or ["none"])[-1],
        ),
    ]


def commit() -> str:
    """Of which state of the sources; with + where files differ from it, '' where that is not known."""
    name = _output("git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD").strip()
    if not re.fullmatch(r"[0-9a-f]{7,40}", name):
        return ""
    changed = _output("git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no").strip()
    return f"{name}+" if changed else name


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return ()


INTRO = """\
# Benchmarks

Made by `make bench` (`python -m benchmarks`); `--quick` is for a first look, `--only NAME` for one part.
Everything runs on loopback on one machine: the servers as real processes, the clients beside them on the
same cores, targets measured in turn within each round. **Only ratios of one run mean something**; rates of
two runs, or of two machines, must not be compared. Rates are medians of the rounds. Processor time is the
server's own, its children's and its database's included; it suffers less from what else the machine does.
"""


def write(path: Path, facts: Sequence[tuple[str, str]], options: str, sections: Sequence[Section]) -> None:
    """Write the page."""
    lines = [INTRO, "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in (*facts, ("Options", options or "none"))]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.intro, ""]
        lines += ["| " + " | ".join(section.columns) + " |", "|" + "---|" * len(section.columns)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.rows]
        lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
