"""PDUs (PS3.8 9.3): their heads, and the short ones that reject, release and abort. Pure.

A PDU is a head of 6 bytes (type, reserved, length) and so many bytes more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from crosslight.standards.problem import Malformed

# PS3.8 9.3.1: PDU types
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF = 0x01, 0x02, 0x03, 0x04
RELEASE_RQ, RELEASE_RP, ABORT = 0x05, 0x06, 0x07

HEAD_BYTES: Final = 6
_SHORT = struct.Struct(">BxIxBBB").pack  # a head, and the four bytes of a short PDU
_LENGTH = struct.Struct(">I").unpack_from

RELEASE_REQUEST: Final = _SHORT(RELEASE_RQ, 4, 0, 0, 0)
RELEASE_RESPONSE: Final = _SHORT(RELEASE_RP, 4, 0, 0, 0)

# PS3.8 Table 9-26: who aborts, and why
BY_USER, BY_PROVIDER = 0, 2
UNKNOWN_REASON, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 2, 6

# PS3.8 Table 9-21
PERMANENT, TRANSIENT = 1, 2
BY_SERVICE_USER, BY_ACSE, BY_PRESENTATION = 1, 2, 3
_REASONS: Final = {
    (BY_SERVICE_USER, 1): "no reason given",
    (BY_SERVICE_USER, 2): "application context name not supported",
    (BY_SERVICE_USER, 3): "calling AE title not recognised",
    (BY_SERVICE_USER, 7): "called AE title not recognised",
    (BY_ACSE, 1): "no reason given",
    (BY_ACSE, 2): "protocol version not supported",
    (BY_PRESENTATION, 1): "temporary congestion",
    (BY_PRESENTATION, 2): "local limit exceeded",
}


def length_of(head: bytes | bytearray | memoryview, start: int = 0) -> int:
    """How many bytes follow the head that begins at ``start``."""
    length: int = _LENGTH(head, start + 2)[0]
    return length


def abort(source: int, reason: int = UNKNOWN_REASON) -> bytes:
    """An A-ABORT (PS3.8 9.3.8)."""
    return _SHORT(ABORT, 4, 0, source, reason if source == BY_PROVIDER else 0)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4): numbers of its Table 9-21."""

    result: int
    source: int
    reason: int

    @classmethod
    def parse(cls, pdu: bytes | bytearray | memoryview) -> Rejection:
        """Read a whole PDU.

        Raises:
            Malformed: it is too short.
        """
        if len(pdu) < HEAD_BYTES + 4:
            raise Malformed("A rejection that is too short.", why="PS3.8 9.3.4.")
        return cls(pdu[7], pdu[8], pdu[9])

    def pdu(self) -> bytes:
        """Write it."""
        return _SHORT(ASSOCIATE_RJ, 4, self.result, self.source, self.reason)

    def __str__(self) -> str:
        known = _REASONS.get((self.source, self.reason), f"source {self.source}, reason {self.reason}")
        return known + (" (for now)" if self.result == TRANSIENT else "")


CALLING_UNKNOWN: Final = Rejection(PERMANENT, BY_SERVICE_USER, 3)
CALLED_UNKNOWN: Final = Rejection(PERMANENT, BY_SERVICE_USER, 7)
CONTEXT_NAME_UNKNOWN: Final = Rejection(PERMANENT, BY_SERVICE_USER, 2)
VERSION_UNKNOWN: Final = Rejection(PERMANENT, BY_ACSE, 2)
LIMIT_EXCEEDED: Final = Rejection(TRANSIENT, BY_PRESENTATION, 2)
