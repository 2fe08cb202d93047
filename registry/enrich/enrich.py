"""Enrichment: a study that came over SOAP says as much as one that came over gRPC (D17).

After the commit the member is asked as any consumer would ask it: the manifest by ITI-43, checked against the entry's hash
and size, then the series by QIDO-RS. What waits is in the index' own tables, so nothing is lost by a restart; a member that
cannot be reached is asked when it can. A foreign source stays at what it said until its address for ITI-43 is known; then
every manifest of a study is read, and the documents that do not say of which study they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeGuard
from urllib.parse import quote

import orjson

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller, background
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Backoff, Wake, draw_from
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Decision, Principal
from crosslight.standards.dicom.record.kos import Manifest
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Conflict, CrosslightError, Malformed, TooLarge, Unavailable
from crosslight.standards.region import Region
from crosslight.standards.study import ManifestFacts, StudyRecord
from crosslight.standards.xds.model.metadata import DocumentEntry, from_plain
from crosslight.standards.xds.model.publication import Publication
from registry.enrich.agenda import Agenda, Waiting
from registry.enrich.config import EnrichConfig
from registry.enrich.manifests import Manifests
from registry.index.imaging import DocumentKey
from registry.index.leases import Leases
from registry.index.model import Change, Holding, HoldingKey, XdsObject
from registry.intake.checks import MAX_SERIES
from registry.intake.detail import full_record, manifest_record, studies_of
from registry.members.model import Directory, Member
from registry.reach.members import Reach

log = get_logger("enrich")

#: Who asks: the region's index for itself, with the gateway's role at the holder.
PRINCIPAL = Principal(
    subject="registry:enrichment",
    name="index enrichment",
    roles=frozenset({"gateway"}),
    purpose="HOPERAT",
    evidence="gateway-token",
)
SCAN = 2_000  # holdings looked at in one scan of those that wait


class IndexPort(Protocol):
    """What is asked of the index (``IndexStore``)."""

    async def unenriched(self, members: Collection[MemberId], limit: int) -> list[HoldingKey]:
        """Holdings of these members of detail ``entry``, longest waiting first."""
        ...

    async def holding(self, key: HoldingKey) -> Holding | None:
        """One current holding."""
        ...

    async def unread_documents(self, members: Collection[MemberId], limit: int) -> list[DocumentKey]:
        """Documents of these members that may be manifests and wait to be read, longest waiting first."""
        ...

    async def document(self, key: DocumentKey) -> XdsObject | None:
        """One of them."""
        ...

    @property
    def leases(self) -> Leases:
        """Which process is at what."""
        ...


class DetailPort(Protocol):
    """Where detail goes (``Acceptor``)."""

    async def update_detail(self, key: HoldingKey, record: StudyRecord, *, entry_uuid: str = "", digest: str = "") -> bool:
        """Replace what is known by more of it."""
        ...

    async def document_read(self, key: DocumentKey, member: Member, manifest: Manifest) -> bool:
        """A document that did not say of which study it is was read."""
        ...

    async def no_manifest(self, key: HoldingKey, entry_uuid: str, studies: Sequence[str]) -> bool:
        """An entry that was taken for a manifest is another document."""
        ...


class Enricher:
    """Completes holdings in the background.

    Args:
        index: What waits. acceptor: Where detail goes.
        directory: Members. reach: How they are called.
        audit: Where acts are noted before they are done.
        workers: Manifests from elsewhere are parsed in bounded children (D27).
        clock: Time; ids: correlation, jitter.
        region: Its zone and national numbers.
    """

    def __init__(
        self,
        index: IndexPort,
        acceptor: DetailPort,
        directory: Directory,
        reach: Reach,
        audit: AuditLog,
        workers: Workers,
        clock: Clock,
        ids: Ids,
        region: Region,
        config: EnrichConfig,
    ) -> None:
        self._index, self._acceptor, self._directory, self._reach = index, acceptor, directory, reach
        self._audit, self._clock, self._ids = audit, clock, ids
        self._region, self._config = region, config
        self._manifests = Manifests(reach, workers, config)
        self._agendas: dict[MemberId, Agenda] = {}
        self._running: dict[Waiting, asyncio.Task[None]] = {}
        self._scan_at_s = 0.0
        self._wake = Wake(clock)
        self._backoff = Backoff(config.retry_first_s, config.retry_max_s, draw_from(ids))
        self._holder = ids.uuid4().hex  # this process among those that share the index
        self._leased: set[Waiting] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.completed = 0  # for metrics
        self.failed = 0

    def changed(self, changes: Iterable[Change]) -> None:
        """What the change feed tells: some of it may know only its entry."""
        for change in changes:
            if change.waits and change.member is not None:
                self.wake(change.key or DocumentKey(change.member, change.entry_uuid))

    def wake(self, key: Waiting) -> None:
        """A holding that knows only its entry, or a document of an unknown study, was committed."""
        self._agenda(key.member).add(key).again = True
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many are known to wait."""
        return sum(len(agenda.tries) for agenda in self._agendas.values())

    def _agenda(self, member: MemberId) -> Agenda:
        return self._agendas.setdefault(member, Agenda())

    def members_changed(self) -> None:
        """A member may be reachable again: try what waits for it now."""
        for agenda in self._agendas.values():
            agenda.at_once(self._running)
        self._scan_at_s = 0.0
        self._wake.set()

    def start(self) -> None:
        """Begin, with what waited before the start."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_leases())]

    async def stop(self) -> None:
        """Stop; what is not done waits in the index, and may be taken up by another process at once."""
        tasks, leased = [*self._tasks, *self._running.values()], set(self._leased)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        with suppress(CrosslightError):
            await self._index.leases.give_back(leased, self._holder)

    # --- what next --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now_s = self._clock.monotonic_s()
            if now_s >= self._scan_at_s:
                self._scan_at_s = now_s + self._config.scan_s
                await self._scan()
            self._begin_due()
            await self._wake.wait(min(self._config.scan_s, self._next_s()))

    async def _scan(self) -> None:
        able = [m.id for m in (*self._directory.all(), *self._directory.foreign()) if self._able(m)]
        try:
            waiting: list[Waiting] = [*await self._index.unenriched(able, SCAN), *await self._index.unread_documents(able, SCAN)]
        except CrosslightError as error:
            log.warning("cannot look for what waits", reason=error.what)
            return
        except Exception:
            log.exception("cannot look for what waits")
            return
        for key in waiting:
            self._agenda(key.member).add(key)
        if len(waiting) < SCAN:  # all that wait: forget what does not any more
            for member in able:
                tries = self._agenda(member).tries
                for key in tries.keys() - set(waiting) - self._running.keys():
                    if tries[key].attempts:
                        del tries[key]

    def _able(self, member: Member | None) -> TypeGuard[Member]:
        if member is None or not self._reach.reachable(member):
            return False
        return member.status == "active" or (member.status == "foreign" and self._reach.offers(member, "iti43"))

    def _begin_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for member_id, agenda in self._agendas.items():
            member = self._directory.by_id(member_id)
            if not agenda.tries or not self._able(member):
                continue
            while len(self._running) < self._config.parallel and (key := agenda.take(now_s)) is not None:
                self._running[key] = asyncio.create_task(self._one(key, member))

    def _next_s(self) -> float:
        """Seconds until something may begin; something that ends wakes us anyway."""
        if len(self._running) >= self._config.parallel:
            return self._config.scan_s
        now_s = self._clock.monotonic_s()
        agendas = [a for m, a in self._agendas.items() if a.tries and self._able(self._directory.by_id(m))]
        due = [at_s for agenda in agendas if (at_s := agenda.next_s()) is not None]
        return max(0.02, min(due) - now_s) if due else self._config.scan_s

    async def _keep_leases(self) -> None:
        """Say in time that this process is still at what it is at."""
        while True:
            await self._clock.sleep(self._config.lease_s / 3)
            try:
                await self._index.leases.extend(self._leased, self._holder, self._config.lease_s)
            except Exception:
                log.exception("leases could not be extended")

    async def _one(self, key: Waiting, member: Member) -> None:
        agenda = self._agenda(key.member)
        tried = agenda.add(key)
        tried.again = False
        try:
            if not await self._leased_one(key, member):  # another process is at it; the next look tells what became of it
                agenda.put(key, tried, self._clock.monotonic_s() + self._config.scan_s)
            elif tried.again:  # another version was accepted meanwhile: it is completed next
                agenda.put(key, tried, self._clock.monotonic_s())
            else:
                agenda.tries.pop(key, None)
        except Exception as error:
            self.failed += 1
            tried.attempts += 1
            agenda.put(key, tried, self._clock.monotonic_s() + max(0.1, self._backoff.delay_s(tried.attempts)))
            if isinstance(error, CrosslightError):
                log.warning("not completed yet", study=_named(key), member=member.code, kind=type(error).__name__)
            else:
                log.exception("not completed", study=_named(key), member=member.code)
        finally:
            self._running.pop(key, None)
            self._wake.set()

    async def _leased_one(self, key: Waiting, member: Member) -> bool:
        """Complete it under a lease; whether no other process is at it."""
        if not await self._index.leases.take(key, self._holder, self._config.lease_s):
            return False
        self._leased.add(key)
        try:
            if isinstance(key, HoldingKey):
                await self.enrich(key, member)
            else:
                await self.read_document(key, member)
            self.completed += 1
        finally:
            self._leased.discard(key)
            await self._index.leases.give_back([key], self._holder)
        return True

    # --- one holding ------------------------------------------------------------------------------------------------

    async def enrich(self, key: HoldingKey, member: Member) -> bool:
        """Complete one holding, each of its current entries that was not read; whether there was something to complete.

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
            for publication in (p for p in current if p.record.detail == "entry"):
                done |= await self._complete(key, publication, member, caller)
            act.done(read=len(current))
        return done

    async def _complete(self, key: HoldingKey, publication: Publication, member: Member, caller: Caller) -> bool:
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
            series = await self._fetch_series(key.study_uid, member, token, caller.correlation)
            record = full_record(record, manifest, series, member, self._region)
        return await self._acceptor.update_detail(key, record, entry_uuid=publication.entry_uuid)

    async def read_document(self, key: DocumentKey, member: Member) -> bool:
        """Read a document that does not say of which study it is; whether it still waited.

        Raises:
            CrosslightError: the source cannot be asked, or gives something else.
        """
        thing = await self._index.document(key)
        said = from_plain("document", thing.body) if thing is not None else None
        if not isinstance(said, DocumentEntry) or not said.size.isdecimal():
            return False
        patient = Identifier.parse_cx(said.patient_id)
        caller = background(PRINCIPAL, self._ids, peer=member.code)
        async with self._act(caller, (patient,), ()) as act:
            facts = ManifestFacts(
                document_uid=said.unique_id, sha1=said.hash, size_bytes=int(said.size), creation_time=said.creation_time
            )
            token = self._token(caller, member, (), patient)
            manifest = await self._manifests.read(member, facts, token, caller.correlation)
            done = await self._acceptor.document_read(key, member, manifest)
            act.done(read=1)
        return done

    def _act(self, caller: Caller, patients: tuple[Identifier, ...], studies: tuple[str, ...]) -> Act:
        about = About(patients=patients, studies=studies)
        return self._audit.act(caller, "iti43", "retrieve", about, decision=Decision(True, "enrichment (D17)"))

    def _token(self, caller: Caller, member: Member, studies: tuple[str, ...], patient: Identifier) -> str:
        """For a node of ours; a foreign source knows none."""
        if member.status == "foreign":
            return ""
        return self._reach.mint(caller, member, studies=studies, patient=patient.cx())

    async def _fetch_series(self, study_uid: str, member: Member, token: str, correlation: str) -> list[dict[str, Any]]:
        """QIDO-RS: every series of the study with all that the member indexes (PS3.18 10.6)."""
        found: list[dict[str, Any]] = []
        while True:
            query = f"includefield=all&offset={len(found)}"
            page = await self._get(member, f"studies/{quote(study_uid)}/series", query, token, correlation)
            found += page
            if not page or len(found) >= _total(found):
                return found
            if len(found) > MAX_SERIES:
                raise TooLarge("The member describes too many series.", why=f"Limit here: {MAX_SERIES}.")

    async def _get(self, member: Member, path: str, query: str, token: str, correlation: str) -> list[dict[str, Any]]:
        headers = {"Accept": "application/dicom+json"}
        async with self._reach.open(member, path, token, query=query, headers=headers, correlation=correlation) as response:
            if response.status == 204:
                return []
            if response.status != 200:
                raise Unavailable("The member does not describe its series.", why=f"HTTP status {response.status}.")
            parts, size = [], 0
            async with asyncio.timeout(self._config.timeout_s):
                async for chunk in response.content.iter_chunked(1 << 16):
                    size += len(chunk)
                    if size > self._config.max_series_bytes:
                        raise TooLarge("The list of series is too large.")
                    parts.append(chunk)
        try:
            rows = orjson.loads(b"".join(parts))
        except orjson.JSONDecodeError:
            raise Malformed("The list of series is not JSON.") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed("The list of series is no DICOM JSON.", why="PS3.18 F.2.")
        return rows


def _total(rows: Iterable[dict[str, Any]]) -> int:
    """NumberOfStudyRelatedSeries as the rows say it; 0 where they do not."""
    for row in rows:
        value = row.get("00201206", {}).get("Value") or [0]
        return int(value[0]) if isinstance(value[0], int) else 0
    return 0


def _named(key: Waiting) -> str:
    """The study, or the entryUUID of a document whose study is not known."""
    return key.study_uid if isinstance(key, HoldingKey) else key.entry_uuid
