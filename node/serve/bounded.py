"""What runs in a bounded child (D27): it opens an object of the archive and decodes it. Nothing else does."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom

from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.dicom.file.tidy import STUMBLES, tidied
from crosslight.standards.dicom.file.verdict import notes_of_bits
from crosslight.standards.dicom.pixels.frames import FrameLayout, find_frames
from crosslight.standards.dicom.pixels.render import RenderOptions, render_frame
from crosslight.standards.dicom.pixels.transcode import decode_frame, transcode
from crosslight.standards.problem import OutOfSpace
from node.archive.model import StoredObject


class _Cut(io.FileIO):
    """A file that ends after ``size`` bytes."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path, "r")
        self._size = size

    def readinto(self, buffer: Any) -> int | None:
        with memoryview(buffer).cast("B") as view:
            return super().readinto(view[: max(0, self._size - self.tell())])

    def readall(self) -> bytes:
        return super().read(max(0, self._size - self.tell())) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return super().seek(max(0, self._size + offset))
        return super().seek(offset, whence)


def _cut(found: StoredObject) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Cut(found.path, found.end)))


def _plain(found: StoredObject) -> bool:
    """Whether decoders can read it as it is, in good time."""
    return not found.unmeasured and STUMBLES.isdisjoint(notes_of_bits(found.notes))


def opened(found: StoredObject) -> BinaryIO:
    """An object as decoders are to read it: without what follows its data set, tidied where they would stumble."""
    if _plain(found):
        return _cut(found)
    with _cut(found) as source:
        return io.BytesIO(tidied(source.read(), LIMITS)[0])


def render_file(found: StoredObject, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.render.render_frame`."""
    with opened(found) as source:
        return render_frame(source, frame, options, max_pixels)


def layout_file(found: StoredObject) -> FrameLayout:
    """See :func:`~crosslight.standards.dicom.frames.find_frames`; places are those of the file as it is kept."""
    with _cut(found) as source:
        if _plain(found):
            return find_frames(source)
        made, moved = tidied(source.read(), LIMITS, sequences=False)
    return find_frames(io.BytesIO(made)).moved(moved)


def decode_file(found: StoredObject, frame: int, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.transcode.decode_frame`."""
    with opened(found) as source:
        return decode_frame(source, frame, max_pixels)


def transcode_file(found: StoredObject, target: Path, max_samples: int) -> int:
    """Re-encode an object to ``target``; the size of the result.

    Raises:
        OutOfSpace: the spool's disk is full: that is no fault of the object's.
    """
    try:
        with opened(found) as source, target.open("wb") as out:
            transcode(source, out, max_samples)
            return out.tell()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace("There is no room to re-encode.", todo="Accept transfer-syntax=*, or try again later.") from None
        raise


def study_of_file(path: Path) -> str:
    """The Study Instance UID of a file that has not been let in yet; '' when there is none to read."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
    return str(ds.get("StudyInstanceUID") or "")
