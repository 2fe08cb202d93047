"""The page's patient in a real region: five trusts that are members, studies that were published, whoever
reads the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import portal_samples as samples
from aiohttp import web
from aiohttp.typedefs import Middleware
from foreign_region import Submitted
from loopback import served
from member_room import MemberRoom, member_room
from registry_room import AnyRoom, D
from room_faces import new_key, no_foreign, retrieves_of

from crosslight.runtime.audit import Audited
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, Handler, admit, client_session, problems
from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, PersonName
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.response import parse_registry_response
from registry.config import ListenConfig
from registry.identity.model import RecordKey
from registry.ihe import iti42
from registry.index.model import Holding
from registry.parts import make_faces, make_registry
from registry.portal.config import PortalConfig
from registry.portal.face import add_errors, routes

NOW = samples.NOW
AWAY_SINCE = NOW - timedelta(hours=2)


@dataclass
class PageRegion:
    """A room whose members are the samples' trusts, and what its page is made of."""

    room: MemberRoom
    versions: int = 0

    # --- what is held ---------------------------------------------------------------------------------------

    def patient(
        self, code: str, n: int = 1, *, pn: str = "SMITH^Ada^^Mrs", birth: str = "19550214", **more: Any
    ) -> Patient:
        """The samples' patient, as a trust knows them."""
        local = Identifier(f"{code}-{n:05d}", self.room.member(code).authority)
        known = {
            "local": local,
            "others": (samples.NUMBER,),
            "name": PersonName(pn),
            "birth_date": birth,
            "sex": "F",
        }
        return Patient(**(known | more))

    def bob(self, code: str, n: int = 1, **more: Any) -> Patient:
        """Somebody else, whose record gives the same number but for ``more``."""
        return self.patient(code, n, pn="JONES^Bob", birth="19700101", sex="M", **more)

    async def feed(self, *who: Patient) -> list[RecordKey]:
        """Their trusts' patient feeds."""
        fed = [(one, self.room.members.by_authority(one.local.authority)) for one in who]
        pairs = [(one, member.id) for one, member in fed if member is not None]
        return await self.room.identity.feed_all(pairs, self.room.clock.now(), kind="feed")

    async def publish(self, *held: Holding, whose: Patient | None = None) -> None:
        """The samples' studies by the index feed, each of its trust's first patient but for ``whose``; then
        all are heard of.
        """
        for one in held:
            code = next(m.code for m in samples.DIRECTORY.all() if m.id == one.member)
            record = changed(one.record, patient=whose or self.patient(code))
            self.versions += 1
            assert await self.room.publish(code, record, self.versions) == "accepted"
        self.heard()

    async def register(self, submitted: Submitted) -> None:
        """ITI-42 by a source that is no member."""
        ground = replace(
            self.room.ground, config=replace(self.room.ground.config, listen=ListenConfig(open=True))
        )
        face = make_registry(ground, self.room.waists, self.room.directory, self.room.members.arriving)
        async with (
            served(application(always(OPEN), face.routes("/xds/registry"))) as base,
            client_session() as session,
        ):
            body = render_submit_objects(submitted.objects)
            reply = await SoapClient(session, SystemIds()).call(
                f"{base}/xds/registry", iti42.ACTION_REQUEST, body
            )
        answer = parse_registry_response(reply.body)
        assert not [error for error in answer.errors if error.severity == "Error"], answer.errors

    # --- who is well ----------------------------------------------------------------------------------------

    def heard(self) -> None:
        """Now every trust is reached, and its list is whole."""
        self.room.clock.moment = NOW
        self.room.said()

    def away(self, *codes: str) -> None:
        """The links of these ended two hours ago; the others go on."""
        self.room.clock.moment = AWAY_SINCE
        self.room.said(*codes)
        self.room.lost(*codes)
        self.room.clock.moment = NOW
        self.room.said(*(m.code for m in self.room.members.all() if m.code not in codes))

    # --- what was asked -------------------------------------------------------------------------------------

    async def acts(self) -> list[Audited]:
        """What was asked through the page, oldest first."""
        await self.room.audit.settle()
        return [act for act in reversed(await self.room.audit.search(limit=1000)) if act.face == "portal"]

    def page(self, **how: Any) -> web.Application:
        """As :func:`page_of`."""
        return page_of(self.room, **how)


def page_of(
    room: AnyRoom[D],
    *,
    principal: Principal | None = samples.CLINICIAN,
    open_mode: bool = False,
    poll_s: int = 4,
    word: str = "trust",
    pictures: samples.Pictures | None = None,
    signed_in: Middleware | None = None,
    more: Iterable[web.RouteDef] = (),
) -> web.Application:
    """The page of a room as production makes it, before the samples' pictures.

    Args:
        principal: Who reads it, or nobody.
        signed_in: Says who reads it instead; ``more`` are addresses that it needs.
    """
    portal, listen = PortalConfig(poll_s=poll_s, member_word=word), ListenConfig(open=open_mode)
    ground = replace(room.ground, config=replace(room.ground.config, portal=portal, listen=listen))
    faces = make_faces(ground, room.waists, retrieves_of(room, new_key()), room.directory, no_foreign)
    renderers = ErrorRenderers()
    add_errors(renderers, faces.portal)
    who = OPEN if principal is not None and open_mode else principal
    addresses = [*routes(faces.portal), *(pictures or samples.Pictures()).routes(), *more]
    return application(signed_in or always(who), addresses, renderers)


def always(principal: Principal | None) -> Middleware:
    """A principal on every request, or none."""

    @web.middleware
    async def sign_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        if principal is not None:
            admit(request, principal)
        return await handler(request)

    return sign_in


def application(
    signed_in: Middleware, addresses: Iterable[web.RouteDef], renderers: ErrorRenderers | None = None
) -> web.Application:
    """These addresses, with errors rendered once."""
    app = web.Application(middlewares=[problems(renderers or ErrorRenderers(), SystemIds()), signed_in])
    app.add_routes(addresses)
    return app


@asynccontextmanager
async def page_region(folder: Path, *held: Holding) -> AsyncIterator[PageRegion]:
    """The samples' trusts, which hold ``held``."""
    async with member_room(folder, samples.TRUSTS, region=samples.REGION) as room:
        room.clock.moment = NOW - timedelta(hours=3)
        await room.identity.settle_holders()
        made = PageRegion(room)
        await made.publish(*held)
        yield made
