"""How errors look below /fhir: OperationOutcome. Registered with ErrorRenderers by the composition root."""

from __future__ import annotations

from aiohttp import web

from crosslight.runtime.http import CORRELATION
from crosslight.standards.fhir.outcome import error_outcome
from crosslight.standards.fhir.terms import JSON_TYPE
from crosslight.standards.fhir.wire import dumps
from crosslight.standards.problem import CrosslightError, NotFound
from registry.fhir.table import SPECS


def render_error(request: web.Request, error: CrosslightError) -> web.Response:
    """``error`` as OperationOutcome with its HTTP status."""
    if error.http_status == 404 and error.where == request.path:  # of the router: no such address
        todo = (
            f"Here are {', '.join(spec.type for spec in SPECS)}, to read and to search; /fhir/metadata has"
            " the rest."
        )
        error = NotFound("There is nothing at this address.", todo=todo)
    correlation = request.get(CORRELATION, "")
    headers = {"Cache-Control": "no-store", "Vary": "Authorization"}
    body = dumps(error_outcome(error, correlation=correlation))
    return web.Response(
        status=error.http_status, body=body, content_type=JSON_TYPE, charset="utf-8", headers=headers
    )
