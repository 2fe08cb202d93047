"""A foreign source's manifests are read where its address for ITI-43 is known, over HTTP, on both databases
(D17).

The source answers with documents that were written by the standard's own structure; what it does not give
stays unread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from foreign_region import NUMBER, REPOSITORY, manifest
from four_faces import LISTED, UNPROVEN, four_faces
from manifest_source import ManifestSource, kos, manifest_source
from registry_samples import NHS
from xds_registry import CLOCK

from crosslight.runtime.db import Db
from crosslight.standards.problem import CrosslightError
from crosslight.standards.study import Coded
from registry.members.model import Presence

KEY_IMAGES = Coded("113000", "DCM", "Of Interest")


@pytest.fixture
async def source(database: Db) -> AsyncIterator[ManifestSource]:
    async with manifest_source(database) as made:
        yield made


async def _nobody_says_none(source: ManifestSource) -> None:
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


async def test_every_manifest_of_a_study_is_read_and_counted_once(source: ManifestSource) -> None:
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


async def test_series_of_another_study_in_a_manifest_are_not_this_ones(source: ManifestSource) -> None:
    one = source.repository.holds(
        kos("1.2.3", [("1.2.3.1", 3)], beside="1.2.4"), "two in one", study_uid="1.2.3"
    )
    await source.region.register(one)
    await source.read_all()
    (shown,) = await source.region.studies()
    assert [(s["uid"], s["numberOfInstances"]) for s in shown["series"]] == [("1.2.3.1", 3)]


async def test_a_manifest_that_named_no_study_becomes_one_and_keeps_its_entry(source: ManifestSource) -> None:
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


async def test_a_manifest_of_two_studies_stays_a_document(source: ManifestSource) -> None:
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
async def test_a_key_object_note_is_a_document_and_no_study(source: ManifestSource, alone: bool) -> None:
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


async def test_what_is_not_given_or_differs_stays_unread(source: ManifestSource) -> None:
    missing = manifest("missing", references=())
    other = source.repository.holds(kos("1.2.5", [("1.2.5.1", 4)]), "other", references=())
    source.repository.documents[other.entry.unique_id] += b"\0\0"
    await source.region.register(missing, other)
    member = await source.region.xds.foreign(REPOSITORY)
    for key in await source.region.xds.index.unread_documents([member.id], 9):
        with pytest.raises(CrosslightError, match=r"manifest"):
            await source.completion.read_document(key, member)
    assert await source.unread() == 2
