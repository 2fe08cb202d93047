"""ebRIM 3.0 read into XDS metadata (ITI TF-3 4.2.1): liberal in order and form, exact in content.

A slot, classification or identifier that should stand once and stands twice, has no value where it must have
one, or says that it belongs to another object than the one it stands in, is kept as an unknown one: nothing
is guessed, and the rules (``rules.py``) see it there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crosslight.standards.problem import Malformed
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
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
from crosslight.standards.xds.model.xml import (
    BLANKS,
    LCM,
    RIM,
    XML,
    Element,
    attribute,
    child,
    children,
    text_of,
)

_R = f"{{{RIM}}}"
_SLOT, _CLASSIFICATION, _IDENTIFIER = f"{_R}Slot", f"{_R}Classification", f"{_R}ExternalIdentifier"
_NAME, _DESCRIPTION, _VERSION = f"{_R}Name", f"{_R}Description", f"{_R}VersionInfo"
_VALUE_LIST, _VALUE, _LOCALIZED = f"{_R}ValueList", f"{_R}Value", f"{_R}LocalizedString"
_BLANK = frozenset(BLANKS)
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
    members: list[RegistryObject] = []
    for element in listed:
        if element.tag == f"{_R}ExtrinsicObject":
            members.append(_document(element))
        elif element.tag == f"{_R}Association":
            members.append(_association(element))
        elif element.tag == f"{_R}RegistryPackage":
            nodes = packages.get(attribute(element, "id"), ())
            if v.SUBMISSION_SET_NODE in nodes:
                members.append(_submission(element))
            elif v.FOLDER_NODE in nodes:
                members.append(_folder(element))
    return RegistryObjects.of(members)


def parse_object_refs(listed: Element) -> tuple[tuple[str, str], ...]:
    """(id, home) of the rim:ObjectRefs of a list."""
    return tuple((attribute(e, "id"), attribute(e, "home")) for e in children(listed, RIM, "ObjectRef"))


def _package_nodes(listed: Element) -> dict[str, set[str]]:
    """Package id -> classification nodes, given inside the package or beside it."""
    nodes: dict[str, set[str]] = {}
    for element in listed.iter(_CLASSIFICATION):
        if node := attribute(element, "classificationNode"):
            parent = element.getparent()
            owner = ""
            if parent is not None and parent.tag == f"{_R}RegistryPackage":
                owner = attribute(parent, "id")
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
    values: dict[str, Any] = {
        "entry_uuid": attribute(element, "id"),
        "logical_id": attribute(element, "lid"),
        "status": attribute(element, "status"),
        "home": attribute(element, "home"),
    }
    parts = _Parts(element)
    values["version"] = attribute(parts.version, "versionName") if parts.version is not None else ""
    values["title"], values["comments"] = _text(parts.name), _text(parts.description)
    values["slots"] = _slots_into(values, parts.slots, v.SINGLE_SLOTS[kind], v.MULTI_SLOTS[kind])
    _classifications_into(values, parts.classifications, kind)
    _identifiers_into(values, parts.identifiers, kind)
    return values


class _Parts:
    """The children of an element by their kind, in one walk."""

    __slots__ = ("classifications", "description", "identifiers", "name", "slots", "version")

    def __init__(self, element: Element) -> None:
        self.slots: list[tuple[str, tuple[str, ...]]] = []
        self.classifications: list[Element] = []
        self.identifiers: list[Element] = []
        self.name: Element | None = None
        self.description: Element | None = None
        self.version: Element | None = None
        for part in element:
            tag = part.tag
            if tag == _SLOT:
                self.slots.append((str(part.get("name", "")), _values(part)))
            elif tag == _CLASSIFICATION:
                self.classifications.append(part)
            elif tag == _IDENTIFIER:
                self.identifiers.append(part)
            elif tag == _NAME:
                self.name = part if self.name is None else self.name
            elif tag == _DESCRIPTION:
                self.description = part if self.description is None else self.description
            elif tag == _VERSION:
                self.version = part if self.version is None else self.version


def _values(slot: Element) -> tuple[str, ...]:
    values = []
    for part in slot:
        if part.tag == _VALUE_LIST:
            for value in part:
                if value.tag == _VALUE:
                    text = text_of(value)
                    values.append(_tidy(text) if text[:1] in _BLANK else text)
    return tuple(values)


def _text(element: Element | None) -> Text:
    if element is None or not len(element):
        return ()
    texts = []
    for part in element:
        if part.tag == _LOCALIZED:
            value = str(part.get("value", ""))
            if value:
                texts.append(
                    LocalText(value, str(part.get(f"{{{XML}}}lang", "")), str(part.get("charset", "")))
                )
    return tuple(texts)


def _tidy(text: str) -> str:
    """A value that was pretty-printed onto its own line loses that; any other is left as it is."""
    return text.strip(BLANKS) if text.lstrip(" \t")[:1] in ("\n", "\r") else text


def _slots_into(
    values: dict[str, Any],
    slots: Iterable[tuple[str, tuple[str, ...]]],
    single: dict[str, str],
    many: dict[str, str],
) -> tuple[Slot, ...]:
    """Put known slots into ``values``; the rest comes back."""
    rest = []
    for said, slot_values in slots:
        name = single.get(said)
        if name is not None and name not in values and len(slot_values) == 1 and slot_values[0].strip(BLANKS):
            values[name] = slot_values[0] if name in _VERBATIM else slot_values[0].strip(BLANKS)
            continue
        name = many.get(said)
        if name is not None and name not in values and slot_values:
            values[name] = slot_values
            continue
        if slot_values or said not in single:
            rest.append(Slot(said, slot_values))
    return tuple(rest)


def _classifications_into(values: dict[str, Any], rows: Iterable[Element], kind: str) -> None:
    codes, author_scheme = v.CODES[kind], v.AUTHOR_SCHEME.get(kind)
    authors: list[Author] = []
    unknown: list[Classification] = []
    for row in rows:
        scheme, node = attribute(row, "classificationScheme"), attribute(row, "classificationNode")
        if node in (v.SUBMISSION_SET_NODE, v.FOLDER_NODE) and not scheme:
            continue
        owner, parts = _other(row, "classifiedObject", values), _Parts(row)
        if scheme == author_scheme and not owner:
            authors.append(_author(parts))
            continue
        code = _code(row, parts) if scheme in codes and not owner else None
        name, many = codes.get(scheme, ("", False))
        if code is not None and many:
            values[name] = (*values.get(name, ()), code)
        elif code is not None and name not in values:
            values[name] = code
        else:
            unknown.append(_classification(row, parts, scheme, node, owner))
    if authors:
        values["authors"] = tuple(authors)
    values["classifications"] = tuple(unknown)


def _author(parts: _Parts) -> Author:
    values: dict[str, Any] = {}
    rest = _slots_into(values, parts.slots, {}, v.AUTHOR_SLOTS)
    return Author(**values, slots=rest)


def _code(row: Element, parts: _Parts) -> Code | None:
    """A coded classification; None unless it has a code and exactly one codingScheme."""
    value, schemes, rest = str(row.get("nodeRepresentation", "")), list[tuple[str, ...]](), list[Slot]()
    for name, slot_values in parts.slots:
        if name == "codingScheme":
            schemes.append(slot_values)
        else:
            rest.append(Slot(name, slot_values))
    if not value.strip() or len(schemes) != 1 or len(schemes[0]) != 1 or not schemes[0][0].strip():
        return None
    return Code(value, schemes[0][0].strip(), _text(parts.name), tuple(rest))


def _other(row: Element, name: str, values: dict[str, Any]) -> str:
    """The object that a part says it belongs to, where that is not the one it stands in."""
    own = values["entry_uuid"]
    owner = row.get(name)
    return "" if owner is None or owner == own or (owner := owner.strip(BLANKS)) == own else str(owner)


def _classification(row: Element, parts: _Parts, scheme: str, node: str, owner: str) -> Classification:
    representation = row.get("nodeRepresentation")
    return Classification(
        scheme=scheme,
        owner=owner,
        node=node,
        representation=None if representation is None else str(representation),
        name=_text(parts.name),
        slots=tuple([Slot(name, slot_values) for name, slot_values in parts.slots]),
    )


def _identifiers_into(values: dict[str, Any], rows: Iterable[Element], kind: str) -> None:
    known = v.IDENTIFIERS[kind]
    unknown: list[ExternalId] = []
    for row in rows:
        scheme, value = attribute(row, "identificationScheme"), str(row.get("value", ""))
        name = known.get(scheme, ("", ""))[0]
        owner = _other(row, "registryObject", values)
        if name and name not in values and value.strip(BLANKS) and not owner:
            values[name] = value.strip(BLANKS)
        else:
            unknown.append(
                ExternalId(scheme=scheme, owner=owner, value=value, name=_text(child(row, RIM, "Name")))
            )
    values["external_ids"] = tuple(unknown)
