"""``docs/threats.md`` is data: every row says what holds it, and by which test, or that nothing does."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: The findings of the review that are not wholly mended: whoever mends one takes it out here and there.
FINDINGS: set[str] = set()
_PROOF = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


class Threat(NamedTuple):
    """A row."""

    id: str
    edge: str
    threat: str
    control: str
    state: str
    owed: str
    proof: str


@cache
def threats() -> list[Threat]:
    """The rows of the table."""
    lines = [
        line
        for line in (ROOT / "docs" / "threats.md").read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["Id", "Edge", "Threat", "Control", "State", "Owed", "Proof"]
    return [Threat(*row) for row in rows[2:]]


@cache
def proven() -> set[tuple[str, str]]:
    """Every test function with its file."""
    found: set[tuple[str, str]] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        found |= {(path.name, function.name) for function in functions}
    return found


def test_every_test_that_a_threat_names_exists() -> None:
    named = [(threat.id, proof) for threat in threats() for proof in _PROOF.findall(threat.proof)]
    assert len(named) > 100
    assert [f"{id_}: {file}::{test}" for id_, (file, test) in named if (file, test) not in proven()] == []


def test_every_threat_is_held_by_a_test_or_said_to_be_open() -> None:
    wrong = {
        threat.id: threat.state for threat in threats() if threat.state not in ("held", "partly", "open")
    }
    assert wrong == {}
    for threat in threats():
        proofs = _PROOF.findall(threat.proof)
        assert (threat.state == "open") == (not proofs), f"{threat.id} is {threat.state} by {proofs}"
        assert threat.threat, threat.id
        assert threat.control, threat.id
        assert not (threat.state == "held" and threat.owed), f"{threat.id} owes nothing, or is held in part"
        assert not (threat.state == "open" and not threat.owed), f"{threat.id} is open: say what is owed"
        # Nothing else stands in the cell, so no proof is passed over for its spelling.
        assert not _PROOF.sub("", threat.proof).strip("; "), threat.proof


def test_every_row_has_a_name_of_its_own() -> None:
    ids = [threat.id for threat in threats()]
    assert sorted(set(ids)) == sorted(ids)


def test_every_finding_of_the_review_stands_in_a_row() -> None:
    owed = {finding for threat in threats() for finding in threat.owed.split()}
    assert owed == FINDINGS
