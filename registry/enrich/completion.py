"""Completing one holding, or reading one document: its holder is asked as any consumer would ask it (D17).

The manifest comes by ITI-43 and is checked against the entry's hash and size, then the series by QIDO-RS. A
foreign source stays at what its manifests say: there every manifest of a study is read, and the documents
that do not say of which study they are.
"""

from __future__ import annotations

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller, background
from crosslight.runtime.clock import Ids
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Decision, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Conflict
from crosslight.standards.region import Region
from crosslight.standards.study import ManifestFacts
from crosslight.standards.xds.model.metadata import DocumentEntry, from_plain
from crosslight.standards.xds.model.publication import Publication
from registry.enrich.config import EnrichConfig
from registry.enrich.manifests import Manifests
from registry.enrich.series import SeriesLists
from registry.index.imaging_documents import DocumentKey
from registry.index.model import HoldingKey
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.manifest_records import full_record, manifest_record, studies_of
from registry.members.model import Member
from registry.reach.members import Reach

#: Who asks: the region's index for itself, with the gateway's role at the holder.
PRINCIPAL = Principal(
    subject="registry:enrichment",
    name="index enrichment",
    roles=frozenset({"gateway"}),
    purpose="HOPERAT",
    evidence="gateway-token",
)


class Completion:
    """Asks holders, and hands over what they say.

    Args:
        index: What is known.
        acceptor: Where more goes.
        reach: How members are called.
        audit: Where acts are noted before they are done.
        workers: Manifests from elsewhere are parsed in bounded children (D27).
        ids: Correlation.
        region: Its zone and national numbers.
    """

    def __init__(
        self,
        index: IndexStore,
        acceptor: Acceptor,
        reach: Reach,
        audit: AuditLog,
        workers: Workers,
        ids: Ids,
        region: Region,
        config: EnrichConfig,
    ) -> None:
        self._index = index
        self._acceptor = acceptor
        self._reach = reach
        self._audit = audit
        self._ids = ids
        self._region = region
        self._manifests = Manifests(reach, workers, config)
        self._series = SeriesLists(reach, config)

    def can_ask(self, member: Member) -> bool:
        """Whether a member can be asked now, or a source whose address for ITI-43 is known."""
        return self._reach.reachable(member) and (
            member.status == "active" or (member.status == "foreign" and self._reach.offers(member, "iti43"))
        )

    async def complete(self, key: HoldingKey, member: Member) -> bool:
        """Complete a holding, each of its current entries that was not read; whether there was any.

        Raises:
            CrosslightError: the member cannot be asked, or what it says does not fit the entry.
        """
        holding = await self._index.holding(key)
        if holding is None or holding.state != "approved" or holding.record.detail != "entry":
            return False
        current = (holding.publication, *holding.siblings)
        patient = holding.record.patient
        caller = background(PRINCIPAL, self._ids, peer=member.code)
        done = False
        async with self._act(caller, (patient.local, *patient.others), (key.study_uid,)) as act:
            for publication in current:
                if publication.record.detail == "entry":
                    done |= await self._complete_entry(key, publication, member, caller)
            act.done(read=len(current))
        return done

    async def _complete_entry(
        self, key: HoldingKey, publication: Publication, member: Member, caller: Caller
    ) -> bool:
        patient = publication.record.patient.local
        token = self._token(caller, member, (key.study_uid,), patient)
        manifest = await self._manifests.read(member, publication.manifest, token, caller.correlation)
        studies = studies_of(manifest)
        if manifest.role != "manifest" and member.status == "foreign":
            return await self._acceptor.no_manifest(key, publication.entry_uuid, studies)
        if manifest.role != "manifest" or key.study_uid not in (*studies, manifest.study_uid):
            raise Conflict("The manifest is of another study, or is none.")
        record = publication.record
        if not self._reach.offers(member, "dicomweb"):
            record = manifest_record(record, manifest)
        else:
            series = await self._series.read(member, key.study_uid, token, caller.correlation)
            record = full_record(record, manifest, series, member, self._region)
        return await self._acceptor.update_detail(key, record, entry_uuid=publication.entry_uuid)

    async def read_document(self, key: DocumentKey, member: Member) -> bool:
        """Read a document that does not say of which study it is; whether it still waited.

        Raises:
            CrosslightError: the source cannot be asked, or gives something else.
        """
        stored = await self._index.document(key)
        entry = from_plain("document", stored.body) if stored is not None else None
        if not isinstance(entry, DocumentEntry) or not entry.size.isdecimal():
            return False
        patient = Identifier.parse_cx(entry.patient_id)
        caller = background(PRINCIPAL, self._ids, peer=member.code)
        async with self._act(caller, (patient,), ()) as act:
            facts = ManifestFacts(
                document_uid=entry.unique_id,
                sha1=entry.hash,
                size_bytes=int(entry.size),
                creation_time=entry.creation_time,
            )
            token = self._token(caller, member, (), patient)
            manifest = await self._manifests.read(member, facts, token, caller.correlation)
            done = await self._acceptor.document_read(key, member, manifest)
            act.done(read=1)
        return done

    def _act(self, caller: Caller, patients: tuple[Identifier, ...], studies: tuple[str, ...]) -> Act:
        about = About(patients=patients, studies=studies)
        return self._audit.act(
            caller, "iti43", "retrieve", about, decision=Decision(True, "enrichment (D17)")
        )

    def _token(self, caller: Caller, member: Member, studies: tuple[str, ...], patient: Identifier) -> str:
        """For a node of ours; a foreign source knows none."""
        if member.status == "foreign":
            return ""
        return self._reach.mint(caller, member, studies=studies, patient=patient.cx())
