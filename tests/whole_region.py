"""A real registry and real nodes in this process, on loopback and open: for tests of the whole, by either
road.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession
from callers import caller
from node_serving import part10
from ports import free_ports
from pydicom.dataset import Dataset

from crosslight.runtime.clock import Clock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import client_session
from crosslight.runtime.seams import system_seams
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.tls import client_context
from crosslight.standards.access import OPEN
from crosslight.standards.ids import NHS_NUMBER_OID
from crosslight.standards.membership import RegistryAddresses
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.response import SUCCESS
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.holdings import Received
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.ask.question import ByObject
from registry.config import read_config as read_registry_config
from registry.index.model import Holding
from registry.setup import init_registry

FILES, IDS = SystemFiles(), SystemIds()
HOST, ROOT = "127.0.0.1", "1.2.826.0.1.3680043.10.777"
NHS_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
PACE = {
    "first_s": 0.1,
    "quiet_s": 0.4,
    "retry_first_s": 0.05,
    "retry_max_s": 0.3,
    "study_retry_max_s": 1.0,
    "timeout_s": 3.0,
}
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"  # ITI TF-2 3.18.4.1.2.4
STATUSES = ("$XDSDocumentEntryStatus", "$XDSSubmissionSetStatus", "$XDSFolderStatus")

Through = Callable[[RegistryAddresses], RegistryAddresses]


async def until(condition: Callable[[], Awaitable[Any]], within_s: float = 30.0) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.03)


@dataclass
class Home:
    """One member's node."""

    app: NodeApp
    road: str

    @property
    def code(self) -> str:
        """Organisation code."""
        return self.app.code

    @property
    def authority(self) -> str:
        """Of its local patient numbers."""
        return str(self.app.membership.member.authority)

    async def add(self, files: Iterable[Dataset | bytes], *, expect: tuple[str, ...] = ("stored",)) -> None:
        """Receive objects."""
        for one in files:
            staged = self.app.archive.stage()
            staged.write(one if isinstance(one, bytes) else part10(one))
            result = await self.app.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state in expect, result

    async def settled(self) -> None:
        """Until all that is here is published, and nothing waits for an operator."""
        await self.app.parts.archive.study_uids()  # rows that follow their objects are there (ADR 0051)

        async def published() -> bool:
            status = await self.app.publisher.status()
            assert status.parked == 0, await self.app.publisher.parked()
            return status.waiting == 0 and self.app.publisher.reviser.settled and not status.held_up

        await until(published)

    def hold(self) -> None:
        """Send nothing until :meth:`release`: what is added meanwhile is one act a study."""
        self.app.publisher.outbox.hold("test", "held by a test")

    async def release(self) -> None:
        """Once every revision is made, send."""
        await self.app.parts.archive.study_uids()

        async def made() -> bool:
            return self.app.publisher.reviser.settled and not self.app.publisher.reviser.pending()

        await until(made)
        self.app.publisher.outbox.release("test")
        await self.settled()


@dataclass
class Whole:
    """A registry, its nodes, and ways to ask."""

    registry: RegistryApp
    http: ClientSession
    homes: dict[str, Home] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The people listener."""
        return self.registry.people_url

    async def get(self, path: str, **kwargs: Any) -> Any:
        """A JSON answer."""
        async with self.http.get(f"{self.base}/{path}", **kwargs) as response:
            body = await response.read()
            assert response.status in (200, 204), (response.status, body)
            return orjson.loads(body) if body else []

    async def holdings(self, *uids: str) -> list[Holding]:
        """As the index has them, with their past."""
        question = ByObject(study_uids=uids, versions=True)
        asked = self.registry.ask.question(
            caller(OPEN, "test"), face="fhir", action="search", question=question
        )
        async with asked as answer:
            return list(answer.holdings)

    async def enriched(self, *uids: str) -> None:
        """Until everything is known of all approved holdings of these studies (D17)."""

        async def full() -> bool:
            live = [h for h in await self.holdings(*uids) if h.state == "approved"]
            return {h.study_uid for h in live} == set(uids) and all(h.record.detail == "full" for h in live)

        await until(full)

    async def stored_query(self, query_id: str, parameters: Mapping[str, Iterable[str]]) -> adhoc.AdhocReply:
        """ITI-18, LeafClass."""
        listed = tuple((name, tuple(values)) for name, values in parameters.items())
        soap = SoapClient(self.http, IDS)
        query = adhoc.render_adhoc_request(adhoc.AdhocQuery(query_id=query_id, parameters=listed))
        reply = await soap.call(
            f"{self.registry.addresses.systems}/xds/registry", adhoc.ACTION_REQUEST, query
        )
        answer = adhoc.parse_adhoc_response(reply.body)
        assert answer.status == SUCCESS, answer
        return answer

    async def all_of(self, cx: str, *statuses: str) -> adhoc.AdhocReply:
        """GetAll of a patient."""
        wanted = "(" + ",".join(f"'{status}'" for status in statuses or (v.APPROVED,)) + ")"
        return await self.stored_query(
            GET_ALL, {"$patientId": (f"'{cx}'",), **dict.fromkeys(STATUSES, (wanted,))}
        )

    async def studies_of(self, number: str, **more: str) -> list[dict[str, Any]]:
        """FHIR ImagingStudy by NHS number."""
        params = {"patient.identifier": f"{NHS_SYSTEM}|{number}", "_count": "100", **more}
        bundle = await self.get("fhir/ImagingStudy", params=params)
        return [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]

    async def rows_of(self, level: str = "studies", **keys: str) -> list[dict[str, Any]]:
        """Region QIDO."""
        found: list[dict[str, Any]] = await self.get(
            f"dicomweb/{level}", params={"includefield": "all", **keys}
        )
        return found

    async def page(self, number: str) -> str:
        """The clinician's page of a patient, as HTML."""
        form = {"by": "number", "number": number}
        async with self.http.post(f"{self.base}/search", data=form, allow_redirects=True) as response:
            text = await response.text()
            assert response.status == 200, text
            return text


def _registry_values(
    ports: list[int], database: str, facts: Mapping[str, Any], open_mode: bool
) -> dict[str, Any]:
    return {
        "region": {
            "name": "Test region",
            "home_community_id": f"{ROOT}.1",
            "authority": f"{ROOT}.2",
            "national_authority": NHS_NUMBER_OID,
            "allow_test_numbers": True,
            **facts,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": ports[0],
            "grpc_port": ports[1],
            "mllp_port": ports[2],
            "systems_port": ports[3],
            "open": open_mode,
        },
        "database": {"url": database} if database else {},
        "members": {"root_oid": f"{ROOT}.3", "poll_s": 0.2, "heartbeat_s": 0.5, "loopback": not open_mode},
        "enrich": {"scan_s": 0.3, "retry_first_s": 0.05, "retry_max_s": 0.3, "timeout_s": 10.0},
    }


@asynccontextmanager
async def whole_region(
    folder: Path,
    roads: Mapping[str, str],
    *,
    database: str = "",
    through: Through | None = None,
    zones: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    clocks: Mapping[str, Clock] | None = None,
    pace: Mapping[str, Any] = PACE,
    serve: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    secured: bool = False,
) -> AsyncIterator[Whole]:
    """A registry and a node for each code of ``roads`` (code -> grpc | soap).

    Args:
        through: From the registry's addresses to those that the nodes are told (a proxy's).
        zones: A node's own site zone.
        clock: Everybody's. clocks: A node's own.
        serve: The nodes' [serve].
        facts: More of the registry's [region].
        secured: With TLS and authentication; then ``http`` trusts the region and shows no credentials.
    """
    values = _registry_values(free_ports(4), database, facts or {}, not secured)
    init_registry(folder / "registry", FILES, IDS, values)
    async with AsyncExitStack() as stack:
        registry = RegistryApp(
            folder / "registry", read_registry_config(folder / "registry"), system_seams(clock=clock)
        )
        stack.push_async_callback(registry.stop)
        await registry.start()
        tls = client_context(registry.members.ca.bundle) if secured else None
        http = await stack.enter_async_context(client_session(tls))
        region = Whole(registry, http)
        for code, road in roads.items():
            home = await _node(
                folder / code,
                region,
                code,
                road,
                through,
                dict(zones or {}).get(code, ""),
                (clocks or {}).get(code, clock),
                pace,
                serve,
                secured,
            )
            stack.push_async_callback(home.app.stop)
            region.homes[code] = home
        await until(lambda: _all_live(registry, len(roads)))
        yield region


async def _all_live(registry: RegistryApp, count: int) -> bool:
    return sum(registry.members.presence(m.id).reachable for m in registry.members.all()) == count


async def _node(
    folder: Path,
    region: Whole,
    code: str,
    road: str,
    through: Through | None,
    zone: str,
    clock: Clock | None,
    pace: Mapping[str, Any],
    serve: Mapping[str, Any] | None,
    secured: bool,
) -> Home:
    registry = region.registry
    people, systems = free_ports(2)
    values: dict[str, Any] = {
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": people,
            "systems_port": systems,
            "open": not secured,
        },
        "dimse": {"enabled": False},
        "archive": {"min_free_bytes": 0, **({"site_zone": zone} if zone else {})},
        "publish": {"road": road, **pace},
        "serve": dict(serve or {}),
        "region": {"heartbeat_s": 0.5, "reconnect_min_s": 0.05, "reconnect_max_s": 0.5},
    }
    init_node(folder, FILES, values)
    invitation = await registry.members.invite(
        code, registry.people_url, name=f"{code} Hospitals NHS Foundation Trust"
    )
    state = await join_region(folder, invitation, system_seams())
    if through is not None:
        told = through(state.registry)
        state.registry = replace(state.registry, systems=told.systems, grpc=told.grpc, mllp=told.mllp)
        state.save()
    app = NodeApp(folder, read_node_config(folder), system_seams(clock=clock))
    await app.start()
    return Home(app, road)
