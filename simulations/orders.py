"""What a drill wants of a child of the demo: that it stays down, or that its clock is wrong.

An order is a file beside the demo's data, so a drill can give it to a demo that runs in another process. It
holds for as long as the process lives that gave it.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from crosslight.runtime.files import private_folder


@dataclass(frozen=True, slots=True)
class Order:
    """What holds for one child."""

    down: bool = False
    clock_ahead_s: float = 0.0  # of its clock, before 0 it is slow


NONE = Order()


class Orders:
    """The orders of one demo.

    Args:
        folder: Theirs alone; made when the first is given.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str) -> Order:
        """What is wanted of the child ``name``; nothing where nobody alive said it, or it cannot be read."""
        try:
            said = orjson.loads((self._folder / f"{name}.json").read_bytes())
            if not Path(f"/proc/{int(said.pop('by'))}").exists():
                return NONE
            return Order(down=bool(said["down"]), clock_ahead_s=float(said["clock_ahead_s"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return NONE

    def give(self, name: str, order: Order) -> None:
        """Say what is wanted of the child ``name`` from now on."""
        private_folder(self._folder)
        path = self._folder / f"{name}.json"
        if order == NONE:
            path.unlink(missing_ok=True)
            return
        written = path.with_suffix(".new")
        written.write_bytes(orjson.dumps({"by": os.getpid(), **asdict(order)}))
        written.replace(path)  # a demo that looks sees all of it or nothing
