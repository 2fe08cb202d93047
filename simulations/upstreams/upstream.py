"""What an archive of others is to the demo.

Processes to start, a table in a node's configuration, and the hands of whoever keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import FileDataset

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlace:
    """Where one archive is.

    Attributes:
        name: What its process and its log are called.
        member: Organisation code of the trust that keeps it; its node's AE title too.
        title: What the node calls the source.
        folder: Everything of it.
        node_folder: Its node's.
        ports: Two that are its own.
        callers: AE titles that may call it.
    """

    name: str
    member: str
    title: str
    folder: Path
    node_folder: Path
    ports: tuple[int, int]
    callers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A process of it."""

    name: str
    command: Sequence[str]
    port: int  # on which it listens


class Processes(Protocol):
    """Who starts and ends what belongs to an archive."""

    def start(self, name: str) -> None:
        """Start one that does not run."""
        ...

    async def end(self, name: str) -> None:
        """End one and all that it started; it stays down until it is started."""
        ...

    async def listening(self, name: str, port: int) -> None:
        """Wait until one listens."""
        ...


class Upstream(Protocol):
    """One archive of others."""

    #: As people call this kind.
    label: str
    #: Whether its lists carry national numbers; else the trust's patient administration tells them.
    tells_numbers: bool
    #: Whether objects pass through the node without a copy; else one is kept for a while.
    passes_at_once: bool

    @property
    def place(self) -> ArchivePlace:
        """Where it is."""
        ...

    @property
    def address(self) -> str:
        """Where its node finds it, for people."""
        ...

    @property
    def programs(self) -> tuple[Program, ...]:
        """What has to run."""
        ...

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """The node's table: the key below ``sources``, and its values."""
        ...

    async def make(self) -> None:
        """Lay out its folder, before it is started for the first time."""
        ...

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """Store objects, as that trust's modalities and systems do."""
        ...

    async def remove(self, study_uid: str, sop_uids: Collection[str]) -> None:
        """Take objects of a study away, as whoever keeps the archive does; all of them: the study is gone."""
        ...
