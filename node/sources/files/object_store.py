"""A prefix of a bucket, read only, by the S3 API: listed in pages, read by ranges, streamed.

What opens it, and what becomes of its errors: ``crosslight/runtime/object_store.py``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from crosslight.runtime.object_store import as_ours
from crosslight.standards.problem import Malformed
from node.sources.files.listing import Altered, FileEntry, FilePage

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store

PAGE: Final = 1000
_CHUNK: Final = 1 << 18


class ObjectStoreFiles:
    """The objects below one prefix.

    Args:
        store: The bucket, whose prefix it knows.
    """

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def pages(self, after: bytes) -> AsyncIterator[FilePage]:
        """All objects whose keys are greater than ``after``."""
        import obstore

        offset = after.decode("utf-8") or None
        with as_ours(Altered, absent="There is no such bucket."):
            async for found in obstore.list(self._store, offset=offset, chunk_size=PAGE):
                entries = [_entry(one) for one in found if _is_object(one)]
                keys = [after, *(entry.key for entry in entries)]
                if any(a >= b for a, b in pairwise(keys)):
                    raise Malformed(
                        "The object store does not list in the order of keys.",
                        why="What is gone cannot be told from what comes later.",
                    )
                if entries:
                    after = entries[-1].key
                    yield FilePage(entries=entries, last=after)

    async def read(self, entry: FileEntry, offset: int, length: int) -> bytes:
        """Bytes of an object."""
        with as_ours(Altered):
            answer = await self._get(entry, (offset, offset + length))
            return bytes(await answer.bytes_async())

    async def stream(self, entry: FileEntry) -> AsyncGenerator[bytes]:
        """All bytes of an object."""
        with as_ours(Altered):
            answer = await self._get(entry, None)
            async for data in answer.stream(min_chunk_size=_CHUNK):
                yield bytes(data)

    async def close(self) -> None:
        """The library ends its connections by itself."""

    async def _get(self, entry: FileEntry, span: tuple[int, int] | None) -> Any:
        import obstore

        options: GetOptions = {"if_match": _tag(entry.version)}
        if span is not None:
            options["range"] = span
        answer = await obstore.get_async(self._store, entry.key.decode("utf-8"), options=options)
        if _entry(answer.meta).version != entry.version:  # a store that does not know If-Match
            raise Altered
        return answer


def _is_object(found: Any) -> bool:
    """Whether it is more than a folder's marker, of whose key the library takes the last slash away."""
    return found["e_tag"] is not None and int(found["size"]) > 0


def _entry(found: Any) -> FileEntry:
    tag, size, modified = found["e_tag"], int(found["size"]), found["last_modified"].timestamp()
    return FileEntry(
        key=str(found["path"]).encode("utf-8"),
        version=f"{tag} {size}",
        size=size,
        modified_unix=modified,
    )


def _tag(version: str) -> str:
    """The ETag of a version."""
    return version.rpartition(" ")[0]
