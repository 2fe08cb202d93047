"""Metrics of folders and object stores."""

from __future__ import annotations

from collections.abc import Sequence

from crosslight.runtime.health import Gauge
from node.sources.files.rows import FileFigures, FileState

STATES = {
    FileState.WAITS: "waiting",
    FileState.HELD: "indexed",
    FileState.SAME: "same_as_another",
    FileState.CONFLICT: "conflicting",
    FileState.OTHER: "no_dicom",
    FileState.REFUSED: "unreadable",
    FileState.PASSED: "held_elsewhere",
    FileState.LATER: "tried_again",
}


def file_gauges(figures: Sequence[FileFigures]) -> list[Gauge]:
    """Metrics of all of them."""
    if not figures:
        return []
    counts: dict[tuple[str, ...], float] = {
        (known.name, word): float(known.counts.get(state, 0))
        for known in figures
        for state, word in STATES.items()
    }
    differed: dict[tuple[str, ...], float] = {
        (known.name,): float(known.walk.whole_differed) for known in figures
    }
    silent: dict[tuple[str, ...], float] = {
        (known.name,): float(bool(known.walk.trouble)) for known in figures
    }
    left: dict[tuple[str, ...], float] = {
        (known.name,): known.left_s for known in figures if known.left_s is not None
    }
    return [
        Gauge(
            "crosslight_node_source_files",
            "Files of a folder or an object store, by what they are.",
            counts,
            ("source", "state"),
        ),
        Gauge(
            "crosslight_node_source_files_drift",
            "Files that were new, other or gone at the last whole listing.",
            differed,
            ("source",),
        ),
        Gauge(
            "crosslight_node_source_files_silent",
            "1 while a folder or an object store cannot be listed.",
            silent,
            ("source",),
        ),
        Gauge(
            "crosslight_node_source_files_left_seconds",
            "How long the files that wait will take, at the rate of now.",
            left,
            ("source",),
        ),
    ]
