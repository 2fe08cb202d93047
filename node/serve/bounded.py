"""What runs in a bounded child (D27): it opens a file of the archive by path and decodes it. Nothing else does."""

from __future__ import annotations

import errno
from pathlib import Path

import pydicom

from crosslight.standards.dicom.frames import FrameLayout, find_frames
from crosslight.standards.dicom.render import RenderOptions, render_frame
from crosslight.standards.dicom.transcode import decode_frame, transcode
from crosslight.standards.problem import OutOfSpace


def render_file(path: Path, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.render.render_frame`."""
    with path.open("rb") as source:
        return render_frame(source, frame, options, max_pixels)


def layout_file(path: Path) -> FrameLayout:
    """See :func:`~crosslight.standards.dicom.frames.find_frames`."""
    with path.open("rb") as source:
        return find_frames(source)


def decode_file(path: Path, frame: int, max_pixels: int) -> bytes:
    """See :func:`~crosslight.standards.dicom.transcode.decode_frame`."""
    with path.open("rb") as source:
        return decode_frame(source, frame, max_pixels)


def transcode_file(path: Path, target: Path, max_samples: int) -> int:
    """Re-encode ``path`` to ``target``; the size of the result.

    Raises:
        OutOfSpace: the spool's disk is full: that is no fault of the object's.
    """
    try:
        with path.open("rb") as source, target.open("wb") as out:
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
