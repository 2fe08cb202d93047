"""query:AdhocQueryRequest and Response (ITI TF-2 3.18.4).

The messages, not the meaning of their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.problem import Malformed, TooLarge
from crosslight.standards.xds.model.metadata import RegistryObject, RegistryObjects
from crosslight.standards.xds.model.xml import (
    QUERY,
    RIM,
    RS,
    Element,
    attribute,
    child,
    children,
    esc,
    text_of,
)
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.ebrim import parse_object_list, parse_object_refs
from crosslight.standards.xds.wire.ebrim_templates import write_object
from crosslight.standards.xds.wire.ebrim_write import render_object_ref
from crosslight.standards.xds.wire.response import parse_error_list, render_error_list

ACTION_REQUEST = "urn:ihe:iti:2007:RegistryStoredQuery"
ACTION_RESPONSE = "urn:ihe:iti:2007:RegistryStoredQueryResponse"
ReturnType = Literal["LeafClass", "ObjectRef"]
MAX_VALUES = 5_000  # of all parameters of one query


@dataclass(frozen=True, slots=True, kw_only=True)
class AdhocQuery:
    """A query as sent: parameters in order, values as their text stands (quotes and all)."""

    query_id: str
    return_type: ReturnType = "LeafClass"
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    home: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdhocReply:
    """An answer as received."""

    status: str
    errors: tuple[RegistryError, ...] = ()
    slots: tuple[tuple[str, tuple[str, ...]], ...] = ()
    objects: RegistryObjects = RegistryObjects()
    refs: tuple[tuple[str, str], ...] = ()  # (id, home)


def _slots(parent: Element) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (
            attribute(s, "name"),
            tuple(text_of(e).strip() for e in s.iterfind(f"{{{RIM}}}ValueList/{{{RIM}}}Value")),
        )
        for s in children(parent, RIM, "Slot")
    )


def parse_adhoc_request(element: Element) -> AdhocQuery:
    """Read a request.

    Raises:
        Malformed: another element, no AdhocQuery, or a return type that ITI-18 does not have.
        TooLarge: more than ``MAX_VALUES`` values.
    """
    if element.tag != f"{{{QUERY}}}AdhocQueryRequest":
        raise Malformed("The body is not an AdhocQueryRequest.", why="ITI TF-2 3.18.4.1.2.")
    query, option = child(element, RIM, "AdhocQuery"), child(element, QUERY, "ResponseOption")
    if query is None:
        raise Malformed("The request has no AdhocQuery.", why="ITI TF-2 3.18.4.1.2.")
    wanted = attribute(option, "returnType", "LeafClass") if option is not None else "LeafClass"
    if wanted not in ("LeafClass", "ObjectRef"):
        raise Malformed("The return type is neither LeafClass nor ObjectRef.", why="ITI TF-2 3.18.4.1.2.6.")
    parameters = _slots(query)
    if sum(len(values) for _, values in parameters) > MAX_VALUES:
        raise TooLarge("The query has too many values.", why=f"Limit here: {MAX_VALUES}.")
    return AdhocQuery(
        query_id=attribute(query, "id").lower(),
        return_type="ObjectRef" if wanted == "ObjectRef" else "LeafClass",
        parameters=parameters,
        home=attribute(query, "home"),
    )


def render_adhoc_request(query: AdhocQuery) -> bytes:
    """A request; parameter values as they are to stand (see ``stored_query.quoted``)."""
    slots = "".join(
        "<rim:Slot"
        f' name="{esc(name)}"><rim:ValueList>{"".join(f"<rim:Value>{esc(x)}</rim:Value>" for x in values)}'
        "</rim:ValueList></rim:Slot>"
        for name, values in query.parameters
    )
    home = f' home="{esc(query.home)}"' if query.home else ""
    return (
        f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{query.return_type}"/>'
        f'<rim:AdhocQuery id="{esc(query.query_id)}"{home}>{slots}</rim:AdhocQuery></query:AdhocQueryRequest>'
    ).encode()


def render_adhoc_response(
    status: str,
    *,
    objects: Iterable[RegistryObject] = (),
    refs: Iterable[tuple[str, str]] = (),
    errors: Sequence[RegistryError] = (),
    slots: Iterable[tuple[str, Iterable[str]]] = (),
) -> bytes:
    """A response; the RegistryObjectList is there also when it is empty, as the schema demands."""
    slot_rows = "".join(
        "<rim:Slot"
        f' name="{esc(name)}"><rim:ValueList>{"".join(f"<rim:Value>{esc(x)}</rim:Value>" for x in values)}'
        "</rim:ValueList></rim:Slot>"
        for name, values in slots
    )
    listed = f"<rs:ResponseSlotList>{slot_rows}</rs:ResponseSlotList>" if slot_rows else ""
    head = (
        f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rim="{RIM}" xmlns:rs="{RS}"'
        f' status="{status}">{listed}{render_error_list(errors)}<rim:RegistryObjectList>'
    )
    parts = [head.encode()]  # bytes one by one: of a large answer the whole is put together once
    parts += [render_object_ref(i, h).encode() for i, h in refs]
    parts += [write_object(o).encode() for o in objects]
    parts.append(b"</rim:RegistryObjectList></query:AdhocQueryResponse>")
    return b"".join(parts)


def parse_adhoc_response(element: Element) -> AdhocReply:
    """Read a response.

    Raises:
        Malformed: another element or no status.
    """
    if element.tag != f"{{{QUERY}}}AdhocQueryResponse" or not attribute(element, "status"):
        raise Malformed("The body is not an AdhocQueryResponse with a status.", why="ITI TF-2 3.18.4.1.3.")
    listed, slots = child(element, RIM, "RegistryObjectList"), child(element, RS, "ResponseSlotList")
    return AdhocReply(
        status=attribute(element, "status"),
        errors=parse_error_list(element),
        slots=_slots(slots) if slots is not None else (),
        objects=parse_object_list(listed) if listed is not None else RegistryObjects(),
        refs=parse_object_refs(listed) if listed is not None else (),
    )
