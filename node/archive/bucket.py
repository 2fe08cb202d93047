"""The bucket of an archive's own objects, each by the digest of its data set (``[archive.object_store]``).

It is marked with the archive's own id: a bucket of another archive, or one that has lost its mark, is
not read, not written and not removed from, and what is not found in it counts as nothing. What blocks is for
threads; what serves is asynchronous.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from crosslight.runtime.object_store import as_ours
from crosslight.standards.problem import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MARK: Final = "crosslight-archive"
_PROBE: Final = "crosslight-probe"
_CHUNK: Final = 1 << 18
_PART: Final = 5 << 20  # of a large object: two are in memory at a time
_PARTS: Final = 2
_PAGE: Final = 1000


class Bucket:
    """One bucket, or a prefix of it.

    Args:
        store: Knows the prefix.
        name: What it is called to whoever keeps it.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self.name = store, name
        self._id, self._used, self._ready = "", False, False
        self._claimed: set[bytes] = set()
        self._freed = threading.Condition()

    def belongs(self, archive_id: str, *, used: bool) -> None:
        """Whose it must be; ``used``: objects lie in it, so that it must have the mark."""
        self._id, self._used = archive_id, used

    # --- whose it is ----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Whether it answers at all, whosever it is.

        Raises:
            Unavailable, Forbidden: it does not.
        """
        import obstore

        with as_ours(), suppress(FileNotFoundError):
            await obstore.head_async(self._store, MARK)

    async def probe(self) -> None:
        """Whether it is this archive's, and takes, gives and removes what is written to it.

        Raises:
            Unavailable, Forbidden, Conflict: it cannot be used.
        """
        import obstore

        await self.ready()
        with as_ours(absent="The object store does not keep what is written to it."):
            await obstore.put_async(self._store, _PROBE, self._id.encode())
            answer = await obstore.get_async(self._store, _PROBE)
            await answer.bytes_async()
            await obstore.delete_async(self._store, _PROBE)

    async def ready(self) -> None:
        """Be sure that it is there, and this archive's.

        Raises:
            Unavailable: it cannot be reached, or is not the bucket that it was.
            Conflict: it is another archive's.
        """
        import obstore

        if self._ready:
            return
        with as_ours(absent="There is no such bucket."):
            try:
                answer = await obstore.get_async(self._store, MARK)
            except FileNotFoundError:
                self._missing_mark()
                await obstore.put_async(self._store, MARK, self._id.encode())
                answer = await obstore.get_async(self._store, MARK)
            self._check(bytes(await answer.bytes_async()))

    def ready_here(self) -> None:
        """As :meth:`ready`. Blocking."""
        import obstore

        if self._ready:
            return
        with as_ours(absent="There is no such bucket."):
            try:
                answer = obstore.get(self._store, MARK)
            except FileNotFoundError:
                self._missing_mark()
                obstore.put(self._store, MARK, self._id.encode())
                answer = obstore.get(self._store, MARK)
            self._check(bytes(answer.bytes()))

    def _missing_mark(self) -> None:
        if self._used or not self._id:
            raise Unavailable(
                "The object store is not the one in which this archive's objects lie.",
                why=f"There is no {MARK} in {self.name}.",
                todo="Look at archive.object_store in the configuration.",
            )

    def _check(self, said: bytes) -> None:
        if said != self._id.encode():
            raise Conflict(
                "The object store holds another archive's objects.",
                why=f"{MARK} in {self.name} names another one.",
                todo="Give each archive a bucket or a prefix of its own.",
            )
        self._ready = True

    # --- objects --------------------------------------------------------------------------------------------

    async def put(self, sha256: bytes, chunks: AsyncIterator[bytes], size: int) -> None:
        """Write an object: all of it, or nothing that anybody sees; a small one in one request.

        Raises:
            Unavailable, Forbidden: the store does not take it.
        """
        import obstore

        await self.ready()
        with as_ours(absent="There is no such bucket."):
            if size <= _PART:
                data = b"".join([chunk async for chunk in chunks])
                await obstore.put_async(self._store, key_of(sha256), data, use_multipart=False)
                return
            await obstore.put_async(
                self._store, key_of(sha256), chunks, chunk_size=_PART, max_concurrency=_PARTS
            )

    async def stream(self, sha256: bytes) -> AsyncGenerator[bytes]:
        """All bytes of an object.

        Raises:
            NotFound: the store has none.
            Unavailable, Forbidden: it cannot be read now.
        """
        import obstore

        await self.ready()
        with as_ours():
            answer = await obstore.get_async(self._store, key_of(sha256))
            async for data in answer.stream(min_chunk_size=_CHUNK):
                yield bytes(data)

    def read(self, sha256: bytes) -> Iterator[bytes]:
        """As :meth:`stream`. Blocking."""
        import obstore

        self.ready_here()
        with as_ours():
            for data in obstore.get(self._store, key_of(sha256)).stream(min_chunk_size=_CHUNK):
                yield bytes(data)

    def remove(self, sha256: bytes) -> None:
        """Remove an object; harmless when there is none. Blocking.

        Raises:
            Unavailable, Forbidden: it cannot be removed now.
        """
        import obstore

        self.ready_here()
        try:
            with as_ours():
                obstore.delete(self._store, key_of(sha256))
        except NotFound:
            return

    def below(self, prefix: str) -> Iterator[bytes]:
        """Digests of all objects whose names begin with two hex digits. Blocking."""
        import obstore

        self.ready_here()
        with as_ours(absent="There is no such bucket."):
            for page in obstore.list(self._store, prefix=f"objects/{prefix}", chunk_size=_PAGE):
                for listed in page:
                    name = str(listed["path"]).rpartition("/")[2].removesuffix(".dcm")
                    if len(name) == 64 and set(name) <= set("0123456789abcdef"):
                        yield bytes.fromhex(name)

    # --- one at a time --------------------------------------------------------------------------------------

    def try_claim(self, sha256: bytes) -> bool:
        """Have an object for oneself, where nobody has; ends with :meth:`let_go`."""
        with self._freed:
            if sha256 in self._claimed:
                return False
            self._claimed.add(sha256)
            return True

    @contextmanager
    def claimed(self, sha256: bytes) -> Iterator[None]:
        """Have an object for oneself, once whoever has it is done. Blocking."""
        with self._freed:
            while sha256 in self._claimed:
                self._freed.wait()
            self._claimed.add(sha256)
        try:
            yield
        finally:
            self.let_go(sha256)

    def let_go(self, sha256: bytes) -> None:
        """Others may have it."""
        with self._freed:
            self._claimed.discard(sha256)
            self._freed.notify_all()


def key_of(sha256: bytes) -> str:
    """Where an object lies."""
    name = sha256.hex()
    return f"objects/{name[:2]}/{name}.dcm"
