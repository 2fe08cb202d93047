"""Where a node listens, and what is served there."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from crosslight.runtime import answer_headers, health
from crosslight.runtime.http import ErrorRenderers, problems
from crosslight.runtime.listener import Listener
from crosslight.runtime.outside_certificate import for_people
from crosslight.runtime.service_life import Life
from crosslight.runtime.tls import watched
from crosslight.runtime.tunnel.carrier import Take
from node.health import Health
from node.parts import Ground, Parts
from node.serve import cors, dicomweb, soap
from node.serve.authenticate import Gate, ListenerKind
from node.serve.context import ServeContext
from node.serve.iti43 import ManifestStore

MAX_BODY = 1 << 20
KINDS: tuple[ListenerKind, ...] = ("people", "systems")


async def listen(parts: Parts, told: Health, life: Life) -> Take:
    """Listen to people and systems until the end of ``life``, then to DICOM and orders where they are wanted.

    Returns:
        What serves a connection of a system that did not come to a port.

    Raises:
        ConfigError: when an address cannot be had.
    """
    ground, config = parts.ground, parts.ground.config.listen
    credentials = None if ground.open_mode else ground.membership.credentials
    ports = {"people": config.people_port, "systems": config.systems_port}
    listeners: dict[ListenerKind, Listener] = {}
    for kind in KINDS:
        tls = credentials.server(mutual=kind == "systems") if credentials is not None else None
        if tls is not None and kind == "people":
            for_people(tls, ground.people_certificate)
        if tls is not None and kind == "systems":
            # before a handshake ends nobody knows what is wanted: mostly images
            watched(tls, partial(ground.refusals.note, "dicomweb"))
        app = web_application(parts, told, kind)
        bounds = ground.config.connections
        listeners[kind] = ground.seams.http.listener(
            app, config.host, ports[kind], tls, name=kind, config=bounds
        )
    for listener in listeners.values():
        life.stops(listener)
        await listener.start()
    if parts.dimse is not None:
        life.stops(parts.dimse)
        await parts.dimse.start()
    if parts.continuity is not None:
        await parts.continuity.start(life)
    return listeners["systems"].take


def web_application(parts: Parts, told: Health, kind: ListenerKind) -> web.Application:
    """What is served to people, or to systems."""
    app = face_application(parts.ground, parts.serve, parts.gate, parts.publication.publisher, kind)
    if parts.continuity is not None:
        app.add_routes(parts.continuity.routes(parts.serve.release))
    app.add_routes(health.routes(told.ready, told.gauges))
    return app


def face_application(
    ground: Ground, serve: ServeContext, gate: Gate, manifests: ManifestStore, kind: ListenerKind
) -> web.Application:
    """The faces that people, or systems, meet, and how errors look on each.

    Args:
        manifests: What ITI-43 gives out.
    """
    renderers = soap.renderers(ErrorRenderers(), sender_400=ground.config.serve.soap_sender_faults_400)
    middlewares = [
        problems(renderers, ground.seams.ids, credentials=gate.advice(kind), noted=ground.refusals.note),
        gate.middleware(kind),
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    answer_headers.install(app)
    app.add_routes(dicomweb.routes(serve))
    cors.install(app, serve)
    if kind == "systems" or ground.open_mode:
        app.add_routes(soap.routes(serve, manifests))
    return app
