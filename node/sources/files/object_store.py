"""A prefix of a bucket, read only, by the S3 API: listed in pages, read by ranges, streamed.

The library is loaded where a store is configured and nowhere else. Its own errors carry addresses and answers
of the store: none of their text goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from crosslight.standards.problem import Forbidden, Malformed, NotFound, Unavailable
from node.sources.files.listing import Altered, FileEntry, FilePage

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store

PAGE: Final = 1000
_CHUNK: Final = 1 << 18
_CONNECT_S: Final = 5
_ANSWER_S: Final = 60
_RETRIES: Final = 2


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
        with _as_ours("There is no such bucket."):
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
        with _as_ours():
            answer = await self._get(entry, (offset, offset + length))
            return bytes(await answer.bytes_async())

    async def stream(self, entry: FileEntry) -> AsyncGenerator[bytes]:
        """All bytes of an object."""
        with _as_ours():
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


def bucket(url: str, options: dict[str, str], authorities: bytes) -> S3Store:
    """The store of an ``s3://bucket/prefix``.

    Args:
        url: Where it is.
        options: What the library calls them: endpoint, region, access_key_id, secret_access_key and others.
        authorities: PEM of the authorities of its certificate; b'': those of the machine.
    """
    from obstore.store import S3Store

    name, _, prefix = url.removeprefix("s3://").partition("/")
    client: dict[str, Any] = {
        "allow_http": options.get("endpoint", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "timeout": timedelta(hours=1),
        "read_timeout": timedelta(seconds=_ANSWER_S),
    }
    if authorities:
        client["root_certificate"] = authorities
    made: S3Store = S3Store(
        name,
        prefix=prefix.strip("/") or None,
        config=options,  # type: ignore[arg-type]  # its keys are the library's, checked by it
        client_options=client,  # type: ignore[arg-type]  # as its own TypedDict has it
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_ANSWER_S)},
    )
    return made


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


@contextmanager
def _as_ours(absent: str = "") -> Iterator[None]:
    """What the library raises as errors of ours; ``absent``: what it means that something is not there.

    Raises:
        NotFound, Altered, Forbidden, Unavailable: by what the store answered.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError:
        if absent:
            raise Unavailable(absent, todo="Look at the url of the source.") from None
        raise NotFound("The object is not in the store any more.") from None
    except exceptions.PreconditionError:
        raise Altered from None
    except exceptions.UnauthenticatedError:
        raise Unavailable("The object store does not take the credentials.") from None
    except exceptions.PermissionDeniedError:
        raise Forbidden("The object store refuses this.", todo="Look at what its key may do.") from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise Unavailable("The object store does not answer as it should.", why=_kind(error)) from None


def _kind(error: Exception) -> str:
    """What sort of trouble it is, without the store's own words."""
    text = str(error)
    for sign, meaning in _KINDS.items():
        if sign in text:
            return meaning
    return "It answers with an error."


_KINDS: Final = {
    "403 Forbidden": "It does not take the credentials.",
    "401 Unauthorized": "It does not take the credentials.",
    "kind: Connect": "It cannot be reached.",
    "kind: Timeout": "It takes too long.",
    "kind: Interrupted": "It broke off.",
    "kind: Decode": "It broke off.",
    "kind: Request": "It broke off.",
}
