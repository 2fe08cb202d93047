"""An object store in memory for an archive in a test; it can be away, and can lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import dicom_objects as make
import obstore
import pytest
from archive_fixture import Held
from obstore.store import MemoryStore

from crosslight.standards.problem import Unavailable
from node.archive.bucket import Bucket, key_of
from node.archive.carrier import GRACE_S
from node.archive.config import ObjectStoreConfig
from node.holdings import Passed, StoredObject

OTHER = f"{make.STUDY}.77"


class Switched(Bucket):
    """A bucket that is away when it is told to be."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store if store is not None else MemoryStore()
        super().__init__(self.store, "s3://images")
        self.away = self.lies = False
        self.streams = 0
        self.held_up: asyncio.Event | None = None  # each stream waits for it after its first bytes

    def again(self) -> Switched:
        """The same store, as the next process sees it."""
        return Switched(self.store)

    async def ready(self) -> None:
        self._gone()
        await super().ready()

    def ready_here(self) -> None:
        self._gone()
        super().ready_here()

    def _gone(self) -> None:
        if self.away:
            raise Unavailable("The object store does not answer as it should.", why="It cannot be reached.")

    async def stream(self, sha256: bytes) -> AsyncGenerator[bytes]:
        self.streams += 1
        async for data in super().stream(sha256):
            yield bytes(len(data)) if self.lies else data
            if self.held_up is not None:
                await self.held_up.wait()

    def keys(self) -> list[str]:
        """Of all objects in it."""
        return sorted(o["path"] for page in obstore.list(self.store, prefix="objects") for o in page)

    def bytes_of(self, sha256: bytes) -> bytes:
        return bytes(obstore.get(self.store, key_of(sha256)).bytes())

    def put_back(self, sha256: bytes, data: bytes) -> None:
        obstore.put(self.store, key_of(sha256), data)

    def damage(self, sha256: bytes) -> None:
        """Its last byte becomes another."""
        data = self.bytes_of(sha256)
        obstore.put(self.store, key_of(sha256), data[:-1] + bytes([data[-1] ^ 1]))


async def carried(here: Held) -> None:
    """Carry all that there is, and make room."""
    bucket = here.archive.carrier.bucket
    assert bucket is not None
    await here.settle()
    while await here.archive.carrier.step(bucket):
        pass
    await here.archive.carrier.step(bucket)


async def given(here: Held, stored: StoredObject) -> bytes:
    """All bytes of an object as whoever opened it gets them."""
    opened: Any = await here.archive.open_object(stored)
    if isinstance(opened, Passed):
        return b"".join([data async for data in opened.chunks])
    return Path(opened.file).read_bytes()[: opened.length]


def settings(keep_local_gb: float = 0.0, **more: Any) -> dict[str, Any]:
    store = ObjectStoreConfig(url="s3://images", keep_local_gb=keep_local_gb, mb_per_s=10_000)
    return {"object_store": store, "min_free_bytes": 0, **more}


async def filled(here: Held, count: int = 4, **more: Any) -> dict[str, bytes]:
    """Objects as they came; by SOP Instance UID."""
    for n in range(count):
        assert (await here.put(make.image(n, **more))).state == "stored"
    return {o.ref.sop_uid: await given(here, o) for o in await objects(here)}


async def objects(here: Held, study: str = make.STUDY) -> list[StoredObject]:
    return list(await here.archive.objects(study))


async def all_given(here: Held) -> dict[str, bytes]:
    return {o.ref.sop_uid: await given(here, o) for o in await objects(here)}


def not_open_any_more(here: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours pass."""
    real = here.clock.monotonic_s
    monkeypatch.setattr(here.clock, "monotonic_s", lambda: real() + GRACE_S + 1)


async def carried_away(here: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """All objects lie in the object store alone."""
    await carried(here)
    not_open_any_more(here, monkeypatch)
    await carried(here)
    assert here.object_files() == []
