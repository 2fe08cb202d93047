"""The SOAP addresses of a node: ``/xds/repository`` (ITI-43) and ``/rad69``, dispatched on ``wsa:Action``."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from crosslight.runtime.http import ErrorRenderers
from crosslight.runtime.problem_details import render_problem
from crosslight.runtime.soap.server import MAX_QUERY_BYTES, read_soap, render_soap_error
from crosslight.standards.xds.wire.soap import action_not_supported
from node.serve import iti43, rad69
from node.serve.context import ServeContext
from node.serve.iti43 import ManifestStore

REPOSITORY, RAD69 = "/xds/repository", "/rad69"


def routes(serve: ServeContext, manifests: ManifestStore) -> list[web.RouteDef]:
    """Routes of the systems listener."""

    async def handle(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request, MAX_QUERY_BYTES)
        if envelope.action == iti43.ACTION_REQUEST:
            return await iti43.retrieve(serve, manifests, request, envelope)
        if envelope.action == rad69.ACTION_REQUEST:
            return await rad69.retrieve(serve, request, envelope)
        raise action_not_supported(envelope)

    return [web.post(REPOSITORY, handle), web.post(RAD69, handle)]


def renderers(table: ErrorRenderers, prefix: str = "/dicomweb", *, sender_400: bool = False) -> ErrorRenderers:
    """Teach ``table`` how errors look on the faces of this room; ``sender_400`` as of ``render_soap_error``."""
    fault = partial(render_soap_error, sender_400=sender_400)
    table.add(prefix, render_problem)
    table.add(REPOSITORY, fault)
    table.add(RAD69, fault)
    return table
