"""The audit and the members as the commands show them."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from callers import caller, operator
from members_region import CLOCK, registry
from rich.console import Console

from crosslight.runtime.audit import About, Audited, AuditLog
from crosslight.runtime.audit.command import asked, print_audit
from crosslight.runtime.audit.printing import audit_csv, audit_lines, audit_table, parse_patient
from crosslight.runtime.audit.query import Selection, moment
from crosslight.runtime.db import Db, SqliteDb
from crosslight.runtime.terminal import WIDTH, make_console
from crosslight.standards.access import Decision, Principal
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Forbidden, Invalid, MemberUnreachable, StorageError
from registry.members.model import Presence
from registry.members.printing import (
    certificate_text,
    identifiers_table,
    index_lines,
    link_text,
    members_table,
)

ANN = Principal(subject="person:ann", name="Dr Ann", roles=frozenset({"clinician"}), organisation="RA2")
ALLOWED = Decision(True, "r")
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
    about = About(patients=(PATIENT,), studies=("1.2",))
    async with audit.act(caller(ANN, "c-1"), "portal", "search", about, decision=ALLOWED) as act:
        act.done(given=1)
    cut = audit.act(caller(ANN, "c-2"), "gateway", "retrieve", About(patients=(PATIENT,)), decision=ALLOWED)
    await cut.begin()
    with pytest.raises(Forbidden):
        async with audit.act(
            caller(ANN, "c-3"),
            "xds",
            "publish",
            About(patients=(PATIENT,)),
            decision=Decision(False, "no role"),
        ):
            pass
    entries = await audit.search(patient=parse_patient("999 000 0018"))
    text = shown(audit_table(entries))
    for part in (
        "Dr Ann",
        "person:ann",
        "RA2",
        "TREAT",
        "done: 1 given",
        "cut off",
        "REFUSED: no role",
        "c-2",
    ):
        assert part in text
    assert [orjson.loads(line)["correlation"] for line in audit_lines(entries)] == ["c-3", "c-2", "c-1"]
    assert await audit.search(patient=parse_patient("9990000026")) == []
    await db.close()


async def _filled(audit: AuditLog) -> None:
    """One opening of 30 pictures by Ann, and acts of others."""
    bob = Principal(subject="person:bob", name="[bold]Bob[/bold]\x1b[2J\nroot", organisation="RTK")
    for number in range(30):
        about = About(patients=(PATIENT,), studies=("1.2",))
        async with audit.act(
            caller(ANN, f"a-{number}"), "portal", "retrieve", about, decision=ALLOWED
        ) as act:
            act.done(given=1)
    for number in range(5):
        with suppress(Forbidden, MemberUnreachable):
            decision = Decision(number != 0, "no role")
            async with audit.act(
                caller(bob, f"b-{number}"), "fhir", "search", About(patients=(PATIENT,)), decision=decision
            ):
                raise MemberUnreachable("x")


@pytest.fixture
async def audit(database: Db) -> AuditLog:
    made = AuditLog(database, CLOCK)
    await made.open()
    await _filled(made)
    return made


@pytest.mark.parametrize("asked_for", ["member:RTK", "spiffe://1.2.3/member/RTK"])
async def test_acts_are_found_by_the_name_of_any_release(database: Db, asked_for: str) -> None:
    log = AuditLog(database, CLOCK)
    await log.open()
    for subject in (
        "member:RTK",
        "spiffe://1.2.3/member/RTK",
        "member:RTK2",
        "spiffe://1.2.3/system/RTK",
        "",
    ):
        who = Principal(subject=subject, roles=frozenset({"member"}))
        async with log.act(caller(who, f"of {subject}"), "hl7", "feed"):
            pass
    found = await log.select(Selection(user=asked_for), 10)
    assert {entry.who.subject for entry in found} == {"member:RTK", "spiffe://1.2.3/member/RTK"}
    assert await log.count(Selection(user="person:ann")) == 0


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), 35),
        (Selection(patient=PATIENT), 35),
        (Selection(user="person:ann"), 30),
        (Selection(user="Dr Ann"), 30),
        (Selection(user="Dr"), 0),
        (Selection(organisation="RTK"), 5),
        (Selection(decision="deny"), 1),
        (Selection(organisation="RTK", decision="permit"), 4),
        (Selection(study="1.2"), 30),
        (Selection(correlation="b-3"), 1),
        (Selection(since=moment("2020-01-01"), until=moment("2020-01-02", end=True)), 0),
        (Selection(since="2020-01-01"), 35),
        (Selection(user="person:%"), 0),
        (Selection(patient=Identifier("9990000026")), 0),
    ],
)
async def test_acts_are_selected_and_counted(audit: AuditLog, selection: Selection, count: int) -> None:
    assert await audit.count(selection) == count
    assert len(await audit.select(selection, 100)) == count
    pages = [page async for page in audit.pages(selection, 7)]
    seqs = [entry.seq for page in pages for entry in page]
    assert len(seqs) == count
    assert seqs == sorted(seqs, reverse=True), "each once, newest first"


async def test_a_table_that_is_not_whole_says_so(audit: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(width: int = 80) -> Console:
        return Console(file=sys.stdout, width=width, color_system=None)

    options = {
        "patient": "",
        "user": "",
        "organisation": "",
        "study": "",
        "since": "",
        "until": "",
        "action": None,
        "decision": None,
        "limit": 10,
        "before": None,
        "as_json": False,
        "as_csv": False,
    }
    await print_audit(audit, asked(**options), printed(), operator())  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "10 of 35 acts" in text
    before = int(text.split("--before ")[1].split()[0])
    assert "25 older acts are not shown" in text
    await print_audit(audit, asked(**{**options, "before": before, "limit": 100}), printed(), operator())  # type: ignore[arg-type]
    assert "25 of 36 acts" in capsys.readouterr().out
    await print_audit(audit, asked(**{**options, "limit": 100}), printed(), operator())  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "37 acts" in text, "two of them are that it was read"
    assert "not shown" not in text
    assert "30 times" in text, "one opening is one line"
    assert "[bold]Bob[/bold]" in text, "a name is text"
    assert chr(27) not in text
    assert "\\x1b" in text, "controls are shown, and do nothing"
    assert "failed: member unreachable" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    await print_audit(audit, asked(**{**options, "as_csv": True}), printed(), operator())  # type: ignore[arg-type]
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 38, "every act"
    assert rows[-1]["name"] == "Dr Ann"
    assert {row["decision"] for row in rows} == {"permit", "deny"}


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("", False, ""), ("2026-11-30", False, "2026-11-30"), ("2026-11-30", True, "2026-12-01"),
        ("2026-11-30 14:30", True, "2026-11-30T14:30"), ("2026-12-31", True, "2027-01-01"),
    ],
)  # fmt: skip
def test_days(text: str, end: bool, expected: str) -> None:
    assert moment(text, end=end) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-13-01", "2026-11-31", "20261130", "30.11.2026", "9999-12-31", "2026-11"]
)
def test_days_that_are_none(text: str) -> None:
    with pytest.raises(Invalid):
        moment(text, end=True)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_no_cell_is_a_formula(text: str) -> None:
    entry = Audited(
        seq=1,
        at="x",
        who=Principal(subject=text),
        face="f",
        action="a",
        decision="permit",
        rule="",
        text="ok",
        peer="",
        query={},
        correlation="c",
    )
    assert f"'{text}" in audit_csv([entry])


async def test_members_table(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.joined("RTK", tmp_path / "n")
        await r.invite("RA2")
        await r.members.suspend("RTK", "lost")
        ends = await r.members.store.credentials.certificate_ends()
        text, oids = shown(members_table(r.members, ends, CLOCK.now())), shown(identifiers_table(r.members))
        narrow = io.StringIO()
        Console(file=narrow, width=80, color_system=None).print(members_table(r.members, ends, CLOCK.now()))
    assert max(map(len, narrow.getvalue().splitlines())) <= 80
    assert "RTK Hospitals" in narrow.getvalue()
    assert "certificate ends" in text
    assert "never linked" in text
    for part in ("RTK", "RTK Hospitals", "suspended: lost", "RA2", "invited"):
        assert part in text
    for what, end in (("repositoryUniqueId", ".10.1.1 "), ("retrieveLocationUID", ".10.1.2 ")):
        assert any("RTK" in line and what in line and end in line for line in oids.splitlines())


NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
A_MEMBER = MemberId(1)


@pytest.mark.parametrize(
    ("presence", "words"),
    [
        (Presence(member=A_MEMBER, reachable=False), "never linked"),
        (Presence(member=A_MEMBER, reachable=True, last_heard=NOON), "up"),
        (Presence(member=A_MEMBER, reachable=True, last_heard=NOON, skew_ms=1999), "up"),
        (Presence(member=A_MEMBER, reachable=True, last_heard=NOON, skew_ms=-2500), "up, clock off by -2 s"),
        (
            Presence(member=A_MEMBER, reachable=True, last_heard=NOON, skew_ms=90_000, clock_wrong=True),
            "up, clock off by +90 s: its images are not opened",
        ),
        (Presence(member=A_MEMBER, reachable=False, last_heard=NOON, since=NOON), "lost 2026-11-30 12:00:00"),
        (
            Presence(
                member=A_MEMBER,
                reachable=False,
                last_heard=NOON,
                since=NOON,
                trouble="The node does not read.",
            ),
            "lost 2026-11-30 12:00:00: The node does not read.",
        ),
    ],
)
def test_links_in_words(presence: Presence, words: str) -> None:
    assert link_text(presence) == words


@pytest.mark.parametrize(
    ("presence", "lines"),
    [
        (Presence(member=A_MEMBER, reachable=True), ["waiting 0, refused 0, in quarantine 0", "epoch 3"]),
        (
            Presence(
                member=A_MEMBER, reachable=True, studies=1, waiting=2, parked=3, quarantined=4, filling=True
            ),
            ["1 study", "waiting 2, refused 3, in quarantine 4", "filling", "epoch 3"],
        ),
        (
            Presence(member=A_MEMBER, reachable=True, studies=0, census_equal=False, census_at=NOON),
            [
                "0 studies",
                "waiting 0, refused 0, in quarantine 0",
                "counts DIFFER at 2026-11-30 12:00:00",
                "epoch 3",
            ],
        ),
    ],
)
def test_an_index_in_words(presence: Presence, lines: list[str]) -> None:
    assert index_lines(presence, 3) == lines


def test_certificates_in_words() -> None:
    assert certificate_text(None, NOON) == []
    assert certificate_text(NOON + timedelta(days=1), NOON) == ["certificate ends 2026-12-01 12:00:00"]
    assert certificate_text(NOON, NOON) == ["certificate ENDED 2026-11-30 12:00:00"]


def test_tables_in_a_pipe_keep_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert make_console().width == WIDTH


@pytest.mark.parametrize("form", [{}, {"as_csv": True}, {"as_json": True}])
async def test_what_cannot_be_audited_is_not_read(
    audit: AuditLog,
    form: dict[str, bool],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def full(entry: object) -> int:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(audit, "begin", full)
    options = dict.fromkeys(("patient", "user", "organisation", "study", "since", "until"), "")
    whole = {**options, "action": None, "decision": None, "limit": 10, "before": None}
    wanted = asked(**{**whole, "as_json": False, "as_csv": False, **form})  # type: ignore[arg-type]  # as a command's
    with pytest.raises(StorageError):
        await print_audit(audit, wanted, Console(file=sys.stdout), operator())
    assert capsys.readouterr().out == ""
