"""In which transfer syntax each instance goes out: as stored, or in Explicit VR Little Endian from a spool.

Everything is prepared before the first byte, so that the length of the answer is exact and an instance that
cannot be given is known to be one. Spool files live as long as the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crosslight.runtime.children.wire import Lent
from crosslight.standards.dicom.pixels.transcode import can_decode
from crosslight.standards.dicom.web.accept import EXPLICIT_LE
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Busy, CrosslightError, NotAcceptable, PeerError, TooLarge
from node.holdings import Local, StoredObject, set_apart
from node.serve.bounded_child import is_plain, lend, transcode_object
from node.serve.context import ServeContext
from node.serve.opened_objects import Rendition, on_disk, stored

#: Given what an instance could be given in (its own syntax first), says which the client takes; None = none
#: of them.
Choice = Callable[[Sequence[str]], str | None]


@dataclass(slots=True)
class Prepared:
    """What can be sent, in order, and what cannot, with the reason."""

    sources: list[Rendition] = field(default_factory=list)
    refused: list[tuple[StoredObject, CrosslightError]] = field(default_factory=list)


def syntaxes_of(instance: StoredObject) -> tuple[str, ...]:
    """The transfer syntaxes in which an instance can be given, its own first."""
    own = instance.ref.transfer_syntax_uid
    return (own, EXPLICIT_LE) if own != EXPLICIT_LE and is_uid(own) and can_decode(own) else (own,)


async def _transcode(serve: ServeContext, instance: StoredObject, target: Path, share: str) -> int:
    async with on_disk(serve, instance) as local:
        return await serve.bounded(
            share,
            transcode_object,
            lend(local),
            is_plain(instance),
            Lent(str(target), write=True),
            serve.config.max_decode_samples,
        )


@asynccontextmanager
async def prepare(
    serve: ServeContext, objects: Sequence[StoredObject], choose: Choice, share: str
) -> AsyncIterator[Prepared]:
    """Decide for each instance, and re-encode where that is asked for, in turns of ``share``."""
    result, spooled, total = Prepared(), [], 0
    choices: dict[str, str | None] = {}
    try:
        for instance in objects:
            if instance.damaged:
                result.refused.append((instance, set_apart()))
                continue
            own = instance.ref.transfer_syntax_uid
            if own not in choices:
                choices[own] = choose(syntaxes_of(instance))
            chosen = choices[own]
            if chosen is None:
                refused = NotAcceptable(
                    "The instance cannot be given in any transfer syntax asked for.",
                    why=f"Stored in {own}.",
                    todo="Accept transfer-syntax=*.",
                )
                result.refused.append((instance, refused))
            elif chosen == own:
                result.sources.append(stored(instance))
            else:
                target = serve.spool / f"{serve.ids.uuid4().hex}.spool"
                spooled.append(target)
                try:
                    size = await _transcode(serve, instance, target, share)
                except Busy:  # no fault of the instance: all of it may be asked again
                    raise
                except PeerError as error:
                    result.refused.append((instance, error))
                    continue
                total += size
                if total > serve.config.max_transcode_bytes:
                    raise TooLarge(
                        "Too much would have to be re-encoded.",
                        todo="Accept transfer-syntax=*, or retrieve less.",
                    )
                result.sources.append(
                    Rendition(
                        object=instance,
                        size=size,
                        transfer_syntax=chosen,
                        spooled=Local(str(target), 0, size),
                    )
                )
        yield result
    finally:
        for path in spooled:
            serve.files.remove(path)
