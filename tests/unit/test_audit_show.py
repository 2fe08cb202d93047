"""The audit and the members as the commands show them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import orjson
import pytest
from members_region import CLOCK, registry
from rich.console import Console

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.audit.show import audit_lines, audit_table, parse_patient
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.terminal import WIDTH, make_console
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid
from registry.members.show import identifiers_table, members_table

ANN = Principal(subject="person:ann", name="Dr Ann", roles=frozenset({"clinician"}), organisation="RA2")
PATIENT = Identifier("9990000018", "2.16.840.1.113883.2.1.4.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9990000018", Identifier("9990000018")), ("999 000 0018", Identifier("9990000018")),
        (" 999-000-0018 ", Identifier("9990000018")),
        ("1.2.3|X 1", Identifier("X 1", "1.2.3")), ("RTK-17a", Identifier("RTK-17a")),
    ],
)  # fmt: skip
def test_patients_as_operators_write_them(text: str, expected: Identifier) -> None:
    assert parse_patient(text) == expected


@pytest.mark.parametrize("text", ["", " ", "1.2.3|", "abc|1", "|"])
def test_patients_that_are_none(text: str) -> None:
    with pytest.raises(Invalid):
        parse_patient(text)


def shown(renderable: object) -> str:
    out = io.StringIO()
    Console(file=out, width=250, color_system=None).print(renderable)
    return out.getvalue()


async def test_a_patients_audit_names_who_why_and_how_it_ended(tmp_path: Path) -> None:
    db = SqliteDb(tmp_path / "a.sqlite")
    audit = AuditLog(db, CLOCK)
    await audit.open()
    seen = AuditEntry(
        principal=ANN,
        face="portal",
        action="search",
        decision="permit",
        rule="r",
        correlation="c-1",
        patients=(PATIENT,),
        studies=("1.2",),
    )
    cut = AuditEntry(
        principal=ANN, face="gateway", action="retrieve", decision="permit", rule="r", correlation="c-2", patients=(PATIENT,)
    )
    denied = AuditEntry(
        principal=ANN, face="xds", action="publish", decision="deny", rule="no role", correlation="c-3", patients=(PATIENT,)
    )
    for entry in (seen, cut, denied):
        await audit.begin(entry)
    await audit.end(seen, "ok 1")
    await audit.end(denied, "denied")
    entries = await audit.search(patient=parse_patient("999 000 0018"))
    text = shown(audit_table(entries))
    for part in ("Dr Ann", "person:ann", "RA2", "TREAT", "ok 1", "cut off", "deny: no role", "c-2"):
        assert part in text
    assert [orjson.loads(line)["correlation"] for line in audit_lines(entries)] == ["c-3", "c-2", "c-1"]
    assert await audit.search(patient=parse_patient("9990000026")) == []
    await db.close()


async def test_members_table(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.joined("RTK", tmp_path / "n")
        await r.invite("RA2")
        await r.members.suspend("RTK", "lost")
        text, oids = shown(members_table(r.members)), shown(identifiers_table(r.members))
    for part in ("RTK", "RTK Hospitals", "suspended: lost", "RA2", "invited"):
        assert part in text
    for what, end in (("repositoryUniqueId", ".10.1.1 "), ("retrieveLocationUID", ".10.1.2 ")):
        assert any("RTK" in line and what in line and end in line for line in oids.splitlines())


def test_tables_in_a_pipe_keep_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert make_console().width == WIDTH
