"""ETags of what a node gives out (RFC 9110 13.1.2).

They are made of the objects' digests and of what was asked, before any object is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import hdrs, web
from multidict import CIMultiDict

from crosslight import __version__
from crosslight.runtime.caching import is_current, tag_of, validated
from crosslight.standards.dicom.web.parameters import ignored_warning
from node.holdings import StoredObject
from node.serve.context import ServeContext

_VARY = ("Authorization", "Accept")


def of_objects(request: web.Request, objects: Iterable[StoredObject]) -> str:
    """The tag of an answer that ``objects``, the address and Accept decide.

    The version of this software is part of it, since another may answer differently. '' where an object's
    digest is not known, or an object is damaged: such an answer is asked for again each time.
    """
    digests = [stored.ref.sha256 if not stored.damaged else "" for stored in objects]
    if not all(digests):
        return ""
    asked = (request.path, request.query_string, *request.headers.getall(hdrs.ACCEPT, ()))
    return tag_of(__version__, *digests, "", *asked)


def of_same_bytes(serve: ServeContext, tag: str) -> str:
    """A strong tag, where ``tag`` is of objects as they are held here: that answer is the same bytes again.

    This node's own: elsewhere the same object may lie with other file meta information.
    """
    return tag_of(serve.repository_unique_id(), tag).removeprefix("W/") if tag else ""


def weaken(headers: CIMultiDict[str]) -> None:
    """The answer may differ in its bytes after all."""
    if headers.get(hdrs.ETAG, "").startswith('"'):
        headers[hdrs.ETAG] = f"W/{headers[hdrs.ETAG]}"


def headers_of(request: web.Request, tag: str, *, known: Sequence[str] = ()) -> CIMultiDict[str]:
    """Headers of an answer with patient data; a warning for parameters that were not used (PS3.18 8.3)."""
    headers: CIMultiDict[str] = CIMultiDict()
    validated(headers, tag, _VARY)
    if not tag:
        del headers[hdrs.ETAG]
    unused = [name for name in request.query if name not in ("accept", *known)]
    if unused:
        headers.add("Warning", f'299 {request.host}: "{ignored_warning(unused)}"')
    return headers


def not_modified(request: web.Request, headers: CIMultiDict[str]) -> web.Response | None:
    """304 if the caller has what these headers name."""
    tag = headers.get(hdrs.ETAG, "")
    return web.Response(status=304, headers=headers) if tag and is_current(request, tag) else None
