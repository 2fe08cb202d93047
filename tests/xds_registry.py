"""A registry's SOAP face over real stores, in one process: for tests of ITI-18, 42, 57 and 62."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from registry_room import Room, make_room, room_config
from registry_samples import NHS, REGION, MemoryDirectory, member, nhs
from room_faces import RoomFaces, room_faces

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db
from crosslight.runtime.http import client_session
from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.access import INTEGRATOR, OPEN, Grants, Principal
from crosslight.standards.ids import Identifier, MemberId, Oid
from crosslight.standards.study import Patient
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import RegistryObject
from crosslight.standards.xds.rules import stored_query as q
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim_write import render_remove_objects, render_submit_objects
from crosslight.standards.xds.wire.response import SUCCESS, RegistryReply, parse_registry_response
from registry.ask.ask import Ask
from registry.config import XdsConfig
from registry.identity.store import IdentityStore
from registry.ihe import iti42, iti57, iti62
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.members.arrivals import Arrival
from registry.members.model import Member

CLOCK, IDS = SystemClock(), SystemIds()
HOME = f"urn:oid:{REGION.home_community_id}"
NUMBER = nhs(7)
NATIONAL = Identifier(NUMBER, NHS)
CONSUMER = Principal(
    subject="system:viewer",
    roles=frozenset({INTEGRATOR}),
    evidence="certificate",
    grants=Grants(capabilities=frozenset({"find"})),
)


def node_of(sender: Member) -> Principal:
    """The principal of a member's own node."""
    return Principal(
        subject=sender.code,
        roles=frozenset({"member"}),
        organisation=sender.code,
        evidence="certificate",
        member=sender.id,
    )


@dataclass
class XdsRegistry:
    """The face at ``url``; ``principal`` is who the next requests come from."""

    room: Room
    url: str = ""
    soap: SoapClient = field(init=False)
    there: RoomFaces = field(init=False)
    principal: Principal = OPEN

    @property
    def db(self) -> Db:
        return self.room.db

    @property
    def directory(self) -> MemoryDirectory:
        return self.room.directory

    @property
    def identity(self) -> IdentityStore:
        return self.room.identity

    @property
    def audit(self) -> AuditLog:
        return self.room.audit

    @property
    def index(self) -> IndexStore:
        return self.room.index

    @property
    def ask(self) -> Ask:
        return self.room.ask

    @property
    def acceptor(self) -> Acceptor:
        return self.room.acceptor

    async def foreign(self, repository: str, by: str = "open") -> Member:
        """As ``MemberService.foreign_member``."""
        known = self.directory.by_repository(repository)
        if known is None:
            number = len(self.directory.members) + 1
            known = replace(
                member(f"foreign-{number}", number, status="foreign"),
                repository_unique_id=Oid(repository),
                secret=b"",
            )
        return self.directory.set(known)

    @asynccontextmanager
    async def arriving(self, repository: str, by: str = "open") -> AsyncIterator[Arrival]:
        """As ``MemberService.arriving``, but for the row."""
        yield Arrival(await self.foreign(repository, by))

    async def feed(self, patient: Patient, by: MemberId | None = None) -> None:
        """As ITI-8."""
        await self.db.write(
            "feed", lambda tx: self.identity.feed_tx(tx, patient, by, CLOCK.now(), kind="header")
        )

    async def merge(self, survivor: Identifier, subsumed: Identifier) -> None:
        """As A40."""
        await self.db.write("merge", lambda tx: self.identity.merge_tx(tx, survivor, subsumed, CLOCK.now()))

    async def _registry(self, action: str, body: bytes) -> RegistryReply:
        return parse_registry_response((await self.soap.call(self.url, action, body)).body)

    async def register(self, objects: Iterable[RegistryObject]) -> RegistryReply:
        """ITI-42."""
        return await self._registry(iti42.ACTION_REQUEST, render_submit_objects(objects))

    async def update(self, objects: Iterable[RegistryObject]) -> RegistryReply:
        """ITI-57."""
        return await self._registry(iti57.ACTION_REQUEST, render_submit_objects(objects))

    async def remove(self, uuids: Iterable[str]) -> RegistryReply:
        """ITI-62."""
        return await self._registry(iti62.ACTION_REQUEST, render_remove_objects(uuids))

    async def query(self, query: adhoc.AdhocQuery | bytes) -> adhoc.AdhocReply:
        """ITI-18."""
        body = query if isinstance(query, bytes) else adhoc.render_adhoc_request(query)
        return adhoc.parse_adhoc_response((await self.soap.call(self.url, adhoc.ACTION_REQUEST, body)).body)


@asynccontextmanager
async def xds_registry(db: Db, *, check_codes: bool = True) -> AsyncIterator[XdsRegistry]:
    """A registry with the five members of ``registry_samples``, over ``db``."""
    made = XdsRegistry(
        await make_room(db, clock=CLOCK, config=room_config(xds=XdsConfig(check_codes=check_codes)))
    )
    serving = room_faces(made.room, lambda request: made.principal, kind="systems", foreign=made.arriving)
    async with serving as made.there, client_session() as session:
        made.url, made.soap = f"{made.there.base}/xds/registry", SoapClient(session, IDS)
        yield made


def documents_of(patient_cx: str, *statuses: str) -> adhoc.AdhocQuery:
    """FindDocuments; of approved ones, unless said."""
    return q.find_documents(patient_cx, statuses=statuses or (v.APPROVED,))


async def found(registry: XdsRegistry, query: adhoc.AdhocQuery) -> adhoc.AdhocReply:
    """What a consumer finds, whoever published before."""
    publisher, registry.principal = registry.principal, CONSUMER
    reply = await registry.query(query)
    registry.principal = publisher
    assert reply.status == SUCCESS, reply.errors
    return reply


def code(reply: object) -> str:
    """The first error's; empty if there is none."""
    errors = getattr(reply, "errors", ())
    return errors[0].code if errors else ""
