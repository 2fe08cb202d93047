"""Byte ranges of what is given out (RFC 9110 14): who lost a connection goes on where it broke.

Only of answers that are the same bytes each time: objects as they are held, with a strong tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from aiohttp import hdrs, web
from multidict import MultiMapping

from crosslight.standards.problem import RangeNotSatisfiable
from node.serve.sendfile import Piece


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``first`` on, of ``total``."""

    first: int
    length: int
    total: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.first + self.length

    @property
    def content_range(self) -> str:
        """The Content-Range of a 206 (RFC 9110 14.4)."""
        return f"bytes {self.first}-{self.end - 1}/{self.total}"


def range_of(request: web.Request, headers: MultiMapping[str], total: int) -> ByteRange | None:
    """The part of an answer of ``total`` bytes that is asked for; None: all of it (RFC 9110 14.2).

    A Range that is none, of several parts, or of another state than If-Range names, asks for the whole.

    Args:
        headers: Those of the answer, with its strong ETag.

    Raises:
        RangeNotSatisfiable: it begins after the last byte.
    """
    if request.method != hdrs.METH_GET or hdrs.RANGE not in request.headers:
        return None
    if request.headers.get(hdrs.IF_RANGE, headers[hdrs.ETAG]) != headers[hdrs.ETAG]:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None
    first, stop = asked.start, asked.stop
    if first is None:
        first, stop = 0, total
    elif first < 0:
        first, stop = max(0, total + first), total
    stop = total if stop is None else min(stop, total)
    if first >= stop:
        raise RangeNotSatisfiable(
            "The range begins after the end.",
            why=f"There are {total} bytes.",
            todo="Ask for less, or for all of it.",
            total=total,
        )
    return ByteRange(first, stop - first, total)


def cut_pieces(pieces: Iterable[Piece], span: ByteRange) -> Iterator[Piece]:
    """What of ``pieces`` lies in ``span``."""
    at = 0
    for piece in pieces:
        start, middle, end = at, at + len(piece.before), at + piece.size
        at = end
        if end <= span.first or start >= span.end:
            continue
        before = piece.before[max(0, span.first - start) : max(0, span.end - start)]
        begin, stop = max(span.first, middle), min(span.end, end)
        inside = piece.span.part(begin - middle, stop - begin) if piece.span and begin < stop else None
        yield replace(piece, before=before, span=inside)
