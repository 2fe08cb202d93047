"""What a run was asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Of one run."""

    folder: Path  # temporary
    quick: bool
    studies: int  # in the registry
    held: int  # studies in each archive that is asked by DIMSE, or stands beside a node
    say: Callable[[str], None]
