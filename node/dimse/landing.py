"""An object that this node asked another archive for, on its way to a file; it does not enter the archive.

It comes on our own association (C-GET) or on one that the archive opens for it (C-MOVE to ourselves): then
:class:`Expected` tells the C-STORE service which object is waited for, and of whom.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from crosslight.standards.dicom.file.part10_head import part10_head
from crosslight.standards.problem import CrosslightError, OutOfSpace, TooLarge
from node.dimse.command import ORIGINATOR_MESSAGE, SUCCESS, Command

_BLOCK: Final = 1 << 18
_NOT_TAKEN: Final = 0xA700  # PS3.4 Table B.2-1: out of resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A Part 10 file that came."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    size: int
    sha256: str


class Landing:
    """Takes one object, in the thread that its fragments come in.

    Args:
        file: Where it is written, as a Part 10 file; closed by :meth:`close`.
        sop_uid: The object that was asked for.
        any_object: Take whatever comes for what was asked (archives that give each copy new UIDs).
        max_bytes: Largest that is taken.
    """

    def __init__(self, file: BinaryIO, sop_uid: str, *, any_object: bool, max_bytes: int) -> None:
        self.sop_uid = sop_uid
        self._file, self._any_object, self._max_bytes = file, any_object, max_bytes
        self._block, self._digest, self._size = bytearray(), hashlib.sha256(), 0
        self._command: Command | None = None
        self._syntax = ""
        self._closed = False
        self._lock = threading.Lock()  # whoever waits may give up while fragments still come
        self.problem: CrosslightError | None = None
        self.landed: Landed | None = None
        self.came = threading.Event()  # whether well or not

    def takes(self, command: Command) -> bool:
        """Whether this C-STORE request brings what was asked for."""
        return self._command is None and (self._any_object or command.sop_instance_uid == self.sop_uid)

    def begin(self, command: Command, transfer_syntax_uid: str) -> None:
        """Its command set is here."""
        self._command, self._syntax = command, transfer_syntax_uid
        self.write(
            memoryview(part10_head(command.sop_class_uid, command.sop_instance_uid, transfer_syntax_uid))
        )

    def write(self, data: memoryview) -> None:
        """A fragment of its data set; after a problem the rest is dropped."""
        with self._lock:
            if self.problem is not None or self._closed:
                return
            self._size += len(data)
            if self._size > self._max_bytes:
                self.problem = TooLarge(
                    "The object is too large.", why=f"Limit here: {self._max_bytes} bytes."
                )
                return
            self._block += data
            if len(self._block) >= _BLOCK:
                self._flush()

    def finish(self) -> int:
        """All of it is here: the status of the C-STORE response."""
        with self._lock:
            if not self._closed:
                self._flush()
            if self.problem is None and self._command is not None and not self._closed:
                self.landed = Landed(
                    sop_class_uid=self._command.sop_class_uid,
                    sop_uid=self._command.sop_instance_uid,
                    transfer_syntax_uid=self._syntax,
                    size=self._size,
                    sha256=self._digest.hexdigest(),
                )
        self.came.set()
        return SUCCESS if self.landed is not None else _NOT_TAKEN

    def close(self) -> None:
        """Nobody waits any more: what still comes is dropped."""
        with self._lock:
            self._closed = True
            self._file.close()

    def _flush(self) -> None:
        if self.problem is not None:
            return
        self._digest.update(self._block)
        view = memoryview(bytes(self._block))
        self._block.clear()
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self.problem = OutOfSpace("An object on its way could not be kept.", why=error.strerror or "")


class Expected:
    """Objects that are waited for, by the AE title that sends them. Of several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[int, Landing]]] = {}
        self._number = 0

    def number(self) -> int:
        """A message id by which what comes for a C-MOVE is known again (Move Originator Message ID)."""
        with self._lock:
            self._number = self._number % 0xFFFF + 1
            return self._number

    @contextmanager
    def waiting(self, sender: str, message_id: int, landing: Landing) -> Iterator[None]:
        """While the block lasts, what ``sender`` sends for this C-MOVE lands there."""
        entry = (message_id, landing)
        with self._lock:
            self._waiting.setdefault(sender, []).append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._waiting[sender].remove(entry)
                if not self._waiting[sender]:
                    del self._waiting[sender]

    def take(self, sender: str, command: Command, transfer_syntax_uid: str) -> Landing | None:
        """Where an object that ``sender`` begins to send lands; None for one that nobody waits for here.

        With UIDs of its own it must name our C-MOVE (Move Originator Message ID, PS3.7 9.1.1.1.9).
        """
        with self._lock:
            for message_id, landing in self._waiting.get(sender, ()):
                ours = command.sop_instance_uid == landing.sop_uid
                if (ours or command.number(ORIGINATOR_MESSAGE) == message_id) and landing.takes(command):
                    landing.begin(command, transfer_syntax_uid)
                    return landing
        return None
