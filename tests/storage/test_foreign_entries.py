"""A foreign source's manifests of one study: each is an entry of its own, and the study is what they say
together (D1, D6).

Over SOAP as the source sends it, asked by ITI-18, FHIR and QIDO-RS, on both databases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from callers import caller
from foreign_region import NUMBER, REPOSITORY, SYSTEM, ForeignRegion, Submitted, foreign_region, manifest
from registry_samples import NHS, nhs, study

from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.study import Patient, PersonName, SeriesRecord
from crosslight.standards.xds.model.metadata import Code
from registry.ask.question import ByObject, ByPatient, ByPopulation, StudyFilter
from registry.identity.model import PatientSelector
from registry.index.model import Holding, HoldingKey

STUDY = "1.2.840.1.5"


@pytest.fixture
async def region(database: Db) -> AsyncIterator[ForeignRegion]:
    async with foreign_region(database) as made:
        yield made


async def _seen(region: ForeignRegion) -> tuple[int, int]:
    """How many ImagingStudies and QIDO-RS rows there are of the patient."""
    return len(await region.studies()), len(await region.rows())


async def _held(region: ForeignRegion) -> list[Holding]:
    question = ByPatient(patient=PatientSelector(identifiers=(Identifier(NUMBER, NHS),)), versions=True)

    asked = region.xds.ask.question(caller(OPEN, "c", "test"), face="xds", action="search", question=question)
    async with asked as answer:
        return list(answer.holdings)


async def test_two_without_rplc_are_both_current_and_one_study(region: ForeignRegion) -> None:
    first, second = manifest("first", modality="CT"), manifest("second", modality="PT", date="20240302")
    await region.register(first, second)
    assert await region.statuses() == {"first": "Approved", "second": "Approved"}
    (shown,) = await region.studies()
    assert {m["code"] for m in shown["modality"]} == {"CT", "PT"}
    accessions = {
        i["value"]
        for i in shown["identifier"]
        if i.get("type", {}).get("coding", [{}])[0].get("code") == "ACSN"
    }
    assert len(accessions) == 2, "each manifest's accession number"
    for accession in accessions:
        assert (await region.get("fhir/ImagingStudy", accession=accession))["total"] == 1
    (row,) = await region.rows()
    assert set(row["00080061"]["Value"]) == {"CT", "PT"}
    for modality in ("CT", "PT"):  # the window over the whole region too
        assert len(await region.get("dicomweb/studies", ModalitiesInStudy=modality)) == 1
    await region.assert_lossless()
    (held,) = await _held(region)
    assert (len(held.siblings), held.past) == (1, ())


@pytest.mark.parametrize("which", [0, 1])
async def test_iti57_acts_on_the_entry_it_names(region: ForeignRegion, which: int) -> None:
    both = [manifest("first"), manifest("second", modality="MR")]
    await region.register(*both)
    one, other = both[which], both[1 - which]
    await region.update(one, "Deprecated")
    assert await region.statuses() == {_title(one): "Deprecated", _title(other): "Approved"}
    (shown,) = await region.studies()
    assert shown["description"] == _title(other), "the study is what its Approved entries say"
    assert len(await region.rows()) == 1
    (held,) = await _held(region)
    assert [p.succeeded_by for p in held.past] == [""], "deprecated, replaced by nothing"
    await region.update(one, "Deprecated", code="XDSMetadataVersionError")
    await region.update(other, "Deprecated")
    assert await _seen(region) == (0, 0)
    await region.get(f"fhir/ImagingStudy/{shown['id']}", 410)
    await region.update(one, "Approved")  # the reverse
    (again,) = await region.studies()
    assert (again["id"], again["description"]) == (shown["id"], _title(one))
    assert again["meta"]["versionId"] != shown["meta"]["versionId"]
    await region.assert_lossless()


def _title(one: Submitted) -> str:
    return str(one.entry.title[0].value)


@pytest.mark.parametrize("which", [0, 1])
async def test_iti62_of_a_whole_submission_that_nothing_refers_to(region: ForeignRegion, which: int) -> None:
    both = [manifest("first"), manifest("second")]
    await region.register(*both)
    one, other = both[which], both[1 - which]
    await region.remove(one, only=[one.entry.entry_uuid], code="ReferencesExistException")
    await region.remove(
        one, only=[one.entry.entry_uuid, one.link.entry_uuid], code="ReferencesExistException"
    )
    await region.remove(one)
    assert await region.statuses() == {_title(other): "Approved"}
    assert await _seen(region) == (1, 1)
    await region.assert_lossless()
    await region.register(manifest("third"))
    assert await _seen(region) == (1, 1)
    await region.remove(*region.said)
    assert await region.statuses() == {}
    assert await _seen(region) == (0, 0)


async def test_rplc_of_one_of_several(region: ForeignRegion) -> None:
    first, second = manifest("first"), manifest("second")
    await region.register(first, second)
    third = manifest("third", replaces=first)
    await region.register(third)
    assert await region.statuses() == {"first": "Deprecated", "second": "Approved", "third": "Approved"}
    (held,) = await _held(region)
    assert [p.succeeded_by for p in held.past] == [third.entry.entry_uuid]
    await region.update(first, "Approved", code="XDSMetadataVersionError")
    await region.remove(first, code="ReferencesExistException")
    await region.register(manifest("late", replaces=first), code="XDSRegistryDeprecatedDocumentError")
    await region.assert_lossless()
    await region.remove(third)
    assert await region.statuses() == {"first": "Deprecated", "second": "Approved"}
    await region.assert_lossless()


async def test_one_that_replaces_two(region: ForeignRegion) -> None:
    first, second = manifest("first"), manifest("second")
    await region.register(first, second)
    both = manifest("both", replaces=first)
    again = manifest("unused", replaces=second).more[0]
    both.more = (*both.more, replace(again, source=both.entry.entry_uuid))  # type: ignore[call-arg]
    await region.register(both)
    assert await region.statuses() == {"first": "Deprecated", "second": "Deprecated", "both": "Approved"}
    await region.assert_lossless()


async def test_what_each_entry_names_leads_to_the_study(region: ForeignRegion) -> None:
    both = [manifest("first"), manifest("second")]
    await region.register(*both)

    for one in both:
        for names in ({"entry_uuids": (one.entry.entry_uuid,)}, {"unique_ids": (one.entry.unique_id,)}):
            question = ByObject(**names)  # type: ignore[arg-type]
            asked = region.xds.ask.question(
                caller(OPEN, "c", "t"), face="xds", action="search", question=question
            )
            async with asked as answer:
                assert [h.study_uid for h in answer.holdings] == [STUDY]


async def test_one_study_under_two_patients_is_two_holdings(region: ForeignRegion) -> None:
    """No RPLC, another patient: neither takes the other's place (D1)."""
    number = nhs(8)
    await region.xds.feed(
        Patient(local=Identifier(number, NHS), name=PersonName("Strange^Zoe"), birth_date="19610203", sex="F")
    )
    cx = Identifier(number, NHS).cx()
    first, second = manifest("first"), manifest("second", cx=cx)
    await region.register(first, second)
    assert await region.statuses() == {"first": "Approved"}
    assert await region.statuses(cx) == {"second": "Approved"}
    (shown,) = await region.studies()
    assert any(e["url"].endswith("conflict") for e in shown["extension"]), "held for different patients"
    await region.remove(first)
    assert await region.statuses(cx) == {"second": "Approved"}
    assert await _seen(region) == (0, 0)


async def test_counts_are_the_manifests_once_all_are_read(region: ForeignRegion) -> None:
    both = [manifest("first"), manifest("second")]
    await region.register(*both)
    (held,) = await _held(region)
    key = HoldingKey(held.record_key, held.study_uid, held.member)
    foreign = region.xds.directory.by_repository(REPOSITORY)
    assert foreign is not None
    assert await region.xds.index.unenriched([foreign.id], 10) == [key]

    def told(entry: Submitted, *series: tuple[str, int]) -> object:
        publication = next(p for p in held.entries if p.entry_uuid == entry.entry.entry_uuid)
        made = [
            SeriesRecord(series_uid=uid, n_instances=n, sop_classes=(("1.2.840.10008.5.1.4.1.1.2", n),))
            for uid, n in series
        ]
        return publication.record.with_series(made, detail="manifest")

    assert await region.xds.acceptor.update_detail(
        key,
        told(both[0], ("1.9.1", 100), ("1.9.2", 7)),
        entry_uuid=both[0].entry.entry_uuid,  # type: ignore[arg-type]
    )
    (shown,) = await region.studies()
    assert {s["uid"] for s in shown["series"]} == {"1.9.1", "1.9.2"}
    assert "numberOfInstances" not in shown, "one manifest is not read: a count would be of a part"
    assert await region.xds.index.unenriched([foreign.id], 10) == [key]
    assert await region.xds.acceptor.update_detail(
        key,
        told(both[1], ("1.9.1", 3), ("1.9.3", 20)),
        entry_uuid=both[1].entry.entry_uuid,  # type: ignore[arg-type]
    )
    (shown,) = await region.studies()
    assert {s["uid"]: s["numberOfInstances"] for s in shown["series"]} == {
        "1.9.1": 100,
        "1.9.2": 7,
        "1.9.3": 20,
    }
    assert (shown["numberOfSeries"], shown["numberOfInstances"]) == (3, 127)
    assert await region.xds.index.unenriched([foreign.id], 10) == []
    await region.assert_lossless()
    await region.update(both[0], "Deprecated")
    (shown,) = await region.studies()
    assert {s["uid"]: s["numberOfInstances"] for s in shown["series"]} == {"1.9.1": 3, "1.9.3": 20}
    await region.assert_lossless()


async def test_a_nodes_study_has_one_approved_entry(region: ForeignRegion) -> None:
    """D1 stays law for our own: what comes beside it through the node's own repository is current until the
    node compares.
    """
    home = region.xds.directory.members[MemberId(1)]
    who = Patient(
        local=Identifier(NUMBER, NHS), name=PersonName("Strange^Zoe"), birth_date="19610203", sex="F"
    )
    record = study(who, 3)
    first = manifest("node's", study_uid=record.study_uid, repository=home.repository_unique_id)
    second = manifest("beside", study_uid=record.study_uid, repository=home.repository_unique_id)
    await region.register(first, second)
    assert await region.statuses() == {"node's": "Deprecated", "beside": "Approved"}
    held = await region.xds.index.held(home.id, [record.study_uid])
    assert held[record.study_uid].version is None, "Compare finds no version of the node's: it is sent again"


# --- known, not read (D17, D19) -----------------------------------------------------------------------------

_UID = "^^^^urn:ihe:iti:xds:2016:studyInstanceUID"


async def _unread(region: ForeignRegion, question: Any) -> int:
    asked = region.xds.ask.question(
        caller(OPEN, "c", "test"), face="fhir", action="search", question=question
    )
    async with asked as answer:
        return answer.unread


def _patient(number: str = NUMBER) -> ByPatient:
    return ByPatient(patient=PatientSelector(identifiers=(Identifier(number, NHS),)))


@pytest.mark.parametrize(
    "references", [(), (f"1.2.1{_UID}", f"1.2.2{_UID}")], ids=["no study", "two studies"]
)
async def test_a_manifest_that_does_not_say_of_which_study_is_counted_and_warned_of(
    region: ForeignRegion, references: tuple[str, ...]
) -> None:
    one = manifest("which?", references=references)
    reply = await region.register(one)
    (warning,) = reply.errors
    assert (warning.severity, one.entry.entry_uuid in warning.context) == ("Warning", True)
    assert await region.statuses() == {"which?": "Approved"}
    await region.assert_lossless()
    for versions in (False, True):
        assert await _unread(region, replace(_patient(), versions=versions)) == 1
    assert await _unread(region, _patient(nhs(9))) == 0, "another patient's is another patient's"
    nobody_knows = 0 if references else 1  # whose study nobody knows may be any that is asked for
    assert await _unread(region, ByObject(study_uids=("1.2.99",))) == nobody_knows
    assert await _unread(region, ByPopulation(filter=StudyFilter(modalities=("CT",)))) == nobody_knows
    await region.register(manifest("read", study_uid="1.2.1"))
    assert await _unread(region, _patient()) == 1
    await region.register(manifest("read too", study_uid="1.2.2"))
    assert await _unread(region, _patient()) == (0 if references else 1), (
        "of both studies there is a study here"
    )
    await region.update(one, "Deprecated")
    assert await _unread(region, _patient()) == 0
    await region.update(one, "Approved")
    assert await _unread(region, _patient()) == (0 if references else 1)
    await region.remove(one)
    assert await _unread(region, _patient()) == 0


async def test_documents_that_are_not_imaging_do_not_count(region: ForeignRegion) -> None:
    letter = manifest("letter", references=())
    letter.entry = replace(
        letter.entry, format_code=Code("urn:ihe:iti:xds:2017:mimeTypeSufficient", "x"), mime_type="text/plain"
    )
    reply = await region.register(letter)
    assert reply.errors == ()
    assert await _unread(region, _patient()) == 0


async def test_a_report_of_a_study_that_is_not_here_counts_until_it_is(region: ForeignRegion) -> None:
    report = manifest("report", references=(f"1.2.3{_UID}",))
    report.entry = replace(
        report.entry, format_code=Code("urn:ihe:rad:PDF", "x"), mime_type="application/pdf"
    )
    assert (await region.register(report)).errors == ()
    assert await _unread(region, _patient()) == 1
    first = manifest("images", study_uid="1.2.3")
    await region.register(first)
    assert await _unread(region, _patient()) == 0
    await region.remove(first)
    assert await _unread(region, _patient()) == 1


async def _outcome(region: ForeignRegion, **params: str) -> list[dict[str, Any]]:
    bundle = await region.get("fhir/ImagingStudy", **params)
    (outcome,) = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "outcome"]
    return list(outcome["issue"])


KNOWN = "The index holds 1 imaging document"  # of a study that it does not know


@pytest.mark.parametrize("empty", [True, False])
async def test_each_face_says_what_it_knows_and_cannot_list(region: ForeignRegion, empty: bool) -> None:
    who = {"patient.identifier": f"{SYSTEM}|{NUMBER}"}
    if not empty:
        await region.register(manifest("a study"))
    async with region.http.get(f"{region.base}/fhir/ImagingStudy", params=who) as response:
        before = response.headers["ETag"]
    await region.register(manifest("which?", references=()))
    issues = await _outcome(region, **who)
    assert sum(KNOWN in issue["details"]["text"] for issue in issues) == 1
    assert not any("Nothing matches, at any member" in issue["details"]["text"] for issue in issues)
    async with region.http.get(
        f"{region.base}/fhir/ImagingStudy", params=who, headers={"If-None-Match": before}
    ) as response:
        assert response.status == 200, "it is another answer"
    async with region.http.get(f"{region.base}/dicomweb/studies", params={"PatientID": NUMBER}) as response:
        warnings = response.headers.getall("Warning")
    assert sum(KNOWN in warning for warning in warnings) == 1
    assert len(await region.rows()) == (0 if empty else 1)
    if empty:  # of a study that nobody has, and over the whole region: it may be that one
        for params in ({"study-instance-uid": "1.2.99"}, {"modality": "CT"}):
            texts = [issue["details"]["text"] for issue in await _outcome(region, **params)]
            assert any(KNOWN in text for text in texts)
        async with region.http.get(
            f"{region.base}/dicomweb/studies", params={"StudyInstanceUID": "1.2.99"}
        ) as response:
            assert any(KNOWN in warning for warning in response.headers.getall("Warning"))
