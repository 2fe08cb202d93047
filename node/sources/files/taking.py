"""What becomes of files that wait: read, held against what is known, described, and settled.

The order makes it safe to be killed anywhere: what a file no longer is, is forgotten; what it will be
described as, is remembered; then it is described; then it is settled. A file that was not settled is read
again, and described as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from crosslight.runtime.clock import Clock
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.problem import Forbidden, NotFound
from node.sources.files.giving import digest_of
from node.sources.files.heads import FileLook, HeadReader
from node.sources.files.listing import Altered, FileStore
from node.sources.files.rows import FileRow, FileRows, FileState

BATCH: Final = 64  # files that are read, described and settled together
_RECENT: Final = 0.2  # weight of the newest batch in the rate


class Taken(Protocol):
    """What became of descriptions."""

    @property
    def passed_over(self) -> int:
        """How many an object here, or another source, was first with."""
        ...


class DescribingFiles(Protocol):
    """Where the rows are (:class:`node.archive.elsewhere.ObjectsElsewhere`)."""

    async def describe(self, headers: list[Header], source: str) -> Taken:
        """Take in descriptions."""
        ...

    async def known(self, study_uid: str, source: str) -> set[str]:
        """SOP Instance UIDs of a study that the source has described."""
        ...

    async def forget(self, study_uid: str, sop_uids: list[str], source: str) -> int:
        """The source has them no longer."""
        ...


class FileTaker:
    """Takes files of one source in.

    Args:
        source: Its name.
        files: Where they are.
        heads: Reads them.
        index: Where what they hold is described.
        rows: What is remembered of them.
        clock: Time.
        at_once: Files that are read at the same time.
    """

    def __init__(
        self,
        source: str,
        files: FileStore,
        heads: HeadReader,
        index: DescribingFiles,
        rows: FileRows,
        clock: Clock,
        at_once: int,
    ) -> None:
        self._source, self._files, self._heads = source, files, heads
        self._index, self._rows, self._clock = index, rows, clock
        self._turn = asyncio.Semaphore(at_once)
        self.per_s = 0.0

    async def take(self, before_unix: float, limit: int) -> int:
        """Take in some of those that wait, the newest first; how many that was.

        Raises:
            Unavailable: the source cannot be reached; those files wait on.
        """
        waiting = await self._rows.waiting(before_unix, min(limit, BATCH))
        if not waiting:
            return 0
        began_s = self._clock.monotonic_s()
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._look(row)) for row in waiting]
        await self._settle([(row, look.result()) for row, look in zip(waiting, looks, strict=True)])
        rate = len(waiting) / max(1e-6, self._clock.monotonic_s() - began_s)
        self.per_s = rate if not self.per_s else self.per_s + _RECENT * (rate - self.per_s)
        return len(waiting)

    async def _look(self, row: FileRow) -> FileLook:
        async with self._turn:
            return await self._heads.look(row.entry)

    async def _settle(self, found: Sequence[tuple[FileRow, FileLook]]) -> None:
        settled: list[FileRow] = []
        described: dict[str, tuple[FileRow, Header]] = {}
        lost: list[FileRow] = []
        for row, look in found:
            if look.state == FileState.LATER:
                settled.append(replace(row, state=look.state, why=look.why))
                continue
            made = _made(row, look)
            if row.holds and (row.sop_uid, row.study_uid) != (made.sop_uid, made.study_uid):
                lost.append(row)
            if look.header is None:
                settled.append(made)
                continue
            earlier = described[made.sop_uid][0] if made.sop_uid in described else None
            first = earlier or await self._rows.holder(made.sop_uid)
            if first is not None and first.entry.key != row.entry.key:
                if earlier is None and first.state == FileState.WAITS:
                    settled.append(_later(made, "Another file of this instance waits to be read."))
                    continue
                made, kept = await self._beside(made, first)
                if kept is not None:
                    if earlier is not None:
                        described[first.sop_uid] = (kept, described[first.sop_uid][1])
                    settled += [made] if earlier is not None else [made, kept]
                    continue
                settled.append(_later(first, "The file is not there any more."))
            described[made.sop_uid] = (made, look.header)
        await self._describe(described, settled, lost)

    async def _beside(self, made: FileRow, first: FileRow) -> tuple[FileRow, FileRow | None]:
        """A second file of an instance, and the first; None where that is no more: then the second counts."""
        try:
            first = await self._digested(first)
        except (NotFound, Altered, Forbidden):
            return made, None
        try:
            made = await self._digested(made)
        except (NotFound, Altered, Forbidden) as error:
            return _later(made, error.what), first
        if made.digest == first.digest:
            return replace(made, state=FileState.SAME), first
        why = "Another file has the same SOP Instance UID and other bytes; the one that was first counts."
        return replace(made, state=FileState.CONFLICT, why=why), first

    async def _digested(self, row: FileRow) -> FileRow:
        if row.digest:
            return row
        return replace(row, digest=await digest_of(self._files.stream(row.entry), row.dataset_offset))

    async def _describe(
        self, described: dict[str, tuple[FileRow, Header]], settled: list[FileRow], lost: Sequence[FileRow]
    ) -> None:
        for row in lost:
            await self._index.forget(row.study_uid, [row.sop_uid], self._source)
        if described:
            await self._rows.intend(row for row, _ in described.values())
            headers = [header for _, header in described.values()]
            taken = await self._index.describe(headers, self._source)
            rows = [row for row, _ in described.values()]
            settled += await self._without_passed(rows) if taken.passed_over else rows
        await self._rows.settle(settled, [row.sop_uid for row in lost], self.per_s)

    async def _without_passed(self, rows: Sequence[FileRow]) -> list[FileRow]:
        """Those that another was first with are marked."""
        known = set[str]()
        for study_uid in dict.fromkeys(row.study_uid for row in rows):
            known |= await self._index.known(study_uid, self._source)
        return [
            row
            if row.sop_uid in known
            else replace(row, state=FileState.PASSED, sop_uid="", study_uid="", why="It is held elsewhere.")
            for row in rows
        ]


def _later(row: FileRow, why: str) -> FileRow:
    """It holds nothing, and is read again after the next listing."""
    return replace(row, state=FileState.LATER, sop_uid="", study_uid="", why=why)


def _made(row: FileRow, look: FileLook) -> FileRow:
    header = look.header
    return replace(
        row,
        state=look.state,
        sop_uid=header.sop_uid if header is not None else "",
        study_uid=header.study_uid if header is not None else "",
        dataset_offset=look.dataset_offset,
        digest=b"",
        why=look.why,
    )
