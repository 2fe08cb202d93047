"""MLLP framing (HL7 v2 implementation support, "Minimal Lower Layer Protocol"): ``VT message FS CR``.

No IO.
"""

from __future__ import annotations

from crosslight.standards.problem import Malformed, TooLarge

START, END, CR = b"\x0b", b"\x1c", b"\r"
MAX_MESSAGE_BYTES = 1 << 20


def frame(message: bytes) -> bytes:
    """``message`` as it travels.

    Raises:
        Malformed: if it holds framing bytes itself.
    """
    if START in message or END in message:
        raise Malformed("A message cannot hold the framing bytes of MLLP.")
    return START + message + END + CR


class Framer:
    """Cuts a byte stream into messages; feed it whatever arrives."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max = max_bytes
        self._buffer = bytearray()
        self._inside = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes.

        Raises:
            TooLarge: when a message passes the bound.
            Malformed: for anything but white space between messages.
        """
        self._buffer += data
        messages: list[bytes] = []
        while True:
            if not self._inside:
                noise, start, rest = self._buffer.partition(START)
                if bytes(noise).strip(b"\r\n \x00"):
                    raise Malformed("Bytes outside an MLLP frame.", why="A message begins with 0x0B.")
                if not start:
                    self._buffer.clear()
                    return messages
                self._buffer, self._inside = rest, True
            end = self._buffer.find(END)
            if max(end, 0 if end >= 0 else len(self._buffer)) > self._max:
                raise TooLarge("The HL7 message is too large.", why=f"Limit here: {self._max} bytes.")
            if end < 0:
                return messages
            messages.append(bytes(self._buffer[:end]))
            del self._buffer[: end + 1]  # the CR after it is white space to the next message
            self._inside = False
