"""Where the frames of an image lie in its file (PS3.5 8, A.4), so that one can be read without the others.

Reads item headers only, never pixels. For untrusted files: call inside ``Workers.run_bounded``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

import pydicom

from crosslight.standards.problem import CrosslightError, Malformed, NotAcceptable, TooLarge, kind_as_sentence
from crosslight.standards.study import whole_number

_ITEM, _SEQUENCE_DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# tag, VR, reserved, undefined length: encapsulation is always Explicit VR Little Endian
_ENCAPSULATED_HEADER = 12
MAX_FRAGMENTS = 200_000

#: The attributes that say how large a native frame is.
IMAGE_PIXEL = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "NumberOfFrames",
    "PhotometricInterpretation",
)

#: Their tags and VRs, in the same order (PS3.6).
IMAGE_PIXEL_VRS = {
    0x00280010: "US",
    0x00280011: "US",
    0x00280002: "US",
    0x00280100: "US",
    0x00280008: "IS",
    0x00280004: "CS",
}

Span = tuple[int, int]  # offset in the file, length


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """Frames as spans of the file; several spans of one frame are joined.

    ``kind`` ``native``: equal frames from ``offset``; ``bits`` frames that do not begin at a byte;
    ``deflated``: nothing can be read in place; ``none``: no Pixel Data.
    """

    kind: Literal["native", "encapsulated", "deflated", "none"]
    frames: int
    frame_bits: int = 0  # of one native frame
    offset: int = 0  # of native Pixel Data
    spans: tuple[tuple[Span, ...], ...] = ()  # of encapsulated frames
    word_bytes: int = 1  # of a pixel cell, to turn Big Endian

    @property
    def frame_bytes(self) -> int:
        """Bytes of a native frame, the last one filled up."""
        return (self.frame_bits + 7) // 8

    def spans_of(self, frame: int) -> tuple[Span, ...]:
        """The spans of a frame (from 1).

        Native frames that begin inside a byte give the bytes that hold them.
        """
        if self.kind == "encapsulated":
            return self.spans[frame - 1]
        first_bit = (frame - 1) * self.frame_bits
        low, high = first_bit // 8, (first_bit + self.frame_bits + 7) // 8
        return ((self.offset + low, high - low),)

    def moved(self, by: int) -> FrameLayout:
        """The same frames where Pixel Data begins ``by`` bytes later."""
        spans = tuple(tuple((at + by, length) for at, length in frame) for frame in self.spans)
        return replace(self, offset=self.offset + by if self.offset else 0, spans=spans)

    def cut(self, frame: int, data: bytes) -> bytes:
        """``data`` of ``spans_of(frame)`` as the frame alone.

        1-bit frames are moved to a byte border (PS3.5 8.2).
        """
        shift = ((frame - 1) * self.frame_bits) % 8 if self.kind == "native" else 0
        if not shift:
            return data
        number = (int.from_bytes(data, "little") >> shift) & ((1 << self.frame_bits) - 1)
        return number.to_bytes(self.frame_bytes, "little")


def native_layout(values: dict[str, Any], *, offset: int, length: int) -> FrameLayout:
    """The layout of native Pixel Data from its Image Pixel attributes.

    Args:
        values: Those of :data:`IMAGE_PIXEL`.
        offset: Of the value of Pixel Data in the file.
        length: Of that value.

    Raises:
        Malformed: when the attributes ask for more bytes than there are.
    """
    rows, columns, bits = (
        whole_number(str(values.get(name) or 0), 0) for name in ("Rows", "Columns", "BitsAllocated")
    )
    samples, frames = (
        whole_number(str(values.get(name) or 1)) for name in ("SamplesPerPixel", "NumberOfFrames")
    )
    frames = max(1, frames)
    frame_bits = rows * columns * samples * bits
    # two samples of colour for two pixels (C.7.6.3.1.2)
    if values.get("PhotometricInterpretation") == "YBR_FULL_422":
        frame_bits = rows * columns * 2 * bits
    if frame_bits <= 0 or frames * frame_bits > length * 8:
        raise Malformed("Pixel Data is shorter than its attributes say.", why="PS3.3 C.7.6.3.")
    return FrameLayout(
        kind="native", frames=frames, frame_bits=frame_bits, offset=offset, word_bytes=max(1, bits // 8)
    )


def find_frames(source: BinaryIO) -> FrameLayout:
    """The layout of a Part 10 file.

    Raises:
        Malformed: when the file and its attributes do not agree.
        NotAcceptable: when frames cannot be told apart.
    """
    try:
        return _find(source)
    except CrosslightError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom has no common base
        raise Malformed("The frames cannot be found.", why=kind_as_sentence(error)) from None


def _find(source: BinaryIO) -> FrameLayout:
    ds = pydicom.dcmread(source, stop_before_pixels=True)
    syntax = ds.file_meta.TransferSyntaxUID
    frames = max(1, int(ds.get("NumberOfFrames") or 1))
    if syntax.is_deflated:
        return FrameLayout(kind="deflated", frames=frames)
    start = source.tell()
    source.seek(start)
    header = source.read(_ENCAPSULATED_HEADER)
    order = "<" if syntax.is_little_endian else ">"
    group = struct.unpack(order + "HH", header[:4]) if len(header) >= 8 else (0, 0)
    if group not in ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009)):
        return FrameLayout(kind="none", frames=0)
    if syntax.is_encapsulated:
        table = ds.get("ExtendedOffsetTable")
        fragments, offsets = _fragments(source, start + _ENCAPSULATED_HEADER)
        if table:
            offsets = [int(n) for n in struct.unpack(f"<{len(table) // 8}Q", table)]
        return FrameLayout(
            kind="encapsulated", frames=frames, spans=_group(source, fragments, offsets, frames)
        )
    order = "<" if syntax.is_little_endian else ">"
    if syntax.is_implicit_VR:
        offset, length = start + 8, struct.unpack("<I", header[4:8])[0]
    else:
        offset, length = start + 12, struct.unpack(order + "I", header[8:12])[0]
    values = {name: ds.get(name) for name in IMAGE_PIXEL}
    return native_layout(values, offset=offset, length=length)


def _fragments(source: BinaryIO, at: int) -> tuple[list[Span], list[int]]:
    """Spans of all fragments after the Basic Offset Table, and that table's entries."""
    offsets: list[int] = []
    spans: list[Span] = []
    first = True
    while True:
        source.seek(at)
        header = source.read(8)
        # or the file ends there: noted when it came in
        if header[:4] == _SEQUENCE_DELIMITER or (not header and not first):
            return spans, offsets
        if len(header) < 8 or header[:4] != _ITEM:
            raise Malformed("Encapsulated Pixel Data is cut off.", why="PS3.5 A.4.")
        length = struct.unpack("<I", header[4:])[0]
        if first:
            table = source.read(min(length, 8 * MAX_FRAGMENTS))
            offsets = list(struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]))
            first = False
        else:
            spans.append((at + 8, length))
            if len(spans) > MAX_FRAGMENTS:
                raise TooLarge("Too many fragments.", why=f"Limit here: {MAX_FRAGMENTS}.")
        at += 8 + length


def _group(
    source: BinaryIO, fragments: Sequence[Span], offsets: Sequence[int], frames: int
) -> tuple[tuple[Span, ...], ...]:
    """Fragments of each frame (PS3.5 A.4).

    By the offset table, one for one, or by the marker that ends a code stream.

    Fragments without content behind those of the last frame are none.
    """
    used = len(fragments)
    while used > frames and not fragments[used - 1][1]:
        used -= 1
    fragments = fragments[:used]
    if not fragments:
        raise Malformed("Encapsulated Pixel Data is empty.", why="PS3.5 A.4.")
    if frames == 1:
        return (tuple(fragments),)
    if len(fragments) == frames:
        return tuple((span,) for span in fragments)
    if len(offsets) == frames:
        base = fragments[0][0] - 8
        starts = {base + offset: i for i, offset in enumerate(offsets)}
        groups: list[list[Span]] = []
        for span in fragments:
            if span[0] - 8 in starts:
                groups.append([])
            if not groups:
                break
            groups[-1].append(span)
        if len(groups) == frames:
            return tuple(tuple(group) for group in groups)
    return _by_marker(source, fragments, frames)


def _by_marker(source: BinaryIO, fragments: Sequence[Span], frames: int) -> tuple[tuple[Span, ...], ...]:
    groups: list[list[Span]] = [[]]
    for offset, length in fragments:
        groups[-1].append((offset, length))
        source.seek(offset + max(0, length - 10))
        if b"\xff\xd9" in source.read(min(10, length)):  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
            groups.append([])
    if not groups[-1]:
        groups.pop()
    if len(groups) != frames:
        raise NotAcceptable(
            "The frames cannot be told apart.", why="No offset table, and several fragments to a frame."
        )
    return tuple(tuple(group) for group in groups)
