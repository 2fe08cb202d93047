"""Retention rules and legal holds: nothing goes that no rule lets go, and a hold beats every way of going."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import OWN, Held, held
from pydicom.dataset import Dataset

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import ConfigError, Conflict, NotFound
from node.archive.config import RetentionRule
from node.archive.retention import PAGE, DueStudy, Survey

OLD, YOUNG = "1.2.70", "1.2.71"
ADULTS = RetentionRule(name="adults", keep_years=8)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path, retention=(ADULTS,)) as made:
        await made.put(make.image(1, study=OLD, StudyDate="20100101"))
        await made.put(make.image(2, study=OLD, StudyDate="20100101"))
        await made.put(make.image(1, study=YOUNG, StudyDate=f"{datetime.now(UTC):%Y%m%d}"))
        yield made


async def due(here: Held, survey: Survey | None = None) -> list[DueStudy]:
    return [one async for one in here.archive.retention.due(survey)]


async def hold(here: Held, **what: Any) -> int:
    placed, _ = await here.archive.holds.add("command line: Jo", "a claim", **what)
    return placed.id


# --- retention ----------------------------------------------------------------------------------------------


async def test_without_a_rule_nothing_goes(tmp_path: Path) -> None:
    async with held(tmp_path) as here:
        await here.put(make.image(1, StudyDate="19700101"))
        assert await due(here) == []


async def test_what_is_due_is_counted_by_rule_and_all_else_too(here: Held) -> None:
    await here.put(make.image(1, study="1.2.72", StudyDate=""))
    survey = Survey()
    (one,) = await due(here, survey)
    assert (one.study.study_uid, one.until, one.study.instances) == (OLD, date(2018, 1, 1), 2)
    tally = survey.due["adults"]
    assert (tally.studies, tally.instances, tally.first) == (1, 2, date(2018, 1, 1))
    assert tally.size_bytes == sum(o.ref.size_bytes for o in await here.archive.objects(OLD))
    assert (survey.kept.studies, survey.undated.studies, survey.held.studies) == (1, 1, 0)
    assert len(await here.archive.objects(OLD)) == 2, "looking deletes nothing"


async def test_it_goes_into_the_bin_and_comes_back_from_there(here: Held) -> None:
    (one,) = await due(here)
    before = await here.archive.mark(OLD)
    assert await here.archive.retention.delete(one) == 2
    assert await here.archive.objects(OLD) == []
    after = await here.archive.mark(OLD)
    assert before is not None
    assert after is not None
    assert after.change == before.change + 1, "the index follows"
    (entry,) = await here.archive.bin()
    assert entry.reason == "retention rule adults: kept until 2018-01-01"
    assert await due(here) == []
    assert await here.archive.restore(OLD) == 2


async def test_a_study_that_changes_between_the_look_and_the_deletion_stays(here: Held) -> None:
    (one,) = await due(here)
    for n in range(3, 6):  # more instances say now that it is of today
        await here.put(make.image(n, study=OLD, StudyDate=f"{datetime.now(UTC):%Y%m%d}"))
    with pytest.raises(Conflict, match="has changed"):
        await here.archive.retention.delete(one)
    assert len(await here.archive.objects(OLD)) == 5


async def test_a_study_that_is_opened_is_kept_from_then_on(tmp_path: Path) -> None:
    opened = RetentionRule(name="opened", keep_years=3, counted_from="opened")
    async with held(tmp_path, retention=(opened,)) as here:
        for study in (OLD, YOUNG):
            await here.put(make.image(1, study=study))
        here.clock.ahead = timedelta(days=2 * 366)
        (stored,) = await here.archive.objects(YOUNG)
        await here.archive.open_object(stored)
        here.clock.ahead = timedelta(days=4 * 366)
        assert [one.study.study_uid for one in await due(here)] == [OLD]
    async with held(tmp_path, retention=(opened,)) as here:
        here.clock.ahead = timedelta(days=4 * 366)
        assert [one.study.study_uid for one in await due(here)] == [OLD], "it was written down"
        here.clock.ahead = timedelta(days=6 * 366)
        assert [one.study.study_uid for one in await due(here)] == [OLD, YOUNG]


async def test_what_was_opened_before_anybody_noted_it_counts_from_the_first_note(tmp_path: Path) -> None:
    opened = RetentionRule(name="opened", keep_years=1, counted_from="opened")
    async with held(tmp_path, retention=(opened,)) as here:
        await here.put(make.image(1), unix=datetime(2010, 1, 1, tzinfo=UTC).timestamp())
        assert await due(here) == []
        here.clock.ahead = timedelta(days=400)
        assert len(await due(here)) == 1


async def test_a_study_that_is_partly_elsewhere_stays(here: Held) -> None:
    def elsewhere(tx: Tx) -> None:
        tx.execute("UPDATE instance SET sha256 = x'' WHERE study_uid = ? AND number = '1'", (OLD,))

    await here.settle()
    await here.db.write("elsewhere", elsewhere)
    survey = Survey()
    assert await due(here, survey) == []
    assert survey.elsewhere.studies == 1


async def test_more_studies_than_a_page(here: Held) -> None:
    for n in range(PAGE + 3):
        await here.put(make.image(1, study=f"1.3.{n}", StudyDate="20100101"))
    assert len({one.study.study_uid for one in await due(here)}) == PAGE + 4


def test_rules_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a name of its own"):
        Held(tmp_path, retention=(ADULTS, ADULTS))


# --- holds --------------------------------------------------------------------------------------------------

ALL: dict[str, Any] = {}
KINDS = pytest.mark.parametrize(
    "what",
    [
        {"study_uid": OLD},
        {"patient": Identifier("L001")},
        {"patient": Identifier("L001", OWN)},
        ALL,
    ],
    ids=["study", "patient", "patient of an authority", "all"],
)


@KINDS
async def test_a_hold_beats_every_way_of_going(here: Held, what: dict[str, Any]) -> None:
    (one,) = await due(here)
    number = await hold(here, **what)
    survey = Survey()
    assert await due(here, survey) == []
    assert (survey.held.studies, survey.held.instances) == (1, 2)
    with pytest.raises(Conflict, match="legal hold"):
        await here.archive.retention.delete(one)
    with pytest.raises(Conflict, match="legal hold") as refused:
        await here.archive.delete(OLD, "by hand")
    assert f"Hold {number}" in refused.value.why
    assert len(await here.archive.objects(OLD)) == 2
    await here.archive.holds.lift(number, "command line: Jo", "settled")
    assert await here.archive.delete(OLD, "by hand") == 2


@KINDS
async def test_what_is_in_the_bin_is_not_purged_while_it_is_held(here: Held, what: dict[str, Any]) -> None:
    await here.archive.delete(OLD, "by hand")
    number = await hold(here, **what)
    here.clock.ahead = timedelta(days=31)
    assert await here.archive.purge() == 0
    assert len(here.object_files()) == 3
    assert await here.archive.restore(OLD) == 2, "whole"
    await here.archive.holds.lift(number, "command line: Jo", "settled")
    await here.archive.delete(OLD, "by hand")
    here.clock.ahead = timedelta(days=63)
    assert await here.archive.purge() == 2


async def test_a_hold_keeps_nothing_else(here: Held) -> None:
    await hold(here, study_uid=YOUNG)
    await hold(here, patient=Identifier("L002"))
    assert await here.archive.delete(OLD, "by hand") == 2
    with pytest.raises(Conflict):
        await here.archive.delete(YOUNG, "by hand")


async def test_a_number_of_another_issuer_is_another_patient_s(here: Held) -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = OWN, "ISO"
    named = make.image(1, study="1.2.73", IssuerOfPatientIDQualifiersSequence=[issuer])
    await here.put(named)
    await hold(here, patient=Identifier("L001", "1.2.3.4"))
    assert await here.archive.delete("1.2.73", "by hand") == 1
    with pytest.raises(Conflict):
        await here.archive.delete(OLD, "by hand")  # nobody said who issued it: in doubt it is kept


async def test_a_patient_is_held_by_any_header_of_the_study_and_rejected_ones_too(here: Held) -> None:
    odd = make.image(3, study=OLD, StudyDate="20100101", PatientID="X 9")
    await here.put(odd)
    await here.put(make.note("113001", [odd]))
    await hold(here, patient=Identifier("X 9"))
    with pytest.raises(Conflict):
        await here.archive.delete(OLD, "by hand")


async def test_a_hold_that_comes_while_a_purge_is_at_work_is_told(here: Held) -> None:
    await here.archive.delete(OLD, "by hand")
    await here.db.write("purging", lambda tx: tx.execute("UPDATE bin SET purging = 1"))
    _, going = await here.archive.holds.add("Jo", "a claim", study_uid=OLD)
    _, of_others = await here.archive.holds.add("Jo", "a claim", study_uid=YOUNG)
    assert (going, of_others) == (1, 0)
    here.clock.ahead = timedelta(days=31)
    assert await here.archive.purge() == 0, "and what is left stays"


async def test_a_hold_is_lifted_once_and_stays_in_the_list(here: Held) -> None:
    number = await hold(here, study_uid=OLD)
    lifted = await here.archive.holds.lift(number, "command line: Al", "settled")
    assert (lifted.lifted_by, lifted.lifted_why) == ("command line: Al", "settled")
    with pytest.raises(NotFound):
        await here.archive.holds.lift(number, "x", "y")
    with pytest.raises(NotFound):
        await here.archive.holds.one(number)
    assert await here.archive.holds.all() == []
    (kept,) = await here.archive.holds.all(lifted=True)
    assert (kept.id, kept.study_uid, kept.reason, kept.placed_by) == (
        number,
        OLD,
        "a claim",
        "command line: Jo",
    )


async def test_holds_come_along_in_a_backup(here: Held, tmp_path: Path) -> None:
    from crosslight.runtime.backup_files import Vault
    from node.archive import backup

    await hold(here, patient=Identifier("L001"))
    await here.archive.backup(tmp_path / "backup")
    again = tmp_path / "again"
    backup.restore(tmp_path / "backup", again / "node.sqlite", again / "archive", Vault(here.files))
    async with held(again, retention=(ADULTS,)) as restored:
        assert await due(restored) == []
        with pytest.raises(Conflict):
            await restored.archive.delete(OLD, "by hand")
