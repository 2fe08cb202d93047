"""Keeps the node's rows right about a folder or an object store: listed for ever, and what differs is read.

A listing is held against what is remembered, page by page, and goes on where it ended. Files that are new or
other versions wait to be read, the newest first; those that are gone are forgotten. Between pages some of
those that wait are read, at the rate of the configuration.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.standards.problem import CrosslightError, Unavailable
from node.holdings import Passed, StoredObject
from node.sources.files.config import FilesSource
from node.sources.files.giving import FileGiver
from node.sources.files.listing import FileEntry, FilePage, FileStore
from node.sources.files.rows import FileFigures, FileRow, FileRows, WalkState
from node.sources.files.taking import DescribingFiles, FileTaker

log = get_logger("sources")

_KEEP_S: Final = 5.0  # how often the place of an unchanged listing is written
_AGAIN_S: Final = 86400.0  # how often what another source was first with is looked at again
_ROWS: Final = 5000  # files of which what is remembered is held at once
_PATIENCE_S: Final = 1.0  # of one look at what waits


class FileFollower:
    """Follows one source until it is cancelled, and gives out its objects.

    Args:
        config: The source's.
        files: Where they are.
        rows: What is remembered of them.
        index: Where what they hold is described.
        taker: Reads those that wait.
        clock: Time.
    """

    def __init__(
        self,
        config: FilesSource,
        files: FileStore,
        rows: FileRows,
        index: DescribingFiles,
        taker: FileTaker,
        clock: Clock,
    ) -> None:
        self.name, self._config, self._files, self._rows = config.name, config, files, rows
        self._index, self._taker, self._clock = index, taker, clock
        self._giver = FileGiver(files, rows)
        self._walk = WalkState()
        self._read_from_s = self._kept_s = 0.0
        self.behind = True

    async def open(self, stored: StoredObject) -> Passed:
        """The bytes of one object (:meth:`FileGiver.open`)."""
        return await self._giver.open(stored)

    async def figures(self, conflicts: int = 0) -> FileFigures:
        """What is known of it."""
        return await self._rows.figures(conflicts)

    async def run(self) -> None:
        """List and read, for ever; what fails is tried again."""
        self._walk = await self._rows.walk()
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._list()
                await self._tell("")
                await self._read_until(began_s + self._config.look_every_s)
            except* CrosslightError as group:
                error = _first(group)
                self.behind = True
                await self._tell(f"{error.what} {error.why}".strip())
                await self._clock.sleep(min(self._config.look_every_s, 30.0))

    async def close(self) -> None:
        """End the connections."""
        await self._files.close()

    async def _tell(self, trouble: str) -> None:
        figures = await self._rows.figures()
        self.behind = bool(trouble) or not self._walk.whole_unix or self._walk.unread > 0
        self.behind = self.behind or figures.waiting > 0 or figures.doubtful > 0
        if trouble == self._walk.trouble:
            return
        if trouble:
            log.warning("a source does not answer", source=self.name, reason=trouble)
        self._walk = replace(self._walk, trouble=trouble, since_unix=self._now())
        await self._rows.keep_walk(self._walk_with_rate())

    # --- the listing ----------------------------------------------------------------------------------------

    async def _list(self) -> None:
        self._giver.altered = False
        unread: set[bytes] = set()
        async for page in self._files.pages(self._walk.after):
            began_s = self._clock.monotonic_s()
            unread.update(page.unread)
            await self._compare(page, unread)
            await self._read_some()
            least_s = len(page.entries) / self._config.listed_per_s
            await self._clock.sleep(max(0.0, least_s - (self._clock.monotonic_s() - began_s)))
        await self._end(unread)

    async def _compare(self, page: FilePage, unread: set[bytes]) -> None:
        """Hold a page against what is remembered."""
        entries = {entry.key: entry for entry in page.entries}
        differing, gone, after = list[FileEntry](), 0, self._walk.after
        while rows := await self._rows.between(after, page.last, _ROWS):
            missing = []
            for row in rows:
                entry = entries.pop(row.entry.key, None)
                if entry is None:
                    missing.append(row)
                elif row.entry.version != entry.version or row.retried:
                    differing.append(entry)
            gone += await self._forget(missing, unread)
            after = rows[-1].entry.key
        differing += entries.values()
        self.behind = self.behind or bool(differing)
        self._walk = replace(
            self._walk,
            after=page.last,
            listed=self._walk.listed + len(page.entries),
            differed=self._walk.differed + len(differing) + gone,
        )
        if differing or self._clock.monotonic_s() - self._kept_s > _KEEP_S:
            self._kept_s = self._clock.monotonic_s()
            await self._rows.listed(differing, self._walk_with_rate())

    async def _forget(self, rows: list[FileRow], unread: set[bytes]) -> int:
        """What is remembered and not listed, but for what is below folders that could not be read."""
        gone = [row for row in rows if not row.entry.key.startswith(tuple(unread))]
        studies: dict[str, list[str]] = {}
        for row in gone:
            if row.holds:
                studies.setdefault(row.study_uid, []).append(row.sop_uid)
        for study_uid, sop_uids in studies.items():
            await self._index.forget(study_uid, sop_uids, self.name)
        if gone:
            await self._rows.gone(gone)
        return len(gone)

    async def _end(self, unread: set[bytes]) -> None:
        """All is listed."""
        walk = self._walk
        known = (await self._rows.figures()).files
        if known and not walk.listed and not unread and not self._config.empty_is_true:
            raise Unavailable(
                "Nothing is listed where files were.",
                why="It is not taken for deleted: a folder that is not mounted is empty too.",
                todo="Mount it, or set empty_is_true.",
            )
        differed, after = walk.differed, walk.after
        while rows := await self._rows.between(after, None, _ROWS):
            differed += await self._forget(rows, unread)
            after = rows[-1].entry.key
        again = self._now() - walk.again_unix > _AGAIN_S
        self._walk = replace(
            walk,
            after=b"",
            listed=0,
            differed=0,
            whole_unix=self._now(),
            whole_listed=walk.listed,
            whole_differed=differed,
            unread=len(unread),
            again_unix=self._now() if again else walk.again_unix,
        )
        await (self._rows.again if again else self._rows.keep_walk)(self._walk_with_rate())
        if differed:
            log.info("source compared", source=self.name, files=walk.listed, differed=differed)

    # --- reading --------------------------------------------------------------------------------------------

    async def _read_some(self) -> int:
        """A batch of what waits, where its time has come; how many files that was."""
        now_s = self._clock.monotonic_s()
        if now_s < self._read_from_s:
            return 0
        limit = max(1, int(self._config.read_per_s * _PATIENCE_S))
        taken = await self._taker.take(self._now() - self._config.settle_s, limit)
        self._read_from_s = now_s + taken / self._config.read_per_s
        return taken

    async def _read_until(self, until_s: float) -> None:
        """Read what waits, until the next listing is due."""
        while (now_s := self._clock.monotonic_s()) < until_s and not self._giver.altered:
            if now_s >= self._read_from_s and not await self._read_some():
                await self._tell("")
                await self._clock.sleep(min(_PATIENCE_S, until_s - now_s))
            else:
                await self._clock.sleep(max(0.0, min(self._read_from_s, until_s) - now_s))
        await self._tell("")

    def _walk_with_rate(self) -> WalkState:
        return replace(self._walk, read_per_s=min(self._taker.per_s, self._config.read_per_s))

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _first(group: BaseExceptionGroup[CrosslightError]) -> CrosslightError:
    while isinstance(group.exceptions[0], BaseExceptionGroup):
        group = group.exceptions[0]
    return group.exceptions[0]
