"""The SOAP road (D15, D16): ITI-8, ITI-42, ITI-57 and ITI-62 to any XDS registry.

A registry that follows the standard refuses a replay, so nothing is repeated blindly: whatever may have been
sent is asked for by its entryUUID first (GetDocuments), and what is then sent follows from the answer. The
one exception is a fresh submission that is not found: the very same message goes again, so that one still on
its way can never become a second entry beside another.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from crosslight.runtime.log import get_logger
from crosslight.standards.ids import DerivedId, Identifier, Kind, Version, study_tag
from crosslight.standards.problem import Forbidden, PeerError, Unauthenticated, Unavailable
from crosslight.standards.study import Patient, patient_to_json
from crosslight.standards.xds.model.publication import Publication, Status
from crosslight.standards.xds.rules.errors import RegistryRefusal
from node.publish.decide import after
from node.publish.model import (
    Acked,
    Anew,
    Delivery,
    DeliveryRefused,
    Done,
    Job,
    Later,
    Learnt,
    PublisherIdentity,
    Result,
)
from node.publish.road import RoadDown

log = get_logger("publish")

#: The registry cannot now; nothing is wrong with the message (ITI TF-3 Table 4.2.4.1-2).
BUSY = frozenset(
    {"XDSRegistryBusy", "XDSRegistryNotAvailable", "XDSRegistryOutOfResources", "XDSRepositoryBusy"}
)
#: The message did not fit what the registry has: ask, then acknowledge, re-target or submit anew (D15).
ASK = frozenset(
    {
        "XDSDuplicateUniqueIdInRegistry",
        "XDSRegistryDeprecatedDocumentError",
        "UnresolvedReferenceException",
        "XDSReplaceFailed",
        "XDSMetadataVersionError",
        "XDSMetadataUpdateError",
        "XDSMetadataUpdateOperationError",
        "ReferencesExistException",
        "XDSUnreferencedObjectException",
        "XDSMetadataIdentifierError",
    }
)
#: No better code: it may pass, so it is tried again for a while.
VAGUE = frozenset({"XDSRegistryError", "XDSRepositoryError"})
MAX_ROUNDS = 20  # of following associations


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What GetDocuments says of one entry."""

    status: Status
    sha1: str


@dataclass(frozen=True, slots=True)
class AssociationState:
    """An association as GetAssociations gives it."""

    id: str
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """ITI-57 UpdateAvailabilityStatus of one entry, with its submission set's own ids."""

    entry_uuid: str
    original: Status
    new: Status
    submission_uuid: str
    submission_uid: str
    association_uuid: str
    version: Version


class XdsPort(Protocol):
    """One registry, transaction by transaction.

    Every method raises RegistryRefusal for a refusal in the registry's own words, and Unavailable when no
    answer came: its ``where`` is ``connect`` when nothing can have been sent.
    """

    async def feed(self, patient: Patient, *, first: bool) -> None:
        """ITI-8: A04 the first time, A08 after a change."""
        ...

    async def register(self, publication: Publication, patient: Identifier) -> None:
        """ITI-42: a new entry, or the replacement of one."""
        ...

    async def change_status(self, change: StatusChange, patient: Identifier) -> None:
        """ITI-57: deprecate an entry, or approve it again."""
        ...

    async def remove(self, ids: Sequence[str]) -> None:
        """ITI-62: remove objects by their entryUUIDs."""
        ...

    async def documents(self, entry_uuids: Sequence[str]) -> dict[str, DocumentState]:
        """ITI-18 GetDocuments: those that exist, of any status."""
        ...

    async def associations(self, uuids: Sequence[str]) -> list[AssociationState]:
        """ITI-18 GetAssociations: all that have one of these at an end."""
        ...


class FedStore(Protocol):
    """Which patients the destination has (``OutboxStore``)."""

    async def fed(self, patient: Identifier) -> str:
        """The digest of what was fed, '' = nothing."""
        ...

    async def set_fed(self, patient: Identifier, digest: str) -> None:
        """It has these demographics."""
        ...


class SoapRoad:
    """Publishes to an XDS registry.

    Args:
        port: The registry.
        identity: Asked for each act: who publishes.
        fed: Which patients were fed.
        affinity_id: The id under which the registry knows a patient; None where it has none, and the study
            waits (D4).
        parallel: Most submissions at once.
    """

    together = 1
    incarnation = ""

    def __init__(
        self,
        port: XdsPort,
        identity: Callable[[], PublisherIdentity],
        fed: FedStore,
        affinity_id: Callable[[Patient], Identifier | None],
        *,
        parallel: int = 4,
    ) -> None:
        self._port = port
        self._identity = identity
        self._fed = fed
        self._affinity_id = affinity_id
        self.parallel = parallel
        self._feeding = asyncio.Lock()

    async def deliver(self, jobs: Sequence[Job]) -> list[Result]:
        """As ``Road.deliver``."""
        return [await self._deliver(job) for job in jobs]

    async def _deliver(self, job: Job) -> Result:
        try:
            try:
                if job.unsettled:
                    truth = await self.truth(job)
                    if _applied(job, truth):
                        return Done(truth)
                    if job.act.kind != "fresh":
                        return Learnt(truth, "it was lost on the way")
                return await self._send(job)
            except RegistryRefusal as refusal:
                return await self._refused(job, refusal)
        except Unavailable as error:
            raise RoadDown(error.what, why=error.why, where=error.where) from None
        except (Unauthenticated, Forbidden) as error:
            raise RoadDown("The registry does not let this node in.", why=str(error)) from None
        except PeerError as error:  # a fault, or an answer that cannot be read: it may have been done
            return Later(str(error), sent=job.attempts < 3)

    # --- sending --------------------------------------------------------------------------------------------

    async def _send(self, job: Job) -> Result:
        act = job.act
        if act.kind == "withdraw":
            ids = await self._chain_objects(job)
            if ids:
                await self._port.remove(ids)
            return Done(None)
        patient = self._affinity(job)
        if patient is None:
            return Later("The patient has no id in the registry's authority.", patience=True)
        if act.kind in ("approve", "deprecate"):
            if job.acked is None:
                return Learnt(None, "nothing is there")
            await self._port.change_status(self._status_change(job, job.acked), patient)
            return Done(after(act, job.acked, None))
        revision = job.revision
        if revision is None or revision.record is None:
            return Anew(job.acked, "the revision is gone")
        await self._feed(replace(revision.record.patient, local=patient), revision.record.patient.local)
        identity = self._identity()
        publication = Publication.derived(
            source=identity.source,
            secret=identity.secret,
            version=revision.version,
            record=revision.record,
            manifest=revision.manifest,
            submission_time=revision.submission_time,
            replaces=act.replaces,
        )
        await self._port.register(publication, patient)
        return Done(after(act, job.acked, revision))

    def _affinity(self, job: Job) -> Identifier | None:
        if job.revision is not None and job.revision.record is not None:
            return self._affinity_id(job.revision.record.patient)
        if job.acked is None:
            return None
        return self._affinity_id(Patient(local=job.acked.patient)) or job.acked.patient

    def _status_change(self, job: Job, acked: Acked) -> StatusChange:
        tag = study_tag(self._identity().secret, job.study_uid)
        approve = job.act.kind == "approve"
        return StatusChange(
            entry_uuid=DerivedId(Kind.DOCUMENT_ENTRY, acked.version, tag).urn(),
            original="Deprecated" if approve else "Approved",
            new="Approved" if approve else "Deprecated",
            submission_uuid=DerivedId(Kind.SUBMISSION_SET, job.act.version, tag).urn(),
            submission_uid=DerivedId(Kind.SUBMISSION, job.act.version, tag).uid(),
            association_uuid=DerivedId(Kind.AVAILABILITY, job.act.version, tag).urn(),
            version=job.act.version,
        )

    async def _feed(self, patient: Patient, source: Identifier) -> None:
        """Feed a patient whose demographics the registry does not have yet."""
        if source != patient.local and source not in patient.others:
            patient = replace(
                patient, others=(*(other for other in patient.others if other != patient.local), source)
            )
        digest = hashlib.sha256(
            orjson.dumps(patient_to_json(patient), option=orjson.OPT_SORT_KEYS)
        ).hexdigest()
        async with self._feeding:
            known = await self._fed.fed(patient.local)
            if known == digest:
                return
            await self._port.feed(patient, first=not known)
            await self._fed.set_fed(patient.local, digest)

    async def _chain_objects(self, job: Job) -> list[str]:
        """Every object of the study's chain that the registry has.

        These are its entries, their submission sets, and all associations.
        """
        entries, sets, links = await self._chain(job)
        documents = await self._port.documents(sorted(entries))
        return [*sorted(documents), *sorted(sets), *sorted(links)]

    async def _chain(self, job: Job) -> tuple[set[str], set[str], set[str]]:
        """Entries, submission sets and associations that are reached by following associations."""
        tag = study_tag(self._identity().secret, job.study_uid)
        versions = job.acked.chain if job.acked is not None else ()
        entries = {DerivedId(Kind.DOCUMENT_ENTRY, version, tag).urn() for version in versions}
        sets: set[str] = set()
        links: set[str] = set()
        fresh = set(entries)
        for _ in range(MAX_ROUNDS):
            associations = await self._port.associations(sorted(fresh))
            links |= {link.id for link in associations}
            ends = {end for link in associations for end in (link.source, link.target)}
            ours = {end: DerivedId.parse(end) for end in ends}
            of_study = {end: derived.kind for end, derived in ours.items() if derived and derived.tag == tag}
            more_entries = {end for end, kind in of_study.items() if kind == Kind.DOCUMENT_ENTRY} - entries
            more_sets = {end for end, kind in of_study.items() if kind == Kind.SUBMISSION_SET} - sets
            entries |= more_entries
            sets |= more_sets
            fresh = more_entries | more_sets
            if not fresh:
                break
        return entries, sets, links

    # --- asking ---------------------------------------------------------------------------------------------

    async def truth(self, job: Job) -> Acked | None:
        """What the registry has of a study: GetDocuments over every version that may be there."""
        tag = study_tag(self._identity().secret, job.study_uid)
        versions = set(job.acked.chain) if job.acked is not None else set()
        if job.act.kind in ("fresh", "replace"):
            versions.add(job.act.version)
        if job.act.replaces is not None:
            versions.add(job.act.replaces)
        by_uuid = {DerivedId(Kind.DOCUMENT_ENTRY, version, tag).urn(): version for version in versions}
        documents = await self._port.documents(sorted(by_uuid))
        return _acked_of({by_uuid[uuid]: state for uuid, state in documents.items() if uuid in by_uuid}, job)

    async def _whole_truth(self, job: Job) -> Acked | None:
        """As :meth:`truth`, and over versions that were forgotten here.

        A restored node may meet entries of its own that are newer than its database (D10).
        """
        truth = await self.truth(job)
        if truth is None or truth.status == "Approved":
            return truth
        entries, _, _ = await self._chain(job)
        by_uuid = {
            uuid: derived.version for uuid in entries if (derived := DerivedId.parse(uuid)) is not None
        }
        documents = await self._port.documents(sorted(by_uuid))
        return _acked_of({by_uuid[uuid]: state for uuid, state in documents.items() if uuid in by_uuid}, job)

    async def compare(self, pages: AsyncIterator[list[tuple[str, Acked]]]) -> dict[str, Acked | None]:
        """What the registry has differently from what it acknowledged: GetDocuments, study by study.

        Raises:
            RoadDown: the comparison could not be finished; nothing may be concluded.
        """
        differing: dict[str, Acked | None] = {}
        try:
            async for page in pages:
                for study_uid, acked in page:
                    wanted = Delivery(kind="deprecate", version=acked.version)
                    job = Job(study_uid=study_uid, act=wanted, acked=acked, unsettled=True, attempts=0)
                    truth = await self._whole_truth(job)
                    if truth is None or (truth.version, truth.status) != (acked.version, acked.status):
                        differing[study_uid] = truth
        except (Unavailable, PeerError) as error:
            raise RoadDown("The comparison with the registry was cut off.", why=error.what) from None
        return differing

    async def _refused(self, job: Job, refusal: RegistryRefusal) -> Result:
        codes = {error.code for error in refusal.errors if error.severity == "Error"} or {refusal.xds_code}
        code, why = refusal.xds_code, refusal.what
        if codes & BUSY:
            return Later(why, patience=True)
        if "XDSUnknownPatientId" in codes:
            patient = self._affinity(job)
            if patient is not None:
                await self._fed.set_fed(patient, "")
            return Later(f"{code}: {why}")
        if not codes & (ASK | VAGUE):
            return DeliveryRefused(code, why)
        truth = await self.truth(job)
        if _applied(job, truth):
            return Done(truth)
        if "XDSDuplicateUniqueIdInRegistry" in codes:
            return Anew(truth, f"{code}: {why}")
        if codes & ASK:
            return Learnt(truth, f"{code}: {why}", refused=True)
        return Later(f"{code}: {why}")


def _acked_of(states: dict[Version, DocumentState], job: Job) -> Acked | None:
    """The current publication among ``states``: the newest Approved, else the newest."""
    if not states:
        return None
    current = max(states, key=lambda version: (states[version].status == "Approved", version))
    acked, revision = job.acked, job.revision
    digest, patient = "", acked.patient if acked is not None else Identifier("")
    if acked is not None and current == acked.version:
        digest = acked.digest
    if revision is not None and (current == revision.version or acked is None):
        digest, patient = revision.digest if current == revision.version else digest, revision.patient
    return Acked(
        version=current,
        digest=digest,
        sha1=states[current].sha1,
        status=states[current].status,
        patient=patient,
        chain=tuple(sorted(states)),
    )


def _applied(job: Job, truth: Acked | None) -> bool:
    """Whether the act has been done."""
    act = job.act
    if act.kind == "withdraw":
        return truth is None
    if truth is None:
        return False
    if act.kind == "approve":
        return truth.status == "Approved"
    if act.kind == "deprecate":
        return truth.status == "Deprecated"
    return act.version in truth.chain
