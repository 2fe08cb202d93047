"""Endpoint and Organization: read and search over the directory of members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from crosslight.standards.fhir.bundle import entry, joined
from crosslight.standards.fhir.directory import (
    WADO,
    member_endpoint,
    organization,
    region_endpoint,
    region_organization,
)
from crosslight.standards.fhir.match import string_is, token_is
from crosslight.standards.fhir.resource_spec import ResourceSpec
from crosslight.standards.fhir.search import Criterion, MissingValue, ReferenceValue, Value
from crosslight.standards.fhir.terms import CONNECTION_TYPE
from crosslight.standards.fhir.wire import Resource
from crosslight.standards.problem import NotFound
from registry.ask.question import Answer, DirectoryQuestion
from registry.fhir.completeness import completeness
from registry.fhir.face import FIND_ID, FhirFace, cut, search_issues
from registry.fhir.facts import Facts, id_part
from registry.fhir.table import ENDPOINT, ORGANIZATION

_STATUS = "http://hl7.org/fhir/endpoint-status"


def endpoints(facts: Facts, incarnation: str) -> list[Resource]:
    """The gateway's, then each member's that is known."""
    own = [member_endpoint(m, incarnation=incarnation) for m in facts.members() if m.dicomweb]
    return [region_endpoint(facts.region, incarnation=incarnation), *own]


def organizations(facts: Facts, incarnation: str) -> list[Resource]:
    """The region, then its members."""
    own = [organization(m, facts.region, incarnation=incarnation) for m in facts.members()]
    return [region_organization(facts.region, incarnation=incarnation), *own]


def _endpoint_is(resource: Resource, criterion: Criterion, value: Value) -> bool:
    if criterion.name == "_id":
        return token_is(value, resource["id"], ())
    if criterion.name == "organization":
        return (
            isinstance(value, ReferenceValue)
            and resource["managingOrganization"]["reference"] == f"Organization/{value.id}"
        )
    if criterion.name == "status":
        return token_is(value, resource["status"], (_STATUS,))
    return token_is(value, WADO, (CONNECTION_TYPE,))


def _organization_is(resource: Resource, criterion: Criterion, value: Value) -> bool:
    if criterion.name == "_id":
        return token_is(value, resource["id"], ())
    if criterion.name == "identifier":
        return any(token_is(value, i["value"], (i["system"],)) for i in resource["identifier"])
    if criterion.name == "active":
        return token_is(value, "true" if resource["active"] else "false", ())
    return string_is(value, resource["name"], criterion.modifier)


def _holds(
    resource: Resource, criterion: Criterion, rule: Callable[[Resource, Criterion, Value], bool]
) -> bool:
    if criterion.modifier == "missing":  # nothing that can be asked for is ever missing here
        return any(isinstance(value, MissingValue) and not value.missing for value in criterion.values)
    return any(rule(resource, criterion, value) for value in criterion.values)


class DirectoryHandlers:
    """Handlers of ``/fhir/Endpoint`` or ``/fhir/Organization``."""

    def __init__(self, face: FhirFace, spec: ResourceSpec) -> None:
        self._face, self._spec = face, spec
        self._rule = _endpoint_is if spec is ENDPOINT else _organization_is

    def _all(self, facts: Facts, answer: Answer) -> list[Resource]:
        return (endpoints if self._spec is ENDPOINT else organizations)(facts, id_part(answer.incarnation))

    async def read(self, request: web.Request) -> web.Response:
        """``GET /fhir/{type}/{id}``: the one with this id, else 404."""
        face, key = self._face, request.match_info["id"]
        wanted = face.wanted(request, self._spec)
        async with face.question(request, "read", DirectoryQuestion()) as answer:
            for resource in self._all(face.facts(request), answer):
                if resource["id"] == key:
                    return face.resource(request, cut(self._spec, wanted, resource), answer.coverage, wanted)
            raise NotFound(
                f"There is no {self._spec.type} with this id.", todo=FIND_ID, where=f"{self._spec.type}.id"
            )

    async def search(self, request: web.Request) -> web.Response:
        """``GET /fhir/{type}?…`` and ``POST /fhir/{type}/_search``."""
        face = self._face
        asked = await face.asked(request, self._spec)
        search = asked.search
        async with face.question(request, "search", DirectoryQuestion()) as answer:
            facts = face.facts(request)
            criteria = [self._resolved(c, facts, answer) for c in search.criteria]
            rows = [r for r in self._all(facts, answer) if all(_holds(r, c, self._rule) for c in criteria)]
            total, rows, after = _slice(rows, asked.after, search.count)
            entries = [entry(cut(self._spec, search, r), asked.base, "match") for r in rows]
            entries += [
                entry(r, asked.base, "include") for r in self._included(rows, facts, answer, search.includes)
            ]
            entries = [] if search.summary == "count" else entries
            issues = completeness(answer) + search_issues(search)
            outcome = face.outcome(request, issues)
            links = face.links(request, self._spec, asked, after if search.summary != "count" else None)
            return face.bundle(
                request, asked, joined(entries), outcome, links=links, total=total, answer=answer
            )

    def _resolved(self, criterion: Criterion, facts: Facts, answer: Answer) -> Criterion:
        """``organization.identifier`` as references to the organisations that have such an identifier."""
        if not criterion.by_identifier:
            return criterion
        named = [
            ReferenceValue("Organization", str(resource["id"]))
            for resource in organizations(facts, id_part(answer.incarnation))
            for value in criterion.values
            if any(token_is(value, i["value"], (i["system"],)) for i in resource["identifier"])
        ]
        return replace(criterion, values=tuple(named), by_identifier=False)

    def _included(
        self, rows: list[Resource], facts: Facts, answer: Answer, includes: tuple[str, ...]
    ) -> list[Resource]:
        if not includes:
            return []
        stem = id_part(answer.incarnation)
        if self._spec is ORGANIZATION:
            wanted = {ref["reference"] for row in rows for ref in row.get("endpoint", ())}
            return [r for r in endpoints(facts, stem) if f"Endpoint/{r['id']}" in wanted]
        wanted = {row["managingOrganization"]["reference"] for row in rows}
        return [r for r in organizations(facts, stem) if f"Organization/{r['id']}" in wanted]


def _slice(rows: list[Resource], after: object, count: int) -> tuple[int, list[Resource], str | None]:
    """A page by id: how many in all, its rows, and the last id when there are more."""
    ordered = sorted(rows, key=lambda r: str(r["id"]))
    rest = [r for r in ordered if after is None or str(r["id"]) > str(after)]
    page = rest[:count]
    return len(rows), page, str(page[-1]["id"]) if page and len(rest) > len(page) else None
