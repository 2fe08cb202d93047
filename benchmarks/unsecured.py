"""A registry or a node that also listens without what security costs, to be measured beside itself.

``python -m benchmarks.unsecured registry|node|open-registry FOLDER PORT``. The service runs as it always
does; on PORT its faces are served for people over the same TLS, and on PORT + 1 plain, to a caller who shows
nothing, with nothing written to the audit. So one process has both, over the same data and caches. What is
left of the decision there is its table. ``open-registry`` serves what systems are served, as a region in open
mode does: to anybody, and in the audit.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from benchmarks.peers import HOST
from crosslight.runtime.audit import AuditEntry, AuditLog, Outcome
from crosslight.runtime.http import Handler, admit
from crosslight.runtime.listener import Listener
from crosslight.runtime.log import setup_logging
from crosslight.standards.access import OPEN
from node.app import NodeApp
from node.config import read_config as read_node
from node.listeners import face_application as node_application
from node.parts import make_serve
from node.serve.authenticate import Gate, ListenerKind
from node.serve.release import Grant
from registry.app import RegistryApp
from registry.config import read_config as read_registry
from registry.listeners import face_application as registry_application
from registry.parts import make_faces, make_waists


class Unnoted(AuditLog):
    """An audit that writes nothing."""

    async def begin(self, entry: AuditEntry) -> int:
        return 0

    async def end(self, entry: AuditEntry, outcome: Outcome, act: int, *, lazy: bool = False) -> None:
        return

    async def whole(self, entry: AuditEntry, outcome: Outcome) -> None:
        return

    def whole_later(self, entry: AuditEntry, outcome: Outcome) -> None:
        return

    def end_later(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        return


class Unasked(Gate):
    """Lets everybody in."""

    def __init__(self) -> None:
        super().__init__(open_mode=True)

    def advice(self, listener: ListenerKind) -> str:
        """As :meth:`Gate.advice`."""
        return ""

    def grant(self, request: web.Request, listener: ListenerKind) -> Grant:
        """As :meth:`Gate.grant`."""
        return Grant(principal=OPEN, kind="open")


@web.middleware
async def everybody(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A request is that of the open demo's caller."""
    admit(request, OPEN)
    return await handler(request)


async def _open_registry(folder: Path) -> tuple[RegistryApp, web.Application]:
    app = RegistryApp(folder, read_registry(folder))
    await app.start()
    return app, registry_application(app.parts.ground, app.parts.faces, "systems", everybody)


async def _registry(folder: Path) -> tuple[RegistryApp, web.Application]:
    app = RegistryApp(folder, read_registry(folder))
    await app.start()
    parts = app.parts
    ground = replace(parts.ground, audit=Unnoted(parts.audit_db, app.seams.clock))
    waists = make_waists(ground, parts.members)
    await waists.open()
    foreign = parts.members.arriving
    faces = make_faces(ground, waists, parts.retrieves, parts.members, foreign)
    return app, registry_application(ground, faces, "people", everybody)


async def _node(folder: Path) -> tuple[NodeApp, web.Application]:
    app = NodeApp(folder, read_node(folder))
    await app.start()
    parts = app.parts
    audit = Unnoted(app.seams.databases.embedded(folder / "unnoted.db"), app.seams.clock)
    ground = replace(parts.ground, audit=audit)
    serve = make_serve(ground, parts.archive, parts.publication.connection)
    return app, node_application(ground, serve, Unasked(), parts.publication.publisher, "people")


async def serve(kind: str, folder: Path, port: int) -> None:
    """Serve until SIGTERM."""
    setup_logging(level="error")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    made: dict[str, Callable[[Path], Awaitable[tuple[RegistryApp | NodeApp, web.Application]]]] = {
        "registry": _registry,
        "open-registry": _open_registry,
        "node": _node,
    }
    app, bare = await made[kind](folder)
    own = app.parts.members.own.people if isinstance(app, RegistryApp) else app.membership.credentials
    if own is None:
        raise SystemExit("TLS is what is measured here")
    over_tls, plain = Listener(bare, HOST, port, own.server(mutual=False)), Listener(bare, HOST, port + 1)
    await over_tls.start()
    await plain.start()
    await stop.wait()
    await over_tls.stop()
    await app.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
