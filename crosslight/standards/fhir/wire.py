"""Canonical JSON bytes, version ids and ETags (D12). Bytes are spliced, never parsed again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

Resource = dict[str, Any]


def instant(moment: datetime) -> str:
    """A FHIR instant in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def dumps(value: Any, *, pretty: bool = False) -> bytes:
    """The one way resources become bytes; what is spliced in is laid out too when ``pretty``."""
    data = orjson.dumps(value)
    return orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2) if pretty else data


def text(value: str) -> str | None:
    """``value`` unchanged, or None where FHIR has no string for it.

    Never empty, never only whitespace (R4 2.24.0.1).
    """
    return value if value.strip() else None


def prune(value: Resource) -> Resource:
    """Without members that are None, empty lists or empty objects: FHIR knows no empty elements."""
    return {k: v for k, v in value.items() if v is not None and v != [] and v != {} and v != ""}


def _view(data: bytes) -> str:
    """A hash of all that is shown (D12).

    BLAKE2b, for a processor without instructions for SHA-256 spent half of a study's rendering on that.
    """
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def versioned(resource: Resource, *, stem: str, updated: datetime | None) -> Resource:
    """``resource`` with ``meta`` first after its id.

    versionId is ``stem`` and a hash of all that this answer shows (D12).
    """
    meta: Resource = {"versionId": f"{stem}.{_view(orjson.dumps(resource))}"}
    if updated is not None:
        meta["lastUpdated"] = instant(updated)
    head = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
    return head | {k: v for k, v in resource.items() if k not in ("resourceType", "id")}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A versioned resource as bytes, ready to be spliced into a Bundle."""

    type: str
    id: str
    version: str
    data: bytes


def render(resource: Resource) -> Rendered:
    """The bytes of a resource; one without ``meta`` (an outcome) has no version."""
    version = resource.get("meta", {}).get("versionId", "")
    return Rendered(resource["resourceType"], resource.get("id", ""), version, orjson.dumps(resource))


def render_versioned(kind: str, key: str, body: Resource, *, stem: str, updated: datetime) -> Rendered:
    """As :func:`versioned` and :func:`render`, of all that follows ``id`` and ``meta``; written once."""
    data = orjson.dumps(body)
    version = f"{stem}.{_view(data)}"
    meta = {"versionId": version, "lastUpdated": instant(updated)}
    head = orjson.dumps({"resourceType": kind, "id": key, "meta": meta})
    return Rendered(kind, key, version, head[:-1] + b"," + data[1:])


def etag(resource: Resource) -> str:
    """``W/"versionId"``."""
    return f'W/"{resource["meta"]["versionId"]}"'


def subset(
    resource: Resource, elements: tuple[str, ...], mandatory: frozenset[str], tag: Resource
) -> Resource:
    """Only the elements asked for and those that must be there, marked SUBSETTED (R4 3.1.1.5.9)."""
    keep = {"resourceType", "id", "meta"} | mandatory | set(elements)
    cut = {k: v for k, v in resource.items() if k in keep or k.removeprefix("_") in keep}
    cut["meta"] = {**resource["meta"], "tag": [tag]}
    return cut
