"""What a holder says of its answer, and what is passed on of it: a member's word is a claim."""

from __future__ import annotations

from aiohttp import ClientResponse, hdrs
from multidict import CIMultiDict

from crosslight.runtime.caching import PRIVATE
from crosslight.standards.dicom.web.given import may_be_given, resource_of
from crosslight.standards.problem import BadGateway, MemberFailed, PeerError, PeerRefused
from registry.gateway.holders import Holder

#: Response headers that belong to the content; connection headers, a node's own addresses and what it says of
#: caches, of files' names and of who may embed it stay behind.
PASSED = (
    "Content-Type",
    "Content-Encoding",
    "Content-Range",
    "Accept-Ranges",
    "Repr-Digest",
    "ETag",
    "Last-Modified",
    "Warning",
    "Retry-After",
)
#: What decides an answer: the request headers that a holder gets, and who asks from where.
VARY = "Authorization, Cookie, Accept, Accept-Charset, Accept-Encoding, Origin"
_GOOD = frozenset({200, 204, 206, 304})
_CODINGS = frozenset({"", "identity", "gzip", "deflate"})


def refused(status: int, holder: Holder) -> PeerError:
    """A holder's refusal as an error of ours.

    With the same status where the caller can do something about it.
    """
    what, why = f"{holder.member.name} ({holder.member.code}) refused.", f"HTTP status {status}."
    if 400 <= status < 500:
        return PeerRefused(what, http_status=status, why=why, where=holder.member.code)
    return MemberFailed(what, why=why, where=holder.member.code)


def content_headers(upstream: ClientResponse, path: str, holder: Holder) -> CIMultiDict[str]:
    """The headers of a holder's answer that are passed on, and ours in place of the rest.

    Args:
        upstream: The answer.
        path: What was asked for, below the DICOMweb root.
        holder: Who answered.

    Raises:
        BadGateway: it is none of what may be given there (PS3.18 8.7.3).
        PeerRefused, MemberFailed: a refusal in a form that is not passed on.
    """
    good = upstream.status in _GOOD
    kind = resource_of(path) if good else "error"
    said = upstream.headers.get(hdrs.CONTENT_TYPE, "")
    has_body = upstream.status not in (204, 304)
    if not good and (upstream.status < 400 or not may_be_given("error", said)):
        raise refused(upstream.status, holder)
    if has_body and not may_be_given(kind, said):
        raise _unusable(holder, "The media type is none of those in which this is given: PS3.18 8.7.3.")
    if upstream.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower() not in _CODINGS:
        raise _unusable(holder, "The content coding was not asked for.")
    headers: CIMultiDict[str] = CIMultiDict()
    for name in PASSED:
        if name in upstream.headers and (has_body or name != "Content-Type"):
            headers[name] = upstream.headers[name]
    headers[hdrs.CACHE_CONTROL] = PRIVATE if good else "no-store"
    headers[hdrs.VARY] = VARY
    if kind in ("objects", "frames") and has_body:
        headers[hdrs.CONTENT_DISPOSITION] = "attachment"  # a browser keeps it as a file and shows none of it
    return headers


def _unusable(holder: Holder, why: str) -> BadGateway:
    return BadGateway(
        f"{holder.member.name} ({holder.member.code}) answered with something else than was asked for.",
        why=why,
        todo="Tell the region's operator.",
        where=holder.member.code,
    )
