"""Acts: what every door hands to ``accept.py``, whatever its wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crosslight.runtime.caller import Caller
from crosslight.standards.ids import Version
from crosslight.standards.study import Patient
from crosslight.standards.xds.model.metadata import RegistryObjects
from crosslight.standards.xds.model.publication import Publication, Status
from registry.index.model import XdsObject
from registry.members.arrivals import Arrival
from registry.members.model import Member

Outcome = Literal["accepted", "already", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """A study, fresh or in place of ``publication.replaces_entry_uuid``.

    ``patient`` is None over ITI-42, where the patient was fed before and is named by ``patient_cx``.

    ``digest`` tells versions apart and goes into the census (``crosslight.standards.census``): the manifest's
    SHA-1 in lower-case hex, which both roads know.
    """

    publication: Publication
    digest: str
    patient: Patient | None = None
    patient_cx: str = ""  # DocumentEntry.patientId as submitted


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAvailability:
    """ITI-57 UpdateAvailabilityStatus of one holding."""

    study_uid: str = ""  # gRPC names the study,
    entry_uuid: str = ""  # ITI-57 the entry
    status: Status = "Deprecated"
    version: Version | None = None
    original: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """ITI-62 of a whole chain. gRPC names the study; ITI-62 every object's id."""

    study_uid: str = ""
    entry_uuids: tuple[str, ...] = ()
    version: Version | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreObjects:
    """XDS objects that are no studies, all or nothing.

    What they refer to is checked, and what they cause is found, by ``relations.check`` and
    ``relations.effects`` inside the transaction.
    """

    objects: tuple[XdsObject, ...]
    patient_cx: str
    deprecate: tuple[str, ...] = ()


Act = Publish | SetAvailability | Withdraw | StoreObjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Acts of one sender, atomic: all are committed, or none.

    ``strict`` doors (ITI-42, 57, 62) refuse replays exactly as the standard says; the gRPC feed is idempotent
    (D15).
    """

    member: Member
    caller: Caller
    acts: tuple[Act, ...]
    road: Literal["grpc", "soap"]
    strict: bool
    # all that the acts say, as it was submitted; None: what follows from them
    said: RegistryObjects | None = None
    # of a source that is no member: what makes its row, where this is its first
    arrival: Arrival | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What became of a submission; committed when this is returned."""

    outcomes: tuple[Outcome, ...]
    incarnation: str
    warnings: tuple[str, ...] = ()
