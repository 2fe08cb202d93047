"""A registry's SOAP face over real stores, in one process: for tests of ITI-18, 42, 57 and 62."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestServer
from registry_samples import REGION, MemoryDirectory, member

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db
from crosslight.runtime.http import ErrorRenderers, admit, client_session, problems
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.soap.endpoint import SoapEndpoint, add_faults
from crosslight.runtime.soap.server import MAX_SUBMISSION_BYTES
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import Identifier, MemberId, Oid
from crosslight.standards.study import Patient
from crosslight.standards.xds.mapping.values import ValueSets
from crosslight.standards.xds.model.metadata import RegistryObject
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim_write import render_remove_objects, render_submit_objects
from crosslight.standards.xds.wire.response import RegistryReply, parse_registry_response
from registry.ask.ask import Ask
from registry.identity.store import IdentityStore
from registry.ihe import iti42, iti57, iti62
from registry.ihe.admission import Door
from registry.ihe.iti18 import RegistryStoredQuery
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.members.model import Member

CLOCK, IDS = SystemClock(), SystemIds()
HOME = f"urn:oid:{REGION.home_community_id}"


def node_of(sender: Member) -> Principal:
    """The principal of a member's own node."""
    return Principal(
        subject=sender.code, roles=frozenset({"member"}), organisation=sender.code, evidence="certificate", member=sender.id
    )


@dataclass
class XdsRegistry:
    """The face at ``url``; ``principal`` is who the next requests come from."""

    db: Db
    directory: MemoryDirectory
    identity: IdentityStore
    audit: AuditLog
    index: IndexStore
    ask: Ask
    acceptor: Acceptor
    url: str = ""
    soap: SoapClient = field(init=False)
    principal: Principal = OPEN

    async def foreign(self, repository: str) -> Member:
        """As ``MemberService.foreign_member``."""
        known = self.directory.by_repository(repository)
        if known is None:
            number = len(self.directory.members) + 1
            known = replace(
                member(f"foreign-{number}", number, status="foreign"), repository_unique_id=Oid(repository), secret=b""
            )
        return self.directory.set(known)

    async def feed(self, patient: Patient, by: MemberId | None = None) -> None:
        """As ITI-8."""
        await self.db.write("feed", lambda tx: self.identity.feed_tx(tx, patient, by, CLOCK.now(), kind="header"))

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
async def xds_registry(db: Db, *, values: ValueSets | None = None) -> AsyncIterator[XdsRegistry]:
    """A registry with the five members of ``registry_samples``, over ``db``."""
    directory = MemoryDirectory()
    index = IndexStore(db, directory, CLOCK, IDS)
    identity = IdentityStore(db, REGION, IDS, headers=index.read.headers_of, moved=index.moved)
    audit = AuditLog(db, CLOCK)
    await audit.open()
    await identity.open()
    await index.open()
    ask = Ask(db, index, identity, directory, audit, CLOCK, IDS, REGION)
    acceptor = Acceptor(db, index, identity, directory, CLOCK, IDS, REGION)
    made = XdsRegistry(db, directory, identity, audit, index, ask, acceptor)
    door = Door(directory, made.foreign, audit, ask)
    transactions = (
        RegistryStoredQuery(ask, REGION),
        iti42.RegisterDocumentSet(acceptor, door, IDS, REGION, values or ValueSets()),
        iti57.UpdateDocumentSet(acceptor, door),
        iti62.RemoveMetadata(acceptor, door),
    )
    renderers = ErrorRenderers()
    add_faults(renderers, "/")

    @web.middleware
    async def signed_in(request: web.Request, handler: Any) -> web.StreamResponse:
        admit(request, made.principal)
        return cast(web.StreamResponse, await handler(request))

    app = web.Application(middlewares=[cast(Any, problems(renderers, IDS)), signed_in])
    app.router.add_routes(SoapEndpoint(transactions, max_bytes=MAX_SUBMISSION_BYTES).routes("/xds/registry"))
    async with TestServer(app) as server, client_session() as session:
        made.url, made.soap = str(server.make_url("/xds/registry")), SoapClient(session, IDS)
        yield made
    await ask.close()
