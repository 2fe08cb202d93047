"""P-DATA-TF PDUs, read and written (PS3.8 9.3.5, Annex E): how a message travels in fragments. Pure.

A PDU is a head of 6 bytes (type, reserved, length) and presentation data values: each its length (4 bytes),
the context's id, a control header and a fragment of one message. The largest length that a peer takes is what
it announced (PS3.8 D.1); a PDU's head does not count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from crosslight.standards.dicom.upper_layer.pdu import P_DATA_TF
from crosslight.standards.problem import Malformed

COMMAND, LAST = 0x01, 0x02  # PS3.8 E.2: bits of the control header
LONGEST_PDU = 1 << 17  # what we send at most to a peer that takes any length (it announced 0)
_VALUE_HEAD = 6  # length, context id and control header
_HEADS = struct.Struct(">BBIIBB").pack

Bytes = bytes | bytearray | memoryview


def fragments_of(pdu: Bytes) -> list[tuple[int, memoryview]]:
    """The presentation data values of a whole P-DATA-TF PDU (PS3.8 9.3.5).

    Context id, and fragment with its control header.

    Raises:
        Malformed: when their lengths do not fill the PDU.
    """
    view = memoryview(pdu)
    values: list[tuple[int, memoryview]] = []
    pos, end = 6, len(view)
    while pos < end:
        length = int.from_bytes(view[pos : pos + 4], "big")
        if length < 2 or pos + 4 + length > end:
            raise Malformed("A presentation data value does not fit its PDU.", why="PS3.8 9.3.5.1.")
        values.append((view[pos + 4], view[pos + 5 : pos + 4 + length]))
        pos += 4 + length
    return values


def command_pdus(context_id: int, command: bytes, longest: int) -> Iterator[bytes]:
    """A command set as PDUs for a peer that takes ``longest`` bytes."""
    return _pdus(context_id, COMMAND, (command,), longest)


def data_pdus(context_id: int, blocks: Iterable[Bytes], longest: int) -> Iterator[bytes]:
    """A data set as PDUs for a peer that takes ``longest`` bytes.

    Args:
        context_id: Of the message's presentation context.
        blocks: The data set in order, in pieces of any size, as they are read from a file; no more than one
            is held.
        longest: The peer's Maximum Length Received; 0 = any.
    """
    return _pdus(context_id, 0, blocks, longest)


def room_for(longest: int) -> int:
    """How much of a message one PDU holds: even, so that no number is cut in two; never nothing."""
    return max(2, (min(longest or LONGEST_PDU, LONGEST_PDU) - _VALUE_HEAD) & ~1)


def _pdus(context_id: int, kind: int, blocks: Iterable[Bytes], longest: int) -> Iterator[bytes]:
    """One PDU behind, so that the last is known to be it; a data set of nothing is one empty fragment."""
    pending: Bytes = b""
    for fragment in _fragments(blocks, room_for(longest)):
        if pending:
            yield _pdu(context_id, kind, pending)
        pending = fragment
    yield _pdu(context_id, kind | LAST, pending)


def _pdu(context_id: int, header: int, fragment: Bytes) -> bytes:
    length = len(fragment) + 2
    return _HEADS(P_DATA_TF, 0, length + 4, length, context_id, header) + fragment


def _fragments(blocks: Iterable[Bytes], room: int) -> Iterator[Bytes]:
    """Pieces of ``room`` bytes and one that may be shorter, whatever the size of the blocks."""
    begun = bytearray()
    for block in blocks:
        view = memoryview(block)
        if begun:
            missing = room - len(begun)
            begun += view[:missing]
            view = view[missing:]
            if len(begun) < room:
                continue
            yield begun
            begun = bytearray()
        whole = len(view) - len(view) % room
        for start in range(0, whole, room):
            yield view[start : start + room]
        begun += view[whole:]
    if begun:
        yield begun
