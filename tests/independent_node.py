"""An independent node with real TLS, the XDS registry before it that is not its own, and who calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ports import free_ports
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from rich.console import Console
from whole_region import FILES, HOST, IDS, PACE, ROOT, until

from crosslight.client.dimse import DimseClient
from crosslight.client.xds import XdsClient
from crosslight.runtime.soap.client import SoapStream
from crosslight.runtime.tls import client_context
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.xds.wire.retrieve import parse_retrieve_response
from node import commands
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.setup import init_node
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.members.ca import CertificateAuthority
from registry.members.systems import asked_grants
from registry.setup import init_registry

NUMBER, STUDY, SERIES, SOP = "9434765919", "1.2.1", "1.2.1.1", "1.2.1.1.1"
REPOSITORY, LOCATION, AUTHORITY = f"{ROOT}.9.1", f"{ROOT}.9.2", f"{ROOT}.9.3"
ELE = "1.2.840.10008.1.2.1"


def numbered(ds: Dataset) -> Dataset:
    """With the patient's NHS number, its issuer named."""
    other, qualifier = Dataset(), Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = NHS_NUMBER_OID, "ISO"
    other.PatientID, other.TypeOfPatientID = NUMBER, "TEXT"
    other.IssuerOfPatientIDQualifiersSequence = Sequence([qualifier])
    ds.OtherPatientIDsSequence = Sequence([other])
    return ds


@dataclass
class Pair:
    """A client's certificate and key."""

    ca: Path
    cert: Path
    key: Path

    def client(self) -> XdsClient:
        """As this system."""
        return XdsClient(client_context(self.ca, self.cert, self.key))


@dataclass
class Outside:
    """The registry, the node, and who calls."""

    registry: RegistryApp
    folder: Path
    people: int
    systems: int
    dimse: int
    pacs: Pair  # a system of the registry's, with a SPIFFE name
    viewer: Pair  # a certificate of the same authority that names a host only

    @property
    def itself(self) -> str:
        """Of the registry's XDS."""
        return f"{self.registry.addresses.systems}/xds/registry"

    def at(self, path: str, *, people: bool = False) -> str:
        """An address of the node."""
        return f"https://{HOST}:{self.people if people else self.systems}{path}"

    async def send(self, *images: Dataset) -> None:
        """C-STORE."""
        client = DimseClient(HOST, self.dimse, called="RTK", calling="CT1")
        assert await asyncio.to_thread(client.store, list(images)) == len(images)

    async def found(self, count: int) -> list[Any]:
        """What ITI-18 finds for the patient at the registry, once it is so much."""
        entries: list[Any] = []
        async with self.pacs.client() as client:

            async def there() -> bool:
                answer = await client.find_documents(self.itself, Identifier(NUMBER, NHS_NUMBER_OID))
                entries[:] = answer.entries
                return len(entries) == count

            await until(there)
        return entries

    async def status(self) -> str:
        """What the command prints."""
        out = StringIO()
        await commands.status(self.folder, Console(file=out, width=200))
        return out.getvalue()


def host_pair(ca: CertificateAuthority, folder: Path, host: str, *, server: bool, subject: str = "") -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = (host, "localhost") if server else (host,)
    life = timedelta(days=1)
    issued = ca.issue(
        key.public_key(), identity=None, hosts=hosts, life=life, server=server, client=not server
    )
    pair = Pair(ca.bundle, folder / f"{subject or host}.pem", folder / f"{subject or host}.key")
    pair.cert.write_bytes(issued.chain_pem)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


@asynccontextmanager
async def registry_at(folder: Path) -> AsyncIterator[RegistryApp]:
    ports = free_ports(4)
    values = {
        "region": {
            "name": "Another region",
            "home_community_id": f"{ROOT}.1",
            "authority": f"{ROOT}.2",
            "national_authority": NHS_NUMBER_OID,
            "allow_test_numbers": True,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": ports[0],
            "grpc_port": ports[1],
            "mllp_port": ports[2],
            "systems_port": ports[3],
        },
        "members": {"root_oid": f"{ROOT}.3", "poll_s": 0.2, "heartbeat_s": 0.5},
    }
    init_registry(folder, FILES, IDS, values)
    app = RegistryApp(folder, read_registry_config(folder))
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


def node_values(registry: RegistryApp, people: int, systems: int, dimse: int) -> dict[str, Any]:
    """What an operator writes."""
    return {
        "listen": {"host": HOST, "public_host": HOST, "people_port": people, "systems_port": systems},
        "dimse": {"host": HOST, "port": dimse, "callers": [{"ae_title": "CT1"}]},
        "archive": {
            "min_free_bytes": 0,
            "national_authorities": [NHS_NUMBER_OID],
            "allow_test_numbers": True,
        },
        "publish": {
            "kind": "xds",
            **PACE,
            "xds": {
                "registry_url": f"{registry.addresses.systems}/xds/registry",
                "mllp": registry.addresses.mllp,
                "patient_authority": NHS_NUMBER_OID,
                "repository_unique_id": REPOSITORY,
                "retrieve_location_uid": LOCATION,
                "member_authority": AUTHORITY,
                "organisation_code": "RTK",
                "organisation_name": "RTK Hospitals",
                "ca": "certs/ca.pem",
                "certificate": "certs/RTK-NODE.pem",
                "key": "certs/RTK-NODE.key",
                "server_certificate": "certs/server.pem",
                "server_key": "certs/server.key",
            },
        },
    }


@asynccontextmanager
async def outside_at(place: Path) -> AsyncIterator[Outside]:
    """A registry, and a node's folder before it; the node does not run."""
    async with registry_at(place / "registry") as registry:
        folder, ca = place / "node", registry.members.ca
        people, systems, dimse = free_ports(3)
        init_node(folder, FILES, node_values(registry, people, systems, dimse))
        granted = asked_grants(("find",), feeds=(NHS_NUMBER_OID,), publishes=(REPOSITORY,))
        await registry.members.systems.issue("RTK-NODE", folder / "certs", granted)
        host_pair(ca, folder / "certs", HOST, server=True, subject="server")
        others = place / "others"
        pacs = await registry.members.systems.issue("PACS2", others, asked_grants(("find",)))
        viewer = host_pair(ca, others, "viewer.trust.example", server=False)
        yield Outside(registry, folder, people, systems, dimse, Pair(pacs.ca, pacs.cert, pacs.key), viewer)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[NodeApp]:
    app = NodeApp(folder, read_node_config(folder))
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


async def retrieved(stream: SoapStream) -> tuple[str, dict[str, bytes]]:
    reply = parse_retrieve_response(stream.body)
    found = {}
    async for part in stream.parts():
        request = reply.by_content_id[part.content_id].request
        found[request.document_unique_id] = b"".join([piece async for piece in part.chunks()])
    return reply.registry.status, found


async def quiet(node: NodeApp, *, waiting: int = 0) -> bool:
    """Whether every revision is made, and all but ``waiting`` studies are acknowledged."""
    await node.archive.study_uids()  # rows that follow their objects are there (ADR 0051)
    status, reviser = await node.publisher.status(), node.publisher.reviser
    assert status.parked == 0, await node.publisher.parked()
    return (status.waiting, status.held_up) == (waiting, "") and reviser.settled and not reviser.pending()
