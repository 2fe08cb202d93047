"""The life of a registry: what begins when, what runs beside the answers, and how it all ends."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from crosslight.runtime.audit.keeping import is_protected
from crosslight.runtime.audit.months import keep_months
from crosslight.runtime.health import Gauge
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams, system_seams
from crosslight.runtime.service_life import Life
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.waiting import Wake
from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.membership import RegistryAddresses
from crosslight.standards.problem import CrosslightError
from registry.ask.ask import Ask
from registry.config import RegistryConfig, addresses, people_url
from registry.health import Health
from registry.identity.recomparison import Review
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.listeners import Listeners
from registry.members.service import MemberService
from registry.parts import (
    Ground,
    Parts,
    make_access,
    make_faces,
    make_ground,
    make_members,
    make_retrieves,
    make_waists,
    member_tls,
    people_certificate,
)

log = get_logger("registry")

#: What a child of the registry loads: it reads manifests.
READERS_OF_MANIFESTS = ("crosslight.standards.dicom.record.kos_read",)
REFRESH_S = 60.0  # how often a directory that is near its end is signed anew


class RegistryApp:
    """One registry. ``start`` and ``stop`` are its whole life; several fit into one process.

    Args:
        folder: The registry's, with ``registry.toml``.
        config: What the file says.
        seams: The world outside; it is this registry's alone, and its workers end with the registry. None:
            the real one.
    """

    parts: Parts
    listeners: Listeners

    def __init__(self, folder: Path, config: RegistryConfig, seams: Seams | None = None) -> None:
        self.folder, self.config = folder, config
        self.seams = seams or system_seams(
            workers=SystemWorkers(threads=8, children=1, prepare=READERS_OF_MANIFESTS)
        )
        self._life = Life()

    async def start(self) -> None:
        """Databases, members, index, faces, listeners: in this order."""
        async with Life() as life:
            lock = FolderLock(self.folder)
            lock.acquire()
            life.callback(lock.release)
            self.parts = parts = await self._open(life)
            review = Review(parts.ground.db, self.identity, parts.ground.region, self.seams.clock)
            again = await review.begin()
            self._health = Health(parts)
            self.listeners = Listeners(parts, self._health)
            await self.listeners.start(life)
            parts.members.start()
            parts.retrieves.enricher.start()
            parts.waists.follower.start()
            life.runs(parts.ground.refusals.run())
            life.runs(keep_months(parts.audit_db, self.seams.clock))
            if (outside := parts.ground.people_certificate) is not None:
                life.runs(outside.run())
            life.runs(self.seams.workers.warm())
            life.runs(self._refresh_directories(self.listeners))
            life.runs(self._follow_members())
            life.runs(parts.retrieves.prober.run())
            life.callback(parts.retrieves.tunnels.close)
            if again:
                life.runs(_reviewed(review))
            self._life = life.pop_all()

    async def stop(self) -> None:
        """Stop listening, finish, close. Safe after a start that failed half way."""
        await self._life.aclose()

    async def _open(self, life: Life) -> Parts:
        """All parts, open; what is pushed first ends last."""
        seams, config, folder = self.seams, self.config, self.folder
        db = seams.databases.open(config.database.url, base=folder)
        life.closes(db)
        audit_db = seams.databases.open(config.database.audit_url, base=folder)
        life.closes(audit_db)
        life.closes(seams.workers)
        ground = make_ground(seams, config, db, audit_db)
        ground = replace(ground, people_certificate=people_certificate(ground, folder))
        await ground.audit.open()
        protected = await is_protected(audit_db)
        if config.database.audit_owner_url and not protected:
            log.error(
                "the audit is not protected", detail="Run crosslight-registry migrate; see operations.md."
            )
        members = make_members(ground, folder)
        life.closes(members)
        await members.open(starting=True)
        waists = make_waists(ground, members)
        life.closes(waists.ask)
        await waists.open()
        access = make_access(ground, folder, self.people_url, members)
        life.closes(access)
        await access.open()
        retrieves = make_retrieves(
            ground, waists, members, access.tokens.signer, member_tls(members), members.live
        )
        life.closes(retrieves.sessions)
        life.push_async_callback(_settled, ground)
        life.stops(retrieves.enricher)
        life.stops(waists.follower)
        members.on_change(retrieves.enricher.members_changed)
        faces = make_faces(ground, waists, retrieves, members, members.arriving)
        return Parts(
            ground=ground,
            members=members,
            waists=waists,
            access=access,
            retrieves=retrieves,
            faces=faces,
            audit_db=audit_db,
            audit_protected=protected,
        )

    # --- while it runs --------------------------------------------------------------------------------------

    async def _refresh_directories(self, listeners: Listeners) -> None:
        while True:
            await self.seams.clock.sleep(REFRESH_S)
            listeners.membership.refresh_directories()
            listeners.handshakes.settle()

    async def _follow_members(self) -> None:
        """What waits for a member goes on as soon as its link is up.

        Who holds a number is settled once all are full.
        """
        members, enricher, wake = self.members, self.parts.retrieves.enricher, Wake(self.seams.clock)
        members.on_change(wake.set)
        members.board.changed.add(lambda member: wake.set())
        before: frozenset[int] = frozenset()
        while True:
            up = frozenset(m.id for m in members.all() if members.presence(m.id).reachable)
            if up - before:
                enricher.members_changed()
            before = up
            if not self.identity.settled and self._filled():
                await self.identity.settle_holders()
            await wake.wait()

    def _filled(self) -> bool:
        """Whether every member has been heard of and has filled the index with what it holds."""
        presences = [self.members.presence(m.id) for m in self.members.all()]
        return bool(presences) and all(
            p.last_heard is not None and not p.filling and p.census_equal is True for p in presences
        )

    # --- what others look at --------------------------------------------------------------------------------

    @property
    def people_url(self) -> str:
        """Base of the people listener, as others reach it."""
        return people_url(self.config)

    @property
    def addresses(self) -> RegistryAddresses:
        """What members are told."""
        return addresses(self.config)

    @property
    def members(self) -> MemberService:
        """Who belongs to the region."""
        return self.parts.members

    @property
    def index(self) -> IndexStore:
        """Who holds what."""
        return self.parts.waists.index

    @property
    def identity(self) -> IdentityStore:
        """Who is who."""
        return self.parts.waists.identity

    @property
    def ask(self) -> Ask:
        """The way of every question."""
        return self.parts.waists.ask

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """As ``/health/ready``."""
        return await self._health.ready()

    async def gauges(self) -> list[Gauge]:
        """As ``/metrics``."""
        return await self._health.gauges()


async def _settled(ground: Ground) -> None:
    with suppress(CrosslightError):
        await ground.refusals.settle()
        await ground.audit.settle()


async def _reviewed(review: Review) -> None:
    """Patient records that came by other rules, or from an earlier release, are compared anew."""
    try:
        await review.rest()
    except Exception:
        log.exception("patient records could not be compared anew; the next start goes on with it")
