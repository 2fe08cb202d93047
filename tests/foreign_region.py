"""A region with foreign sources, in one process: they register over SOAP, and FHIR and DICOMweb are asked
over HTTP.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import aiohttp
from registry_samples import NHS, member, nhs, published, study
from xds_registry import HOME, IDS, XdsRegistry, xds_registry

from crosslight.runtime.db import Db
from crosslight.standards.ids import Identifier, Oid
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, PersonName, StudyTime
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    DocumentEntry,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
    as_text,
)
from crosslight.standards.xds.rules import stored_query as q
from crosslight.standards.xds.wire.adhoc import AdhocQuery
from registry.reach.members import Reach

REPOSITORY = "1.2.826.0.1.3680043.10.9999.77"
NUMBER = nhs(7)
CX = Identifier(NUMBER, NHS).cx()
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
_numbers = count(1)


def urn() -> str:
    """An entryUUID of a foreign source's own making."""
    return IDS.uuid4().urn


@dataclass
class Submitted:
    """One document as a foreign source submits it: entry, SubmissionSet, link, and its RPLC where it replaces
    another.
    """

    entry: DocumentEntry
    submission: SubmissionSet
    link: Association
    more: tuple[RegistryObject, ...] = ()

    @property
    def objects(self) -> tuple[RegistryObject, ...]:
        return (self.submission, self.entry, self.link, *self.more)

    @property
    def uuids(self) -> list[str]:
        return [one.entry_uuid for one in self.objects]


def manifest(
    text: str,
    *,
    study_uid: str = "1.2.840.1.5",
    replaces: Submitted | None = None,
    repository: str = REPOSITORY,
    date: str = "20240301",
    modality: str = "CT",
    cx: str = CX,
    references: Sequence[str] | None = None,
    size: int = 1234,
    sha1: str = "",
) -> Submitted:
    """A manifest of a study; ``references`` in the place of the referenceIdList that names it."""
    n = next(_numbers)
    who = Patient(
        local=Identifier.parse_cx(cx), name=PersonName("Strange^Zoe"), birth_date="19610203", sex="F"
    )
    record = changed(
        study(who, 1, modality="CT"),
        study_uid=study_uid,
        accessions=(Identifier(f"ACC{n}", "1.2.3.9"),),
        description=text,
        time=StudyTime(date=date, time="101500", zone="UTC", zone_source="site"),
        series=(),
        n_series=0,
        n_instances=0,
        detail="entry",
        modalities=(modality,),
    )
    home = member("RYR", 5)
    made = published(home, record, 1)
    made = changed(
        made,
        version=None,
        entry_uuid=urn(),
        source=replace(home.source, repository_unique_id=Oid(repository)),
        manifest=changed(made.manifest, document_uid=f"1.2.5.{n}", size_bytes=size, sha1=sha1 or f"{n:040x}"),
    )
    entry = views.document_entry(made, cx)
    if references is not None:
        entry = replace(entry, reference_ids=tuple(references))
    submission = SubmissionSet(
        entry_uuid=urn(),
        unique_id=f"1.2.6.{n}",
        patient_id=cx,
        source_id="1.2.98",
        submission_time="20260301",
        content_type=values.IMAGING,
        comments=as_text(f"set of {text}"),
    )
    link = Association(
        entry_uuid=urn(),
        type=v.HAS_MEMBER,
        source=submission.entry_uuid,
        target=entry.entry_uuid,
        submission_set_status="Original",
    )
    more: tuple[RegistryObject, ...] = ()
    if replaces is not None:
        more = (
            Association(
                entry_uuid=urn(), type=v.RPLC, source=entry.entry_uuid, target=replaces.entry.entry_uuid
            ),
        )
    return Submitted(entry, submission, link, more)


@dataclass
class ForeignRegion:
    """What a test works with."""

    xds: XdsRegistry
    base: str
    http: aiohttp.ClientSession
    reach: Reach
    said: list[Submitted] = field(default_factory=list)

    async def register(self, *submitted: Submitted, code: str = "") -> Any:
        """ITI-42 of each; the last reply. ``code``: the error that is expected."""
        reply = None
        for one in submitted:
            reply = await self.xds.register(one.objects)
            assert [e.code for e in reply.errors if e.severity == "Error"] == ([code] if code else []), (
                reply.errors
            )
            if not code:
                self.said.append(one)
        return reply

    async def update(self, one: Submitted, new: str, *, code: str = "") -> None:
        """ITI-57 UpdateAvailabilityStatus to Approved or Deprecated."""
        original = {"Approved": v.DEPRECATED, "Deprecated": v.APPROVED}[new]
        submission = SubmissionSet(
            entry_uuid=urn(),
            unique_id=f"1.2.7.{next(_numbers)}",
            patient_id=CX,
            source_id="1.2.98",
            submission_time="20260302",
            content_type=values.IMAGING,
        )
        change = Association(
            entry_uuid=urn(),
            type=v.UPDATE_AVAILABILITY,
            source=submission.entry_uuid,
            target=one.entry.entry_uuid,
            original_status=original,
            new_status=v.STATUS + new,
        )
        reply = await self.xds.update([submission, change])
        assert [e.code for e in reply.errors] == ([code] if code else []), reply.errors

    async def remove(self, *submitted: Submitted, code: str = "", only: Sequence[str] | None = None) -> None:
        """ITI-62 of whole submissions, or of ``only`` these objects."""
        uuids = list(only) if only is not None else [uuid for one in submitted for uuid in one.uuids]
        reply = await self.xds.remove(uuids)
        assert [e.code for e in reply.errors] == ([code] if code else []), reply.errors
        if not code:
            self.said = [one for one in self.said if not set(one.uuids) <= set(uuids)]

    async def statuses(self, cx: str = CX) -> dict[str, str]:
        """ITI-18 FindDocuments: title -> status, whatever it is."""
        reply = await self.xds.query(q.find_documents(cx, statuses=(v.APPROVED, v.DEPRECATED)))
        return {str(d.title[0].value): d.status.rsplit(":", 1)[-1] for d in reply.objects.documents}

    async def answered(self, cx: str = CX) -> RegistryObjects:
        """ITI-18 GetAll: everything of the patient."""
        every = q.quoted_list((v.APPROVED, v.DEPRECATED))
        statuses = ("$XDSDocumentEntryStatus", "$XDSSubmissionSetStatus", "$XDSFolderStatus")
        parameters = (("$patientId", (q.quoted(cx),)), *((name, every) for name in statuses))
        reply = await self.xds.query(
            AdhocQuery(query_id=q.GET_ALL, return_type="LeafClass", parameters=parameters)
        )
        return reply.objects

    async def assert_lossless(self, cx: str = CX) -> None:
        """ITI-18 answers every object that was registered and not removed, to the letter."""
        found = {one.entry_uuid: one for one in await self.answered(cx)}
        expected = [one for submitted in self.said for one in submitted.objects]
        assert found.keys() == {one.entry_uuid for one in expected}
        for one in expected:
            held = found[one.entry_uuid]
            assert held == views.registered(one, held.status, HOME)  # type: ignore[type-var]

    async def get(self, path: str, status: int = 200, **params: str) -> Any:
        """A JSON answer of FHIR or DICOMweb."""
        async with self.http.get(f"{self.base}/{path}", params=params) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body) if body else None

    async def studies(self, **params: str) -> list[dict[str, Any]]:
        """FHIR ImagingStudy of the patient."""
        bundle = await self.get("fhir/ImagingStudy", **{"patient.identifier": f"{SYSTEM}|{NUMBER}", **params})
        return [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]

    async def rows(self, **params: str) -> list[dict[str, Any]]:
        """QIDO-RS studies of the patient."""
        return await self.get("dicomweb/studies", **{"PatientID": NUMBER, **params}) or []


@asynccontextmanager
async def foreign_region(db: Db) -> AsyncIterator[ForeignRegion]:
    """A registry whose patient NUMBER was fed, and that takes any code."""
    async with xds_registry(db, check_codes=False) as xds:
        await xds.feed(
            Patient(
                local=Identifier(NUMBER, NHS), name=PersonName("Strange^Zoe"), birth_date="19610203", sex="F"
            )
        )
        async with aiohttp.ClientSession() as http:
            yield ForeignRegion(xds, xds.there.base, http, xds.there.retrieves.reach)
