"""How much memory a process and its children use, looked at while a drill goes on (Linux, /proc)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_S = 0.25


def family(pid: int) -> list[int]:
    """A process and all that it started, and what they started."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children[parent].append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children[one]
    return found


def own_bytes(pid: int) -> int:
    """What a process alone has in memory: anonymous pages, so that shared ones do not count twice."""
    try:
        for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 0


class Memory:
    """Watches the process ``pid``. Use as an async context manager.

    Attributes:
        first: Bytes at the beginning, children included.
        most: The most that were seen.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.first = self.most = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.first = self.most = await asyncio.to_thread(self._now)
        self._task = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.most = max(self.most, await asyncio.to_thread(self._now))

    def _now(self) -> int:
        return sum(own_bytes(pid) for pid in family(self._pid))
