"""What the faces of ``serve`` are given: the holdings, the way out, and their bounds.

One object a node, no module state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from yarl import URL

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files, private_folder
from crosslight.runtime.http import CALLER
from crosslight.runtime.shares import Shares, peer_share, share_of
from crosslight.runtime.workers import Workers
from crosslight.standards.ids import Oid
from crosslight.standards.problem import Gone, NotFound
from node.holdings import Holdings, StoredObject
from node.serve.bandwidth import Bandwidth
from node.serve.cache import ByteCache, LayoutCache
from node.serve.config import ServeConfig
from node.serve.release import Release
from node.serve.sendfile import near_buffer

T = TypeVar("T")


@lru_cache(maxsize=256)
def _origin(scheme: str, host: str) -> str:
    return str(URL.build(scheme=scheme, authority=host).origin())


def share_at(request: web.Request) -> str:
    """Whose share a request takes; before it is known who asks, that of the address."""
    caller = request.get(CALLER)
    return share_of(caller) if caller is not None else peer_share(request.remote or "")


@dataclass(kw_only=True)
class ServeContext:
    """The parts that handlers share.

    Args:
        spool: Folder for instances on their way to another transfer syntax, or from elsewhere; emptied by
            :meth:`open`.
        bandwidth: How fast other organisations are given what is held.
        retrieve_location_uid: This member's, for RAD-69 (D11); called at each request, as joining may come
            later.
        repository_unique_id: This member's, for ITI-43 (D11).
        send_stall_s: A reader that takes next to nothing for so long is cut.
    """

    holdings: Holdings
    release: Release
    workers: Workers
    ids: Ids
    files: Files
    spool: Path
    bandwidth: Bandwidth
    config: ServeConfig = field(default_factory=ServeConfig)
    retrieve_location_uid: Callable[[], Oid] = lambda: Oid("")
    repository_unique_id: Callable[[], Oid] = lambda: Oid("")
    prefix: str = "/dicomweb"
    send_stall_s: float = 60.0
    pictures: ByteCache = field(init=False)
    layouts: LayoutCache = field(init=False)
    near: memoryview = field(init=False)
    decoding: Shares = field(init=False)
    storing: Shares = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = ByteCache(self.config.render_cache_bytes)
        self.layouts = LayoutCache(1024)
        self.near = near_buffer()
        self.decoding = Shares("pictures and instances to be decoded", self.config.decoding())
        self.storing = Shares("STOW-RS requests", self.config.storing())

    async def bounded(self, share: str, fn: Callable[..., T], *args: Any) -> T:
        """Decode in a bounded child (D27).

        No more at once than ``serve.decoders``, in turns that go round the callers: whoever waits does so
        here, and holds no thread meanwhile.

        Args:
            share: Whose turn it is (:func:`share_at`).
            fn, args: What is done there.

        Raises:
            OverShare, Busy: there was no turn in time.
        """
        async with self.decoding.turn(share):
            return await self.workers.run_bounded(fn, *args)

    def open(self) -> None:
        """Make the spool, and empty it of what a crash has left."""
        private_folder(self.spool)
        for path in self.spool.glob("*.spool"):
            self.files.remove(path)

    def base_url(self, request: web.Request) -> str:
        """The DICOMweb root as this client reaches it."""
        root = self.config.public_base_url.rstrip("/") or _origin(request.scheme, request.host)
        return root + self.prefix

    async def held(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> list[StoredObject]:
        """Objects of a resource.

        Raises:
            NotFound, Gone: when nothing is live there.
        """
        objects = await self.holdings.objects(study_uid, series_uid, sop_uid)
        if not objects:
            raise await self.missing(study_uid, series_uid, sop_uid)
        return objects

    async def missing(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> NotFound:
        """404, or 410 for what was deleted or rejected here."""
        kind = "instance" if sop_uid else "series" if series_uid else "study"
        if await self.holdings.was_here(study_uid, series_uid, sop_uid):
            return Gone(f"This {kind} is no longer held here.", todo="Search again.")
        return NotFound(f"No such {kind} is held here.", todo="Search for it.")
