"""All sources of one node: made from the configuration, run, and asked whether they are behind."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from aiohttp import BasicAuth

from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.health import Gauge
from crosslight.runtime.seams import Seams
from crosslight.runtime.service_life import Life
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.problem import ConfigError
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.landing import Expected
from node.dimse.outgoing import OutgoingAssociation, Proposal, associate, called_system
from node.sources.config import DicomwebSource, DimseSource, SourcesConfig
from node.sources.dicomweb import DicomwebArchive
from node.sources.dimse import DimseArchive, DimseParts, Learning
from node.sources.files.follow import FileFollower
from node.sources.files.make import make_follower
from node.sources.files.rows import FileFigures, FileRows
from node.sources.files.status import file_gauges
from node.sources.files.taking import DescribingFiles, Taken
from node.sources.follow import Describing, Differing, Follower, spans_of
from node.sources.line import KeptLine
from node.sources.notices import Notices
from node.sources.passing import Passing
from node.sources.quirks import quirks_of
from node.sources.store import SourceFigures, SourceStore
from node.sources.upstream import Upstream


class Compared(Differing, Taken, Protocol):
    """What became of descriptions, as either kind of follower asks."""


class Rows(Describing, DescribingFiles, Learning, Protocol):
    """Where what sources have is written down (:class:`node.archive.elsewhere.ObjectsElsewhere`)."""

    async def describe(self, headers: list[Header], source: str) -> Compared:
        """Take in descriptions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTitle:
    """How this node calls and is called by DIMSE."""

    config: DimseConfig
    ae_title: str


class Sources:
    """The archives of others beside which a node stands.

    Args:
        config: The ``[sources]`` section.
        folder: The node's, for files that the configuration names.
        db: The node's database.
        rows: Where what they have is written down.
        seams: HTTP, files, threads and time.
        own: How the node calls by DIMSE.

    Raises:
        ConfigError: for a configuration that cannot be used.
    """

    def __init__(
        self,
        config: SourcesConfig,
        folder: Path,
        db: EmbeddedDb,
        rows: Rows,
        seams: Seams,
        own: OwnTitle,
    ) -> None:
        config.check()
        self._config, self._folder, self._rows, self._seams = config, folder, rows, seams
        self._store = SourceStore(db)
        self._own, self._sessions = own, AsyncExitStack()
        self._db = db
        #: What comes by C-MOVE for whoever waits.
        self.expected = Expected()
        self._followers: list[Follower | FileFollower] = []
        self.archives: Mapping[str, Upstream | FileFollower] = {}
        self._heard: dict[str, Callable[[], None]] = {}
        #: Who is told what they are said to have.
        self.notices = Notices(self._store, seams.clock, self._heard)

    async def open(self) -> None:
        """Make what asks each of them."""
        await self._store.open()
        upstreams: dict[str, Upstream] = {}
        for source in self._config.dicomweb:
            upstreams[source.name] = await self._dicomweb(source)
        if self._config.dimse:
            parts = self._dimse_parts()
            for calling in self._config.dimse:
                upstreams[calling.name] = self._dimse(calling, parts)
        for followed in self._config.all:
            archive = upstreams[followed.name]
            follower = Follower(followed, archive, self._rows, self._store, self._seams.clock)
            self._followers.append(follower)
            self._heard[followed.name] = follower.hear
        self.archives = {**upstreams, **await self._files()}

    async def _files(self) -> dict[str, FileFollower]:
        followers = {}
        for source in self._config.files:
            follower = await make_follower(source, self._folder, self._db, self._rows, self._seams)
            self._sessions.push_async_callback(follower.close)
            self._followers.append(follower)
            followers[source.name] = follower
        return followers

    async def _dicomweb(self, source: DicomwebSource) -> DicomwebArchive:
        tls = None
        if source.url.startswith("https://"):
            tls = ssl.create_default_context(
                cafile=str(self._folder / source.tls_ca) if source.tls_ca else None
            )
        session = await self._sessions.enter_async_context(self._seams.http.client(tls, limit=8))
        return DicomwebArchive(session, source.url, self._auth(source))

    def _dimse_parts(self) -> DimseParts:
        seams, clock = self._seams, self._seams.clock
        passing = Passing(
            self._folder / "passing",
            seams.files,
            seams.ids,
            clock.monotonic_s,
            most_bytes=self._config.passing_bytes,
            longest_s=self._config.passing_minutes * 60,
        )
        passing.open()
        return DimseParts(
            ae_title=self._own.ae_title,
            expected=self.expected,
            passing=passing,
            learning=self._rows,
            files=seams.files,
            workers=seams.workers,
            clock=clock,
        )

    def _dimse(self, source: DimseSource, parts: DimseParts) -> DimseArchive:
        peer = called_system(self._own.config, self._folder, source)

        def opening(proposals: Sequence[Proposal]) -> AbstractContextManager[OutgoingAssociation]:
            return associate(peer, proposals, calling=parts.ae_title)

        asking, fetching = KeptLine(opening, parts.workers), KeptLine(opening, parts.workers)
        archive = DimseArchive(source, quirks_of(source.quirks, source.issuer), asking, fetching, parts)
        self._sessions.push_async_callback(archive.close)
        return archive

    def _auth(self, source: DicomwebSource) -> BasicAuth | None:
        if not source.user:
            return None
        try:
            password = (self._folder / source.password_file).read_text("utf-8").rstrip("\n")
        except OSError as error:
            raise ConfigError(
                "The password of a source cannot be read.",
                why=error.strerror or "",
                where="sources.dicomweb.password_file",
            ) from None
        return BasicAuth(source.user, password)

    def run(self, life: Life) -> None:
        """Follow each, until the node ends."""
        for follower in self._followers:
            life.runs(follower.run())

    @property
    def behind(self) -> bool:
        """Whether one of them has something that may not be known here."""
        return any(follower.behind for follower in self._followers)

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        all_figures = await figures_of(self._db, self._config, self._seams.clock.now().date())
        figures = [known for known in all_figures if isinstance(known, SourceFigures)]
        of_files = file_gauges([known for known in all_figures if isinstance(known, FileFigures)])
        studies: dict[tuple[str, ...], float] = {(known.name,): float(known.studies) for known in figures}
        silent: dict[tuple[str, ...], float] = {
            (known.name,): float(bool(known.trouble)) for known in figures
        }
        repaired: dict[tuple[str, ...], float] = {(known.name,): float(known.n_differed) for known in figures}
        compared: dict[tuple[str, ...], float] = {
            (known.name,): len(known.windows_dated) / max(known.n_windows, 1) for known in figures
        }
        if not figures:
            return of_files
        return [
            *of_files,
            Gauge("crosslight_node_source_studies", "Studies known of a source.", studies, ("source",)),
            Gauge(
                "crosslight_node_source_compared",
                "Part of the months that were compared with a source at least once.",
                compared,
                ("source",),
            ),
            Gauge("crosslight_node_source_silent", "1 while a source does not answer.", silent, ("source",)),
            Gauge(
                "crosslight_node_source_drift",
                "Studies that differed when each window was compared last.",
                repaired,
                ("source",),
            ),
        ]

    async def close(self) -> None:
        """End the connections."""
        await self._sessions.aclose()


async def figures_of(
    db: EmbeddedDb, config: SourcesConfig, today: date, named: int = 0
) -> list[SourceFigures | FileFigures]:
    """What is known of each configured source; ``named``: so many instances that have two files are named."""
    figures: list[SourceFigures | FileFigures] = []
    if config.all:
        store = SourceStore(db)
        await store.open()
        figures += [
            replace(await store.figures(source.name), n_windows=sum(1 for _ in spans_of(source, today)))
            for source in config.all
        ]
    for files in config.files:
        rows = FileRows(db, files.name)
        await rows.open()
        figures.append(await rows.figures(named))
    return figures


def senders(config: SourcesConfig) -> tuple[KnownCaller, ...]:
    """Archives that call this node after its C-MOVE: they may bring what is waited for, and nothing else."""
    return tuple(
        KnownCaller(ae_title=source.sends_as or source.ae_title, addresses=_addresses(source.host), may=())
        for source in config.dimse
        if source.retrieve == "move"
    )


def _addresses(host: str) -> tuple[str, ...]:
    """Where it calls from, as far as its address says it; () for a name."""
    try:
        return (str(ip_address(host)),)
    except ValueError:
        return ()
