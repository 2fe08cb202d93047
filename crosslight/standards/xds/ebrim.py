"""ebRIM 3.0 read into XDS metadata (ITI TF-3 4.2.1): liberal in order and form, exact in content.

A slot, classification or identifier that should stand once and stands twice, has no value where it must have one, or says
that it belongs to another object than the one it stands in, is kept as an unknown one: nothing is guessed, and the rules
(``rules.py``) see it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from crosslight.standards.problem import Malformed
from crosslight.standards.xds import vocabulary as v
from crosslight.standards.xds.metadata import (
    Association,
    Author,
    Classification,
    Code,
    DocumentEntry,
    ExternalId,
    Folder,
    LocalText,
    RegistryObject,
    RegistryObjects,
    Slot,
    SubmissionSet,
    Text,
)
from crosslight.standards.xds.xml import BLANKS, LCM, RIM, XML, Element, attribute, child, children, text_of

_R = f"{{{RIM}}}"
_VERBATIM = frozenset({"source_patient_id", "legal_authenticator"})  # a blank may be part of these


def parse_submit_objects(element: Element) -> RegistryObjects:
    """The objects of an lcm:SubmitObjectsRequest (ITI-42, ITI-57), or one inside an ITI-41 request.

    Raises:
        Malformed: another element, or no RegistryObjectList.
    """
    if element.tag != f"{{{LCM}}}SubmitObjectsRequest":
        inner = child(element, LCM, "SubmitObjectsRequest")
        if inner is None:
            raise Malformed("The body is not a SubmitObjectsRequest.", why="ITI TF-2 3.42.4.1.2.")
        element = inner
    listed = child(element, RIM, "RegistryObjectList")
    if listed is None:
        raise Malformed("The request has no RegistryObjectList.", why="ITI TF-2 3.42.4.1.2.")
    return parse_object_list(listed)


def parse_remove_objects(element: Element) -> tuple[str, ...]:
    """The ids of an lcm:RemoveObjectsRequest (ITI-62), in order.

    Raises:
        Malformed: another element, or no reference.
    """
    if element.tag != f"{{{LCM}}}RemoveObjectsRequest":
        raise Malformed("The body is not a RemoveObjectsRequest.", why="ITI TF-2 3.62.4.1.2.")
    ids = tuple(attribute(ref, "id") for ref in element.iter(f"{_R}ObjectRef"))
    if not ids or not all(ids):
        raise Malformed("The request names no object.", why="ITI TF-2 3.62.4.1.2.")
    return ids


def parse_object_list(listed: Element) -> RegistryObjects:
    """The objects of a rim:RegistryObjectList. ObjectRefs and objects of other kinds are left out."""
    packages = _package_nodes(listed)
    found: list[RegistryObject] = []
    for element in listed:
        if element.tag == f"{_R}ExtrinsicObject":
            found.append(_document(element))
        elif element.tag == f"{_R}Association":
            found.append(_association(element))
        elif element.tag == f"{_R}RegistryPackage":
            nodes = packages.get(attribute(element, "id"), ())
            if v.SUBMISSION_SET_NODE in nodes:
                found.append(_submission(element))
            elif v.FOLDER_NODE in nodes:
                found.append(_folder(element))
    return RegistryObjects.of(found)


def parse_object_refs(listed: Element) -> tuple[tuple[str, str], ...]:
    """(id, home) of the rim:ObjectRefs of a list."""
    return tuple((attribute(e, "id"), attribute(e, "home")) for e in children(listed, RIM, "ObjectRef"))


def _package_nodes(listed: Element) -> dict[str, set[str]]:
    """Package id -> classification nodes, given inside the package or beside it."""
    nodes: dict[str, set[str]] = {}
    for element in listed.iter(f"{_R}Classification"):
        node = attribute(element, "classificationNode")
        if node:
            parent = element.getparent()
            owner = attribute(parent, "id") if parent is not None and parent.tag == f"{_R}RegistryPackage" else ""
            nodes.setdefault(owner or attribute(element, "classifiedObject"), set()).add(node)
    return nodes


def _document(element: Element) -> DocumentEntry:
    values = _common(element, "document")
    values["mime_type"] = attribute(element, "mimeType")
    values["object_type"] = attribute(element, "objectType", v.STABLE)
    values["is_opaque"] = attribute(element, "isOpaque")
    return DocumentEntry(**values)


def _submission(element: Element) -> SubmissionSet:
    return SubmissionSet(**_common(element, "submission"))


def _folder(element: Element) -> Folder:
    return Folder(**_common(element, "folder"))


def _association(element: Element) -> Association:
    values = _common(element, "association")
    return Association(
        **values,
        type=attribute(element, "associationType"),
        source=attribute(element, "sourceObject"),
        target=attribute(element, "targetObject"),
    )


def _common(element: Element, kind: str) -> dict[str, Any]:
    version = child(element, RIM, "VersionInfo")
    values: dict[str, Any] = {
        "entry_uuid": attribute(element, "id"),
        "logical_id": attribute(element, "lid"),
        "status": attribute(element, "status"),
        "home": attribute(element, "home"),
        "version": attribute(version, "versionName") if version is not None else "",
        "title": _text(child(element, RIM, "Name")),
        "comments": _text(child(element, RIM, "Description")),
    }
    values["slots"] = _slots_into(values, _slots(element), v.SINGLE_SLOTS[kind], v.MULTI_SLOTS[kind])
    _classifications_into(values, element, kind)
    _identifiers_into(values, element, kind)
    return values


def _text(element: Element | None) -> Text:
    if element is None:
        return ()
    found = (
        LocalText(str(s.get("value", "")), str(s.get(f"{{{XML}}}lang", "")), str(s.get("charset", "")))
        for s in children(element, RIM, "LocalizedString")
    )
    return tuple(t for t in found if t.value)


def _tidy(text: str) -> str:
    """A value that was pretty-printed onto its own line loses that; any other is left as it is."""
    return text.strip(BLANKS) if text.lstrip(" \t")[:1] in ("\n", "\r") else text


def _slots(element: Element) -> Iterator[Slot]:
    for slot in children(element, RIM, "Slot"):
        texts = (text_of(value) for value in slot.iterfind(f"{_R}ValueList/{_R}Value"))
        yield Slot(str(slot.get("name", "")), tuple(_tidy(t) for t in texts))


def _slots_into(values: dict[str, Any], slots: Iterable[Slot], single: dict[str, str], many: dict[str, str]) -> tuple[Slot, ...]:
    """Put known slots into ``values``; the rest comes back."""
    rest = []
    for slot in slots:
        name = single.get(slot.name)
        if name is not None and name not in values and len(slot.values) == 1 and slot.values[0].strip(BLANKS):
            values[name] = slot.values[0] if name in _VERBATIM else slot.values[0].strip(BLANKS)
            continue
        name = many.get(slot.name)
        if name is not None and name not in values and slot.values:
            values[name] = slot.values
            continue
        if slot.values or slot.name not in single:
            rest.append(slot)
    return tuple(rest)


def _classifications_into(values: dict[str, Any], element: Element, kind: str) -> None:
    codes, author_scheme = v.CODES[kind], v.AUTHOR_SCHEME.get(kind)
    authors: list[Author] = []
    unknown: list[Classification] = []
    for row in children(element, RIM, "Classification"):
        scheme, node = attribute(row, "classificationScheme"), attribute(row, "classificationNode")
        if node in (v.SUBMISSION_SET_NODE, v.FOLDER_NODE) and not scheme:
            continue
        owner = _other(row, "classifiedObject", values)
        if scheme == author_scheme and not owner:
            authors.append(_author(row))
            continue
        code = _code(row) if scheme in codes and not owner else None
        name, many = codes.get(scheme, ("", False))
        if code is not None and many:
            values[name] = (*values.get(name, ()), code)
        elif code is not None and name not in values:
            values[name] = code
        else:
            unknown.append(_classification(row, scheme, node, owner))
    if authors:
        values["authors"] = tuple(authors)
    values["classifications"] = tuple(unknown)


def _author(row: Element) -> Author:
    values: dict[str, Any] = {}
    rest = _slots_into(values, _slots(row), {}, v.AUTHOR_SLOTS)
    return Author(**values, slots=rest)


def _code(row: Element) -> Code | None:
    """A coded classification; None unless it has a code and exactly one codingScheme."""
    value, schemes, rest = str(row.get("nodeRepresentation", "")), list[Slot](), list[Slot]()
    for slot in _slots(row):
        (schemes if slot.name == "codingScheme" else rest).append(slot)
    if not value.strip() or len(schemes) != 1 or len(schemes[0].values) != 1 or not schemes[0].values[0].strip():
        return None
    return Code(value, schemes[0].values[0].strip(), _text(child(row, RIM, "Name")), tuple(rest))


def _other(row: Element, name: str, values: dict[str, Any]) -> str:
    """The object that a part says it belongs to, where that is not the one it stands in."""
    owner = attribute(row, name, values["entry_uuid"])
    return "" if owner == values["entry_uuid"] else owner


def _classification(row: Element, scheme: str, node: str, owner: str) -> Classification:
    representation = row.get("nodeRepresentation")
    return Classification(
        scheme=scheme,
        owner=owner,
        node=node,
        representation=None if representation is None else str(representation),
        name=_text(child(row, RIM, "Name")),
        slots=tuple(_slots(row)),
    )


def _identifiers_into(values: dict[str, Any], element: Element, kind: str) -> None:
    known = v.IDENTIFIERS[kind]
    unknown: list[ExternalId] = []
    for row in children(element, RIM, "ExternalIdentifier"):
        scheme, value = attribute(row, "identificationScheme"), str(row.get("value", ""))
        name = known.get(scheme, ("", ""))[0]
        owner = _other(row, "registryObject", values)
        if name and name not in values and value.strip(BLANKS) and not owner:
            values[name] = value.strip(BLANKS)
        else:
            unknown.append(ExternalId(scheme=scheme, owner=owner, value=value, name=_text(child(row, RIM, "Name"))))
    values["external_ids"] = tuple(unknown)
