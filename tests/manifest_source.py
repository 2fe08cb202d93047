"""A foreign source of manifests whose address for ITI-43 is known: a repository that answers over HTTP, and
the enricher that reads it.

Its documents are written by the standard's own structure.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO

import pydicom
from aiohttp import web
from callers import caller
from foreign_region import NUMBER, REPOSITORY, ForeignRegion, Submitted, foreign_region, manifest
from loopback import served
from registry_samples import NHS, REGION
from xds_registry import CLOCK, IDS

from crosslight.runtime.db import Db
from crosslight.runtime.seams import system_seams
from crosslight.runtime.soap.server import read_soap, stream_mtom
from crosslight.runtime.workers import SystemWorkers, Workers
from crosslight.standards.access import OPEN
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints
from crosslight.standards.study import Coded, InstanceRef, Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.retrieve import ACTION_RESPONSE, parse_retrieve_request
from node.serve.iti43 import multipart
from registry.ask.question import ByPatient
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.enricher import Enricher
from registry.identity.model import PatientSelector

CT = "1.2.840.10008.5.1.4.1.1.2"


def kos(
    study_uid: str, series: Sequence[tuple[str, int]], *, title: Coded | None = None, beside: str = ""
) -> bytes:
    """A Key Object Selection of a study: ``series`` by UID and count; ``beside``: it references another
    study's series too.
    """
    record = StudyRecord(
        study_uid=study_uid,
        patient=Patient(
            local=Identifier("A1", "1.2.99"), name=PersonName("Strange^Zoe"), birth_date="19610203", sex="F"
        ),
        time=StudyTime(date="20240301", time="101500", zone="UTC", zone_source="site"),
    )
    of = [(study_uid, uid, n) for uid, count in series for n in range(1, count + 1)]
    data = build_manifest(
        record,
        [
            InstanceRef(
                study_uid=study,
                series_uid=uid,
                sop_class_uid=CT,
                sop_uid=f"{uid}.{n}",
                number=str(n),
                transfer_syntax_uid="1.2.840.10008.1.2.1",
            )
            for study, uid, n in of
        ],
        document_uid="2.25.77",
        series_uid="2.25.78",
        retrieve_ae_title="X",
        retrieve_location_uid="1.2.7",
        retrieve_url="",
        created=datetime(2026, 3, 1, tzinfo=UTC),
    )
    if title is None and not beside:
        return data
    ds = pydicom.dcmread(BytesIO(data))
    if title is not None:
        code = ds.ConceptNameCodeSequence[0]
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
            title.value,
            title.scheme,
            title.meaning,
        )
    if beside:
        other = pydicom.dcmread(BytesIO(data)).CurrentRequestedProcedureEvidenceSequence[0]
        other.StudyInstanceUID = beside
        for number, one in enumerate(other.ReferencedSeriesSequence):
            one.SeriesInstanceUID = f"{beside}.{number}"
            for reference in one.ReferencedSOPSequence:
                reference.ReferencedSOPInstanceUID += ".9"
        ds.CurrentRequestedProcedureEvidenceSequence.append(other)
    out = BytesIO()
    ds.save_as(out)
    return out.getvalue()


@dataclass
class Repository:
    """A foreign repository that answers ITI-43: documents by uniqueId."""

    documents: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # uniqueId, Authorization

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request)
        wanted = parse_retrieve_request(envelope.body)
        self.asked += [(one.document_unique_id, request.headers.get("Authorization", "")) for one in wanted]
        found = [
            (one, "application/dicom", len(data), _chunk(data))
            for one in wanted
            if (data := self.documents.get(one.document_unique_id)) is not None
        ]
        missing = [one.document_unique_id for one in wanted if one.document_unique_id not in self.documents]
        errors = [RegistryError("XDSDocumentUniqueIdError", "Not here.", uid) for uid in missing]
        answer = multipart(found, errors, len(wanted))
        return await stream_mtom(request, envelope, answer.body, ACTION_RESPONSE, answer.parts)

    def holds(self, data: bytes, text: str, **how: object) -> Submitted:
        """A submission of a document that it holds."""
        made = manifest(text, size=len(data), sha1=hashlib.sha1(data).hexdigest(), **how)  # type: ignore[arg-type]
        self.documents[made.entry.unique_id] = data
        return made


async def _chunk(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclass
class ManifestSource:
    """What a test works with."""

    region: ForeignRegion
    repository: Repository
    completion: Completion
    enricher: Enricher

    def another(self) -> Enricher:
        """Of another process over the same index."""
        return _enricher(self.region, self.completion)

    async def known(self, url: str) -> None:
        """The source's address is known from now on."""
        member = await self.region.xds.foreign(REPOSITORY)
        self.region.xds.directory.set(replace(member, endpoints=Endpoints(xds_repository=url)))

    async def read_all(self) -> None:
        """Read what waits, as the Enricher does at a scan: one after the other."""
        index = self.region.xds.index
        member = self.region.xds.directory.by_repository(REPOSITORY)
        assert member is not None
        for key in await index.unenriched([member.id], 100):
            await self.completion.complete(key, member)
        for document in await index.unread_documents([member.id], 100):
            await self.completion.read_document(document, member)

    async def unread(self) -> int:
        question = ByPatient(patient=PatientSelector(identifiers=(Identifier(NUMBER, NHS),)))
        asked = self.region.xds.ask.question(
            caller(OPEN, "c", "t"), face="fhir", action="search", question=question
        )
        async with asked as found:
            return found.unread


def _completion(region: ForeignRegion, workers: Workers) -> Completion:
    xds = region.xds
    return Completion(xds.index, xds.acceptor, region.reach, xds.audit, workers, IDS, REGION, EnrichConfig())


def _enricher(region: ForeignRegion, completion: Completion) -> Enricher:
    config = EnrichConfig(scan_s=0.1, retry_first_s=0.01, retry_max_s=0.1)
    return Enricher(
        region.xds.index, region.xds.directory, completion, system_seams(clock=CLOCK, ids=IDS), config
    )


@asynccontextmanager
async def manifest_source(database: Db) -> AsyncIterator[ManifestSource]:
    repository, workers = Repository(), SystemWorkers(threads=1, children=1)
    app = web.Application()
    app.router.add_post("/xds/repository", repository.retrieve)
    async with foreign_region(database) as region, served(app) as base:
        completion = _completion(region, workers)
        made = ManifestSource(region, repository, completion, _enricher(region, completion))
        await made.known(f"{base}/xds/repository")
        yield made
        await workers.close()
