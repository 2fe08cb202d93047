"""multipart/related bodies (RFC 2046, RFC 2387; PS3.18 8.6.1.2).

A writer that knows its length, and a bounded reader.

Sans-IO. The writer gives the bytes between the parts and the exact length of the whole; whoever has the
parts' bytes sends them. The reader is fed chunks and gives events; it never holds more than one chunk and a
delimiter. It refuses what other readers let pass in silence: bare line feeds around delimiters, a missing
terminal delimiter, headers without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from crosslight.standards.problem import Invalid, Malformed, TooLarge

MAX_BOUNDARY = 70  # RFC 2046 5.1.1
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FOLD = re.compile(rb"\r\n(?=[ \t])")  # a header that goes on in the next line (RFC 5322 2.2.3)
_END_OF_HEADERS = b"\r\n\r\n"


def parameters(content_type: str) -> tuple[str, dict[str, str]]:
    """A Content-Type as its media type and parameters, both lower case in their names, quotes undone."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    params: list[tuple[str, Any]] = message.get_params(failobj=[], unquote=True)
    media = params[0][0].strip().lower() if params else ""
    return media, {name.lower(): value for name, value in params[1:] if isinstance(value, str)}


def boundary_of(content_type: str) -> str:
    """The boundary of a multipart Content-Type.

    Raises:
        Malformed: when it is no multipart, or its boundary is missing or not one (RFC 2046 5.1.1).
    """
    media, params = parameters(content_type)
    boundary = params.get("boundary", "")
    if not media.startswith("multipart/"):
        raise Malformed(
            "The body is not multipart.",
            why=f"Content-Type is {media[:60] or 'missing'}.",
            where="Content-Type",
        )
    if not _BOUNDARY.match(boundary):
        raise Malformed(
            "The multipart boundary is missing or not allowed.", why="RFC 2046 5.1.1.", where="Content-Type"
        )
    return boundary


# --- writing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartHead:
    """Headers of a part and the size of its body in bytes."""

    headers: tuple[tuple[str, str], ...]
    size: int


class RelatedWriter:
    """The bytes around the parts of one multipart/related body.

    Args:
        boundary: One that the parts do not hold: 128 random bits (caller's ``Ids``).
        root_type: The ``type`` parameter (RFC 2387): media type of the parts.
        extra: Further parameters of the Content-Type (``start``, ``start-info``).
    """

    def __init__(self, boundary: str, root_type: str, extra: Sequence[tuple[str, str]] = ()) -> None:
        if not _BOUNDARY.match(boundary):
            raise Invalid("Not a multipart boundary.", why="RFC 2046 5.1.1.", where="boundary")
        self._boundary = boundary.encode("ascii")
        more = "".join(f'; {name}="{value}"' for name, value in extra)
        self.content_type = f'multipart/related; type="{root_type}"; boundary={_quoted(boundary)}{more}'

    def before(self, head: PartHead, *, first: bool) -> bytes:
        """Delimiter and headers of a part.

        Every part but the first needs the CRLF that belongs to the delimiter.
        """
        for name, value in head.headers:
            if re.search(r"[\r\n\0]", name + value):
                raise Invalid("A part header may not hold line breaks.", where=name)
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.headers).encode("utf-8")
        return (b"" if first else b"\r\n") + b"--" + self._boundary + b"\r\n" + lines + b"\r\n"

    def end(self, *, empty: bool = False) -> bytes:
        """The terminal delimiter."""
        return (b"" if empty else b"\r\n") + b"--" + self._boundary + b"--\r\n"

    def content_length(self, heads: Iterable[PartHead]) -> int:
        """Bytes of the whole body."""
        total, first = 0, True
        for head in heads:
            total += len(self.before(head, first=first)) + head.size
            first = False
        return total + len(self.end(empty=first))


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9._+-]+", value) else f'"{value}"'


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins. Header names are lower case; a repeated one keeps its last value."""

    index: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part that is open; a view of them where the reader was asked for that."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete: its closing delimiter has been seen."""

    index: int


Event = PartBegin | PartData | PartEnd


class RelatedReader:
    """Reads one multipart body: ``feed`` chunks, then ``close``.

    Args:
        boundary: From :func:`boundary_of`.
        max_parts: More are refused.
        max_header_bytes: Of one part's headers together.
        max_preamble_bytes: Before the first delimiter.
        views: Give the bytes of parts as views into what was fed, rather than copies.
    """

    def __init__(
        self,
        boundary: str,
        *,
        max_parts: int = 10_000,
        max_header_bytes: int = 8192,
        max_preamble_bytes: int = 4096,
        views: bool = False,
    ) -> None:
        self._mark = b"--" + boundary.encode("ascii")
        self._needle = b"\n" + self._mark
        self._max_parts, self._max_headers, self._max_preamble = (
            max_parts,
            max_header_bytes,
            max_preamble_bytes,
        )
        # as if the body followed a line: the first delimiter has no CRLF of its own
        self._buffer, self._pos = b"\r\n", 0  # up to ``pos`` it is done with
        self._views = views
        self._state = "preamble"
        self._index = -1
        self._problem: Malformed | None = None

    @property
    def finished(self) -> bool:
        """Whether the terminal delimiter has been seen."""
        return self._state == "epilogue"

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Events of the next chunk. What comes before an error is given first, the error at the next call.

        Raises:
            Malformed: for bytes that are not this multipart.
            TooLarge: over a bound.
        """
        events: list[Event] = []
        if self._problem is not None:
            raise self._problem
        if self._state == "epilogue":
            return events
        self._buffer = b"".join((self._buffer, data))
        try:
            while self._step(events):
                pass
        except Malformed as error:
            self._problem = error
            if not events:
                raise
        self._buffer, self._pos = self._buffer[self._pos :], 0
        return events

    def _step(self, events: list[Event]) -> bool:
        """Take the next piece; False when more bytes are needed."""
        if self._state == "headers":
            return self._headers(events)
        if self._state == "epilogue":
            self._buffer, self._pos = b"", 0
            return False
        return self._content(events)

    def close(self) -> None:
        """Say that the body has ended.

        Raises:
            Malformed: when the terminal delimiter has not come: the body was cut off.
        """
        if self._problem is not None:
            raise self._problem
        if self._state != "epilogue":
            raise Malformed(
                "The multipart body has no terminal delimiter.",
                why="RFC 2046 5.1.1: it was cut off, or is not multipart.",
                where=f"part {self._index + 1}",
            )

    def _content(self, events: list[Event]) -> bool:
        """Pass on bytes up to the next delimiter; True when one was taken."""
        buffer, at = self._buffer, self._pos
        while True:
            at = buffer.find(self._needle, at)
            if at < 0:
                return self._keep(events, max(self._pos, len(buffer) - len(self._needle) - 1))
            after = at + len(self._needle)
            end = self._line_end(after)
            if end is None:  # cannot be told yet
                return self._keep(events, max(self._pos, at - 1))
            if end < 0:  # a longer word than the boundary: content
                at = after
                continue
            if at == self._pos or buffer[at - 1] != 0x0D:
                raise Malformed(
                    "A multipart delimiter follows a bare line feed.", why="RFC 2046: lines end in CR LF."
                )
            last = buffer[after : after + 2] == b"--"
            self._emit(events, at - 1)
            self._pos = end
            if self._state == "part":
                events.append(PartEnd(self._index))
            if last:
                self._state = "epilogue"
                return True
            self._index += 1
            if self._index >= self._max_parts:
                raise TooLarge(
                    "The multipart body has too many parts.", why=f"Limit here: {self._max_parts}."
                )
            self._state = "headers"
            return True

    def _line_end(self, after: int) -> int | None:
        """Where a delimiter line ends; None when more bytes are needed, -1 when it is no delimiter."""
        buffer = self._buffer
        if buffer[after : after + 2] == b"--":
            return after + 2
        at = after
        while at < len(buffer) and buffer[at] in b" \t" and at - after < 64:
            at += 1
        if at >= len(buffer) or (buffer[at] in b"\r-" and at + 1 >= len(buffer)):
            return None
        if buffer[at : at + 2] == b"\r\n":
            return at + 2
        if buffer[at] == 0x0A:
            raise Malformed(
                "A multipart delimiter ends in a bare line feed.", why="RFC 2046: lines end in CR LF."
            )
        return -1

    def _keep(self, events: list[Event], upto: int) -> bool:
        self._emit(events, upto)
        self._pos = upto
        if (
            self._state == "preamble"
            and len(self._buffer) - upto > self._max_preamble + len(self._needle) + 2
        ):
            raise Malformed("The multipart body does not begin with its delimiter.", why="RFC 2046 5.1.1.")
        return False

    def _emit(self, events: list[Event], upto: int) -> None:
        if self._state == "preamble":
            self._max_preamble -= upto - self._pos
            if self._max_preamble < 0:
                raise Malformed(
                    "The multipart body does not begin with its delimiter.", why="RFC 2046 5.1.1."
                )
        elif upto > self._pos:
            view = memoryview(self._buffer)[self._pos : upto]
            events.append(PartData(view if self._views else bytes(view)))

    def _headers(self, events: list[Event]) -> bool:
        buffer, pos = self._buffer, self._pos
        if buffer[pos : pos + 2] == b"\r\n":  # no headers at all
            block, after = b"", pos + 2
        else:
            at = buffer.find(_END_OF_HEADERS, pos)
            if at < 0 or at - pos > self._max_headers:
                if len(buffer) - pos > self._max_headers:
                    raise TooLarge(
                        "The headers of a part are too long.", why=f"Limit here: {self._max_headers} bytes."
                    )
                return False
            block, after = buffer[pos:at], at + 4
        headers = self._parse(block)
        self._pos = after
        self._state = "part"
        events.append(PartBegin(self._index, headers))
        return True

    def _parse(self, block: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in _FOLD.sub(b"", block).split(b"\r\n") if block else ():
            name, colon, value = line.partition(b":")
            if not colon or not _HEADER_NAME.match(name) or b"\n" in line or b"\r" in value or b"\0" in value:
                raise Malformed(
                    "A part header is not one.", why="RFC 5322 2.2.", where=f"part {self._index + 1}"
                )
            headers[name.decode("ascii").lower()] = value.strip().decode("utf-8", "replace")
        return headers
