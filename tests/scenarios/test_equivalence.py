"""The equivalence of roads (D17): the same studies over gRPC and over SOAP give the same answers on every
face.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import road_studies as studies
from road_answers import answers, differences
from road_studies import NHS, NUMBER, image
from whole_region import NHS_SYSTEM, Home, Whole, whole_region

from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord

ROADS = ("grpc", "soap")
CODE = "RTK"
Step = Callable[[Home], Awaitable[None]]


@asynccontextmanager
async def twins(folder: Path, zone: str = "") -> AsyncIterator[dict[str, Whole]]:
    """Two regions alike but for the road; ``zone`` is the site's where that is not the region's."""
    async with AsyncExitStack() as stack:
        regions = {}
        for road in ROADS:
            one = whole_region(folder / road, {CODE: road}, zones={CODE: zone} if zone else None)
            regions[road] = await stack.enter_async_context(one)
        yield regions


async def play(regions: dict[str, Whole], *steps: Step) -> None:
    """Each step at both; what it changes of a study is published as one act."""
    for step in steps:
        for region in regions.values():
            home = region.homes[CODE]
            home.hold()
            await step(home)
        await asyncio.gather(*(region.homes[CODE].release() for region in regions.values()))


async def compared(regions: dict[str, Whole], *uids: str, locals_: tuple[str, ...] = ()) -> dict[str, Any]:
    """Enriched, asked on every face, and the same; what they say."""
    said: dict[str, Any] = {}
    for road, region in regions.items():
        live = [h.study_uid for h in await region.holdings(*uids) if h.state == "approved"]
        await region.enriched(*live)
        authority = region.homes[CODE].authority
        patients = {f"{NUMBER}^^^&{NHS}&ISO": f"{NHS_SYSTEM}|{NUMBER}"}
        patients |= {Identifier(local, authority).cx(): f"urn:oid:{authority}|{local}" for local in locals_}
        said[road] = await answers(region, patients, uids)
    found = differences(said["grpc"], said["soap"])
    assert not found, "\n".join(found)
    first: dict[str, Any] = said["grpc"]
    return first


async def records(region: Whole, *uids: str) -> dict[str, StudyRecord]:
    """What the index holds."""
    return {h.study_uid: h.record for h in await region.holdings(*uids) if h.state == "approved"}


def comparable(record: StudyRecord) -> StudyRecord:
    """Without what no SOAP message has a place for: data set digests, and the local name of the member's own
    authority.
    """
    local = replace(record.patient.local, namespace="")
    series = tuple(changed(s, digest="") for s in record.series)
    return changed(record, patient=replace(record.patient, local=local), series=series)


def uids_of(said: dict[str, Any]) -> set[str]:
    """Studies of the first patient, which every face must agree on."""
    one = next(iter(said.values()))
    found = set(one["qido"])
    assert found == set(one["page"]["rows"])
    ids = [
        i["value"]
        for s in one["fhir"]["studies"]
        for i in s["identifier"]
        if i.get("system") == "urn:dicom:uid"
    ]
    named = {value.removeprefix("urn:oid:") for value in ids}
    assert found == named
    return found


@pytest.mark.scenario
async def test_studies_of_every_sort(tmp_path: Path) -> None:
    """Orders and accessions, compressed and multi-frame, several series, dates of all precisions, difficult
    names.
    """
    files = [
        *studies.orders(),
        *studies.mixed_objects(),
        *studies.undated(),
        *studies.difficult(),
        *studies.empty(),
    ]
    uids = sorted({str(ds.StudyInstanceUID) for ds in files})
    async with twins(tmp_path) as regions:
        await play(regions, lambda home: home.add(files))
        said = await compared(regions, *uids, locals_=("NO-NHS",))
        assert uids_of(said) == set(uids) - {"1.2.9.31"}
        held = {road: await records(region, *uids) for road, region in regions.items()}
        for uid in uids:
            for name in StudyRecord.__struct_fields__:
                assert getattr(comparable(held["soap"][uid]), name) == getattr(
                    comparable(held["grpc"][uid]), name
                ), (uid, name)
        here = held["grpc"]["1.2.9.2"]
        assert (here.n_series, here.n_instances) == (6, 6)
        shown = said[f"{NUMBER}^^^&{NHS}&ISO"]["page"]
        assert any("山田" in text for text in (*shown["rows"].values(), *shown["banner"], *shown["notices"]))


@pytest.mark.scenario
async def test_lives_of_studies(tmp_path: Path) -> None:
    """Updated twice, deleted, restored, deleted for good, rejected in part and whole, and moved to another
    patient.
    """
    grown, gone, back, part, whole, moved = (f"1.2.9.{n}" for n in range(40, 46))
    uids = (grown, gone, back, part, whole, moved)
    first = [image(n, PatientID="L-1") for n in range(40, 46)] + [image(43, 1, 2)]
    again = [image(45, 1, 9, PatientID="L-2", PatientName="Right^Patient")]

    async def rejected(home: Home) -> None:
        await home.add([studies.rejection("113001", [image(43, 1, 2)], 43, image(43))])
        await home.add([studies.rejection("113037", [image(44)], 44, image(44))])

    async def deleted(home: Home) -> None:
        for uid in (gone, back, moved):
            await home.app.archive.delete(uid, "test")

    async def restored(home: Home) -> None:
        await home.app.archive.restore(back)
        await home.add(again)

    async with twins(tmp_path) as regions:
        await play(regions, lambda home: home.add(first))
        said = await compared(regions, *uids, locals_=("L-1",))
        assert uids_of(said) == set(uids)
        await play(
            regions,
            lambda home: home.add([image(40, 1, 2)]),
            lambda home: home.add([image(40, 2, 1, Modality="MR", SeriesDescription="second")]),
            deleted,
        )
        said = await compared(regions, *uids, locals_=("L-1",))
        assert uids_of(said) == {grown, part, whole}
        await play(regions, rejected, restored)
        said = await compared(regions, *uids, locals_=("L-1", "L-2"))
        assert uids_of(said) == {grown, part, back, moved}
        for region in regions.values():
            held = await records(region, *uids)
            assert held[moved].patient.local.value == "L-2"
            assert (held[part].n_instances, held[grown].n_series, held[grown].n_instances) == (1, 2, 3)
            [holding] = await region.holdings(moved)
            assert holding.past == (), "ITI-62 took the whole chain"
        documents = said[f"{NUMBER}^^^&{NHS}&ISO"]["xds"]["documents"]
        states = sorted((d["status"].rsplit(":", 1)[-1], d["entry_uuid"]) for d in documents)
        assert [s for s in states if grown in s[1]] == [
            ("Approved", f"DOCUMENT_ENTRY of {CODE} {grown} v3"),
            ("Deprecated", f"DOCUMENT_ENTRY of {CODE} {grown} v1"),
            ("Deprecated", f"DOCUMENT_ENTRY of {CODE} {grown} v2"),
        ]


@pytest.mark.scenario
async def test_a_site_in_another_zone(tmp_path: Path) -> None:
    """The site's zone is not the region's: both roads tell the same moments, dates and texts, on both sides
    of midnight UTC.
    """
    times = (
        ("20260108", "193000"),
        ("20260309", "0030"),
        ("20260308", "03"),
        ("20260701", ""),
        ("", ""),
        ("20251102", "013000"),
    )
    files = [image(50 + n, StudyDate=day, StudyTime=clock) for n, (day, clock) in enumerate(times)]
    files.append(image(56, StudyDate="20260108", StudyTime="193000", TimezoneOffsetFromUTC="+0100"))
    uids = sorted({str(ds.StudyInstanceUID) for ds in files})
    async with twins(tmp_path, "America/New_York") as regions:
        await play(regions, lambda home: home.add(files))
        said = await compared(regions, *uids)
        assert uids_of(said) == set(uids)
        for region in regions.values():
            rows = await region.rows_of(PatientID=NUMBER, StudyDate="20260108")
            undated = "1.2.9.54"
            assert {r["0020000D"]["Value"][0] for r in rows} == {"1.2.9.50", "1.2.9.56", undated}
            on = {day: await region.studies_of(NUMBER, started=day) for day in ("2026-01-09", "2026-01-08")}
            found = {day: {s["identifier"][0]["value"][8:] for s in studies_} for day, studies_ in on.items()}
            assert found == {"2026-01-09": {"1.2.9.50", undated}, "2026-01-08": {"1.2.9.56", undated}}
