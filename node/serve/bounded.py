"""What runs in a bounded child (D27): it opens a file of the archive by path and decodes it. Nothing else does.

Files are given with the size that counts: what follows the data set is not the object's.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom

from crosslight.standards.dicom.frames import FrameLayout, find_frames
from crosslight.standards.dicom.render import RenderOptions, render_frame
from crosslight.standards.dicom.transcode import decode_frame, transcode
from crosslight.standards.problem import OutOfSpace


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


def opened(path: Path, size: int) -> BinaryIO:
    """The first ``size`` bytes of a file."""
    return cast(BinaryIO, io.BufferedReader(_Cut(path, size)))


def render_file(path: Path, size: int, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.render.render_frame`."""
    with opened(path, size) as source:
        return render_frame(source, frame, options, max_pixels)


def layout_file(path: Path, size: int) -> FrameLayout:
    """See :func:`~crosslight.standards.dicom.frames.find_frames`."""
    with opened(path, size) as source:
        return find_frames(source)


def decode_file(path: Path, size: int, frame: int, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.transcode.decode_frame`."""
    with opened(path, size) as source:
        return decode_frame(source, frame, max_pixels)


def transcode_file(path: Path, size: int, target: Path, max_samples: int) -> int:
    """Re-encode ``path`` to ``target``; the size of the result.

    Raises:
        OutOfSpace: the spool's disk is full: that is no fault of the object's.
    """
    try:
        with opened(path, size) as source, target.open("wb") as out:
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
