"""What runs in a bounded child (D27): it reads an object from a file that it is lent, and decodes it.

Nothing else does.
"""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from crosslight.runtime.children.wire import Lent
from crosslight.runtime.workers import READERS, SystemWorkers, Workers
from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.dicom.file.normalised import STUMBLES, tidied
from crosslight.standards.dicom.file.verdict import notes_of_bits
from crosslight.standards.dicom.pixels.frames import FrameLayout, find_frames
from crosslight.standards.dicom.pixels.render import RenderOptions, render_frame
from crosslight.standards.dicom.pixels.transcode import decode_frame, transcode
from crosslight.standards.problem import OutOfSpace
from node.holdings import Local, StoredObject


@dataclass(frozen=True, slots=True)
class LentSpan:
    """A span of a file that a child is lent."""

    file: Lent
    offset: int
    length: int


def lend(local: Local) -> LentSpan:
    """An object on this machine, for a child."""
    return LentSpan(Lent(local.file), local.offset, local.length)


def reading_workers(children: int = 1) -> Workers:
    """Threads, and children that have what is here loaded."""
    return SystemWorkers(threads=8, children=children, prepare=(*READERS, __name__))


class _Span(io.FileIO):
    """A span of a file, as if it were a file of its own."""

    def __init__(self, local: LentSpan) -> None:
        super().__init__(local.file.name, "r")
        self._start, self._end = local.offset, local.offset + local.length
        super().seek(self._start)

    def readinto(self, buffer: Any) -> int | None:
        with memoryview(buffer).cast("B") as view:
            return super().readinto(view[: max(0, self._end - super().tell())])

    def readall(self) -> bytes:
        return super().read(max(0, self._end - super().tell())) or b""

    def tell(self) -> int:
        return super().tell() - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            return super().seek(offset, whence) - self._start
        if whence == os.SEEK_END:
            return super().seek(max(self._start, self._end + offset)) - self._start
        if offset < 0:
            raise OSError(errno.EINVAL, "before the beginning")
        return super().seek(self._start + offset) - self._start


def _span(local: LentSpan) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Span(local)))


def is_plain(stored: StoredObject) -> bool:
    """Whether decoders can read it as it is, in good time."""
    return not stored.unmeasured and STUMBLES.isdisjoint(notes_of_bits(stored.notes))


def readable(local: LentSpan, plain: bool) -> BinaryIO:
    """An object as decoders are to read it: tidied unless it is ``plain``."""
    if plain:
        return _span(local)
    with _span(local) as source:
        return io.BytesIO(tidied(source.read(), LIMITS)[0])


def render_object(local: LentSpan, plain: bool, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """A frame as a picture (:func:`~crosslight.standards.dicom.pixels.render.render_frame`)."""
    with readable(local, plain) as source:
        return render_frame(source, frame, options, max_pixels)


def layout_object(local: LentSpan, plain: bool) -> FrameLayout:
    """Where the frames are (:func:`~crosslight.standards.dicom.pixels.frames.find_frames`).

    Offsets are those of the object as it is held, tidied or not.
    """
    with _span(local) as source:
        if plain:
            return find_frames(source)
        clean, moved = tidied(source.read(), LIMITS, sequences=False)
    return find_frames(io.BytesIO(clean)).moved(moved)


def decode_object(local: LentSpan, plain: bool, frame: int, max_pixels: int) -> bytes:
    """The pixels of a frame (:func:`~crosslight.standards.dicom.pixels.transcode.decode_frame`)."""
    with readable(local, plain) as source:
        return decode_frame(source, frame, max_pixels)


def transcode_object(
    local: LentSpan, plain: bool, target: Lent, max_samples: int, implicit: bool = False
) -> int:
    """Re-encode an object to ``target``; the size of the result.

    Raises:
        OutOfSpace: the spool's disk is full: that is no fault of the object's.
    """
    try:
        with readable(local, plain) as source, io.BufferedWriter(target.open()) as out:
            transcode(source, out, max_samples, implicit=implicit)
            return out.tell()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                "There is no room to re-encode.", todo="Accept transfer-syntax=*, or try again later."
            ) from None
        raise
