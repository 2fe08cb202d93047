"""Bundle: a search's answer, spliced from resources."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from crosslight.standards.fhir.wire import Rendered, Resource, render

_HEX = re.compile(r"[0-9a-f]{32}\Z")
Mode = Literal["match", "include", "outcome"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a searchset."""

    resource: Rendered
    url: str
    mode: Mode

    def to_resource(self) -> Resource:
        """The entry as it stands in ``Bundle.entry``."""
        return {
            "fullUrl": self.url,
            "resource": orjson.Fragment(self.resource.data),
            "search": {"mode": self.mode},
        }


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a page as bytes, ready to be spliced; ``shown`` names each with its version, for an ETag."""

    shown: tuple[str, ...] = ()
    data: bytes = b""


def joined(entries: Iterable[Entry]) -> Entries:
    """Entries that are matches or includes, as they stand in ``Bundle.entry``, with commas between them."""
    entries = list(entries)
    return Entries(
        shown=tuple([f"{e.resource.id}/{e.resource.version}" for e in entries]),
        data=orjson.dumps([e.to_resource() for e in entries])[1:-1],
    )


def entry(resource: Resource | Rendered, base: str, mode: Mode) -> Entry:
    """An entry of a resource or of its bytes."""
    rendered = resource if isinstance(resource, Rendered) else render(resource)
    return Entry(rendered, f"{base}/{rendered.type}/{rendered.id}", mode)


def outcome_entry(outcome: Resource, correlation: str) -> Entry:
    """The entry of what an answer says of itself.

    Nothing that can be read again, so its name is the correlation's UUID.
    """
    bare = correlation.replace("-", "").lower()
    named = uuid.UUID(hex=bare) if _HEX.match(bare) else uuid.uuid5(uuid.NAMESPACE_OID, correlation)
    return Entry(render(outcome), named.urn, "outcome")


def searchset(
    page: Entries,
    outcome: Entry,
    *,
    links: Mapping[str, str],
    total: int | None,
    tags: Iterable[Mapping[str, str]] = (),
) -> Resource:
    """A searchset of what was found, and what the answer says of itself.

    ``total`` None where it was not counted; includes and outcomes never count (R4 3.1.1.5.4). ``tags`` are
    codings for clients that read no outcome.
    """
    bundle: dict[str, Any] = {"resourceType": "Bundle"}
    if marked := list(tags):
        bundle["meta"] = {"tag": marked}
    bundle["type"] = "searchset"
    if total is not None:
        bundle["total"] = total
    bundle["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
    spliced = [orjson.Fragment(page.data)] if page.data else []
    bundle["entry"] = [*spliced, outcome.to_resource()]
    return bundle
