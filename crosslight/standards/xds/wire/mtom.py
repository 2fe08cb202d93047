"""MTOM/XOP over multipart/related: read incrementally, written in pieces. Pure.

SOAP 1.2 MTOM, XOP 1.0, RFC 2387, RFC 2046.

Strict where a liberal reader can be fooled: CRLF line ends only, every part referenced exactly once,
announced lengths true, everything bounded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from crosslight.standards.problem import Malformed, TooLarge
from crosslight.standards.xds.model.xml import XOP, Element
from crosslight.standards.xds.wire.retrieve import content_id_of

MAX_PARTS = 10_001
MAX_HEAD_BYTES = 8192
_TOKEN = re.compile(r"""\s*;\s*([A-Za-z0-9_.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))""")


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """Media type and parameters of a Content-Type, lower-case names; what cannot be read is left out."""
    kind, semicolon, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for match in _TOKEN.finditer(semicolon + rest):
        quoted, plain = match.group(2), match.group(3)
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        parameters.setdefault(match.group(1).lower(), text)
    return kind.strip().lower(), parameters


def bare_id(content_id: str) -> str:
    """A Content-ID without its angle brackets."""
    return content_id.strip().removeprefix("<").removesuffix(">")


@dataclass(frozen=True, slots=True)
class XopPartBegin:
    """A part's headers (lower-case names) were read."""

    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content_id(self) -> str:
        """Content-ID without ``<>``."""
        return bare_id(self.headers.get("content-id", ""))

    @property
    def content_type(self) -> str:
        """Content-Type, or ''."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class XopPartData:
    """Some bytes of the part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class XopPartEnd:
    """The part is over."""


Event = XopPartBegin | XopPartData | XopPartEnd


class MultipartParser:
    """multipart/* as a sans-IO parser: bytes in, events out.

    What was read stays in the buffer until a call of :meth:`feed` has given all its events, so that many
    small parts cost no more than their bytes.

    Args:
        boundary: The parameter of Content-Type.
        max_parts: More are refused.
    """

    def __init__(self, boundary: str, *, max_parts: int = MAX_PARTS) -> None:
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise Malformed(
                "The multipart boundary is missing or not allowed.", why="RFC 2046 5.1.1: 1 to 70 characters."
            )
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # so that a delimiter on the first line is found too
        self._at = 0  # what lies before it in the buffer was read
        self._state = "preamble"  # preamble | head | data | done
        self._parts, self._max_parts = 0, max_parts
        self._preamble = 0
        self._announced: int | None = None
        self._length = self._skip = 0

    @property
    def done(self) -> bool:
        """Whether the closing delimiter was read."""
        return self._state == "done"

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take bytes; give what became complete. Consume the iterator fully before feeding again.

        Raises:
            Malformed, TooLarge: the message breaks MIME or a bound.
        """
        self._buffer += data
        while self._state != "done":
            if self._state == "head":
                begin = self._read_head()
                if begin is None:
                    break
                yield begin
                continue
            index, after = self._find_delimiter()
            in_data = self._state == "data"
            piece = self._take(index)
            if piece and in_data:
                yield XopPartData(piece)
            if after is None:
                break
            if in_data:
                self._check_length()
                yield XopPartEnd()
            self._open_next(after)
        del self._buffer[: len(self._buffer) if self._state == "done" else self._at]
        self._at = 0

    def close(self) -> None:
        """The bytes have ended.

        Raises:
            Malformed: before the closing delimiter.
        """
        if self._state != "done":
            raise Malformed("The multipart message is cut off.", why="RFC 2046 5.1.1: no closing boundary.")

    def _take(self, index: int) -> bytes:
        """The bytes of the part that is open up to ``index``; those before the first part are counted only.

        Raises:
            Malformed: too much stands before the first part.
        """
        start, self._at = self._at, index
        if self._state != "data":
            self._preamble += index - start
            if self._preamble > MAX_HEAD_BYTES:
                raise Malformed(
                    "The multipart message does not begin with its boundary.", why="RFC 2046 5.1.1."
                )
            return b""
        skipped = min(self._skip, index - start)
        self._skip -= skipped
        self._length += index - start - skipped
        return bytes(self._buffer[start + skipped : index])

    def _find_delimiter(self) -> tuple[int, int | None]:
        """(where the delimiter begins, or what is safe to pass on ends; length of the delimiter line).

        The length is -1 for the closing one, None where the line is not, or not yet, there.
        """
        start = self._at
        while True:
            index = self._buffer.find(self._delimiter, start)
            if index < 0:
                return max(self._at, len(self._buffer) - len(self._delimiter) + 1), None
            rest = self._buffer[index + len(self._delimiter) : index + len(self._delimiter) + 130]
            if rest[:2] == b"--":
                return index, -1
            padding = len(rest) - len(rest.lstrip(b" \t"))
            if rest[padding : padding + 2] == b"\r\n":
                return index, len(self._delimiter) + padding
            if (
                len(rest) < padding + 2
                and padding < 128
                and (bytes(rest[padding:]) in (b"", b"\r") or rest == b"-")
            ):
                return index, None  # more bytes will tell
            start = index + 1  # the boundary's text inside longer content

    def _open_next(self, after: int) -> None:
        if after < 0:
            self._state = "done"
            return
        self._parts += 1
        if self._parts > self._max_parts:
            raise TooLarge("The multipart message has too many parts.", why=f"Limit here: {self._max_parts}.")
        self._at += after  # at the CRLF that ends the delimiter line
        self._state, self._length = "head", 0

    def _read_head(self) -> XopPartBegin | None:
        start = self._at
        end = self._buffer.find(b"\r\n\r\n", start, start + MAX_HEAD_BYTES + 4)
        if end < 0:
            if len(self._buffer) - start > MAX_HEAD_BYTES:
                raise Malformed(
                    "A part's headers are too long or do not end in an empty line.", why="RFC 2046 5.1."
                )
            return None
        headers: dict[str, str] = {}
        # unfolded: RFC 5322 2.2.3
        lines = re.sub(r"\r\n(?=[ \t])", "", self._buffer[start + 2 : end].decode("utf-8", "replace"))
        for line in lines.split("\r\n") if end > start + 2 else ():
            name, colon, value = line.partition(":")
            if not colon or "\n" in line or name != name.strip() or not name or name.lower() in headers:
                raise Malformed("A part has a header that cannot be read, or twice.", why="RFC 2045 2.1.")
            headers[name.lower()] = value.strip()
        announced = headers.get("content-length", "")
        if announced and not (announced.isascii() and announced.isdecimal()):
            raise Malformed("A part's Content-Length is not a number.")
        self._announced = int(announced) if announced else None
        # keeps the empty line's CRLF: a part without body ends right there
        self._at = end + 2
        self._state, self._skip = "data", 2
        return XopPartBegin(headers)

    def _check_length(self) -> None:
        if self._announced is not None and self._announced != self._length:
            raise Malformed("A part is not as long as its Content-Length says.")


@dataclass(frozen=True, slots=True)
class WholePart:
    """A part that was read whole."""

    begin: XopPartBegin
    data: bytes


def parse_related(
    content_type: str, data: bytes, *, max_parts: int = MAX_PARTS
) -> tuple[bytes, dict[str, bytes]]:
    """The root part, found by ``start`` (or the first), and the other parts by Content-ID.

    Raises:
        Malformed, TooLarge: broken MIME, no root, a part without Content-ID or with one that is used twice.
    """
    parameters = parse_content_type(content_type)[1]
    parser = MultipartParser(parameters.get("boundary", ""), max_parts=max_parts)
    parts: list[WholePart] = []
    pieces: list[bytes] = []
    begin = XopPartBegin()
    for event in parser.feed(data):
        if isinstance(event, XopPartBegin):
            begin, pieces = event, []
        elif isinstance(event, XopPartData):
            pieces.append(event.data)
        else:
            parts.append(WholePart(begin, b"".join(pieces)))
    parser.close()
    if not parts:
        raise Malformed("The multipart message has no part.")
    start = bare_id(parameters.get("start", ""))
    root = next((p for p in parts if p.begin.content_id == start), None) if start else parts[0]
    if root is None:
        raise Malformed("No part has the Content-ID that start names.", why="RFC 2387 3.2.")
    others: dict[str, bytes] = {}
    for part in parts:
        if part is root:
            continue
        name = part.begin.content_id
        if not name or name in others:
            raise Malformed("A part has no Content-ID of its own.", why="XOP 4.1.")
        others[name] = part.data
    return root.data, others


def includes(root: Element) -> dict[str, Element]:
    """Content-ID -> the xop:Include that names it.

    Raises:
        Malformed: two name the same part, or one is not alone in its element.
    """
    by_cid: dict[str, Element] = {}
    for include in root.iter(f"{{{XOP}}}Include"):
        name, parent = content_id_of(include), include.getparent()
        if name in by_cid or parent is None or len(parent) != 1 or (parent.text or "").strip():
            raise Malformed(
                "An xop:Include is not alone in its element, or names a part twice.", why="XOP 2.1."
            )
        by_cid[name] = include
    return by_cid


def inline_parts(root: Element, parts: dict[str, bytes]) -> None:
    """Put each part in place of its xop:Include, as base64 (XOP 3.2). In place.

    Raises:
        Malformed: a reference without its part, or a part that nothing refers to.
    """
    wanted = includes(root)
    if wanted.keys() - parts.keys():
        raise Malformed("An xop:Include names a part that is not there.", why="XOP 3.2.")
    if parts.keys() - wanted.keys():
        raise Malformed("The message has parts that nothing refers to.", why="XOP 4.1.")
    for name, include in wanted.items():
        parent = include.getparent()
        if parent is not None:
            parent.remove(include)
            parent.text = base64.b64encode(parts[name]).decode("ascii")


# --- writing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MtomFrame:
    """The pieces around parts of an MTOM message.

    ``token`` (a UUID's hex) must be unguessable to who wrote the parts.
    """

    token: str
    action: str

    @property
    def boundary(self) -> str:
        """The boundary parameter."""
        return f"MIMEBoundary_{self.token}"

    @property
    def root_id(self) -> str:
        """Content-ID of the root part."""
        return f"root.{self.token}@crosslight"

    @property
    def content_type(self) -> str:
        """The message's Content-Type (ITI TF-2 Appendix V.3)."""
        return (
            f'multipart/related; type="application/xop+xml"; start="<{self.root_id}>";'
            f' start-info="application/soap+xml"; boundary="{self.boundary}"; action="{self.action}"'
        )

    def head(self, root: bytes) -> bytes:
        """Everything up to the first other part."""
        return (
            f"--{self.boundary}\r\n"
            f'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\n'
            f"Content-Transfer-Encoding: binary\r\nContent-ID: <{self.root_id}>\r\n\r\n"
        ).encode() + root

    def part_head(self, content_id: str, content_type: str) -> bytes:
        """What stands before a part's bytes."""
        return (
            f"\r\n--{self.boundary}\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{content_id}>\r\n\r\n"
        ).encode()

    def tail(self) -> bytes:
        """The closing delimiter."""
        return f"\r\n--{self.boundary}--\r\n".encode()

    def length(self, root: bytes, parts: Iterable[tuple[str, str, int]]) -> int:
        """Octets of the whole message with parts (content id, content type, size)."""
        inner = sum(len(self.part_head(cid, kind)) + size for cid, kind, size in parts)
        return len(self.head(root)) + inner + len(self.tail())
