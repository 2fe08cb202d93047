"""Where a registry listens, and what is served there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from crosslight.runtime import answer_headers, health
from crosslight.runtime.compression import compressed
from crosslight.runtime.credentials import subject_of
from crosslight.runtime.http import ErrorRenderers, problems
from crosslight.runtime.mllp import MllpServer, Peer
from crosslight.runtime.peers import tls_peer
from crosslight.runtime.problem_details import render_problem
from crosslight.runtime.service_life import Life
from crosslight.runtime.shares import peer_share
from crosslight.runtime.soap.endpoint import add_faults
from crosslight.runtime.tls import watched
from crosslight.standards.problem import CrosslightError
from registry.access.authenticate import EXCHANGE_AT, ListenerKind
from registry.access.exchange import render_oauth_error
from registry.config import addresses
from registry.dicomweb import routes as dicomweb
from registry.fhir.errors import render_error as render_fhir_error
from registry.fhir.routes import routes as fhir_routes
from registry.health import Health
from registry.link.callers import Callers
from registry.link.feed import FeedServicer
from registry.link.handshakes import Handshakes
from registry.link.link import MembershipServicer
from registry.link.server import MemberServer
from registry.link.tunnel import TunnelServicer
from registry.members.join import Join
from registry.parts import Faces, Ground, Parts
from registry.portal import face as portal

#: Where credentials come from, as a 401 of each listener says it.
CREDENTIALS: dict[ListenerKind, str] = {
    "people": (
        "People sign in at /signin; the region's operator issues bearer tokens to apps (crosslight-registry"
        " token)."
    ),
    "systems": "The region's operator issues client certificates (crosslight-registry system).",
}
XDS_REGISTRY, XDS_REPOSITORY, RAD69 = "/xds/registry", "/xds/repository", "/rad69"
MAX_BODY = 1 << 20


def web_application(parts: Parts, told: Health, kind: ListenerKind) -> web.Application:
    """What is served to people, or to systems."""
    access, config = parts.access, parts.ground.config
    app = face_application(parts.ground, parts.faces, kind, access.authenticator.middleware(kind))
    app.add_routes(health.routes(told.ready, told.gauges))
    if kind == "people":
        app.add_routes(access.routes())
        app.add_routes(Join(parts.members, parts.waists.index, addresses(config)).routes())
    else:
        app.add_routes(access.exchange.routes())
    return app


def face_application(
    ground: Ground, faces: Faces, kind: ListenerKind, signed_in: Middleware
) -> web.Application:
    """The faces that people, or systems, meet, and how errors look on each.

    Args:
        signed_in: Says of each request who makes it.
    """
    renderers = ErrorRenderers()
    renderers.add("/fhir", render_fhir_error)
    renderers.add("/dicomweb", render_problem)
    renderers.add(EXCHANGE_AT, render_oauth_error)
    add_faults(renderers, XDS_REGISTRY, XDS_REPOSITORY, RAD69, sender_400=ground.config.xds.sender_faults_400)
    middlewares = [
        compressed(),
        problems(renderers, ground.seams.ids, credentials=CREDENTIALS[kind], noted=ground.refusals.note),
        signed_in,
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    answer_headers.install(app)
    app.add_routes(fhir_routes(faces.fhir))
    app.add_routes(dicomweb.routes(faces.dicomweb))
    if kind == "people":
        portal.add_errors(renderers, faces.portal)
        app.add_routes(portal.routes(faces.portal))
    if kind == "systems" or ground.open_mode:
        app.add_routes(faces.registry.routes(XDS_REGISTRY))
        app.add_routes(faces.retrieve.routes(XDS_REPOSITORY, RAD69))
    return app


def hl7_share(peer: Peer) -> str:
    """Whose connections of the HL7 listener a sender's are: those of its certificate, or of its address."""
    with suppress(CrosslightError):
        return subject_of(tls_peer(peer.certificate).identity)
    return peer_share(peer.address)


class Listeners:
    """People, systems, the members' link, and HL7."""

    def __init__(self, parts: Parts, told: Health) -> None:
        self._parts, self._health = parts, told
        members, seams, open_mode = parts.members, parts.ground.seams, parts.ground.open_mode
        note = parts.ground.refusals.note
        self.handshakes = Handshakes(seams.clock, note)
        callers = Callers(members, noted=note, called=self.handshakes.called, linked=self.handshakes.linked)
        tunnels = parts.retrieves.tunnels
        self.membership = MembershipServicer(members, parts.waists.index, seams.clock, callers, tunnels.road)
        self._tunnels = TunnelServicer(callers, tunnels, self.membership.connection)
        self._feed = FeedServicer(
            parts.waists.acceptor,
            parts.waists.index,
            callers,
            parts.ground.audit,
            seams.ids,
            open_mode=open_mode,
            config=parts.ground.config.members,
        )

    async def start(self, life: Life) -> None:
        """Listen until the end of ``life``.

        Certificates are those of the members' authority, or none where all is open.

        Raises:
            ConfigError: when an address cannot be had.
        """
        ground, own = self._parts.ground, self._parts.members.own
        listen, http, note = ground.config.listen, ground.seams.http, ground.refusals.note
        people_tls, systems_tls, hl7_tls, gateway = None, None, None, None
        if not ground.open_mode and own.people is not None and own.gateway is not None:
            people_tls, gateway = own.for_people(ground.people_certificate), own.gateway
            # before a handshake ends nobody knows what is wanted: XDS is what the systems listener is for
            systems_tls = watched(gateway.server(mutual=True), partial(note, "xds"))
            hl7_tls = watched(gateway.server(mutual=True), partial(note, "hl7"))
        bounds = ground.config.connections
        people, systems = (web_application(self._parts, self._health, kind) for kind in ("people", "systems"))
        for listener in (
            http.listener(people, listen.host, listen.people_port, people_tls, name="people", config=bounds),
            http.listener(
                systems, listen.host, listen.systems_port, systems_tls, name="systems", config=bounds
            ),
        ):
            life.stops(listener)
            await listener.start()
        server = MemberServer(
            self.membership,
            listen.host,
            listen.grpc_port,
            gateway,
            link=ground.seams.link,
            max_message_bytes=ground.config.members.max_message_bytes,
            register=(self._feed.register, self._tunnels.register),
            began=self.handshakes.began,
        )
        life.stops(server)
        await server.start()
        mllp = MllpServer(
            self._parts.faces.adt.handle,
            listen.host,
            listen.mllp_port,
            tls=hl7_tls,
            limits=ground.config.hl7.limits(),
            opened=None if hl7_tls is None else self._hl7_sender,
            share=hl7_share,
            busy=self._parts.faces.adt.turn_away,
        )
        life.stops(mllp)
        await mllp.start()

    def _hl7_sender(self, peer: Peer, transport: asyncio.BaseTransport) -> None:
        """What a sender has open ends with its rights; one without any is told so in its ACK."""
        members = self._parts.members
        with suppress(CrosslightError):
            shown = tls_peer(peer.certificate)
            members.check_peer(shown)
            members.peers.connection(shown, transport)
