"""XDS metadata as values: DocumentEntry, SubmissionSet, Folder, Association (ITI TF-3 4.2), whole.

Nothing a submitter said is lost: what has no field of its own stands in ``slots``, ``classifications`` or
``external_ids``. Ids of Classification and ExternalIdentifier elements are not kept: they have no life
outside their object. ``to_plain`` and ``from_plain`` are the form in which these rest in the index
(``XdsObject.body``) and in ``Publication.extras``.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from crosslight.standards.xds.model import vocabulary

ObjectKind = Literal["document", "submission", "folder", "association"]


@dataclass(frozen=True, slots=True)
class LocalText:
    """One rim:LocalizedString; lang and charset '' where not given."""

    value: str
    lang: str = ""
    charset: str = ""


Text = tuple[LocalText, ...]


def plain_text(text: Text) -> str:
    """The first reading of a text."""
    return text[0].value if text else ""


def as_text(value: str) -> Text:
    """A text in no stated language; empty for ''."""
    return (LocalText(value),) if value else ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that has no field."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded attribute: code, scheme, display."""

    value: str
    scheme: str
    display: Text = ()
    slots: tuple[Slot, ...] = ()

    def __hash__(self) -> int:  # the same few codes are looked up for every entry
        return hash((self.value, self.scheme))

    @property
    def key(self) -> tuple[str, str]:
        """What two codes are compared by; never the display (ITI TF-3 4.2.3.1.2)."""
        return (self.value, self.scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """An author classification (ITI TF-3 4.2.3.2.1)."""

    persons: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()
    telecommunications: tuple[str, ...] = ()
    slots: tuple[Slot, ...] = ()

    def __hash__(self) -> int:
        return hash((self.persons, self.institutions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """A classification that has no field; ``owner`` where it says to be another object's."""

    scheme: str = ""
    owner: str = ""
    node: str = ""
    representation: str | None = None
    name: Text = ()
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalId:
    """An external identifier that has no field; ``owner`` where it says to be another object's."""

    scheme: str
    owner: str = ""
    value: str
    name: Text = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """What every registry object has. Ids are ``urn:uuid:`` or, in a submission, symbolic."""

    kind: ClassVar[ObjectKind]

    entry_uuid: str
    logical_id: str = ""
    version: str = ""
    status: str = ""  # the full URN; '' in a submission
    home: str = ""  # homeCommunityId, urn:oid:
    title: Text = ()
    comments: Text = ()
    slots: tuple[Slot, ...] = ()
    classifications: tuple[Classification, ...] = ()
    external_ids: tuple[ExternalId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry(_Object):
    """ITI TF-3 Table 4.3.1.1-3."""

    kind: ClassVar[ObjectKind] = "document"

    unique_id: str = ""
    patient_id: str = ""  # CX
    object_type: str = vocabulary.STABLE
    mime_type: str = ""
    is_opaque: str = ""
    creation_time: str = ""
    language_code: str = ""
    service_start_time: str = ""
    service_stop_time: str = ""
    source_patient_id: str = ""
    source_patient_info: tuple[str, ...] = ()
    hash: str = ""
    size: str = ""
    repository_unique_id: str = ""
    uri: tuple[str, ...] = ()
    legal_authenticator: str = ""
    document_availability: str = ""
    reference_ids: tuple[str, ...] = ()
    authors: tuple[Author, ...] = ()
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    healthcare_facility_type: Code | None = None
    practice_setting: Code | None = None
    confidentiality: tuple[Code, ...] = ()
    event_codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionSet(_Object):
    """ITI TF-3 Table 4.3.1.1-2."""

    kind: ClassVar[ObjectKind] = "submission"

    unique_id: str = ""
    patient_id: str = ""
    source_id: str = ""
    submission_time: str = ""
    intended_recipients: tuple[str, ...] = ()
    authors: tuple[Author, ...] = ()
    content_type: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder(_Object):
    """ITI TF-3 Table 4.3.1.1-1."""

    kind: ClassVar[ObjectKind] = "folder"

    unique_id: str = ""
    patient_id: str = ""
    last_update_time: str = ""
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Association(_Object):
    """An association (ITI TF-3 4.2.2): source is the new or owning object, target the old or the member."""

    kind: ClassVar[ObjectKind] = "association"

    type: str
    source: str
    target: str
    submission_set_status: str = ""  # Original | Reference
    previous_version: str = ""
    original_status: str = ""
    new_status: str = ""
    propagation: str = ""
    documentation: Code | None = None


RegistryObject = DocumentEntry | SubmissionSet | Folder | Association
CLASSES: dict[str, type[RegistryObject]] = {
    "document": DocumentEntry,
    "submission": SubmissionSet,
    "folder": Folder,
    "association": Association,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryObjects:
    """A list of objects by kind, each in the order it came."""

    documents: tuple[DocumentEntry, ...] = ()
    submissions: tuple[SubmissionSet, ...] = ()
    folders: tuple[Folder, ...] = ()
    associations: tuple[Association, ...] = ()

    def __iter__(self) -> Any:
        """All objects: submission sets, documents, folders, associations."""
        return iter((*self.submissions, *self.documents, *self.folders, *self.associations))

    def __len__(self) -> int:
        return len(self.documents) + len(self.submissions) + len(self.folders) + len(self.associations)

    @classmethod
    def of(cls, objects: Iterable[RegistryObject]) -> RegistryObjects:
        """Sort objects by kind."""
        members = list(objects)
        return cls(
            documents=tuple(o for o in members if isinstance(o, DocumentEntry)),
            submissions=tuple(o for o in members if isinstance(o, SubmissionSet)),
            folders=tuple(o for o in members if isinstance(o, Folder)),
            associations=tuple(o for o in members if isinstance(o, Association)),
        )


# --- plain data ---------------------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """JSON-ready data of any value of this module, without what equals its default.

    The inverse is :func:`from_plain`.
    """
    if isinstance(value, tuple):
        return [to_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        plain = {}
        for spec in fields(value):
            field_value = getattr(value, spec.name)
            if spec.default is MISSING or field_value != spec.default:
                plain[spec.name] = to_plain(field_value)
        return plain
    return value


def from_plain(kind: str, data: dict[str, Any]) -> RegistryObject:
    """The object of ``kind`` that ``data`` describes.

    Unknown members are ignored (an older reader, a newer writer).
    """
    built: RegistryObject = _build(_class(kind), data)
    return built


def field_from_plain(kind: str, name: str, data: Any) -> Any:
    """One field's value from its plain form (``Publication.extras``)."""
    return _convert(_hints(_class(kind))[name], data)


def _class(kind: str) -> Any:
    return CLASSES[kind]


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {spec.name: hints[spec.name] for spec in fields(cls)}


def _build(cls: Any, data: dict[str, Any]) -> Any:
    hints = _hints(cls)
    return cls(**{name: _convert(hints[name], plain) for name, plain in data.items() if name in hints})


def _convert(hint: Any, data: Any) -> Any:
    if data is None:
        return None
    origin = get_origin(hint)
    if origin is tuple:
        inner = get_args(hint)[0]
        return tuple(_convert(inner, item) for item in data)
    if origin in (Union, types.UnionType):
        return _convert(next(a for a in get_args(hint) if a is not type(None)), data)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _build(hint, data)
    return data
