"""XDS metadata written as ebRIM 3.0: escaped templates, element order of the schema (scale.md 5).

No XML tree is built.

Prefix ``rim`` is declared by the enclosing element, which the functions for whole messages write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    Author,
    Classification,
    Code,
    DocumentEntry,
    Folder,
    RegistryObject,
    Slot,
    SubmissionSet,
    Text,
)
from crosslight.standards.xds.model.xml import LCM, RIM, RS, esc

_NODES = {"submission": v.SUBMISSION_SET_NODE, "folder": v.FOLDER_NODE}
_CLASSIFICATION, _EXTERNAL = v.OBJECT_TYPE + "Classification", v.OBJECT_TYPE + "ExternalIdentifier"
_ASSOCIATION, _PACKAGE = v.OBJECT_TYPE + "Association", v.OBJECT_TYPE + "RegistryPackage"


class PartIds:
    """Ids for the parts of one object: derived from its own, never equal to it or to each other."""

    def __init__(self, owner: str) -> None:
        self.owner = esc(owner)
        self._n = 0
        self._stem, self._tail = self.owner, -1
        if owner.startswith("urn:uuid:") and len(owner) == 45:
            try:
                self._stem, self._tail = self.owner[:-4], int(owner[-4:], 16)
            except ValueError:
                pass

    def next(self) -> str:
        """The id of the next part, escaped."""
        self._n += 1
        return f"{self._stem}.{self._n}" if self._tail < 0 else f"{self._stem}{self._tail ^ self._n:04x}"


def _slot(name: str, values: Iterable[str]) -> str:
    """A slot; ``name`` is escaped, or one of the vocabulary's."""
    inner = "".join([f"<rim:Value>{esc(value)}</rim:Value>" for value in values])
    return f'<rim:Slot name="{name}"><rim:ValueList>{inner}</rim:ValueList></rim:Slot>'


def _single(name: str, value: str) -> str:
    """A slot of one value; ``name`` is one of the vocabulary's."""
    return (
        "<rim:Slot"
        f' name="{name}"><rim:ValueList><rim:Value>{esc(value)}</rim:Value></rim:ValueList></rim:Slot>'
    )


def _slots(slots: tuple[Slot, ...]) -> str:
    return "".join([_slot(esc(s.name), s.values) for s in slots])


def _text(tag: str, text: Text) -> str:
    if not text:
        return ""
    inner = "".join(
        [
            "<rim:LocalizedString"
            + (f' xml:lang="{esc(t.lang)}"' if t.lang else "")
            + (f' charset="{esc(t.charset)}"' if t.charset else "")
            + f' value="{esc(t.value)}"/>'
            for t in text
        ]
    )
    return f"<rim:{tag}>{inner}</rim:{tag}>"


def _classification(parts: PartIds, attributes: str, inner: str, owner: str = "") -> str:
    owner = esc(owner) if owner else parts.owner
    return (
        f'<rim:Classification id="{parts.next()}" objectType="{_CLASSIFICATION}"'
        f' classifiedObject="{owner}"{attributes}>{inner}</rim:Classification>'
    )


@lru_cache(maxsize=2048)
def _code_text(scheme: str, code: Code) -> tuple[str, str]:
    """Attributes and content of a code's classification: the same few codes stand in most entries."""
    inner = _single("codingScheme", code.scheme) + _slots(code.slots) + _text("Name", code.display)
    return f' classificationScheme="{scheme}" nodeRepresentation="{esc(code.value)}"', inner


def _code(parts: PartIds, scheme: str, code: Code) -> str:
    return _classification(parts, *_code_text(scheme, code))


@lru_cache(maxsize=512)
def _author_text(scheme: str, author: Author) -> tuple[str, str]:
    """As :func:`_code_text`, of an author."""
    inner = "".join(
        [_slot(name, values) for name, field in v.AUTHOR_SLOTS.items() if (values := getattr(author, field))]
    )
    return f' classificationScheme="{scheme}" nodeRepresentation=""', inner + _slots(author.slots)


def _author(parts: PartIds, scheme: str, author: Author) -> str:
    return _classification(parts, *_author_text(scheme, author))


def _unknown(parts: PartIds, row: Classification) -> str:
    attributes = f' classificationScheme="{esc(row.scheme)}"' if row.scheme else ""
    attributes += f' classificationNode="{esc(row.node)}"' if row.node else ""
    attributes += f' nodeRepresentation="{esc(row.representation)}"' if row.representation is not None else ""
    return _classification(parts, attributes, _slots(row.slots) + _text("Name", row.name), row.owner)


def _identifier(parts: PartIds, scheme: str, value: str, name: str, owner: str = "") -> str:
    """``scheme`` is escaped, or one of the vocabulary's; so is ``name``, an element."""
    owner = esc(owner) or parts.owner
    return (
        f'<rim:ExternalIdentifier id="{parts.next()}" objectType="{_EXTERNAL}" registryObject="{owner}" '
        f'identificationScheme="{scheme}" value="{esc(value)}">{name}</rim:ExternalIdentifier>'
    )


def _inner(member: RegistryObject) -> str:
    """Slot*, Name?, Description?, VersionInfo?, Classification*, ExternalIdentifier*."""
    kind, parts = member.kind, PartIds(member.entry_uuid)
    out = [
        _single(name, value)
        for name, field in v.SINGLE_SLOTS[kind].items()
        if (value := getattr(member, field))
    ]
    out += [
        _slot(name, value) for name, field in v.MULTI_SLOTS[kind].items() if (value := getattr(member, field))
    ]
    out += [_slots(member.slots), _text("Name", member.title), _text("Description", member.comments)]
    if member.version:
        out.append(f'<rim:VersionInfo versionName="{esc(member.version)}"/>')
    if kind in _NODES:
        out.append(_classification(parts, f' classificationNode="{_NODES[kind]}"', ""))
    out += [_author(parts, v.AUTHOR_SCHEME[kind], a) for a in getattr(member, "authors", ())]
    for scheme, (field, many) in v.CODES[kind].items():
        coded: Any = getattr(member, field)
        if many:
            out += [_code(parts, scheme, code) for code in coded]
        elif coded is not None:
            out.append(_code(parts, scheme, coded))
    out += [_unknown(parts, row) for row in member.classifications]
    for scheme, (field, label) in v.IDENTIFIERS[kind].items():
        if value := getattr(member, field):
            name = f'<rim:Name><rim:LocalizedString value="{label}"/></rim:Name>'
            out.append(_identifier(parts, scheme, value, name))
    out += [
        _identifier(parts, esc(e.scheme), e.value, _text("Name", e.name), e.owner)
        for e in member.external_ids
    ]
    return "".join(out)


def _head(member: RegistryObject, object_type: str) -> str:
    key = esc(member.entry_uuid)
    head = f'id="{key}"'
    if member.home:
        head += f' home="{esc(member.home)}"'
    if member.logical_id:
        head += f' lid="{key if member.logical_id == member.entry_uuid else esc(member.logical_id)}"'
    head += f' objectType="{esc(object_type)}"'
    return head + (f' status="{esc(member.status)}"' if member.status else "")


def render_object(member: RegistryObject) -> str:
    """One object, prefix ``rim`` not declared."""
    if isinstance(member, DocumentEntry):
        opaque = f' isOpaque="{esc(member.is_opaque)}"' if member.is_opaque else ""
        head = f'{_head(member, member.object_type)} mimeType="{esc(member.mime_type)}"{opaque}'
        return f"<rim:ExtrinsicObject {head}>{_inner(member)}</rim:ExtrinsicObject>"
    if isinstance(member, SubmissionSet | Folder):
        return f"<rim:RegistryPackage {_head(member, _PACKAGE)}>{_inner(member)}</rim:RegistryPackage>"
    return _render_association(member)


def _render_association(association: Association) -> str:
    ends = (
        f'associationType="{esc(association.type)}" sourceObject="{esc(association.source)}"'
        f' targetObject="{esc(association.target)}"'
    )
    return (
        f"<rim:Association {_head(association, _ASSOCIATION)} {ends}>{_inner(association)}</rim:Association>"
    )


def render_object_ref(entry_uuid: str, home: str = "") -> str:
    """A ``rim:ObjectRef``, which names an object by its id alone."""
    return f'<rim:ObjectRef id="{esc(entry_uuid)}"' + (f' home="{esc(home)}"/>' if home else "/>")


def render_submit_objects(objects: Iterable[RegistryObject]) -> bytes:
    """The body of ITI-42 or ITI-57."""
    inner = "".join([render_object(o) for o in objects])
    return (
        f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rs="{RS}"'
        f' xmlns:rim="{RIM}"><rim:RegistryObjectList>{inner}'
        "</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
    ).encode()


def render_remove_objects(entry_uuids: Iterable[str]) -> bytes:
    """The body of ITI-62."""
    inner = "".join([render_object_ref(e) for e in entry_uuids])
    return (
        f'<lcm:RemoveObjectsRequest xmlns:lcm="{LCM}"'
        f' xmlns:rim="{RIM}"><rim:ObjectRefList>{inner}</rim:ObjectRefList></lcm:RemoveObjectsRequest>'
    ).encode()
