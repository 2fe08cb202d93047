"""The SOAP addresses of a node: ``/xds/repository`` (ITI-43) and ``/rad69``.

Each takes both transactions, and tells them apart by ``wsa:Action``.
"""

from __future__ import annotations

from aiohttp import web

from crosslight.runtime.http import ErrorRenderers
from crosslight.runtime.problem_details import render_problem
from crosslight.runtime.soap.endpoint import SoapEndpoint, add_faults
from crosslight.runtime.soap.server import MAX_QUERY_BYTES
from node.serve.context import ServeContext
from node.serve.iti43 import ManifestStore, RetrieveDocumentSet
from node.serve.rad69 import RetrieveImagingDocumentSet

REPOSITORY, RAD69 = "/xds/repository", "/rad69"


def routes(serve: ServeContext, manifests: ManifestStore) -> list[web.RouteDef]:
    """Routes of the systems listener."""
    transactions = RetrieveDocumentSet(serve, manifests), RetrieveImagingDocumentSet(serve)
    endpoint = SoapEndpoint(transactions, max_bytes=MAX_QUERY_BYTES, workers=serve.workers)
    return endpoint.routes(REPOSITORY, RAD69)


def renderers(
    table: ErrorRenderers, prefix: str = "/dicomweb", *, sender_400: bool = False
) -> ErrorRenderers:
    """Teach ``table`` how errors look on the faces of this room.

    ``sender_400`` answers a fault of the sender's making with HTTP 400, as ``render_soap_error`` does.
    """
    table.add(prefix, render_problem)
    add_faults(table, REPOSITORY, RAD69, sender_400=sender_400)
    return table
