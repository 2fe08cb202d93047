"""Enrichment: a study that came over SOAP says as much as one that came over gRPC (D17).

After the commit the member is asked as any consumer would ask it: the manifest by ITI-43, checked against the entry's hash
and size, then the series by QIDO-RS. What waits is in the index' own table, so nothing is lost by a restart; a member that
cannot be reached is asked when it can. A foreign source stays at what it said until one of its faces is known.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Protocol, TypeGuard
from urllib.parse import quote

import orjson

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.http import CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.soap import SoapClient
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Principal
from crosslight.standards.dicom.kos import Manifest, parse_manifest
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Conflict, CrosslightError, Malformed, NotFound, TooLarge, Unavailable
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds import retrieve
from registry.gateway.gateway import Gateway, Unanswered
from registry.index.model import Holding, HoldingKey
from registry.intake.agenda import Agenda
from registry.intake.checks import MAX_SERIES
from registry.intake.config import EnrichConfig
from registry.intake.detail import full_record, manifest_record
from registry.members.model import Directory, Member

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


class DetailPort(Protocol):
    """Where detail goes (``Acceptor``)."""

    async def update_detail(self, key: HoldingKey, record: StudyRecord, *, entry_uuid: str = "", digest: str = "") -> bool:
        """Replace what is known by more of it."""
        ...


class Enricher:
    """Completes holdings in the background.

    Args:
        index: What waits. acceptor: Where detail goes.
        directory: Members. gateway: Their sessions, tokens and addresses.
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
        gateway: Gateway,
        audit: AuditLog,
        workers: Workers,
        clock: Clock,
        ids: Ids,
        region: Region,
        config: EnrichConfig,
    ) -> None:
        self._index, self._acceptor, self._directory, self._gateway = index, acceptor, directory, gateway
        self._audit, self._workers, self._clock, self._ids = audit, workers, clock, ids
        self._region, self._config = region, config
        self._agendas: dict[MemberId, Agenda] = {}
        self._running: dict[HoldingKey, asyncio.Task[None]] = {}
        self._scan_at_s = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.completed = 0  # for metrics
        self.failed = 0

    def wake(self, key: HoldingKey) -> None:
        """A holding that knows only its entry was committed."""
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
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is not done waits in the index."""
        tasks = [t for t in (self._task, *self._running.values()) if t is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    # --- what next --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now_s = self._clock.monotonic_s()
            if now_s >= self._scan_at_s:
                self._scan_at_s = now_s + self._config.scan_s
                await self._scan()
            self._begin_due()
            await self._sleep(min(self._config.scan_s, self._next_s()))

    async def _scan(self) -> None:
        able = [member.id for member in self._directory.all() if self._able(member)]
        try:
            waiting = await self._index.unenriched(able, SCAN)
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
        return member is not None and member.status == "active" and self._gateway.reachable(member)

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

    async def _sleep(self, seconds: float) -> None:
        waiting = {asyncio.create_task(self._wake.wait()), asyncio.create_task(_slept(self._clock, seconds))}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _one(self, key: HoldingKey, member: Member) -> None:
        agenda = self._agenda(key.member)
        tried = agenda.add(key)
        tried.again = False
        try:
            await self.enrich(key, member)
            if tried.again:  # another version was accepted meanwhile: it is completed next
                agenda.put(key, tried, self._clock.monotonic_s())
            else:
                agenda.tries.pop(key, None)
            self.completed += 1
        except Exception as error:
            self.failed += 1
            tried.attempts += 1
            draw = int.from_bytes(self._ids.token_bytes(4), "big") / (1 << 32)
            longest_s = min(self._config.retry_max_s, self._config.retry_first_s * 2.0 ** min(tried.attempts, 30))
            agenda.put(key, tried, self._clock.monotonic_s() + max(0.1, draw * longest_s))
            if isinstance(error, CrosslightError | Unanswered):
                log.warning("not completed yet", study=key.study_uid, member=member.code, kind=type(error).__name__)
            else:
                log.exception("not completed", study=key.study_uid, member=member.code)
        finally:
            self._running.pop(key, None)
            self._wake.set()

    # --- one holding ------------------------------------------------------------------------------------------------

    async def enrich(self, key: HoldingKey, member: Member) -> bool:
        """Complete one holding; whether there was something to complete.

        Raises:
            CrosslightError, Unanswered: the member cannot be asked, or what it says does not fit the entry.
        """
        holding = await self._index.holding(key)
        if holding is None or holding.state != "approved" or holding.record.detail != "entry":
            return False
        correlation = self._ids.uuid4().hex
        entry = AuditEntry(
            principal=PRINCIPAL,
            face="iti43",
            action="retrieve",
            decision="permit",
            rule="enrichment (D17)",
            correlation=correlation,
            patients=(holding.record.patient.local, *holding.record.patient.others),
            studies=(key.study_uid,),
            peer=member.code,
        )
        await self._audit.begin(entry)
        try:
            record = await self._ask(holding, member, correlation)
            done = await self._acceptor.update_detail(key, record, entry_uuid=holding.publication.entry_uuid)
        except Exception as error:
            await self._audit.end(entry, f"failed: {type(error).__name__}")
            raise
        await self._audit.end(entry, "ok 1")
        return done

    async def _ask(self, holding: Holding, member: Member, correlation: str) -> StudyRecord:
        token = self._gateway.mint(
            PRINCIPAL, member, studies=(holding.study_uid,), patient=holding.record.patient.local.cx(), correlation=correlation
        )
        data = await self._fetch_manifest(holding, member, token, correlation)
        facts = holding.publication.manifest
        if len(data) != facts.size_bytes or hashlib.sha1(data, usedforsecurity=False).hexdigest() != facts.sha1.lower():
            raise Conflict("The manifest is not the one that was registered.", why="ITI TF-3 4.2.3.2.10: hash and size.")
        manifest: Manifest = await self._workers.run_bounded(parse_manifest, data)
        if manifest.study_uid != holding.study_uid or manifest.role != "manifest":
            raise Conflict("The manifest is of another study, or is none.")
        if not member.endpoints.systems and not member.endpoints.dicomweb:
            return manifest_record(holding.record, manifest)
        series = await self._fetch_series(holding.study_uid, member, token, correlation)
        return full_record(holding.record, manifest, series, member, self._region)

    async def _fetch_manifest(self, holding: Holding, member: Member, token: str, correlation: str) -> bytes:
        """ITI-43 for one document."""
        if not member.endpoints.xds_repository:
            raise Unavailable("The member has no address for ITI-43.")
        facts, source = holding.publication.manifest, holding.publication.source
        asked = retrieve.DocumentRequest(source.repository_unique_id, facts.document_uid)
        client = SoapClient(self._gateway.sessions(member), self._ids)
        answer = await client.call(
            member.endpoints.xds_repository,
            retrieve.ACTION_REQUEST,
            retrieve.render_retrieve_request([asked]),
            mtom=True,
            timeout_s=self._config.timeout_s,
            max_bytes=2 * self._config.max_manifest_bytes,
            headers={"Authorization": f"Bearer {token}", CORRELATION_HEADER: correlation},
        )
        reply = retrieve.parse_retrieve_response(answer.body)
        for document in reply.documents:
            if document.request.document_unique_id == facts.document_uid and document.data is not None:
                if len(document.data) > self._config.max_manifest_bytes:
                    raise TooLarge("The manifest is too large.")
                return document.data
        codes = ", ".join(sorted({error.code for error in reply.registry.errors}))
        raise NotFound("The member does not give its manifest.", why=codes)

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
        async with self._gateway.open(member, path, token, query=query, headers=headers, correlation=correlation) as response:
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


async def _slept(clock: Clock, seconds: float) -> bool:
    await clock.sleep(seconds)
    return True
