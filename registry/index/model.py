"""What the index holds, as values: holdings, their versions, patient records, persons, other XDS objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from crosslight.standards.ids import MemberId, Version
from crosslight.standards.records import FrozenRecord
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds.model.publication import Publication
from registry.identity.model import PersonKey, RecordKey

HoldingState = Literal["approved", "deprecated"]
ChangeKind = Literal["new", "changed", "withdrawn", "moved", "described", "linked", "merged"]
ObjectChange = Literal["changed", "withdrawn"]


@dataclass(frozen=True, slots=True, order=True)
class HoldingKey:
    """What names a holding (D1)."""

    record_key: RecordKey
    study_uid: str
    member: MemberId


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change (ADR 0031).

    It says where to look, and not what is there: that is read from the index.

    Of a study: ``new``, ``changed`` (its version, availability or detail), ``withdrawn``, ``moved`` to
    another patient record. Of another XDS object: ``changed`` or ``withdrawn``. Of a patient record:
    ``described`` (what is said of it, or who claims its numbers), ``linked`` (it is another person's),
    ``merged`` (the same, by A40), ``moved`` (its studies are told apart anew).
    """

    kind: ChangeKind
    member: MemberId | None  # whose act it was; None: of persons
    record_key: RecordKey | None
    former_key: RecordKey | None = None  # ``moved``: the record that the study was under
    study_uid: str = ""  # '' for objects that are no studies, and for persons
    entry_uuid: str = ""  # of an object that is no study
    revision: int = 0
    waits: bool = False  # for the Enricher (D17)
    person: PersonKey | None = None  # whose record it is now, as a follower read it

    @property
    def key(self) -> HoldingKey | None:
        """The holding, where it is one."""
        if self.member is None or self.record_key is None or not self.study_uid:
            return None
        return HoldingKey(self.record_key, self.study_uid, self.member)


class PastVersion(FrozenRecord, frozen=True, kw_only=True):
    """A version that was replaced or deprecated: what by-id XDS questions still need (D6)."""

    publication: Publication  # status Deprecated
    succeeded_by: str  # entry_uuid; '' where nothing replaced it


class Holding(FrozenRecord, frozen=True, kw_only=True):
    """One study as one member holds it for one patient record: THE row (D1)."""

    member: MemberId
    record_key: RecordKey
    publication: Publication  # the current version; of a foreign source the entry that leads
    state: HoldingState
    digest: str  # content digest of the record (D14)
    revision: int  # the registry's revision of this row: FHIR versionId's middle part (D12)
    fhir_id: str
    updated: datetime
    conflict: bool = False  # this UID is held elsewhere with another patient, count or digest (D1)
    past: tuple[PastVersion, ...] = ()  # newest first; filled only when a question asks for versions
    # Approved beside ``publication``, of a foreign source only; filled as ``past``
    siblings: tuple[Publication, ...] = ()
    # what several Approved entries say together; None: what ``publication`` says
    united: StudyRecord | None = None
    part: RecordKey | None = None  # the part of the record that it is of, where it is not the record's own

    @property
    def record(self) -> StudyRecord:
        """The study: what all Approved entries say together, or the current one."""
        return self.united if self.united is not None else self.publication.record

    @property
    def entries(self) -> tuple[Publication, ...]:
        """Every DocumentEntry that it is made of, those past last."""
        return (self.publication, *self.siblings, *(version.publication for version in self.past))

    @property
    def whose(self) -> RecordKey:
        """The record, or the part of it, that says whose study this is."""
        return self.record_key if self.part is None else self.part

    @property
    def version(self) -> Version | None:
        """The member's version, None for a foreign source."""
        return self.publication.version

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return self.publication.record.study_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsObject:
    """An XDS object that is no study: stored whole (D6).

    ``kind``: document | submission | folder | association. ``body`` is the metadata model as plain data
    (``crosslight.standards.xds.model.metadata``), ``record_key`` None for associations between other objects.
    """

    kind: str
    entry_uuid: str
    unique_id: str
    record_key: RecordKey | None
    status: str
    body: dict[str, Any]
    member: MemberId | None
    logical_id: str = ""
    links: tuple[str, ...] = field(default=())  # entry UUIDs it points at (associations: source, target)
