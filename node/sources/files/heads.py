"""Headers of files that are read by ranges: as many bytes as hold one, and no more than a bound.

Untrusted bytes meet our own bounded walk; what our reader cannot make sense of is read by pydicom in a
bounded child (D27).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file import bare_data_set as bare
from crosslight.standards.dicom.file import header
from crosslight.standards.dicom.file.gate import missing_head
from crosslight.standards.dicom.file.head import FIRST_BYTES, examine_head
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.verdict import Refused
from crosslight.standards.problem import CrosslightError, Forbidden, NotFound
from node.sources.files.listing import Altered, FileEntry, FileStore
from node.sources.files.rows import FileState

_GROWS: Final = 8  # times as much is read, when it was not enough


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLook:
    """What a file was found to be; ``header`` is there for DICOM that can be taken."""

    state: FileState
    header: Header | None = None
    dataset_offset: int = 0
    why: str = ""


class HeadReader:
    """Reads headers.

    Args:
        files: Where the files are.
        workers: Threads, and bounded children.
        limits: Of the walk.
        max_bytes: Most that is read of one file for its header.
    """

    def __init__(self, files: FileStore, workers: Workers, limits: Limits, max_bytes: int) -> None:
        self._files, self._workers, self._limits, self._max_bytes = files, workers, limits, max_bytes

    async def look(self, entry: FileEntry) -> FileLook:
        """What a file is. Never raises for what is wrong with one file.

        Raises:
            Unavailable: its place cannot be reached.
        """
        head = b""
        try:
            while True:
                wanted = min(max(FIRST_BYTES, len(head) * _GROWS), self._max_bytes, entry.size)
                more = await self._files.read(entry, len(head), wanted - len(head)) if wanted else b""
                if len(more) < wanted - len(head):
                    raise Altered
                head += more
                look = await self._workers.run(_looked, head, entry, self._limits)
                if look is not None and look.why == _FALLBACK:
                    return await self._by_pydicom(head, look)
                if look is not None:
                    return look
                if len(head) >= self._max_bytes:
                    why = f"Its header has more than {self._max_bytes} bytes."
                    return FileLook(state=FileState.REFUSED, why=why)
        except (NotFound, Altered, Forbidden) as error:
            return FileLook(state=FileState.LATER, why=error.what)

    async def _by_pydicom(self, head: bytes, look: FileLook) -> FileLook:
        try:
            attributes, syntax = await self._workers.run_bounded(header.read_with_pydicom, head)
            found = header.from_attributes(attributes, syntax)
        except CrosslightError as error:
            return FileLook(state=FileState.REFUSED, why=error.what)
        except Exception:  # noqa: BLE001 - pydicom has no base of its own for errors
            return FileLook(state=FileState.REFUSED, why="The object cannot be read.")
        if not (found.sop_uid and found.study_uid and found.series_uid):
            return FileLook(state=FileState.REFUSED, why="The object reads differently to different readers.")
        return FileLook(state=FileState.HELD, header=found, dataset_offset=look.dataset_offset)


_FALLBACK: Final = "fallback"


def _looked(head: bytes, entry: FileEntry, limits: Limits) -> FileLook | None:
    """What the first bytes say; None: more of them are needed."""
    if not head:
        return FileLook(state=FileState.OTHER, why="It is empty.")
    try:
        parsed = examine_head(head, entry.size, limits=limits)
    except Refused as refusal:
        other = refusal.reason == "not-dicom" and not _meant_as_dicom(head)
        return FileLook(state=FileState.OTHER if other else FileState.REFUSED, why=str(refusal))
    if parsed is None:
        return None
    try:
        found = header.read(parsed)
    except Exception:  # noqa: BLE001 - whatever our own reader stumbles over is read by the other one
        return FileLook(state=FileState.HELD, dataset_offset=parsed.dataset_offset, why=_FALLBACK)
    return FileLook(state=FileState.HELD, header=found, dataset_offset=parsed.dataset_offset)


def _meant_as_dicom(head: bytes) -> bool:
    """Whether it is a data set without what makes a Part 10 file of it."""
    return bool(missing_head(head) or bare.transfer_syntax_of(head))
