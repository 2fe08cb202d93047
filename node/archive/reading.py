"""An object that came, read: what it must be (gate.py), its header, its digest.

Untrusted bytes meet only our own bounded walk here; what our reader cannot make sense of is read by pydicom
in a bounded child (D27). Runs in the caller's thread.
"""

from __future__ import annotations

import hashlib
import mmap
import threading

import zstandard

from crosslight.runtime.clock import Clock
from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.again import Template
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.metadata import attributes_and_notes
from crosslight.standards.dicom.file.verdict import notes_to_bits
from crosslight.standards.dicom.pixels.frames import (
    IMAGE_PIXEL,
    IMAGE_PIXEL_VRS,
    FrameLayout,
    native_layout,
)
from crosslight.standards.problem import CrosslightError, Malformed
from node.archive.metadata_rows import LEVEL
from node.archive.staging import Staged
from node.archive.store import Arrived, Facts, attribute_blobs
from node.holdings import Received

log = get_logger("archive")

_FALLBACK_BYTES = 64 << 20


class ObjectReader:
    """Reads what was staged."""

    def __init__(self, files: Files, clock: Clock, workers: Workers, limits: Limits) -> None:
        self._files, self._clock, self._workers, self._limits = files, clock, workers, limits
        self._local = threading.local()

    def read(self, staged: Staged, received: Received) -> Arrived:
        """Its header, and what is known beside it.

        Raises:
            gate.Refused: it must not be kept as an object.
        """
        if not staged.size:
            raise gate.Refused("not-dicom", "This is an empty file.")
        content = staged.content()
        if content is not None:
            return self._parse(content, staged, received)
        with (
            self._files.open(staged.path) as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            return self._parse(mapped, staged, received)

    def _parse(self, data: gate.Buffer, staged: Staged, received: Received) -> Arrived:
        parsed, object_header = self._read_header(data, received)
        offset, length = gate.pixel_span(parsed)
        layout = _native_layout(parsed, offset, length)
        hashed = staged.dataset_offset == parsed.dataset_offset and parsed.dataset_end == len(data)
        sha256 = staged.dataset_sha256() if hashed else None
        if sha256 is None:
            with memoryview(data) as whole, whole[parsed.dataset_offset : parsed.dataset_end] as dataset:
                sha256 = hashlib.sha256(dataset).digest()
        notes = object_header.notes | (
            {"no-meta"} if received.road == "import" and received.transfer_syntax_uid else set()
        )
        study_json, series_json = attribute_blobs(object_header)
        facts = Facts(
            sha256=sha256,
            size_bytes=parsed.dataset_end - parsed.dataset_offset,
            dataset_offset=parsed.dataset_offset,
            pixel_offset=offset,
            pixel_length=length,
            frame_bits=layout.frame_bits if layout is not None else 0,
            word_bytes=layout.word_bytes if layout is not None else 1,
            tiff_preamble=parsed.tiff_preamble,
            received=received,
            received_unix=received.unix or self._clock.now().timestamp(),
            study_json=study_json,
            series_json=series_json,
            large_zstd=_compressed(object_header.large),
            notes=notes_to_bits(notes),
        )
        return object_header, facts

    def _read_header(self, data: gate.Buffer, received: Received) -> tuple[gate.Parsed, Header]:
        """By the last object of this thread, which an association has for itself, or whole."""
        template: Template | None = getattr(self._local, "template", None)
        known = template.again(data) if template is not None else None
        if known is not None:
            _check_announced(known[0], received)
            return known[0], header.of(*known)
        parsed = gate.examine(data, limits=self._limits)
        _check_announced(parsed, received)
        try:
            attributes, notes = attributes_and_notes(parsed)
            object_header = header.of(parsed, attributes, notes)
        except Exception:
            log.exception("header fallback")
            return parsed, self._fallback(data, parsed)
        self._local.template = Template.of(parsed, attributes, notes)
        return parsed, object_header

    def _fallback(self, data: gate.Buffer, parsed: gate.Parsed) -> Header:
        if len(data) > _FALLBACK_BYTES:
            raise gate.Refused("unreadable", "The object cannot be read.")
        try:
            attributes, syntax = self._workers.run_bounded_sync(header.read_with_pydicom, bytes(data[:]))
            object_header = header.from_attributes(attributes, syntax, parsed.notes)
        except CrosslightError as error:
            raise gate.Refused("unreadable", error.what, why=error.why) from None
        except Exception:  # noqa: BLE001 - pydicom has no base of its own for errors
            raise gate.Refused("unreadable", "The object cannot be read.") from None
        walked = (parsed.text(0x00080018), parsed.text(0x0020000D))
        if (object_header.sop_uid, object_header.study_uid) != walked:
            raise gate.Refused("unreadable", "The object reads differently to different readers.")
        return object_header


def _native_layout(parsed: gate.Parsed, offset: int, length: int) -> FrameLayout | None:
    """Where native frames lie, where what says so is coded as the dictionary has it."""
    elements = [parsed.by_tag.get(tag) for tag in IMAGE_PIXEL_VRS]
    coded_alike = all(
        element is None or element[1] == vr
        for element, vr in zip(elements, IMAGE_PIXEL_VRS.values(), strict=True)
    )
    if not offset or not coded_alike:
        return None
    values = {
        name: parsed.number(tag) if vr == "US" else parsed.text(tag)
        for name, (tag, vr) in zip(IMAGE_PIXEL, IMAGE_PIXEL_VRS.items(), strict=True)
    }
    try:
        return native_layout(values, offset=offset, length=length)
    except Malformed:
        return None


def _compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL).compress(data) if data else b""


def _check_announced(parsed: gate.Parsed, received: Received) -> None:
    """The data set must be what C-STORE said it is (PS3.4 B.2.3: Data Set does not match SOP Class)."""
    if received.sop_class_uid and received.sop_class_uid != parsed.text(0x00080016):
        raise gate.Refused(
            "sop-class", "The data set is of another SOP Class than was announced.", why="PS3.4 B.2.3."
        )
    if received.sop_instance_uid and received.sop_instance_uid != parsed.text(0x00080018):
        raise gate.Refused(
            "meta-mismatch", "The data set is another instance than was announced.", why="PS3.4 B.2.3."
        )
