"""A foreign source's manifests are read where its address for ITI-43 is known, over HTTP, on both databases
(D17).

The source answers with documents that were written by the standard's own structure; what it does not give
stays unread.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pydicom
import pytest
from aiohttp import web
from callers import caller
from foreign_region import NUMBER, REPOSITORY, ForeignRegion, Submitted, foreign_region, manifest
from four_faces import LISTED, UNPROVEN, four_faces
from loopback import served
from registry_room import TestClock
from registry_samples import NHS, REGION
from scenario_processes import until
from xds_registry import CLOCK, IDS

from crosslight.runtime.db import Db
from crosslight.runtime.seams import system_seams
from crosslight.runtime.soap.server import read_soap, stream_mtom
from crosslight.runtime.workers import SystemWorkers, Workers
from crosslight.standards.access import OPEN
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import CrosslightError
from crosslight.standards.study import Coded, InstanceRef, Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.retrieve import ACTION_RESPONSE, parse_retrieve_request
from node.serve.iti43 import multipart
from registry.ask.question import ByPatient
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.enricher import Enricher
from registry.identity.model import PatientSelector, RecordKey
from registry.index.imaging_documents import DocumentKey
from registry.index.leases import Leases
from registry.index.model import HoldingKey
from registry.members.model import Presence

CT = "1.2.840.10008.5.1.4.1.1.2"
KEY_IMAGES = Coded("113000", "DCM", "Of Interest")


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
class Source:
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
async def _source(database: Db) -> AsyncIterator[Source]:
    repository, workers = Repository(), SystemWorkers(threads=1, children=1)
    app = web.Application()
    app.router.add_post("/xds/repository", repository.retrieve)
    async with foreign_region(database) as region, served(app) as base:
        completion = _completion(region, workers)
        made = Source(region, repository, completion, _enricher(region, completion))
        await made.known(f"{base}/xds/repository")
        yield made
        await workers.close()


@pytest.fixture
async def source(database: Db) -> AsyncIterator[Source]:
    async with _source(database) as made:
        yield made


async def _nobody_says_none(source: Source) -> None:
    """No face calls the list of a patient empty of whom a document is unread, though every member is
    counted."""
    xds = source.region.xds
    for one in xds.directory.all():
        well = Presence(
            member=one.id, reachable=True, last_heard=CLOCK.now(), census_equal=True, census_at=CLOCK.now()
        )
        xds.directory.presences[one.id] = well
    async with four_faces(xds.room) as faces:
        assert await faces.fhir(NUMBER) == UNPROVEN
        assert "1 imaging document of this patient" in faces.said
        assert await faces.qido(NUMBER) == UNPROVEN
        assert await faces.page(NUMBER) == UNPROVEN
        assert "There is 1 imaging document of this patient whose study is not known here." in faces.said
        assert await faces.iti18(NUMBER, NHS) == LISTED, "there the document itself is listed"


async def test_every_manifest_of_a_study_is_read_and_counted_once(source: Source) -> None:
    first = source.repository.holds(
        kos("1.2.3", [("1.2.3.1", 3), ("1.2.3.2", 1)]), "whole", study_uid="1.2.3"
    )
    second = source.repository.holds(
        kos("1.2.3", [("1.2.3.1", 1), ("1.2.3.9", 2)]), "part", study_uid="1.2.3"
    )
    await source.region.register(first, second)
    await source.read_all()
    (shown,) = await source.region.studies()
    assert {s["uid"]: s["numberOfInstances"] for s in shown["series"]} == {
        "1.2.3.1": 3,
        "1.2.3.2": 1,
        "1.2.3.9": 2,
    }
    assert (shown["numberOfSeries"], shown["numberOfInstances"]) == (3, 6)
    (row,) = await source.region.rows()
    assert row["00201208"]["Value"] == [6]
    assert {uid for uid, _ in source.repository.asked} == {first.entry.unique_id, second.entry.unique_id}
    assert {token for _, token in source.repository.asked} == {""}, (
        "a foreign source is shown no token of the region's"
    )
    await source.region.assert_lossless()


async def test_series_of_another_study_in_a_manifest_are_not_this_ones(source: Source) -> None:
    one = source.repository.holds(
        kos("1.2.3", [("1.2.3.1", 3)], beside="1.2.4"), "two in one", study_uid="1.2.3"
    )
    await source.region.register(one)
    await source.read_all()
    (shown,) = await source.region.studies()
    assert [(s["uid"], s["numberOfInstances"]) for s in shown["series"]] == [("1.2.3.1", 3)]


async def test_a_manifest_that_named_no_study_becomes_one_and_keeps_its_entry(source: Source) -> None:
    one = source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)]), "which?", references=())
    await source.region.register(one)
    assert (await source.unread(), await source.region.studies()) == (1, [])
    await _nobody_says_none(source)
    await source.read_all()
    (shown,) = await source.region.studies()
    assert shown["identifier"][0]["value"] == "urn:oid:1.2.5"
    assert (shown["numberOfInstances"], shown["description"]) == (4, "which?")
    assert await source.unread() == 0
    await source.region.assert_lossless()
    await source.region.update(one, "Deprecated")
    assert await source.region.studies() == []
    await source.region.update(one, "Approved")
    later = source.repository.holds(kos("1.2.5", [("1.2.5.1", 5)]), "later", references=(), replaces=one)
    await source.region.register(later)
    assert await source.region.statuses() == {"which?": "Deprecated", "later": "Approved"}
    await source.read_all()
    (shown,) = await source.region.studies()
    assert shown["numberOfInstances"] == 5
    await source.region.assert_lossless()
    await source.region.remove(later, one)
    assert await source.region.studies() == []
    assert await source.region.statuses() == {}


async def test_a_manifest_of_two_studies_stays_a_document(source: Source) -> None:
    one = source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)], beside="1.2.6"), "both", references=())
    await source.region.register(one)
    await source.read_all()
    assert (await source.unread(), await source.region.studies()) == (1, [])
    assert (
        await source.region.xds.index.unread_documents([(await source.region.xds.foreign(REPOSITORY)).id], 9)
        == []
    )
    for uid in ("1.2.5", "1.2.6"):
        await source.region.register(source.repository.holds(kos(uid, [(f"{uid}.1", 1)]), uid, study_uid=uid))
    assert await source.unread() == 0, "both are studies here"


@pytest.mark.parametrize("alone", [True, False])
async def test_a_key_object_note_is_a_document_and_no_study(source: Source, alone: bool) -> None:
    """Only its bytes have its title (113030, DCM, "Manifest"): until then it is taken for one."""
    note = source.repository.holds(
        kos("1.2.3", [("1.2.3.1", 1)], title=KEY_IMAGES), "key images", study_uid="1.2.3"
    )
    images = source.repository.holds(kos("1.2.3", [("1.2.3.1", 3)]), "images", study_uid="1.2.3")
    await source.region.register(*([note] if alone else [images, note]))
    await source.read_all()
    shown = await source.region.studies()
    assert [s["description"] for s in shown] == ([] if alone else ["images"])
    assert await source.unread() == (1 if alone else 0)
    await source.region.assert_lossless()
    await source.region.update(note, "Deprecated")
    assert await source.unread() == 0
    await source.region.remove(note)
    await source.region.assert_lossless()


async def test_what_is_not_given_or_differs_stays_unread(source: Source) -> None:
    missing = manifest("missing", references=())
    other = source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)]), "other", references=())
    source.repository.documents[other.entry.unique_id] += b"\0\0"
    await source.region.register(missing, other)
    member = await source.region.xds.foreign(REPOSITORY)
    for key in await source.region.xds.index.unread_documents([member.id], 9):
        with pytest.raises(CrosslightError, match=r"manifest"):
            await source.completion.read_document(key, member)
    assert await source.unread() == 2


async def test_the_enricher_finds_by_itself_what_waits(source: Source) -> None:
    """What was registered before the address was known, too."""
    await source.region.register(
        source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)]), "which?", references=())
    )
    await source.region.register(
        source.repository.holds(kos("1.2.6", [("1.2.6.1", 2)]), "named", study_uid="1.2.6")
    )
    source.enricher.start()

    async def both_are_counted() -> bool:
        return {s.get("numberOfInstances") for s in await source.region.studies()} == {4, 2}

    await until("both are read", both_are_counted, 60)
    await source.enricher.stop()
    assert await source.unread() == 0


# --- several processes over one index (ADR 0031) ------------------------------------------------------------


async def _registered(source: Source, first: int, count: int) -> set[str]:
    """Register so many manifests, of which every other one names no study; their uniqueIds."""
    made = [
        source.repository.holds(
            kos(f"1.2.{n}", [(f"1.2.{n}.1", 2)]),
            f"study {n}",
            study_uid=f"1.2.{n}",
            references=() if n % 2 else None,
        )
        for n in range(first, first + count)
    ]
    await source.region.register(*made)
    return {one.entry.unique_id for one in made}


async def _all_read(source: Source, count: int) -> None:
    async def read() -> bool:
        return [s.get("numberOfInstances") for s in await source.region.studies()] == [2] * count

    await until("all are read", read, 60)


async def test_of_two_processes_one_fetches_each_manifest(source: Source) -> None:
    """Both look for what waits, and both are told of what comes; each manifest is fetched once."""
    both = (source.enricher, source.another())
    changes = source.region.xds.index.changes
    wanted = await _registered(source, 10, 6)
    for enricher in both:
        enricher.start()
    await _all_read(source, 6)
    start = await changes.head()
    wanted |= await _registered(source, 30, 4)
    told = (await changes.after(start)).changes
    for enricher in both:
        enricher.changed(told)
    await _all_read(source, 10)
    for enricher in both:
        await enricher.stop()
    assert sorted(uid for uid, _ in source.repository.asked) == sorted(wanted)


async def test_what_a_killed_process_was_at_is_taken_up_when_its_lease_has_ended(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is its lease, which nobody extends or gives back."""
    (wanted,) = await _registered(source, 10, 1)
    index = source.region.xds.index
    member = await source.region.xds.foreign(REPOSITORY)
    (key,) = await index.unenriched([member.id], 9)
    assert await index.leases.take(key, "killed", 2.0)
    take, taken = index.leases.take, list[bool]()

    async def noted(*asked: Any) -> bool:
        taken.append(await take(*asked))
        assert taken[-1] or not source.repository.asked
        return taken[-1]

    monkeypatch.setattr(index.leases, "take", noted)
    source.enricher.start()
    await _all_read(source, 1)
    await source.enricher.stop()
    assert taken[0] is False
    assert [uid for uid, _ in source.repository.asked] == [wanted]


async def test_a_lease_is_one_holders_until_it_ends(source: Source) -> None:
    leases = Leases(source.region.xds.db, clock := TestClock())
    one, other = HoldingKey(RecordKey(7), "1.2.3", MemberId(3)), DocumentKey(MemberId(3), "urn:uuid:1")
    assert await leases.take(one, "a", 60)
    assert not await leases.take(one, "b", 60)
    assert await leases.take(other, "b", 60)
    clock.moment += timedelta(seconds=50)
    await leases.extend([one, other], "a", 60)
    clock.moment += timedelta(seconds=20)
    assert not await leases.take(one, "b", 60)
    assert await leases.take(other, "a", 60), "nobody extended it"
    await leases.extend([other], "b", 60)
    await leases.give_back([one, other], "b")
    assert not await leases.take(one, "b", 60), "who does not hold it gives nothing back"
    await leases.give_back([one, other], "a")
    assert await leases.take(one, "b", 60)
