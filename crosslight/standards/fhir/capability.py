"""CapabilityStatement, from the same table that makes the routes: it cannot claim what is not there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crosslight.standards.fhir.resource_spec import ParamSpec, ResourceSpec
from crosslight.standards.fhir.terms import FHIR_VERSION, JSON_TYPE, OWN
from crosslight.standards.fhir.wire import Resource, prune

_COMMON = ("_count", "_sort", "_summary", "_total", "_elements")


def _param(resource: str, param: ParamSpec) -> Resource:
    words = f" Modifiers: {', '.join(':' + m for m in sorted(param.modifiers))}." if param.modifiers else ""
    definition = f"{OWN}SearchParameter:{resource}-{param.name}" if param.own else ""
    return prune(
        {"name": param.name, "definition": definition, "type": param.type, "documentation": param.doc + words}
    )


def _resource(spec: ResourceSpec) -> Resource:
    chained = [p for p in spec.params if p.type == "reference" and "Patient" in p.targets]
    params = [_param(spec.type, p) for p in spec.params]
    params += [
        {
            "name": f"{p.name}.identifier",
            "type": "token",
            "documentation": f"The patient's identifier; same as {p.name}:identifier.",
        }
        for p in chained
    ]
    return prune(
        {
            "type": spec.type,
            "documentation": spec.doc,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "versioning": "versioned",
            "readHistory": False,
            "updateCreate": False,
            "conditionalRead": "not-match",
            "searchInclude": list(spec.includes),
            "searchParam": params,
        }
    )


def capability_statement(
    specs: Iterable[ResourceSpec], *, name: str, version: str, date: str, base: str, secured: bool
) -> dict[str, Any]:
    """What the FHIR face at ``base`` can do."""
    common = ", ".join(_COMMON)
    security: Resource = {
        "cors": False,
        "description": (
            "Bearer tokens of the region over TLS, or a client certificate at the listener for systems."
        ),
    }
    if secured:
        security["service"] = [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                        "code": "OAuth",
                    }
                ]
            }
        ]
    return {
        "resourceType": "CapabilityStatement",
        "name": "CrosslightRegistry",
        "title": f"Imaging of {name}",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "Crosslight", "version": version},
        "implementation": {
            "description": f"The region {name}: which imaging exists, and which member holds it.",
            "url": base,
        },
        "fhirVersion": FHIR_VERSION,
        "format": [JSON_TYPE, "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    f"Searches are strict unless Prefer: handling=lenient. GET and POST _search; {common}."
                    " Every search answer has an OperationOutcome entry saying how complete it is, and a"
                    " Crosslight-Coverage header."
                ),
                "security": security,
                "resource": [_resource(spec) for spec in specs],
            }
        ],
    }
