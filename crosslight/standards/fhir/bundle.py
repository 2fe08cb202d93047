"""Bundle: a search's answer, spliced from resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from crosslight.standards.fhir.wire import Resource

Mode = Literal["match", "include", "outcome"]


def entry(resource: Resource, base: str, mode: Mode) -> Resource:
    """One entry; outcomes have no address."""
    found: Resource = {"resource": resource, "search": {"mode": mode}}
    if mode == "outcome":
        return found
    return {"fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}", **found}


def searchset(entries: Iterable[Resource], *, links: Mapping[str, str], total: int | None) -> Resource:
    """A searchset. ``total`` None where it was not counted; includes and outcomes never count (R4 3.1.1.5.4)."""
    found: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        found["total"] = total
    found["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
    found["entry"] = list(entries)
    return found
