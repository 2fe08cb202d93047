"""What the index holds, as values: holdings, their versions, patient records, persons, other XDS objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NewType

from crosslight.standards.ids import Identifier, MemberId, Version
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.publication import Publication

RecordKey = NewType("RecordKey", int)  # a patient record: (assigning authority, local id); random (D7)
PersonKey = NewType("PersonKey", int)

HoldingState = Literal["approved", "deprecated"]
ChangeKind = Literal["published", "availability", "withdrawn", "detail", "objects"]


@dataclass(frozen=True, slots=True, order=True)
class HoldingKey:
    """What names a holding (D1)."""

    record_key: RecordKey
    study_uid: str
    member: MemberId


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change of the index, for subscribers: caches, subscriptions, enrichment, the page."""

    kind: ChangeKind
    member: MemberId | None
    record_key: RecordKey | None
    study_uid: str = ""  # '' for objects that are no studies
    revision: int = 0

    @property
    def key(self) -> HoldingKey | None:
        """The holding, where it is one."""
        if self.member is None or self.record_key is None or not self.study_uid:
            return None
        return HoldingKey(self.record_key, self.study_uid, self.member)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """A version that was replaced or deprecated: what by-id XDS questions still need (D6)."""

    publication: Publication  # status Deprecated
    succeeded_by: str  # entry_uuid; '' where nothing replaced it


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
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
    siblings: tuple[Publication, ...] = ()  # Approved beside ``publication``, of a foreign source only; filled as ``past``
    united: StudyRecord | None = None  # what several Approved entries say together; None: what ``publication`` says
    part: RecordKey | None = None  # the part of the record that it is of, where it is not the record's own

    @property
    def record(self) -> StudyRecord:
        """The study."""
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
class PatientRecord:
    """One patient as one authority numbers them (D2). Demographics are kept per record."""

    key: RecordKey
    patient: Patient  # patient.local is (authority, id)
    member: MemberId | None  # whose authority it is; None for a foreign one
    person: PersonKey
    national: tuple[Identifier, ...] = ()  # valid national numbers claimed
    disputed: bool = False  # claims a number that it does not hold by D3
    subsumed_by: RecordKey | None = None  # by A40
    active: bool = True
    updated: datetime | None = None
    part_of: RecordKey | None = None  # a part of that record: studies under its id whose headers are not the record's
    in_doubt: bool = False  # such a part, on which nobody decided yet
    parts: int = 0  # of a record: how many such parts there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A set of records that are one human being, as far as we know (D2)."""

    key: PersonKey
    fhir_id: str  # random UUID (D7)
    domain_id: Identifier  # the current affinity-domain id (D4)
    records: tuple[PatientRecord, ...]
    differs: bool = False  # demographics differ among the records; a banner says so (D3)

    @property
    def banner(self) -> Patient:
        """Demographics to show: of the record with the newest study, which comes first."""
        return self.records[0].patient


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputedNotice:
    """Somewhere a record claims the number that was asked for, and it is not this person's: only that may be said (D3).

    ``claims``: such a record; else only studies under this person's own local number there, whose headers say another person.
    """

    member: MemberId
    member_code: str
    member_name: str
    claims: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsObject:
    """An XDS object that is no study: stored whole (D6).

    ``kind``: document | submission | folder | association. ``body`` is the metadata model as plain data
    (``crosslight.standards.xds.metadata``), ``record_key`` None for associations between other objects.
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
