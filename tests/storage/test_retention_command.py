"""``crosslight-node retention`` and ``hold``, as the PACS manager runs them, and the node's own daily run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import Held, held
from click.testing import CliRunner, Result
from node_serving import ct, part10

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import system_seams
from crosslight.standards.dicom.query.commitment import COMMITTED, CommitmentReport
from node.__main__ import main
from node.archive.config import ArchiveConfig, RetentionRule
from node.care import ArchiveCare
from node.commitment.store import CommitmentStore

OLD, NEW, ODD = "1.2.1", "1.2.2", "1.2.3"
RULES = """
[[archive.retention]]
name = "adults"
keep_years = 8
until_age_years = 25

[[archive.retention]]
name = "mammography"
modalities = ["MG"]
keep_years = 15
"""
Run = Callable[..., Result]


@pytest.fixture
def node(tmp_path: Path) -> Run:
    folder, pile = tmp_path / "node", tmp_path / "pile"
    pile.mkdir()
    for study, day in ((OLD, "20100101"), (NEW, "20260101"), (ODD, "")):
        image = ct(study, f"{study}.1", f"{study}.1.1")
        image.StudyDate = day
        (pile / study).write_bytes(part10(image))
    assert CliRunner().invoke(main, ["init", str(folder)]).exit_code == 0

    def run(*words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, ["--dir", str(folder), "--as", "Jo", *words])
        assert result.exit_code == status, result.output
        return result

    run("import", str(pile))
    (folder / "node.toml").write_text((folder / "node.toml").read_text() + RULES)
    return run


async def acts(folder: Path, *actions: str) -> list[Audited]:
    """What the audit has of these, oldest first."""
    db = SqliteDb(folder / "audit.db")
    audit = AuditLog(db, SystemClock())
    await audit.open()
    found = [act for act in await audit.search() if act.action in actions]
    await db.close()
    return found[::-1]


def test_it_is_shown_first_and_then_done(node: Run, tmp_path: Path) -> None:
    shown = node("retention", "--list").output
    assert f"{OLD} 1 instance: retention rule adults: kept until 2018-01-01" in shown
    row = next(line for line in shown.splitlines() if "adults" in line and "│" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][4:6] == ["1", "1"]
    assert "1 study kept for want of a date" in shown
    assert "1 study kept by a rule for longer." in shown
    assert "Nothing was deleted. With --apply" in shown
    assert "2 rules, applied only by crosslight-node retention --apply" in node("status").output
    assert "1 study is in the bin, for 30 days" in node("retention", "--apply").output
    assert f"bin: {OLD} 1 instance" in node("status").output
    node("undelete", OLD)
    assert "1 study is in the bin" in node("retention", "--apply", "--most", "1").output
    done = asyncio.run(acts(tmp_path / "node", "delete"))
    assert [(act.studies, act.query["rule"], act.text) for act in done] == [
        ((OLD,), "adults", "ok 1 instances")
    ] * 2
    assert done[0].who.name == "command line: Jo"
    assert done[0].patients


def test_a_hold_is_placed_shown_obeyed_and_lifted(node: Run, tmp_path: Path) -> None:
    said = node("hold", "add", "--study", OLD, "--reason", "claim 77/2026").output
    assert f"Hold 1 stands: study {OLD}." in said
    assert (
        "Hold 2 stands: patient L-1." in node("hold", "add", "--patient", "L-1", "--reason", "inquiry").output
    )
    listed = node("hold", "list").output
    for text in (OLD, "claim 77/2026", "patient L-1", "command line: Jo"):
        assert text in listed
    assert "2 holds: crosslight-node hold list" in node("status").output
    assert "1 study due, and kept by a legal hold" in node("retention", "--apply").output
    for words in (
        ("delete", NEW, "--reason", "x"),
        ("reject", NEW, "--reason", "expired"),
    ):
        refused = node(*words, status=1).output
        assert "legal hold" in refused, words
        assert "hold remove 2" in " ".join(refused.split()), words
    refused = node("withdraw", OLD, "--reason", "x", status=1).output
    assert f"{OLD} stays in the index: it is under the legal hold 1." in refused
    node("hold", "remove", "9", "--reason", "x", status=1)
    assert "Hold 2 is lifted: patient L-1." in node("hold", "remove", "2", "--reason", "settled").output
    assert "1 instance is in the bin" in node("delete", NEW, "--reason", "x").output
    lifted = node("hold", "list", "--lifted").output
    assert "settled" in lifted
    assert "settled" not in node("hold", "list").output
    done = asyncio.run(acts(tmp_path / "node", "hold", "lift-hold"))
    assert [(act.action, act.query) for act in done] == [
        ("hold", {"reason": "claim 77/2026"}),
        ("hold", {"reason": "inquiry"}),
        ("lift-hold", {"reason": "settled", "hold": 2}),
    ]
    assert (done[0].studies, done[1].patients) == ((OLD,), done[2].patients)
    assert all(act.patients for act in done)


@pytest.mark.parametrize("words", [(), ("--all", "--study", OLD), ("--patient", "1", "--all")])
def test_a_hold_is_of_one_kind(node: Run, words: tuple[str, ...]) -> None:
    node("hold", "add", *words, "--reason", "x", status=2)


def test_all_is_held(node: Run) -> None:
    assert "Hold 1 stands: all studies." in node("hold", "add", "--all", "--reason", "an inquiry").output
    node("delete", ODD, "--reason", "x", status=1)


def test_without_a_rule_it_says_so(node: Run, tmp_path: Path) -> None:
    config = tmp_path / "node" / "node.toml"
    config.write_text(config.read_text().replace(RULES, ""))
    assert "nothing is ever deleted by itself" in node("retention", "--apply").output
    assert "no rule: nothing is deleted by itself" in node("status").output


def test_a_rule_may_wait_for_a_destination_to_commit(node: Run, tmp_path: Path) -> None:
    config = tmp_path / "node" / "node.toml"
    rules = config.read_text().replace("until_age_years = 25", 'committed_to = "DEEP"')
    config.write_text(rules)
    refused = node("retention", status=1).output
    assert "The retention rule adults waits for DEEP, which is no destination." in refused
    config.write_text(rules + '\n[[dimse.destinations]]\nae_title = "DEEP"\nhost = "pacs"\nport = 104\n')
    shown = node("retention", "--apply").output
    assert "1 study due, and kept: committed_to has not committed to all of it" in shown
    assert "0 studies are in the bin" in shown

    async def commit() -> None:
        db = SqliteDb(tmp_path / "node" / "node.db")
        store = CommitmentStore(db, SystemClock())
        await store.open()
        await store.ask("1.9.1", "DEEP", OLD, [f"{OLD}.1.1"])
        verdicts = {f"{OLD}.1.1": COMMITTED}
        await store.report("DEEP", CommitmentReport(transaction_uid="1.9.1", verdicts=verdicts))
        await db.close()

    asyncio.run(commit())
    assert "1 study is in the bin" in node("retention", "--apply").output


# --- by itself ----------------------------------------------------------------------------------------------

ADULTS = RetentionRule(name="adults", keep_years=8)


async def _care(here: Held, **settings: Any) -> tuple[ArchiveCare, AuditLog]:
    audit = AuditLog(here.db, here.clock)
    await audit.open()
    seams = replace(system_seams(), clock=here.clock)
    config = ArchiveConfig(**{"retention": (ADULTS,), **settings})
    return ArchiveCare(here.archive, audit, seams, config), audit


async def test_a_node_deletes_nothing_by_itself_unless_it_is_told_to(tmp_path: Path) -> None:
    async with held(tmp_path, retention=(ADULTS,)) as here:
        await here.put(make.image(1, StudyDate="20100101"))
        care, _ = await _care(here)
        await care.apply_retention()
        assert len(await here.archive.objects(make.STUDY)) == 1
        care, audit = await _care(here, retention_daily=True)
        await care.apply_retention()
        assert await here.archive.objects(make.STUDY) == []
        (act,) = await audit.search(study=make.STUDY)
        assert (act.who.subject, act.action, act.query["rule"]) == ("node", "delete", "adults")
        assert act.text == "ok 1 instances"


async def test_a_day_has_its_bound(tmp_path: Path) -> None:
    async with held(tmp_path, retention=(ADULTS,)) as here:
        for n in range(5):
            await here.put(make.image(1, study=f"1.2.{n}", StudyDate="20100101"))
        care, _ = await _care(here, retention_daily=True, retention_most=2)
        for hours, gone in ((0, 2), (6, 2), (24, 4), (30, 4), (48, 5)):
            here.clock.ahead = timedelta(hours=hours)
            await care.apply_retention()
            assert (care.deleted, len(await here.archive.bin())) == (gone, gone)
