"""A node beside archives that speak only DIMSE, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_objects as make
from dimse_calls import with_meta
from joserfc.jwk import ECKey
from node_parts import StillConnection, node_ground
from node_serving import MEMBER, SERVED_REGION

from benchmarks.peers import NODELAY, child
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.service_life import Life
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.qido import QidoQuery
from node.archive.archive import Archive
from node.commitment.store import CommitmentStore
from node.config import NodeConfig
from node.dimse.config import DimseConfig
from node.holdings import Fetched
from node.parts import Ground, make_dimse, make_serve, make_sources
from node.sources.config import DimseSource, SourcesConfig
from node.sources.sources import Sources

OTHER = "1.2.826.0.1.3680043.10.1.2"
_AREA = """
NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP  {folder}  RW (200, 1024mb)  ANY
AETable END
"""


@asynccontextmanager
async def dcmqrscp(folder: Path, port: int, sends_to: int = 0) -> AsyncIterator[int]:
    """DCMTK's archive, and its pid; it moves objects to RTK at the port ``sends_to``."""
    (folder / "area").mkdir(parents=True, exist_ok=True)
    config = folder / "dcmqrscp.cfg"
    hosts = f"rtk = (RTK, 127.0.0.1, {sends_to})" if sends_to else ""
    config.write_text(_AREA.format(port=port, folder=folder / "area", hosts=hosts), "utf-8")
    async with child(["/usr/bin/dcmqrscp", "-c", str(config)], port, folder / "log", NODELAY) as pid:
        yield pid


def put(port: int, title: str, *objects: Any) -> None:
    """C-STORE of each."""
    from pynetdicom import AE

    ae = AE("CT1")
    ae.add_requested_context(make.CT, "1.2.840.10008.1.2.1")
    assoc = ae.associate("127.0.0.1", port, ae_title=title)
    assert assoc.is_established
    for one in objects:
        assert assoc.send_c_store(with_meta(one)).Status == 0
    assoc.release()


@dataclass(frozen=True)
class Beside:
    """A node beside an archive; ``port`` is its DICOM listener's, 0 where it has none."""

    archive: Archive
    sources: Sources
    audit: AuditLog
    port: int


@asynccontextmanager
async def beside(
    folder: Path, port: int, title: str, *, dimse: DimseConfig | None = None, **settings: Any
) -> AsyncIterator[Beside]:
    """A node with three lines of configuration, but for the pace; with ``dimse`` it listens too."""
    source = DimseSource(
        name="PACS",
        ae_title=title,
        host="127.0.0.1",
        port=port,
        **{
            "look_every_s": 0.2,
            "studies_per_minute": 6000,
            "earliest": "20250101",
            "compare_every_h": 0.0,
            "recount_every_s": 0.5,
            **settings,
        },
    )
    config = NodeConfig(sources=SourcesConfig(dimse=(source,)), dimse=dimse or DimseConfig(enabled=False))
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    async with (
        node_ground(folder, MEMBER, SERVED_REGION, key, config=config) as (ground, archive),
        Life() as life,
    ):
        sources = make_sources(ground, archive)
        life.closes(sources)
        await sources.open()
        archive.elsewhere.sources = sources.archives
        listener = None
        if dimse is not None:
            serve = make_serve(ground, archive, StillConnection())
            life.closes(serve.release)
            serve.open()
            listener = make_dimse(ground, archive, serve, sources, await _commitments(ground))
            assert listener is not None
            life.stops(listener)
            await listener.start()
        sources.run(life)
        yield Beside(archive, sources, ground.audit, listener.port if listener is not None else 0)


async def _commitments(ground: Ground) -> CommitmentStore:
    store = CommitmentStore(ground.db, ground.seams.clock)
    await store.open()
    return store


async def behind(sources: Sources) -> bool:
    """Whether it says that it may not know all."""
    return sources.behind


async def silent(sources: Sources) -> bool:
    """Whether the archive does not answer."""
    gauges = {g.name: g for g in await sources.gauges()}["crosslight_node_source_silent"]
    return list(gauges.values.values()) == [1.0]


async def uids(archive: Archive) -> list[str]:
    """SOP Instance UIDs that the node finds."""
    rows = await archive.search("instance", QidoQuery.parse("instance", []))
    return sorted(json.text_of(row, "SOPInstanceUID") for row in rows)


async def until(asked: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Wait until it answers this.

    Raises:
        AssertionError: it does not in time.
    """
    found = None
    try:
        async with asyncio.timeout(40):
            while (found := await asked()) != wanted:  # noqa: ASYNC110 - another program's doing
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{found!r} instead of {wanted!r}") from None


async def given(archive: Archive, study_uid: str) -> list[bytes]:
    """The bytes of its objects, as they go out."""
    found = []
    for stored in await archive.objects(study_uid):
        assert stored.ref.sha256 == "", "nothing of it lies here"
        opened = await archive.open_object(stored)
        assert isinstance(opened, Fetched)
        found.append(Path(opened.local.file).read_bytes())
        opened.release()
    return found
