"""Whole PDUs out of what a connection brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crosslight.standards.dicom.upper_layer import pdu as pdus
from crosslight.standards.problem import Malformed

_FIRST_BYTES: Final = 1 << 14  # of room: enough for most association requests
_ROOM_BYTES: Final = 1 << 18


class PduReader:
    """Reads as much as is there, and gives views of it; room that was given out is not written to again.

    Args:
        receive: Waits for bytes and says how many came, 0 at the end; told whether less than all is of use.
    """

    def __init__(self, receive: Callable[[memoryview, bool], int]) -> None:
        self._receive = receive
        self._view = memoryview(bytearray(_FIRST_BYTES))
        self._start = self._end = 0

    @property
    def begun(self) -> bool:
        """Whether a PDU is here in part."""
        return self._end > self._start

    def next(self, most: int) -> memoryview | None:
        """The next PDU; None at the end of the connection.

        Raises:
            Malformed: it has more than ``most`` bytes.
        """
        while True:
            have = self._end - self._start
            missing, known = pdus.HEAD_BYTES - have, have >= pdus.HEAD_BYTES
            if known:
                length = pdus.length_of(self._view, self._start)
                if length > most:
                    raise Malformed("A PDU that is too long.", why=f"Limit here: {most} bytes.")
                missing = pdus.HEAD_BYTES + length - have
            if missing <= 0:
                start, self._start = self._start, self._start + have + missing
                return self._view[start : self._start]
            self._make_room(missing)
            stop = self._end + missing if known else len(self._view)
            received = self._receive(self._view[self._end : stop], known)
            if not received:
                return None
            self._end += received

    def _make_room(self, missing: int) -> None:
        if self._end + missing <= len(self._view):
            return
        begun = self._view[self._start : self._end]
        fresh = memoryview(bytearray(max(_ROOM_BYTES, len(begun) + missing)))
        fresh[: len(begun)] = begun
        self._view, self._start, self._end = fresh, 0, len(begun)
