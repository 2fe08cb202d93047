"""C-STORE on the level of bytes: the request's command set read, the response's written (PS3.7 9.3.1, E.1).

Command sets are Implicit VR Little Endian with elements of group 0000 only. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from crosslight.standards.problem import Malformed

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001  # PS3.7 Table E.1-1, (0000,0100)
SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.9
NO_DATA_SET = 0x0101  # (0000,0800)
MAX_COMMAND_BYTES = 65536
P_DATA_TF = 0x04  # PS3.8 9.3.1: PDU type
_HEAD = struct.Struct("<HHI").unpack_from
_ELEMENT = struct.Struct("<HHI").pack


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE-RQ says before its data set."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def fragments_of(pdu: bytes | bytearray) -> list[tuple[int, memoryview]]:
    """The presentation data values of a whole P-DATA-TF PDU: context id, and fragment with its control header (PS3.8 9.3.5).

    Raises:
        Malformed: when their lengths do not fill the PDU.
    """
    view = memoryview(pdu)
    found: list[tuple[int, memoryview]] = []
    pos, end = 6, len(view)
    while pos < end:
        length = int.from_bytes(view[pos : pos + 4], "big")
        if length < 2 or pos + 4 + length > end:
            raise Malformed("A presentation data value does not fit its PDU.", why="PS3.8 9.3.5.1.")
        found.append((view[pos + 4], view[pos + 5 : pos + 4 + length]))
        pos += 4 + length
    return found


def command_pdu(context_id: int, command: bytes) -> bytes:
    """A whole command set as one P-DATA-TF PDU (PS3.8 9.3.5, E.2)."""
    length = len(command) + 2
    return struct.pack(">BBIIBB", P_DATA_TF, 0, length + 4, length, context_id, 0x03) + command


def command_elements(data: bytes | bytearray) -> dict[int, bytes]:
    """The elements of a command set by element number.

    Raises:
        Malformed: when it is none.
    """
    found: dict[int, bytes] = {}
    pos = 0
    while pos < len(data):
        if pos + 8 > len(data):
            raise Malformed("The command set was cut off.", why="PS3.7 6.3.")
        group, number, length = _HEAD(data, pos)
        pos += 8 + length
        if group != 0 or pos > len(data):
            raise Malformed("This is no command set.", why="PS3.7 6.3.")
        found[number] = bytes(data[pos - length : pos])
    return found


def command_field(elements: dict[int, bytes]) -> int:
    """Which message it is."""
    return _us(elements, 0x0100)


def store_request(elements: dict[int, bytes], context_id: int) -> StoreRequest:
    """A C-STORE-RQ.

    Raises:
        Malformed: without the elements that PS3.7 Table 9.3-1 requires.
    """
    request = StoreRequest(context_id, _us(elements, 0x0110), _ui(elements, 0x0002), _ui(elements, 0x1000))
    if not request.sop_class_uid or not request.sop_instance_uid or _us(elements, 0x0800) == NO_DATA_SET:
        raise Malformed("A C-STORE without a class, an instance or a data set.", why="PS3.7 Table 9.3-1.")
    return request


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """The command set of a C-STORE-RSP; ``comment`` is Error Comment (0000,0902), at most 64 characters."""
    elements = [
        _element(0x0002, _padded(request.sop_class_uid)),
        _element(0x0100, struct.pack("<H", C_STORE_RSP)),
        _element(0x0120, struct.pack("<H", request.message_id)),
        _element(0x0800, struct.pack("<H", NO_DATA_SET)),
        _element(0x0900, struct.pack("<H", status)),
    ]
    if comment and status:
        text = comment.encode("ascii", "replace")[:64]
        elements.append(_element(0x0902, text + b" " * (len(text) % 2)))
    elements.append(_element(0x1000, _padded(request.sop_instance_uid)))
    body = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT(0, number, len(value)) + value


def _padded(uid: str) -> bytes:
    text = uid.encode("ascii", "replace")
    return text + b"\0" * (len(text) % 2)


def _us(elements: dict[int, bytes], number: int) -> int:
    value = elements.get(number, b"")
    return int.from_bytes(value[:2], "little") if len(value) >= 2 else 0


def _ui(elements: dict[int, bytes], number: int) -> str:
    return elements.get(number, b"").decode("ascii", "replace").strip(" \0")[:64]
