"""Bundle: a search's answer, spliced from resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from crosslight.standards.fhir.wire import Rendered, Resource, render

Mode = Literal["match", "include", "outcome"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a searchset."""

    resource: Rendered
    base: str
    mode: Mode

    def to_resource(self) -> Resource:
        """As Bundle.entry; outcomes have no address."""
        found: Resource = {"resource": orjson.Fragment(self.resource.data), "search": {"mode": self.mode}}
        if self.mode == "outcome":
            return found
        return {"fullUrl": f"{self.base}/{self.resource.type}/{self.resource.id}", **found}


def entry(resource: Resource | Rendered, base: str, mode: Mode) -> Entry:
    """An entry of a resource or of its bytes."""
    return Entry(resource if isinstance(resource, Rendered) else render(resource), base, mode)


def searchset(entries: Iterable[Entry], *, links: Mapping[str, str], total: int | None) -> Resource:
    """A searchset. ``total`` None where it was not counted; includes and outcomes never count (R4 3.1.1.5.4)."""
    found: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        found["total"] = total
    found["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
    found["entry"] = [one.to_resource() for one in entries]
    return found
