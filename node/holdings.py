"""What a node holds, wherever it lies.

The one seam between what takes in and gives out objects and where they rest.

``node/archive`` is the holding that a node has of its own. One whose images stay in a PACS is another class
with the same methods; nothing above this file learns where an object's bytes are, for it is opened here, as
one of three:

* :class:`Local`: a span of a file of this machine that stays. On a plain connection the kernel sends it
  (D26).
* :class:`Fetched`: a copy that was made for whoever opened it, who lets go of it.
* :class:`Passed`: bytes as another system sends them, once and in order; what must seek in them makes a copy
  first.

Values that say what is held, and what became of what was sent in, are here too. No SQL, no layout of a disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError
from crosslight.standards.study import InstanceRef, StudyRecord

IngestState = Literal["stored", "duplicate", "conflict", "refused", "full"]
# What a sender is answered: C-STORE's statuses, and by table STOW-RS' failure reasons (PS3.4 Table B.2-1,
# PS3.18 10.5.3)
SUCCESS, OUT_OF_RESOURCES, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000

# --- in -----------------------------------------------------------------------------------------------------


#: Told of an object that is about to be made durable: its study's UID and attributes.
Arriving = Callable[[str, Attributes], None]
Road = Literal["dimse", "stow", "import", "source"]
ROADS: tuple[Road, ...] = get_args(Road)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Where an object came from: kept beside it (D23)."""

    road: Road
    peer: str  # AE title and address, principal, or file name
    correlation: str = ""
    sop_class_uid: str = ""  # as announced by C-STORE; checked against the data set
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""  # of the association, or '' when the file has its own meta
    unix: float = 0.0  # when it was received; 0 = now
    study_uid: str = ""  # the only study that it may be of: another's is refused, and not kept


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What became of an object. ``stored`` and ``duplicate`` are durable when this is returned.

    ``status`` is the C-STORE status of PS3.4 B.2.3 and, by table, STOW's failure reason (PS3.18 10.5.3).
    """

    state: IngestState
    status: int
    reason: str = ""
    ref: InstanceRef | None = None
    quarantine_id: str = ""


class Staging(Protocol):
    """Bytes on their way in. Write them as they come, then hand it to ``ingest``; or discard."""

    @property
    def path(self) -> Path:
        """The file that they are written to."""
        ...

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append. A buffer that is given must not be written to again.

        Raises:
            TooLarge: over the largest object allowed.
            OutOfSpace: when the disk is full.
        """
        ...

    def close(self) -> None:
        """No more bytes; not needed before ``ingest``."""
        ...

    def discard(self) -> None:
        """Forget them; harmless when they have become an object."""
        ...


# --- out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One live object, as far as it is known before it is opened."""

    ref: InstanceRef  # without ``sha256`` where nobody has read it yet: then nothing of it is cached
    size: int | None  # bytes of its Part 10 file as it is given out; None: known once it is opened
    # of Pixel Data's value in the file for native encodings; 0 = none, encapsulated, or not known
    pixel_offset: int = 0
    pixel_length: int = 0
    # of a native frame and of a pixel cell; 0: the metadata say more
    frame_bits: int = 0
    word_bytes: int = 1
    preamble_is_tiff: bool = False  # otherwise the preamble is given out zeroed (D23)
    notes: int = 0  # what was tolerated in it: bits of ``verdict.NOTES``
    # decoders need it tidied: it has large sequences that say no length, or nobody has looked
    unmeasured: bool = False
    damaged: bool = False  # or missing: it is set apart, and cannot be opened


def set_apart() -> StorageError:
    """An object that is held is missing, or its bytes have changed."""
    return StorageError(
        "This object is damaged in its archive, and is not given out.",
        why="Its bytes are not those that were received.",
        todo="Ask the trust's PACS manager: it can be sent again, or restored from a backup.",
    )


@dataclass(frozen=True, slots=True)
class Local:
    """A span of a file of this machine."""

    file: str
    offset: int
    length: int

    def part(self, offset: int, length: int) -> Local:
        """A span of this span.

        Raises:
            StorageError: there is no such part. Where frames lie was read from the object, which says what it
                likes, and other objects may lie beside it.
        """
        if not 0 <= offset <= offset + length <= self.length:
            raise StorageError("A stored object is shorter than it should be.", todo="Run verify.")
        return Local(self.file, self.offset + offset, length)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A copy on this machine, for whoever opened it.

    ``release`` is called once, in any thread, when it is done with.
    """

    local: Local
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Passed:
    """Bytes as they come from elsewhere: a Part 10 file, in order, once. Whoever opened it closes ``chunks``.

    ``length`` is None where the other system does not say it. What fails on the way is raised as a
    CrosslightError. ``file``, where there is one, waits until all of it is a file of this machine, and that
    stays until ``chunks`` is closed.
    """

    chunks: AsyncGenerator[bytes]
    length: int | None = None
    file: Callable[[], Awaitable[Local]] | None = None


Opened = Local | Fetched | Passed


class Holdings(Protocol):
    """All that a node's other rooms ask of what it holds. Live instances only (D16).

    A holding that takes nothing in refuses in :meth:`stage`. ``rules`` say how records are made; the
    application sets them again when the region changes them.
    """

    rules: RecordRules

    # --- in ---

    def stage(self, received: Received | None = None) -> Staging:
        """A place for incoming bytes.

        Args:
            received: Given for a bare data set (``transfer_syntax_uid`` set): its file meta is written first.

        Raises:
            OutOfSpace: below the reserve.
            StorageError: when the disk refuses, or nothing is taken in here.
        """
        ...

    def ingest(self, staged: Staging, received: Received, arriving: Arriving | None = None) -> IngestResult:
        """Take in what was staged; durable when this returns. Blocking: for threads.

        Args:
            staged, received: What came, and whence.
            arriving: Called before the object is made durable, with work that may be done meanwhile; not for
                what is refused. Nothing is taken in where it raises.
        """
        ...

    async def ingest_async(self, staged: Staging, received: Received) -> IngestResult:
        """As :meth:`ingest`, from the event loop."""
        ...

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the study's UID after each change of it.

        From any thread, so it must be quick.
        """
        ...

    # --- out ---

    async def objects(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> list[StoredObject]:
        """Objects of a study, a series or one instance, in a fixed order; [] when there are none."""
        ...

    async def open_object(self, stored: StoredObject) -> Opened:
        """Its bytes.

        Raises:
            CrosslightError: they cannot be had now. (Of a :class:`Local` that only shows when it is read.)
        """
        ...

    async def damaged(self, sop_uids: Sequence[str]) -> set[str]:
        """Those of these instances of which it is known that they cannot be opened: missing, or damaged."""
        ...

    async def was_here(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> bool:
        """Whether a study, series or instance was held and is deleted or rejected: 410 instead of 404."""
        ...

    async def metadata(self, objects: Sequence[StoredObject], *, large: bool = True) -> list[bytes]:
        """The DICOM JSON of each of these, in their order, without bulk data: a page of :meth:`objects`.

        Where ``large`` is false, without sequences of very many items.

        Raises:
            NotFound: one of them is no longer held.
        """
        ...

    async def search(self, level: Level, query: QidoQuery) -> list[Attributes]:
        """The page of ``query``: full DICOM JSON rows of the level and those above."""
        ...

    # --- studies, for publication and the audit ---

    async def record(self, study_uid: str) -> StudyRecord | None:
        """The study under the rules of now; None when nothing of it is visible."""
        ...

    async def study_uids(self, after: str = "", limit: int = 1000) -> list[str]:
        """A page of studies in the order of their UIDs."""
        ...

    async def catch_up(self) -> None:
        """Wait until all that was answered as stored is there for whoever reads, and was told of."""
        ...

    async def touch(self, study_uids: Sequence[str]) -> None:
        """Mark studies as changed although no object came (D14)."""
        ...

    def patients(self, study_uid: str, arriving: Attributes) -> tuple[Identifier, ...]:
        """Whose study it is; () when nothing of it is visible. Blocking: for threads.

        Args:
            study_uid: Which.
            arriving: What an object on its way says of it, {} for none: for a study that is not held yet.
        """
        ...

    async def patients_of(self, study_uid: str) -> tuple[Identifier, ...]:
        """As :meth:`patients`, from the event loop."""
        ...

    async def concerned(self, study_uids: Sequence[str]) -> set[Identifier]:
        """Every identifier of every header of these studies."""
        ...

    async def refused(self, limit: int) -> tuple[set[Identifier], bool]:
        """Whose the objects are that were not let in.

        And whether there are some of which that cannot be told, or too many.
        """
        ...
