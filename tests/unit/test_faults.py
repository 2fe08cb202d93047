"""A region with faults by seed, on virtual time: everyday seeds, and what the run must see."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from crosslight.runtime.db import Tx
from simulations.faults.invariants import BrokenError, RunRecord, check_answer, check_opening
from simulations.faults.objects import HOSPITALS as CODES
from simulations.faults.objects import NUMBERS, Image
from simulations.faults.plan import FAULTS, WORK, PlannedAct, plan
from simulations.faults.run import RunOutcome, play
from simulations.faults.shrink import shrink

EVERYDAY = range(1, 25)
PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
#: What a run counts of faults that met something.
HAPPENINGS = {
    "cut", "lose", "late", "slow", "crash", "crash registry", "torn", "kill", "full", "full registry", "skew",
    "suspend", "readmit", "limit", "restore node", "restore registry",
}  # fmt: skip
#: SHA-256 of the everyday plans; another one where they were meant to change.
PLANS = "2c7cb651f7809b8d28fa5bbbef17fe706d424ea3d42ef533fd0a5d5a89baa8f0"
IMAGE = Image(person=0, study=1, number=1)


@cache
def played(seed: int) -> RunOutcome:
    """Each seed is played once."""
    return play(seed, plan(seed))


@pytest.mark.parametrize("seed", EVERYDAY)
def test_an_everyday_seed_holds(seed: int) -> None:
    outcome = played(seed)
    assert outcome.broken == "", "\n".join(outcome.trace[-40:])


def test_everyday_seeds_have_every_kind_of_act() -> None:
    kinds = {act.kind for seed in EVERYDAY for act in plan(seed)}
    assert kinds == {*WORK, *FAULTS, "backup"}


def _table() -> dict[str, list[int]]:
    """The documentation's table: fault class -> seeds."""
    rows = re.findall(r"^\| `([a-z ]+)` \|.*\| ([0-9, ]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: [int(seed) for seed in seeds.split(",")] for name, seeds in rows}


def test_the_seeds_of_the_table_do_what_it_says() -> None:
    table = _table()
    assert set(table) == HAPPENINGS
    for name, seeds in table.items():
        assert set(seeds) <= set(EVERYDAY)
        idle = [seed for seed in seeds if not played(seed).happened.get(name)]
        assert not idle, f"nothing happens of {name} in {idle}"


def _digest(hash_seed: str, **around: str) -> str:
    program = (
        "import hashlib; from simulations.faults.plan import plan; from simulations.faults.run import play;"
        "print(hashlib.sha256('\\n'.join(play(5, plan(5)).trace).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, **around},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.split()[-1]


def test_one_seed_is_one_trace_whatever_the_process_and_its_surroundings(tmp_path: Path) -> None:
    elsewhere = _digest("2", TMPDIR=str(tmp_path), TZ="Asia/Kathmandu", LC_ALL="C", HOME="/nowhere")
    assert _digest("1") == elsewhere
    traced = "\n".join(played(5).trace)
    assert hashlib.sha256(traced.encode()).hexdigest() == elsewhere, "not the first run of its process"


def test_a_plan_is_the_same_on_every_machine() -> None:
    """Python's own dice, whose numbers do not change: a seed in a report stands for one story."""
    stories = "\n".join(str(act) for seed in EVERYDAY for act in plan(seed))
    assert hashlib.sha256(stories.encode()).hexdigest() == PLANS


def test_a_plan_is_shrunk_to_what_it_needs_to_fail() -> None:
    acts = plan(3)
    needed = {acts[4], acts[11]}
    assert set(shrink(acts, lambda fewer: needed <= set(fewer))) == needed
    assert shrink(acts, lambda fewer: False) == acts


def _bundle(*study_uids: str, severity: str = "") -> dict[str, object]:
    entries: list[dict[str, object]] = [
        {"resource": {"resourceType": "ImagingStudy", "identifier": [{"value": f"urn:oid:{uid}"}]}}
        for uid in study_uids
    ]
    if severity:
        issue = {"severity": severity, "code": "incomplete"}
        entries.append({"resource": {"resourceType": "OperationOutcome", "issue": [issue]}})
    return {"entry": entries}


def test_an_answer_that_claims_too_much_breaks_the_run() -> None:
    record = RunRecord()
    record.stored(IMAGE, CODES[0], 100.0)
    check_answer(record, 0, _bundle(IMAGE.study_uid), 500.0)
    check_answer(record, 0, _bundle(), 110.0)  # its node may not have told of it yet
    check_answer(record, 0, _bundle(severity="warning"), 500.0)
    with pytest.raises(BrokenError, match="claims to be complete"):
        check_answer(record, 0, _bundle(severity="information"), 500.0)
    with pytest.raises(BrokenError, match=f"listed for {NUMBERS[1]}, whose it is not"):
        check_answer(record, 1, _bundle(IMAGE.study_uid), 110.0)


def test_opening_at_a_suspended_member_breaks_the_run() -> None:
    record = RunRecord(suspended={CODES[0]: 100.0})
    check_opening(record, IMAGE, CODES[0], 200, 103.0)
    check_opening(record, IMAGE, CODES[0], 403, 200.0)
    check_opening(record, IMAGE, CODES[1], 200, 200.0)
    with pytest.raises(BrokenError, match="was opened"):
        check_opening(record, IMAGE, CODES[0], 200, 200.0)


def test_a_study_that_is_lost_breaks_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that acknowledges and does not keep: the switch is here, never in the product."""
    from node.archive.store import ArchiveStore

    kept = ArchiveStore.ingest_many_tx

    def forgetful(self: ArchiveStore, tx: Tx, group: Any) -> Any:
        outcomes = kept(self, tx, group)
        for header, _ in group:
            if header.sop_uid.endswith(".2"):
                tx.execute("DELETE FROM instance WHERE sop_uid = ?", (header.sop_uid,))
        return outcomes

    monkeypatch.setattr(ArchiveStore, "ingest_many_tx", forgetful)
    image = replace(IMAGE, number=2)
    acts = [PlannedAct(1.0, "store", CODES[0], IMAGE), PlannedAct(2.0, "store", CODES[0], image)]
    assert f"acknowledged {image.sop_uid} and does not hold it" in play(1, acts).broken


def test_the_digest_of_a_trace_is_of_its_lines() -> None:
    """Two seeds are two stories."""
    first, other = (hashlib.sha256("\n".join(play(seed, plan(seed)[:3]).trace).encode()) for seed in (1, 2))
    assert first.digest() != other.digest()
