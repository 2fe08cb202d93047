"""An independent node, before an XDS registry that is not its own (kind = "xds", D18), with real TLS on every
side.

The registry is ours, used as any XDS registry: the node has no membership there, only a system's certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pydicom
import pytest
from archive_fixture import file_of
from independent_node import (
    ELE,
    LOCATION,
    REPOSITORY,
    SERIES,
    SOP,
    STUDY,
    Outside,
    host_pair,
    numbered,
    outside_at,
    quiet,
    retrieved,
    serving,
)
from node_serving import ct, dataset_bytes, part10
from whole_region import FILES, IDS, ROOT, until

from crosslight.client.xds import XdsClient
from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from crosslight.standards.ids import Oid
from crosslight.standards.problem import Unauthenticated, Unavailable
from crosslight.standards.xds.wire.rad69 import ImagingRequest, SeriesRequest, StudyRequest
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS
from crosslight.standards.xds.wire.retrieve import DocumentRequest
from node.app import NodeApp
from node.serve.systems import system_names
from registry.members.ca import CertificateAuthority


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside_at(tmp_path) as made:
        yield made


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
        await until(lambda: quiet(node, waiting=1))
        (entry,) = await outside.found(1)
        assert (entry.study_uid, entry.repository_unique_id, entry.status) == (STUDY, REPOSITORY, "Approved")
        stored = (await file_of(node.archive, (await node.archive.objects(STUDY))[0])).read_bytes()
        assert dataset_bytes(stored) == sent
        documents: dict[str, bytes] = {}
        for caller in (outside.pacs, outside.viewer):
            async with caller.client() as client:
                asked = [DocumentRequest(REPOSITORY, entry.unique_id)]
                async with client.retrieve(outside.at("/xds/repository"), asked) as stream:
                    status, documents = await retrieved(stream)
                async with client.retrieve_imaging(outside.at("/rad69"), IMAGE) as stream:
                    imaging, images = await retrieved(stream)
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


async def test_who_is_not_let_in(outside: Outside, tmp_path: Path) -> None:
    """No certificate, one of another authority, and tokens that nobody issues."""
    async with serving(outside.folder):
        await outside.send(numbered(ct()))
        stranger_ca = CertificateAuthority(
            tmp_path / "stranger", Oid(f"{ROOT}.1"), "Stranger", outside.registry.seams.clock, IDS, FILES
        )
        stranger_ca.open()
        stranger = host_pair(stranger_ca, tmp_path, "viewer.trust.example", server=False)
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
                assert (await retrieved(stream))[0] == FAILURE


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
