"""Validators of what holds patient data (RFC 9110 8.8, 13.1.2).

It is kept by nobody but who asked, and asked for again each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, MutableMapping

from aiohttp import hdrs, web

PRIVATE = "private, no-cache"  # RFC 9111 5.2.2: no shared cache keeps it; a private one asks before each use


def tag_of(*parts: str | bytes) -> str:
    """A weak ETag of all that decides an answer.

    Weak: boundaries and content codings differ between equal answers.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return f'W/"{digest.hexdigest()}"'


def etag_matches(header: str, tag: str) -> bool:
    """Whether an If-None-Match header names ``tag`` (weak comparison, RFC 9110 13.1.2)."""
    bare = tag.removeprefix("W/")
    return any(part.strip() == "*" or part.strip().removeprefix("W/") == bare for part in header.split(","))


def validated(headers: MutableMapping[str, str], tag: str, vary: Iterable[str]) -> None:
    """Put the caching headers of patient data on ``headers``."""
    headers[hdrs.CACHE_CONTROL], headers[hdrs.ETAG] = PRIVATE, tag
    headers[hdrs.VARY] = ", ".join(vary)


def is_current(request: web.Request, tag: str) -> bool:
    """Whether the caller says that it has just this: then 304 is the answer."""
    asked = ",".join(request.headers.getall(hdrs.IF_NONE_MATCH, ()))
    return request.method in ("GET", "HEAD") and bool(asked) and etag_matches(asked, tag)
