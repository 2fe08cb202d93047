"""What may follow a data set and is none of it: padding, line ends, delimiters that close nothing."""

from __future__ import annotations

import re
from mmap import mmap

_TAIL = re.compile(
    rb"(?:[\0\r\n ]++|(?:\xfe\xff[\x0d\xdd]\xe0|\xff\xfe\xe0[\x0d\xdd])(?:\0{4}|\xff{4}))*+"
).match
#: Group numbers with which a tail begins, read as a group in either byte order: they cost a look, nothing
#: more.
ODD_GROUPS = frozenset({0xFFFE, 0xFEFF, *(low | high << 8 for low in b"\0\r\n " for high in b"\0\r\n ")})


class Tail:
    """The end of one buffer. Where no tail begins is remembered, so that each octet is looked at once."""

    def __init__(self, data: bytes | bytearray | memoryview | mmap) -> None:
        self._data, self._none_before = data, 0

    def begins(self, pos: int, end: int) -> bool:
        """Whether nothing but a tail is left from ``pos`` on."""
        if pos < self._none_before:
            return False
        tail = _TAIL(self._data, pos, end)
        upto = tail.end() if tail is not None else pos
        if upto < end:
            self._none_before = upto
        return upto == end
