"""`crosslight-registry identity` as an operator types it, on each engine, beside another connection to the
same registry.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from callers import caller
from click.testing import CliRunner, Result
from registry_samples import nhs, patient, published, study

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyTime
from registry.__main__ import main
from registry.commands import Offline, opened
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.submission import Publish, Submission
from registry.setup import init_registry

Typed = Callable[..., Result]


async def fill(offline: Offline) -> None:
    """One local id of RTK for Anna and then Boris; a number that Anna holds and a record of RXC claims; a
    merge.
    """
    clock, ids = SystemClock(), SystemIds()
    for code, name in (("RTK", "Ashford"), ("RXC", "East Sussex")):
        await offline.members.invite(code, "https://localhost", name=name, hosts=("localhost",))
        await offline.members.store.set_status(code, "active", "")
    await offline.members.refresh()
    index = IndexStore(offline.db, offline.members, clock, ids)
    identity = IdentityStore(offline.db, offline.region, ids, headers=index.read.headers_of)
    await index.open()
    await identity.open()
    await identity.settle_holders()
    acceptor = Acceptor(offline.db, index, identity, offline.members, clock, ids, offline.region)

    async def publish(code: str, who: Patient, n: int) -> None:
        member = offline.members.by_code(code)
        assert member is not None
        who = replace(who, local=Identifier(who.local.value, member.authority))
        record = changed(study(who, n), time=StudyTime(date=f"2020{n:02d}15", time="101500"))
        publication = published(member, record, n, epoch=member.epoch)
        principal = Principal(subject=code, roles=frozenset({"member"}), organisation=code, member=member.id)
        act = Publish(publication=publication, digest=record.digest(), patient=record.patient)
        submission = Submission(
            member=member, caller=caller(principal), acts=(act,), road="grpc", strict=False
        )
        assert (await acceptor.accept(submission)).outcomes == ("accepted",)

    home = offline.members.by_code("RTK")
    assert home is not None
    await publish("RTK", patient(home, "U1", number=nhs(1), family="Alpha", given="Anna", born="19800101"), 1)
    await publish(
        "RTK", patient(home, "U1", number=nhs(2), family="Beta", given="Boris", born="19900202", sex="M"), 2
    )
    await publish("RXC", patient(home, "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303"), 3)
    for n, local in enumerate(("M1", "M2"), 4):
        await publish("RTK", patient(home, local, family="Merge"), n)
    await identity.merge(
        Identifier("M1", home.authority), Identifier("M2", home.authority), clock.now(), who="A40"
    )


@pytest.fixture(params=["sqlite", "postgres"])
def typed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    values: dict[str, dict[str, object]] = {
        "listen": {"host": "127.0.0.1"},
        "region": {"allow_test_numbers": True},
    }
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS identity_commands WITH (FORCE)")
            connection.execute("CREATE DATABASE identity_commands")
        url = dsn.replace("/postgres?", "/identity_commands?")
        values["database"] = {"url": url, "audit_url": url}
    folder = tmp_path / "registry"
    init_registry(folder, SystemFiles(), SystemIds(), values)

    async def made() -> None:
        async with opened(folder) as offline:
            await fill(offline)

    asyncio.run(made())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SUDO_USER", "jo")

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(main, ["--dir", str(folder), *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        if arguments[0] == "identity" and done.exit_code == 0:
            assert max(map(len, done.output.splitlines())) <= 80, done.output
        return done

    return run


def handle(shown: str, what: str) -> str:
    """Of the line of the queue that says ``what``."""
    found = re.search(rf"([0-9A-Z]{{4}}-[0-9A-Z]{{4}})\s+{what}", shown)
    assert found, shown
    return found[1]


def test_from_the_queue_to_a_decision_and_back(typed: Typed) -> None:
    shown = typed("identity", "list").output
    assert "2 records waiting" in shown
    assert not {name for name in ("Alpha", "ALPHA", "BETA", "Boris", "GAMMA", nhs(1)) if name in shown}
    doubt, claim = handle(shown, "in doubt"), handle(shown, "claims a number held")
    both = typed("identity", "show", doubt).output
    for said in (
        "BETA, Boris",
        "ALPHA, Anna",
        "02-Feb-1990",
        "01-Jan-1980",
        "DIFFERS",
        "15-Feb-2020",
        "15-Jan-2020",
        "(RTK)",
    ):
        assert said in both, both
    assert re.search(r"name\s+BETA, Boris\s+ALPHA, Anna\s+DIFFERS", both), both
    done = typed("identity", "decide", doubt, "--another", "--reason", "two people, by the paper file")
    assert done.exit_code == 0, done.output
    made = re.search(r"identity end\s+([0-9a-f]{8})", done.output)
    assert made, done.output
    assert typed("identity", "decide", claim, "--alone", "--reason", "typing error").exit_code == 0
    shown = typed("identity", "list").output
    assert "0 records waiting" in shown
    assert f"{made[1]}  in force: {doubt} is another person than" in shown
    assert "by jo (command line): two people, by the paper file" in re.sub(r"\s+", " ", shown)
    assert typed("identity", "end", made[1], "--reason", "unsure").exit_code == 0
    told = re.sub(r"\s+", " ", typed("identity", "history", doubt).output)
    assert "by jo (command line): unsure" in told
    assert f"{made[1]} ended" in told
    assert "1 record waiting" in typed("identity", "list").output
    acts = typed("audit", "--patient", nhs(2), "--json").output
    assert '"verdict":"another"' in acts
    decided = typed("audit", "--action", "decide", "--json").output.splitlines()
    assert len(decided) == 2, "not what was taken back"
    assert '"command line: jo"' in acts


def authority_of(code: str, output: str) -> str:
    """A member's own patient authority in the table, which folds a long one."""
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in output.splitlines()
        if line.count("│") == 4
    ]
    first = next(i for i, row in enumerate(rows) if row[0] == code and row[1].startswith("patient authority"))
    folded = [rows[first][2]]
    for row in rows[first + 1 :]:
        if row[0]:
            break
        folded.append(row[2])
    return "".join(folded)


def test_a_merge_is_undone_by_the_number_that_was_merged_away(typed: Typed) -> None:
    home = authority_of("RTK", typed("members").output)
    refused = typed("identity", "unmerge", f"{home}|M1", "--reason", "x")
    assert (refused.exit_code, "was not merged into another" in refused.output) == (1, True)
    assert typed("identity", "unmerge", f"{home}|M2", "--reason", "two people").exit_code == 0
    told = re.sub(r"\s+", " ", typed("identity", "history", f"{home}|M2").output)
    assert "ended" in told
    assert "by jo (command line): two people" in told


def test_what_cannot_be_done_is_one_sentence_and_what_to_do(typed: Typed) -> None:
    claim = handle(typed("identity", "list").output, "claims a number held")
    assert typed("identity", "decide", claim, "--alone", "--reason", "typing error").exit_code == 0
    for arguments, said in (
        (("show", "nonsense!"), "That is no handle. Give one"),
        (("show", "0000-0000"), "No record has that handle. Look at the queue again."),
        (("decide", claim, "--alone", "--reason", "again"), "It is decided already"),
        (("decide", claim, "--alone"), "Missing option '--reason'"),
        (("decide", claim, "--reason", "x"), "Say --same, --another or --alone."),
        (("decide", claim, "--alone", "--reason", " "), "A decision needs a reason. Say what you compared"),
        (("end", "00000000", "--reason", "x"), "There is no such decision. Give the id"),
        (("unmerge", "M2", "--reason", "x"), "Give AUTHORITY|NUMBER"),
    ):
        done = typed("identity", *arguments)
        assert done.exit_code in (1, 2), done.output
        assert said in done.output, done.output
        assert "Traceback" not in done.output
