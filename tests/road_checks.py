"""Studies that a node publishes by either road, and what the registry must then hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from callers import caller
from node_serving import ct
from publish_region import (
    PublishingNode,
    RegistryCore,
    registry_core,
    until,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from registry_samples import NHS

from crosslight.runtime.db import SqliteDb
from crosslight.standards.access import OPEN
from crosslight.standards.study import StudyRecord
from registry.ask.question import ByObject
from registry.index.model import Holding

NUMBER = "9434765919"
ROADS = ("grpc", "soap")


def with_number(ds: Dataset, number: str = NUMBER, local: str = "L-1") -> Dataset:
    """An object that names the patient's NHS number with its issuer."""
    other, qualifier = Dataset(), Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = NHS, "ISO"
    other.PatientID, other.TypeOfPatientID = number, "TEXT"
    other.IssuerOfPatientIDQualifiersSequence = Sequence([qualifier])
    ds.PatientID, ds.OtherPatientIDsSequence = local, Sequence([other])
    return ds


def rich_study() -> list[Dataset]:
    """Two series, an order, codes, times and text that need escaping."""
    request, code = Dataset(), Dataset()
    request.PlacerOrderNumberImagingServiceRequest = "ORD-7"
    request.AccessionNumber = "A-1"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "RPID16", "RADLEX", "CT Head & Neck"
    files = []
    for series in (1, 2):
        for n in (1, 2, 3):
            ds = with_number(ct("1.2.1", f"1.2.1.{series}", f"1.2.1.{series}.{n}", number=n))
            ds.SeriesNumber, ds.SeriesDescription, ds.BodyPartExamined = (
                series,
                f'thin "{series}" <mm>',
                "HEAD",
            )
            ds.SeriesDate, ds.SeriesTime, ds.InstitutionName = "20260102", "101500", "St Peter's"
            ds.ReferringPhysicianName, ds.ProcedureCodeSequence = "Jones^Bé", Sequence([code])
            ds.RequestAttributesSequence = Sequence([request])
            files.append(ds)
    return files


@asynccontextmanager
async def core_at(folder: Path) -> AsyncIterator[RegistryCore]:
    """A registry on an SQLite database in the folder."""
    db = SqliteDb(folder / "registry.sqlite")
    async with registry_core(db) as core:
        yield core
    await db.close()


async def holdings(core: RegistryCore, *uids: str) -> tuple[Holding, ...]:
    question = ByObject(study_uids=uids, versions=True)
    async with core.ask.question(
        caller(OPEN, "c"), face="fhir", action="search", question=question
    ) as answer:
        return answer.holdings


async def check(core: RegistryCore, node: PublishingNode, *uids: str) -> dict[str, StudyRecord]:
    """The registry has these studies and no others, the census agrees on both sides, nothing waits or is
    parked.
    """
    held = await core.studies()
    assert {uid for uid, one in held.items() if one.approved} == set(uids)
    status = await node.publisher.status()
    assert (status.waiting, status.parked) == (0, 0)
    assert (
        status.census == await core.index.census(core.member.id) == await core.index.counted(core.member.id)
    )
    found = {h.study_uid: h.record for h in await holdings(core, *uids) if h.state == "approved"}
    assert found.keys() == set(uids)
    return found


async def enriched(core: RegistryCore, uid: str) -> None:
    async def full() -> bool:
        return any(h.record.detail == "full" and h.state == "approved" for h in await holdings(core, uid))

    await until(full)
