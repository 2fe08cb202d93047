"""How errors look on DICOMweb: RFC 9457 problem details.

PS3.18 8.5 leaves the form of a status report open.
"""

from __future__ import annotations

from dataclasses import asdict

import orjson
from aiohttp import hdrs, web

from crosslight.runtime.http import CORRELATION
from crosslight.standards.problem import ChoiceNeeded, CrosslightError, RangeNotSatisfiable


def render_problem(request: web.Request, error: CrosslightError) -> web.Response:
    """The :class:`~crosslight.runtime.http.ErrorRenderers` entry for ``/dicomweb``, node and region."""
    body = {
        "type": "about:blank",
        "title": error.what,
        "status": error.http_status,
        "detail": " ".join(part for part in (error.why, error.todo) if part),
        "where": error.where,
        "kind": type(error).__name__,
        "correlation": request.get(CORRELATION, ""),
        "choices": [asdict(choice) for choice in error.choices] if isinstance(error, ChoiceNeeded) else [],
    }
    response = web.Response(
        status=error.http_status,
        body=orjson.dumps({k: v for k, v in body.items() if v}),
        content_type="application/problem+json",
    )
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    for choice in error.choices if isinstance(error, ChoiceNeeded) else ():
        link = f'<{choice.address}>; rel="alternate"; title="{choice.code}"'  # RFC 8288 3
        response.headers.add(hdrs.LINK, link)
    if isinstance(error, RangeNotSatisfiable):
        response.headers[hdrs.CONTENT_RANGE] = f"bytes */{error.total}"
    return response
