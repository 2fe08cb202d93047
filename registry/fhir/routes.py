"""Addresses of the FHIR face, from the one table."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from crosslight.standards.fhir.capability import capability_statement
from crosslight.standards.fhir.order_list import OPERATION
from crosslight.standards.fhir.resource_spec import ResourceSpec
from crosslight.standards.fhir.terms import JSON_TYPE
from crosslight.standards.fhir.wire import dumps, instant
from registry.fhir.face import FhirFace
from registry.fhir.members import DirectoryHandlers
from registry.fhir.negotiate import require_json
from registry.fhir.patients import PatientHandlers
from registry.fhir.studies import StudyHandlers
from registry.fhir.table import IMAGING_STUDY, PATIENT, SPECS


class Handlers(Protocol):
    """Read and search of one resource type."""

    async def read(self, request: web.Request) -> web.Response:
        """The resource that the address names."""
        ...

    async def search(self, request: web.Request) -> web.Response:
        """The searchset of what is asked for."""
        ...


def handlers_for(face: FhirFace, spec: ResourceSpec) -> Handlers:
    """Who answers for a resource type."""
    if spec is IMAGING_STUDY:
        return StudyHandlers(face)
    return PatientHandlers(face) if spec is PATIENT else DirectoryHandlers(face, spec)


def routes(face: FhirFace, prefix: str = "/fhir") -> list[web.RouteDef]:
    """Every route; GET ones answer HEAD too.

    ``/fhir/metadata`` needs no sign-in: it holds nothing of anybody.
    """

    async def metadata(request: web.Request) -> web.Response:
        require_json(request, request.query.items())
        body = capability_statement(
            SPECS,
            name=face.region.name,
            version=face.version,
            date=instant(face.started),
            base=face.base(request),
            secured=face.secured,
        )
        pretty = request.query.get("_pretty") == "true"
        return web.Response(body=dumps(body, pretty=pretty), content_type=JSON_TYPE, charset="utf-8")

    table = [web.get(f"{prefix}/metadata", metadata)]
    for spec in SPECS:
        handlers = handlers_for(face, spec)
        if isinstance(handlers, StudyHandlers):
            table.append(web.post(f"{prefix}/{spec.type}/{OPERATION}", handlers.for_order))
        table += [
            web.get(f"{prefix}/{spec.type}", handlers.search),
            web.post(f"{prefix}/{spec.type}/_search", handlers.search),
            web.get(f"{prefix}/{spec.type}/{{id:[A-Za-z0-9.-]{{1,64}}}}", handlers.read),
        ]
    return table
