"""The faces over a room, as production makes and serves them, on loopback; who asks is the test's to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from joserfc.jwk import ECKey
from loopback import served
from registry_room import AnyRoom, D

from crosslight.runtime.http import Handler, admit
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import OPEN, Principal
from registry.access.authenticate import ListenerKind
from registry.ihe.admission import Arriving
from registry.listeners import face_application
from registry.members.arrivals import Arrival
from registry.members.connections import LiveConnections
from registry.parts import Faces, Retrieves, make_faces, make_retrieves

Asking = Callable[[web.Request], Principal]


@dataclass
class RoomFaces:
    """What is served at ``base``."""

    base: str
    faces: Faces
    retrieves: Retrieves
    key: ECKey
    live: LiveConnections


def no_foreign(repository: str, by: str) -> AbstractAsyncContextManager[Arrival]:
    """For tests in which only members register."""
    raise AssertionError(f"no foreign member is expected: {repository}")


def new_key() -> ECKey:
    """A token key of a region."""
    return ECKey.generate_key("P-256", parameters={"kid": "k1"})


def retrieves_of(room: AnyRoom[D], key: ECKey, live: LiveConnections | None = None) -> Retrieves:
    """What calls members; ``key`` signs the tokens that they are shown."""
    seams, home = room.ground.seams, room.ground.region.home_community_id
    signer = TokenSigner(key, home, seams.clock, seams.ids)
    return make_retrieves(
        room.ground, room.waists, room.directory, signer, lambda member: None, live or LiveConnections()
    )


@asynccontextmanager
async def room_faces(
    room: AnyRoom[D],
    asking: Asking = lambda request: OPEN,
    *,
    kind: ListenerKind = "people",
    foreign: Arriving = no_foreign,
    outer: Callable[[web.Application], None] = lambda app: None,
) -> AsyncIterator[RoomFaces]:
    """The faces of ``room``.

    Args:
        asking: Who makes a request.
        kind: The listener whose faces they are.
        foreign: Whose a repository is that is no member's.
        outer: Does what a test needs to the application before it serves.
    """
    key, live = new_key(), LiveConnections()
    retrieves = retrieves_of(room, key, live)
    faces = make_faces(room.ground, room.waists, retrieves, room.directory, foreign)

    @web.middleware
    async def signed_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        admit(request, asking(request))
        return await handler(request)

    app = face_application(room.ground, faces, kind, signed_in)
    outer(app)
    try:
        async with served(app) as base:
            yield RoomFaces(base, faces, retrieves, key, live)
    finally:
        await retrieves.enricher.stop()
        await retrieves.sessions.close()
        await room.ask.close()
