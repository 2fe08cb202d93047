"""Publication: one version of one study as XDS sees it, before it is ebRIM.

The node builds ITI-42 from it and the registry answers ITI-18 from it, through the same views (``views.py``),
so that both roads give the same answers (D6, D17). ``extras`` keeps what a submitter said otherwise than the
views would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec

from crosslight.standards.ids import Kind, Oid, Version, id_family, study_tag
from crosslight.standards.records import FrozenRecord, changed
from crosslight.standards.region import ProcedureCodes
from crosslight.standards.study import ManifestFacts, StudyRecord

Status = Literal["Approved", "Deprecated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The member as its DocumentEntries name it."""

    code: str  # organisation code
    name: str
    repository_unique_id: Oid
    retrieve_location_uid: Oid
    authority: Oid  # of its local patient numbers
    organisation_authority: Oid = Oid("")  # of its code; '' where that has none
    procedure_codes: tuple[ProcedureCodes, ...] = ()

    def __hash__(self) -> int:
        return hash(self.repository_unique_id)


class Publication(FrozenRecord, frozen=True, kw_only=True):
    """One version of a holding on the wire.

    ``replaces_entry_uuid`` is the DocumentEntry that this one's RPLC points at, '' for a fresh one.
    """

    source: Source
    record: StudyRecord
    manifest: ManifestFacts
    version: Version | None  # None: a foreign source's, whose ids are its own
    entry_uuid: str  # urn:uuid:…
    submission_uuid: str
    submission_uid: str  # SubmissionSet.uniqueId
    submission_time: str  # DTM, UTC
    has_member_uuid: str
    replaces_entry_uuid: str = ""
    replaces_uuid: str = ""  # id of the RPLC association
    status: Status = "Approved"
    extras: dict[str, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def derived(
        cls,
        *,
        source: Source,
        secret: bytes,
        version: Version,
        record: StudyRecord,
        manifest: ManifestFacts,
        submission_time: str,
        replaces: Version | None = None,
        status: Status = "Approved",
    ) -> Self:
        """One of our own: every id follows from the member's secret, the version and the study (D9)."""
        tag = study_tag(secret, record.study_uid)
        own = id_family(version, tag)
        return cls(
            source=source,
            record=record,
            manifest=manifest,
            version=version,
            entry_uuid=own.urn(Kind.DOCUMENT_ENTRY),
            submission_uuid=own.urn(Kind.SUBMISSION_SET),
            submission_uid=own.uid(Kind.SUBMISSION),
            submission_time=submission_time,
            has_member_uuid=own.urn(Kind.HAS_MEMBER),
            replaces_entry_uuid=id_family(replaces, tag).urn(Kind.DOCUMENT_ENTRY) if replaces else "",
            replaces_uuid=own.urn(Kind.REPLACES) if replaces else "",
            status=status,
        )

    def with_status(self, status: Status) -> Self:
        """The same, Approved or Deprecated."""
        return self if self.status == status else changed(self, status=status)
