"""Command sets, read and written (PS3.7 6.3, 9, 10, Annex E). Pure.

They are Implicit VR Little Endian with elements of group 0000 only; what each service needs of them it reads
by number.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crosslight.standards.problem import Malformed

# PS3.7 Table E.1-1, Command Field (0000,0100)
C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT_RQ, N_ACTION_RQ, N_CREATE_RQ, C_CANCEL_RQ = 0x0100, 0x0130, 0x0140, 0x0FFF
RESPONSE = 0x8000  # a request's field with this bit is its response's

# PS3.7 Annex C: statuses that are no service's own
SUCCESS, CANCELLED, PENDING = 0x0000, 0xFE00, 0xFF00
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
PROCESSING_FAILURE = 0x0110

# Element numbers, group 0000
EVENT_TYPE, ACTION_TYPE = 0x1002, 0x1008
MOVE_DESTINATION, PRIORITY, ORIGINATOR_TITLE, ORIGINATOR_MESSAGE = 0x0600, 0x0700, 0x1030, 0x1031
REMAINING, COMPLETED, FAILED, WARNED = 0x1020, 0x1021, 0x1022, 0x1023  # sub-operations
AFFECTED_CLASS, REQUESTED_CLASS, FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120
DATA_SET_TYPE, STATUS, ERROR_COMMENT, AFFECTED_INSTANCE, REQUESTED_INSTANCE = (
    0x0800,
    0x0900,
    0x0902,
    0x1000,
    0x1001,
)

NO_DATA_SET, A_DATA_SET = 0x0101, 0x0001  # Command Data Set Type (0000,0800)
MAX_COMMAND_BYTES = 65536
_UIDS = frozenset({AFFECTED_CLASS, REQUESTED_CLASS, AFFECTED_INSTANCE, REQUESTED_INSTANCE})
_HEAD = struct.Struct("<HHI").unpack_from
_ELEMENT = struct.Struct("<HHI").pack
_MAX_COMMENT = 64

Values = Mapping[int, int | str]
"""Elements to write: a number is US, a text a UID where the element is one, else padded with a space."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command set: values by element number."""

    elements: Mapping[int, bytes]

    @classmethod
    def parse(cls, data: bytes | bytearray) -> Command:
        """Read a command set as it was received (PS3.7 6.3.1, always Implicit VR Little Endian).

        Raises:
            Malformed: when it is cut off, or has elements outside group 0000.
        """
        elements: dict[int, bytes] = {}
        pos = 0
        while pos < len(data):
            if pos + 8 > len(data):
                raise Malformed("The command set was cut off.", why="PS3.7 6.3.")
            group, number, length = _HEAD(data, pos)
            pos += 8 + length
            if group != 0 or pos > len(data):
                raise Malformed("This is no command set.", why="PS3.7 6.3.")
            elements[number] = bytes(data[pos - length : pos])
        return cls(elements)

    def number(self, number: int) -> int:
        """The value of a US element; 0 where there is none."""
        value = self.elements.get(number, b"")
        return int.from_bytes(value[:2], "little") if len(value) >= 2 else 0

    def text(self, number: int) -> str:
        """The value of a UI, AE or LO element, without its padding; '' where there is none."""
        return self.elements.get(number, b"").decode("ascii", "replace").strip(" \0")[:64]

    @property
    def field(self) -> int:
        """Which message it is."""
        return self.number(FIELD)

    @property
    def message_id(self) -> int:
        """A request's own id."""
        return self.number(MESSAGE_ID)

    @property
    def responded_to(self) -> int:
        """Whose response, or cancellation, it is."""
        return self.number(RESPONDED_TO)

    @property
    def sop_class_uid(self) -> str:
        """Affected or requested (of N-ACTION and its like)."""
        return self.text(AFFECTED_CLASS) or self.text(REQUESTED_CLASS)

    @property
    def sop_instance_uid(self) -> str:
        """Affected or requested; '' where the message concerns none."""
        return self.text(AFFECTED_INSTANCE) or self.text(REQUESTED_INSTANCE)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(DATA_SET_TYPE) != NO_DATA_SET

    @property
    def status(self) -> int:
        """A response's."""
        return self.number(STATUS)


def response(
    request: Command, status: int, comment: str = "", *, more: Values | None = None, data_set: bool = False
) -> bytes:
    """The command set of the response to ``request``.

    Args:
        request: What is answered.
        status: PS3.7 Annex C, or the service's own (PS3.4).
        comment: Error Comment (0000,0902), at most 64 characters; only beside a status that is not success.
        more: Further elements, as the numbers of sub-operations (0000,1020) to (0000,1023).
        data_set: Whether one follows.
    """
    values: dict[int, int | str] = {
        FIELD: request.field | RESPONSE,
        RESPONDED_TO: request.message_id,
        STATUS: status,
        AFFECTED_CLASS: request.sop_class_uid,
    }
    if comment and status:
        values[ERROR_COMMENT] = comment[:_MAX_COMMENT]
    if request.sop_instance_uid:
        values[AFFECTED_INSTANCE] = request.sop_instance_uid
    return command_set({**values, **(more or {})}, data_set=data_set)


def command_set(values: Values, *, data_set: bool) -> bytes:
    """A command set with its group length, in ascending order of elements (PS3.7 6.3.1)."""
    whole = {**values, DATA_SET_TYPE: A_DATA_SET if data_set else NO_DATA_SET}
    body = b"".join(_element(number, _encoded(number, whole[number])) for number in sorted(whole))
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _encoded(number: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return struct.pack("<H", value)
    text = value.encode("ascii", "replace")
    return text + (b"\0" if number in _UIDS else b" ") * (len(text) % 2)


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT(0, number, len(value)) + value
