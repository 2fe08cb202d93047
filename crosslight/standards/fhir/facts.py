"""What the mappings need to know, apart from the study itself.

The registry fills these from its own models.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.fhir.terms import RFC3986
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient, StudyRecord

REGION_KEY = "region"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """A member as Organization and Endpoint. ``key`` never changes, the code may (D9)."""

    key: str
    code: str
    name: str
    authority: str = ""
    repository_unique_id: str = ""
    retrieve_location_uid: str = ""
    dicomweb: str = ""  # '' = no DICOMweb address of its own is known
    active: bool = True  # False: suspended
    reachable: bool = True
    # a source that no invitation named: it has no organisation code, and is known by its repository
    foreign: bool = False

    def identifier(self, organisation_system: str) -> dict[str, str]:
        """System and value: its organisation code, or the OID of a foreign source's repository."""
        if self.foreign:
            return {"system": RFC3986, "value": f"urn:oid:{self.repository_unique_id}"}
        return {"system": organisation_system, "value": self.code}

    @property
    def shows_images(self) -> bool:
        """Whether there is a road to its images, through the gateway at the least."""
        return not self.foreign or bool(self.dicomweb)

    @property
    def organization_id(self) -> str:
        """Its Organization's id."""
        return f"member-{self.key}"

    @property
    def endpoint_id(self) -> str:
        """The id of its own Endpoint."""
        return f"member-{self.key}-wado"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFacts:
    """The region as Organization, with the gateway's address."""

    name: str
    home_community_id: str
    organisation_system: str
    dicomweb: str

    organization_id: str = REGION_KEY
    endpoint_id: str = "region-wado"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFacts:
    """One patient record."""

    patient: Patient
    member: MemberFacts | None
    national: tuple[Identifier, ...] = ()
    updated: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFacts:
    """A person: the record to show first."""

    fhir_id: str
    domain_id: Identifier
    records: tuple[RecordFacts, ...]
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingFacts:
    """One holding: what becomes one ImagingStudy (D1)."""

    fhir_id: str
    incarnation: str
    revision: int
    updated: datetime
    record: StudyRecord
    member: MemberFacts | None
    person: PersonFacts | None  # None: policy withholds whose it is
    state: Literal["approved", "deprecated"] = "approved"
    conflict: bool = False

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """Every identifier under which the patient may be asked for: the person's, else the record's own."""
        if self.person is None:
            return (self.record.patient.local, *self.record.patient.others)
        return identifiers_of(self.person)


def identifiers_of(person: PersonFacts) -> tuple[Identifier, ...]:
    """Every number that names the patient, each once.

    The domain id, valid national numbers, local ids and original numbers of outside studies.
    """
    identifiers = {person.domain_id: None}
    for record in person.records:
        identifiers |= dict.fromkeys(record.national)
        identifiers[record.patient.local] = None
        if (original := number_of(record.patient)[1]) is not None:
            identifiers[original] = None
    return tuple(identifiers)
