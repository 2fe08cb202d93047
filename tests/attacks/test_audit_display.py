"""The audit cannot be hidden from whoever reads it, whatever text, ids and methods a caller brings (H9)."""

from __future__ import annotations

import csv
import io
import re
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from access_region import access, browser, sign_in
from callers import caller
from node_serving import CLINICIAN, Served, ct, part10, serving
from registry_room import TestClock
from rich.console import Console

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.audit.printing import audit_csv, audit_lines, audit_table
from crosslight.runtime.db import Db
from crosslight.standards.access import Decision, Principal
from crosslight.standards.ids import Identifier

STUDY = "1.2.1"
ONE = f"/dicomweb/studies/{STUDY}/series/1.2.1.1/instances/1.2.1.1.1"
ALLOWED = Decision(True, "r")
PATIENT = Identifier("9990000018", "2.16.840.1.113883.2.1.4.1")
HOSTILE = (
    "dr [/x]",
    "[conceal]gone",
    "[link=http://x]a",
    "\x1b[2J\x1b]0;x\x07",
    "a\nb\r\tc",
    "\x9b1m",
    "‮drawkcab",
)


def printed(audit_rows: object, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(audit_rows)
    return out.getvalue()


async def test_a_head_is_audited_as_what_it_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await node.add(part10(ct()))
        for method in ("HEAD", "GET"):
            async with node.session.request(method, f"{node.url}{ONE}", headers={"Accept": "*/*"}) as answer:
                assert answer.status == 200
                await answer.read()
        got, head = await node.acts()
    assert (got.text, head.text) == ("ok 1 instances", "ok 0 instances: headers only")
    assert head.outcome.in_words() == "done: 0 instances: headers only"


async def test_an_act_that_was_cut_off_is_not_made_whole_by_a_head_of_the_same_id(database: Db) -> None:
    audit = AuditLog(database, TestClock())
    await audit.open()
    about, mine = About(patients=(PATIENT,), studies=(STUDY,)), caller(CLINICIAN, "same")
    await audit.act(mine, "dicomweb", "retrieve", about, decision=ALLOWED).begin()  # and nothing after
    async with audit.act(mine, "dicomweb", "retrieve", about, decision=ALLOWED) as second:
        second.gave(120, "instances")
    second_act, first_act = await audit.search()
    assert (first_act.outcome.kind, second_act.text) == ("cut", "ok 120 instances")


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_text_a_caller_brings_is_text(database: Db, text: str) -> None:
    audit = AuditLog(database, TestClock())
    await audit.open()
    who = Principal(subject=f"person:{text}", name=text, organisation=text, credential=f"token {text}")
    query, mine = {"reason": text}, caller(who, text)
    about = About(patients=(Identifier(text, "1.2"), PATIENT), studies=(text,), query=query)
    async with audit.act(mine, "fhir", "search", about, decision=Decision(True, text)):
        pass
    found = await audit.search(patient=PATIENT)
    shown = printed(audit_table(found, title=text))
    assert not {char for char in shown if not char.isprintable()} - {"\n"}
    assert max(map(len, shown.splitlines())) <= 80
    row = next(csv.DictReader(io.StringIO(audit_csv(found, head=True))))
    assert not {char for cell in row.values() for char in cell if not char.isprintable()}
    (line,) = audit_lines(found)
    assert line.decode().rstrip("\n").isprintable()
    assert orjson.loads(line)["who"]["name"] == text


async def test_an_opening_is_one_line_for_a_quarter_of_an_hour_and_every_act_is_kept(database: Db) -> None:
    clock = TestClock()
    audit = AuditLog(database, clock)
    await audit.open()
    about = About(patients=(PATIENT,), studies=(STUDY,))
    for n in range(40):  # one a minute
        async with audit.act(
            caller(CLINICIAN, f"c{n}"), "dicomweb", "retrieve", about, decision=ALLOWED
        ) as act:
            act.gave(1, "frames")
        await clock.sleep(60)
    acts = await audit.search()
    shown = printed(audit_table(acts))
    assert (len(acts), len(re.findall("[0-9] times", shown))) == (40, 3)
    assert "16 times" in shown
    assert "8 times" in shown


async def test_which_token_session_and_carrier_it_was_is_told(served: Served, tmp_path: Path) -> None:
    token = served.access()
    async with served.session.get(f"{served.url}{ONE}/metadata", headers=token) as answer:
        assert answer.status == 200
    (act,) = await served.acts()
    jti = orjson.loads(urlsafe_b64decode(token["Authorization"].split(".")[1] + "=="))["jti"]
    assert act.who.credential == f"token {jti}"
    assert f"token {jti}" in printed(audit_table([act]), 120)
    async with access(tmp_path / "registry") as a, browser(a) as session:
        await sign_in(a, session, "dr.amos", "light-box")
        async with session.get(f"{a.people}/") as answer:
            said = await answer.json()
        (signed_in,) = [act for act in await a.audit.search() if act.action == "sign-in"]
        assert said["credential"].startswith("session ")
        assert signed_in.who.credential == said["credential"]
        cookie = next(iter(session.cookie_jar)).value
        assert said["credential"].removeprefix("session ") not in cookie


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "node", open_mode=False) as node:
        await node.add(part10(ct()))
        yield node


async def test_a_system_that_acts_for_a_person_is_named_beside_them(database: Db) -> None:
    audit = AuditLog(database, TestClock())
    await audit.open()
    mine = replace(caller(CLINICIAN, "c"), peer="10.0.0.1", via="system:viewer")
    async with audit.act(mine, "dicomweb", "retrieve", About(patients=(PATIENT,)), decision=ALLOWED):
        pass
    shown = printed(audit_table(await audit.search()), 100)
    assert CLINICIAN.subject in shown
    assert "by system:viewer" in shown
