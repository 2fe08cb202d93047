"""An independent node, before an XDS registry that is not its own (kind = "xds", D18), with real TLS on every
side.

The registry is ours, used as any XDS registry: the node has no membership there, only a system's certificate.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pydicom
import pytest
from archive_fixture import file_of
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from node_serving import ct, dataset_bytes, part10
from ports import free_ports
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from rich.console import Console
from whole_region import FILES, HOST, IDS, PACE, ROOT, until

from crosslight.client.dimse import DimseClient
from crosslight.client.xds import XdsClient
from crosslight.runtime.http import client_session
from crosslight.runtime.operators import person
from crosslight.runtime.seams import system_seams
from crosslight.runtime.soap.client import SoapStream
from crosslight.runtime.tls import client_context
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier, Oid
from crosslight.standards.problem import ConfigError, Unauthenticated, Unavailable
from crosslight.standards.xds.wire.rad69 import ImagingRequest, SeriesRequest, StudyRequest
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS
from crosslight.standards.xds.wire.retrieve import DocumentRequest, parse_retrieve_response
from node import commands, doctor
from node import withdraw as withdrawal
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.serve.systems import system_names
from node.setup import init_node, join_region
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


def _host_pair(ca: CertificateAuthority, folder: Path, host: str, *, server: bool, subject: str = "") -> Pair:
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


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    """A registry, and a node's folder before it; the node does not run."""
    async with registry_at(tmp_path / "registry") as registry:
        folder, ca = tmp_path / "node", registry.members.ca
        people, systems, dimse = free_ports(3)
        init_node(folder, FILES, node_values(registry, people, systems, dimse))
        granted = asked_grants(("find",), feeds=(NHS_NUMBER_OID,), publishes=(REPOSITORY,))
        await registry.members.systems.issue("RTK-NODE", folder / "certs", granted)
        _host_pair(ca, folder / "certs", HOST, server=True, subject="server")
        others = tmp_path / "others"
        pacs = await registry.members.systems.issue("PACS2", others, asked_grants(("find",)))
        viewer = _host_pair(ca, others, "viewer.trust.example", server=False)
        yield Outside(registry, folder, people, systems, dimse, Pair(pacs.ca, pacs.cert, pacs.key), viewer)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[NodeApp]:
    app = NodeApp(folder, read_node_config(folder))
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


async def _documents(stream: SoapStream) -> tuple[str, dict[str, bytes]]:
    reply = parse_retrieve_response(stream.body)
    found = {}
    async for part in stream.parts():
        request = reply.by_content_id[part.content_id].request
        found[request.document_unique_id] = b"".join([piece async for piece in part.chunks()])
    return reply.registry.status, found


async def _ready(outside: Outside) -> dict[str, Any]:
    tls = client_context(outside.pacs.ca)
    async with (
        client_session(tls) as session,
        session.get(outside.at("/health/ready", people=True)) as response,
    ):
        assert response.status == 200
        body: dict[str, Any] = orjson.loads(await response.read())
        return body


IMAGE = ImagingRequest(
    (StudyRequest(STUDY, (SeriesRequest(SERIES, (DocumentRequest(LOCATION, SOP),)),)),), (ELE,)
)


async def test_from_c_store_to_another_systems_retrieve(outside: Outside) -> None:
    """In by C-STORE, found by ITI-18, fetched by ITI-43 and RAD-69 with certificates that the node has never
    seen.
    """
    async with serving(outside.folder) as node:
        image, bare = (
            numbered(ct()),
            ct("1.2.2", "1.2.2.1", "1.2.2.1.1", PatientID="L-9", PatientName="Jones^Bob"),
        )
        sent = dataset_bytes(part10(image))
        await outside.send(image, bare)
        # the study is complete: its newest manifest is the registered one
        await until(lambda: _quiet(node, waiting=1))
        (entry,) = await outside.found(1)
        assert (entry.study_uid, entry.repository_unique_id, entry.status) == (STUDY, REPOSITORY, "Approved")
        stored = (await file_of(node.archive, (await node.archive.objects(STUDY))[0])).read_bytes()
        assert dataset_bytes(stored) == sent
        documents: dict[str, bytes] = {}
        for caller in (outside.pacs, outside.viewer):
            async with caller.client() as client:
                asked = [DocumentRequest(REPOSITORY, entry.unique_id)]
                async with client.retrieve(outside.at("/xds/repository"), asked) as stream:
                    status, documents = await _documents(stream)
                async with client.retrieve_imaging(outside.at("/rad69"), IMAGE) as stream:
                    imaging, images = await _documents(stream)
            assert (status, imaging) == (SUCCESS, SUCCESS)
            assert images == {SOP: stored}
            assert set(documents) == {entry.unique_id}
        manifest = documents[entry.unique_id]
        assert hashlib.sha1(manifest).hexdigest() == await _registered_hash(outside)
        assert (
            pydicom.dcmread(BytesIO(manifest)).CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID
            == STUDY
        )
        await _waits_and_is_shown(outside)
        await _is_audited(node)


async def _registered_hash(outside: Outside) -> str:
    (held,) = [h for _, h in await _held(outside)]
    return str(held.sha1)


async def _held(outside: Outside) -> list[tuple[str, Any]]:
    member = outside.registry.members.by_repository(REPOSITORY)
    assert member is not None
    assert member.status == "foreign"
    page, _ = await outside.registry.index.held_after(member.id, "", 10)
    return [(one.study_uid, one) for one in page]


async def _waits_and_is_shown(outside: Outside) -> None:
    async def waits() -> bool:
        shown = await outside.status()
        rows = {
            line.split("│")[1].strip(): line.split("│")[2].strip()
            for line in shown.splitlines()
            if line.count("│") == 3
        }
        assert (rows["Member"], rows["Refused by the registry"]) == ("RTK RTK Hospitals", "0 studies")
        why = "waiting: 1.2.2: The patient has no id in the registry's authority."
        return rows["Waiting for the registry"] == "1 study" and why in shown

    await until(waits)
    ready = await _ready(outside)
    assert ready["linked"] is None
    assert (ready["waiting"], ready["parked"], ready["suspended"], ready["code"]) == (1, 0, False, "RTK")


async def _is_audited(node: NodeApp) -> None:
    acts = [a for a in await node.parts.ground.audit.search(study=STUDY) if a.face in ("iti43", "rad69")]
    who = {(a.face, a.who.name, a.who.evidence, tuple(a.who.roles)) for a in acts}
    assert who == {
        (face, name, "certificate", ("integrator",))
        for face in ("iti43", "rad69")
        for name in ("PACS2", "viewer.trust.example")
    }


async def test_a_study_is_withdrawn_and_published_again_by_command(outside: Outside) -> None:
    async with serving(outside.folder) as node:
        await outside.send(numbered(ct()))
        await until(lambda: _quiet(node, waiting=0))
        await outside.found(1)
        out = StringIO()
        console = Console(file=out, width=200)
        assert not await withdrawal.withdraw(outside.folder, [STUDY, "1.2.99"], "wrong side marked", console)
        assert "1 study is withdrawn." in out.getvalue()
        assert "1.2.99 was never here." in out.getvalue()
        await outside.found(0)
        shown = await outside.status()
        assert f"withdrawn: {STUDY} since" in shown
        assert "wrong side marked" in shown
        assert await withdrawal.publish(outside.folder, [STUDY], console)
        await outside.found(1)
        assert not await withdrawal.publish(outside.folder, [STUDY], console)
        assert f"{STUDY} is not withdrawn." in out.getvalue()
        acts = [act for act in await node.parts.ground.audit.search(study=STUDY) if act.face == "admin"]
        assert [(act.action, act.query, act.who.name) for act in acts] == [
            ("publish", {}, f"command line: {person()}"),
            ("withdraw", {"reason": "wrong side marked"}, f"command line: {person()}"),
        ]
        assert all(act.patients for act in acts)


async def test_who_is_not_let_in(outside: Outside, tmp_path: Path) -> None:
    """No certificate, one of another authority, and tokens that nobody issues."""
    async with serving(outside.folder):
        await outside.send(numbered(ct()))
        stranger_ca = CertificateAuthority(
            tmp_path / "stranger", Oid(f"{ROOT}.1"), "Stranger", outside.registry.seams.clock, IDS, FILES
        )
        stranger_ca.open()
        stranger = _host_pair(stranger_ca, tmp_path, "viewer.trust.example", server=False)
        for tls in (
            client_context(outside.pacs.ca),
            client_context(outside.pacs.ca, stranger.cert, stranger.key),
        ):
            async with XdsClient(tls) as client:
                with pytest.raises((Unavailable, aiohttp.ClientError)):
                    async with client.retrieve_imaging(outside.at("/rad69"), IMAGE):
                        pass
        for headers in ({}, {"Authorization": "Bearer x"}):
            async with client_session(client_context(outside.pacs.ca)) as session:
                async with session.get(
                    outside.at("/dicomweb/studies", people=True), headers=headers
                ) as response:
                    assert response.status == 401
                    assert "nobody issues any" in str(orjson.loads(await response.read()))
        async with outside.viewer.client() as client:
            async with client.session.get(outside.at("/dicomweb/studies")) as response:
                assert response.status == 200
                assert [row["0020000D"]["Value"] for row in orjson.loads(await response.read())] == [[STUDY]]
            async with client.session.get(
                outside.at("/dicomweb/studies"), headers={"Authorization": "Bearer x"}
            ) as response:
                assert response.status == 401
            async with client.retrieve(
                outside.at("/xds/repository"), [DocumentRequest(REPOSITORY, "1.2.3")]
            ) as stream:
                assert (await _documents(stream))[0] == FAILURE


async def test_a_backup_goes_on_under_its_own_next_epoch(outside: Outside, tmp_path: Path) -> None:
    """What was published after the backup is found again by its associations, and replaced; what is new comes
    into it.
    """
    console, target, restored = (
        Console(file=StringIO(), width=200),
        tmp_path / "backup",
        tmp_path / "restored",
    )
    async with serving(outside.folder) as node:
        await outside.send(numbered(ct()))
        await outside.found(1)
        await commands.backup_node(outside.folder, target, console, ())
        assert await commands.verify(outside.folder, console)
        await outside.send(numbered(ct(sop="1.2.1.1.2", number=2)))
        await until(lambda: _quiet(node))
        (lost,) = await outside.found(1)
    await commands.restore_node(target, restored, console, ())
    shutil.copytree(outside.folder / "certs", restored / "certs")
    outside.folder = restored
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "image.dcm").write_bytes(part10(numbered(ct("1.2.3", "1.2.3.1", "1.2.3.1.1"))))
    report = await commands.import_paths(restored, [tmp_path / "late"], console)
    assert report.stored == 1
    async with serving(restored) as node:
        await until(lambda: _quiet(node))
        assert (await node.publisher.status()).epoch == 2
        entries = await outside.found(2)
        assert {entry.study_uid for entry in entries} == {STUDY, "1.2.3"}
        assert lost.unique_id not in {entry.unique_id for entry in entries}
        async with outside.pacs.client() as client:
            asked = [DocumentRequest(REPOSITORY, entry.unique_id) for entry in entries]
            async with client.retrieve(outside.at("/xds/repository"), asked) as stream:
                status, documents = await _documents(stream)
        assert (status, len(documents)) == (SUCCESS, 2)
        assert "nothing is joined" in await outside.status()


async def _quiet(node: NodeApp, *, waiting: int = 0) -> bool:
    """Whether every revision is made, and all but ``waiting`` studies are acknowledged."""
    status, reviser = await node.publisher.status(), node.publisher.reviser
    assert status.parked == 0, await node.publisher.parked()
    return (status.waiting, status.held_up) == (waiting, "") and reviser.settled and not reviser.pending()


async def test_doctor(outside: Outside) -> None:
    """All is well while it runs; and says what is wrong once the registry is gone."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(outside.folder))
        out = StringIO()
        assert await doctor.doctor(outside.folder, Console(file=out, width=200)) == 0, out.getvalue()
        for said in ("C-ECHO", "ITI-18 answers.", "asks for credentials", "0 waiting, 0 refused."):
            assert said in out.getvalue()
        await outside.registry.stop()
        out = StringIO()
        assert await doctor.doctor(outside.folder, Console(file=out, width=200)) == 1, out.getvalue()


async def test_there_is_nothing_to_join(outside: Outside) -> None:
    invitation = await outside.registry.members.invite("RTK", outside.registry.people_url)
    with pytest.raises(ConfigError, match="joined by nobody"):
        await join_region(outside.folder, invitation, system_seams())


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("certificate", "certificate"),
        ("ca", "ca, certificate and key"),
        ("server_key", "server_key"),
        ("mllp", "mllp"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, missing: str, named: str) -> None:
    class Elsewhere:
        class addresses:  # noqa: N801
            systems, mllp = "https://registry.example", "registry.example:2575"

    values = node_values(Elsewhere, 1, 2, 3)  # type: ignore[arg-type]
    values["publish"]["xds"][missing] = ""
    init_node(tmp_path, FILES, values)
    with pytest.raises(ConfigError, match=named):
        NodeApp(tmp_path, read_node_config(tmp_path))


def test_how_a_system_is_named() -> None:
    """By its subject, or an alternative name."""
    subject = ((("countryName", "GB"),), (("organizationName", "A Trust"),), (("commonName", "viewer"),))
    assert system_names({"subject": subject}) == ("C=GB,O=A Trust,CN=viewer", "viewer")
    both = {"subject": subject[:2], "subjectAltName": (("DNS", "v.example"),)}
    assert system_names(both) == ("C=GB,O=A Trust", "v.example")
    assert system_names({"subjectAltName": (("IP Address", "10.0.0.1"), ("URI", "urn:x"))}) == (
        "urn:x",
        "urn:x",
    )
    with pytest.raises(Unauthenticated, match="names nobody"):
        system_names({"subject": ()})
