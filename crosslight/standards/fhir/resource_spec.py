"""What a FHIR resource type offers here: the one table behind routes, search and CapabilityStatement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ParamType = Literal["token", "string", "date", "reference", "uri"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamSpec:
    """One search parameter of a resource."""

    name: str
    type: ParamType
    doc: str
    modifiers: frozenset[str] = frozenset()
    targets: tuple[str, ...] = ()  # of a reference: resource types
    own: bool = False  # not of R4: has a SearchParameter of our own


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """A resource type and what it can be asked for."""

    type: str
    params: tuple[ParamSpec, ...]
    sorts: tuple[str, ...] = ()  # keys that _sort takes, each also with '-'
    default_sort: tuple[str, ...] = ()
    includes: Mapping[str, str] = field(default_factory=dict)  # Type:parameter -> the type that it brings
    mandatory: frozenset[str] = frozenset()  # elements that _elements never drops
    doc: str = ""

    def param(self, name: str) -> ParamSpec | None:
        """The parameter of this name."""
        return next((p for p in self.params if p.name == name), None)
