"""A node beside a folder or an object store of files, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey
from node_parts import node_ground
from node_serving import MEMBER, SERVED_REGION

from crosslight.runtime.service_life import Life
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.qido import QidoQuery
from node.archive.archive import Archive
from node.config import NodeConfig
from node.holdings import Passed, StoredObject
from node.parts import make_sources
from node.sources.config import SourcesConfig
from node.sources.files.config import ObjectStoreSource
from node.sources.files.rows import FileFigures
from node.sources.sources import Sources, figures_of


@dataclass
class BesideFiles:
    """The node's archive and its sources."""

    archive: Archive
    sources: Sources
    config: SourcesConfig

    async def uids(self, **keys: str) -> list[str]:
        """SOP Instance UIDs that the node finds."""
        query = QidoQuery.parse("instance", [*keys.items(), ("limit", "1000")])
        return sorted(
            json.text_of(row, "SOPInstanceUID") for row in await self.archive.search("instance", query)
        )

    async def figures(self) -> FileFigures:
        """What is known of the only source."""
        (known,) = await figures_of(self.archive.elsewhere._db, self.config, date(2026, 3, 1), 10)
        assert isinstance(known, FileFigures)
        return known

    async def counts(self) -> dict[str, int]:
        """How many files there are of each kind."""
        return {state.name: n for state, n in sorted((await self.figures()).counts.items())}

    async def behind(self) -> bool:
        """Whether the node says that it may not know all it has."""
        return (await self.archive.refused(10))[1]

    async def stored(self, study_uid: str, sop_uid: str) -> StoredObject:
        """One object."""
        (found,) = [s for s in await self.archive.objects(study_uid) if s.ref.sop_uid == sop_uid]
        return found

    async def given(self, stored: StoredObject) -> bytes:
        """Its bytes."""
        opened = await self.archive.open_object(stored)
        assert isinstance(opened, Passed)
        async with aclosing(opened.chunks) as chunks:
            data = b"".join([chunk async for chunk in chunks])
        assert len(data) == opened.length
        return data


def object_store(endpoint: str, **values: Any) -> SourcesConfig:
    """The bucket of these tests; its credentials are in the node's folder."""
    made = {
        "look_every_s": 0.5,
        "settle_s": 0.0,
        "read_per_s": 5000.0,
        "credentials_file": "s3.toml",
        "url": "s3://images/vna",
        **values,
    }
    return SourcesConfig(object_store=(ObjectStoreSource(name="VNA", endpoint=endpoint, **made),))


@asynccontextmanager
async def beside_files(
    folder: Path, config: SourcesConfig, *, follow: bool = True
) -> AsyncIterator[BesideFiles]:
    """A node in ``folder`` with these sources."""
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    whole = NodeConfig(sources=config)
    async with (
        node_ground(folder, MEMBER, SERVED_REGION, key, config=whole) as (ground, archive),
        Life() as life,
    ):
        sources = make_sources(ground, archive)
        life.closes(sources)
        await sources.open()
        archive.elsewhere.sources = sources.archives
        if follow:
            sources.run(life)
        yield BesideFiles(archive, sources, config)


async def until(asked: Callable[[], Awaitable[Any]], wanted: Any, seconds: float = 60) -> None:
    """Wait until what is asked is answered as wanted."""
    found = None
    try:
        async with asyncio.timeout(seconds):
            while (found := await asked()) != wanted:  # noqa: ASYNC110 - files are another program's doing
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found!r} instead of {wanted!r}") from None
