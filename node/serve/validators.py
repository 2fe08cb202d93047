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

_VARY = ("Authorization", "Accept")


def of_objects(request: web.Request, objects: Iterable[StoredObject]) -> str:
    """The tag of an answer that ``objects``, the address and Accept decide.

    The version of this software is part of it, since another may answer differently. '' where an object's
    digest is not known: such an answer is asked for again each time.
    """
    digests = [stored.ref.sha256 for stored in objects]
    if not all(digests):
        return ""
    asked = (request.path, request.query_string, *request.headers.getall(hdrs.ACCEPT, ()))
    return tag_of(__version__, *digests, "", *asked)


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
