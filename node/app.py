"""The life of a node: what begins when, what runs beside the answers, and how it all ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.health import Gauge
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams, system_seams
from crosslight.runtime.service_life import Life
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.tunnel.carrier import Take
from crosslight.runtime.waiting import Wake
from crosslight.standards.membership import Endpoints
from node.archive.archive import Archive
from node.care import ArchiveCare
from node.commitment.store import CommitmentStore
from node.config import NodeConfig, warnings_of
from node.health import Health
from node.listeners import listen
from node.membership.membership import Connection, membership_of
from node.parts import (
    Parts,
    endpoints,
    make_announcer,
    make_archive,
    make_continuity,
    make_dimse,
    make_gate,
    make_ground,
    make_publication,
    make_rereader,
    make_serve,
    make_sources,
    rules_of,
)
from node.publish.publisher import Publisher
from node.serve.bounded_child import reading_workers

log = get_logger("node")

TIDY_EVERY_S = 6 * 3600.0


class NodeApp:
    """One node, a region's member or independent (D18).

    ``start`` and ``stop`` are its whole life; several fit into a process.

    Args:
        folder: The node's, with ``node.toml`` and ``region``.
        config: What the file says.
        seams: The world outside; it is this node's alone, and its workers end with the node. None: the real
            one.
    """

    parts: Parts

    def __init__(self, folder: Path, config: NodeConfig, seams: Seams | None = None) -> None:
        self.folder, self.config = folder, config
        self.seams = seams or system_seams(workers=reading_workers())
        self.membership = membership_of(
            folder,
            self.seams.files,
            config.publish.foreign,
            config.archive,
            config.region,
            open_mode=config.listen.open,
        )
        self._life = Life()

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start databases, archive, publisher, listeners, link, in this order.

        So nothing is announced that is not there.
        """
        async with Life() as life:
            lock = FolderLock(self.folder)
            lock.acquire()
            life.callback(lock.release)
            for what, todo in warnings_of(self.config):
                log.warning(what, detail=todo)
            self.parts = parts = await self._open(life)
            self._check_authority()
            self.membership.on_change(self._region_changed)
            self._health = Health(parts)
            self._run(life, await listen(parts, self._health, life))
            self._life = life.pop_all()

    async def stop(self) -> None:
        """Stop taking in, finish, close. Safe after a start that failed half way."""
        await self._life.aclose()

    async def _open(self, life: Life) -> Parts:
        """All parts, open; what is pushed first ends last."""
        seams, folder = self.seams, self.folder
        db = seams.databases.embedded(folder / "node.db")
        life.closes(db)
        audit_db = seams.databases.embedded(folder / "audit.db")
        life.closes(audit_db)
        life.closes(seams.workers)
        audit = AuditLog(audit_db, seams.clock)
        await audit.open()
        ground = make_ground(seams, folder, self.config, self.membership, db, audit)
        life.push_async_callback(ground.refusals.settle)
        archive = make_archive(seams, folder, self.config, self.membership, db)
        life.closes(archive)
        await archive.open()
        sources = make_sources(ground, archive)
        life.closes(sources)
        await sources.open()
        archive.elsewhere.sources = sources.archives
        publication = await make_publication(ground, archive)
        life.closes(publication.publisher)
        await publication.publisher.open()
        serve = make_serve(ground, archive, publication.connection)
        life.closes(serve.release)
        serve.open()
        continuity = make_continuity(ground, publication.connection)
        if continuity is not None:
            continuity.open()
        commitments = CommitmentStore(db, seams.clock)
        await commitments.open()
        announcer = make_announcer(ground, archive)
        if announcer is not None:
            await announcer.open()
        return Parts(
            ground=ground,
            archive=archive,
            care=ArchiveCare(archive, audit, seams, self.config.archive),
            publication=publication,
            rereader=make_rereader(ground, archive, publication.publisher),
            sources=sources,
            serve=serve,
            gate=make_gate(ground),
            dimse=make_dimse(ground, archive, serve, sources, commitments),
            continuity=continuity,
            announcer=announcer,
        )

    def _run(self, life: Life, take: Take) -> None:
        """All that goes on by itself; ``take`` serves what comes through the link."""
        publication, rereader = self.parts.publication, self.parts.rereader
        publication.publisher.start()
        life.stops(publication.connection)
        publication.connection.start(publication.voice)
        publication.connection.carry(take)
        life.stops(rereader)
        rereader.start()
        life.runs(self.parts.ground.refusals.run())
        life.runs(self.seams.workers.warm())
        if (outside := self.parts.ground.people_certificate) is not None:
            life.runs(outside.run())
        self.parts.sources.run(life)
        if (announcer := self.parts.announcer) is not None:
            life.runs(announcer.run())
        life.runs(self._tidy())
        life.runs(self.archive.care.run())
        life.runs(self.archive.mover.run())
        life.runs(self.archive.carrier.run())
        life.runs(self._follow(publication.connection))
        life.runs(self.parts.gate.watch())
        if (dimse := self.parts.dimse) is not None:
            self.membership.on_change(dimse.look)
            life.runs(dimse.watch(self.seams.clock))

    # --- while it runs --------------------------------------------------------------------------------------

    def _region_changed(self) -> None:
        """The region agreed to another patient authority, or to one less, or says other national numbers."""
        self.archive.rules = rules_of(self.config, self.membership)
        self._check_authority()
        self.parts.rereader.look()

    def _check_authority(self) -> None:
        why = self.membership.not_agreed(self.archive.rules.authority)
        if why:
            log.error("nothing is published", reason=why)
        self.publisher.hold("authority", why)

    async def _tidy(self) -> None:
        while True:
            await self.seams.clock.sleep(TIDY_EVERY_S)
            try:
                await self.archive.tidy()
                if self._health.clock_right():
                    await self.parts.care.apply_retention()
            except Exception:
                log.exception("tidying failed")

    async def _follow(self, connection: Connection) -> None:
        """What leaves is cut when the region suspends this node.

        What is known of the link is kept for ``status``.
        """
        wake, suspended = Wake(self.seams.clock), False
        connection.changed.add(lambda status: wake.set())
        while True:
            connection.remember()
            status = connection.status
            if (status.suspended is not None) != suspended:
                suspended = not suspended
                if suspended:
                    self.parts.serve.release.cut()
                    self.publisher.suspend(status.suspended or "suspended")
                else:
                    self.publisher.resume()
            await wake.wait()

    # --- what others look at --------------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """Organisation code."""
        return self.membership.code

    @property
    def endpoints(self) -> Endpoints:
        """Where this node's faces are, as others reach them."""
        return endpoints(self.config, self.code)

    @property
    def archive(self) -> Archive:
        """What is held."""
        return self.parts.archive

    @property
    def publisher(self) -> Publisher:
        """What is said of it."""
        return self.parts.publication.publisher

    @property
    def connection(self) -> Connection:
        """To the registry."""
        return self.parts.publication.connection

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """As ``/health/ready``."""
        return await self._health.ready()

    async def gauges(self) -> list[Gauge]:
        """As ``/metrics``."""
        return await self._health.gauges()
