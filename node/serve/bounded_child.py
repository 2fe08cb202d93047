"""What runs in a bounded child (D27): it reads an object from a file of this machine and decodes it.

Nothing else does.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom

from crosslight.runtime.files import private
from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.dicom.file.normalised import STUMBLES, tidied
from crosslight.standards.dicom.file.verdict import notes_of_bits
from crosslight.standards.dicom.pixels.frames import FrameLayout, find_frames
from crosslight.standards.dicom.pixels.render import RenderOptions, render_frame
from crosslight.standards.dicom.pixels.transcode import decode_frame, transcode
from crosslight.standards.problem import OutOfSpace
from node.holdings import Local, StoredObject


class _Span(io.FileIO):
    """A span of a file, as if it were a file of its own."""

    def __init__(self, local: Local) -> None:
        super().__init__(local.file, "r")
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


def _span(local: Local) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Span(local)))


def is_plain(stored: StoredObject) -> bool:
    """Whether decoders can read it as it is, in good time."""
    return not stored.unmeasured and STUMBLES.isdisjoint(notes_of_bits(stored.notes))


def readable(local: Local, plain: bool) -> BinaryIO:
    """An object as decoders are to read it: tidied unless it is ``plain``."""
    if plain:
        return _span(local)
    with _span(local) as source:
        return io.BytesIO(tidied(source.read(), LIMITS)[0])


def render_object(local: Local, plain: bool, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """A frame as a picture (:func:`~crosslight.standards.dicom.pixels.render.render_frame`)."""
    with readable(local, plain) as source:
        return render_frame(source, frame, options, max_pixels)


def layout_object(local: Local, plain: bool) -> FrameLayout:
    """Where the frames are (:func:`~crosslight.standards.dicom.pixels.frames.find_frames`).

    Offsets are those of the object as it is held, tidied or not.
    """
    with _span(local) as source:
        if plain:
            return find_frames(source)
        clean, moved = tidied(source.read(), LIMITS, sequences=False)
    return find_frames(io.BytesIO(clean)).moved(moved)


def decode_object(local: Local, plain: bool, frame: int, max_pixels: int) -> bytes:
    """The pixels of a frame (:func:`~crosslight.standards.dicom.pixels.transcode.decode_frame`)."""
    with readable(local, plain) as source:
        return decode_frame(source, frame, max_pixels)


def transcode_object(local: Local, plain: bool, target: Path, max_samples: int) -> int:
    """Re-encode an object to ``target``; the size of the result.

    Raises:
        OutOfSpace: the spool's disk is full: that is no fault of the object's.
    """
    try:
        with readable(local, plain) as source, open(target, "wb", opener=private) as out:
            transcode(source, out, max_samples)
            return out.tell()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                "There is no room to re-encode.", todo="Accept transfer-syntax=*, or try again later."
            ) from None
        raise


def study_of_file(path: Path) -> str:
    """The Study Instance UID of a file that has not been let in yet; '' when there is none to read."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
    return str(ds.get("StudyInstanceUID") or "")
