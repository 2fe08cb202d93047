"""Whatever text comes from outside, every command of both services prints it as text (H9, L5).

No markup is read in it, and no control moves the cursor, hides a line or makes one up. None ends with a stack
(L6).
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from callers import caller
from click.testing import CliRunner, Result
from node_serving import ct, part10
from registry_samples import nhs, patient, published, study
from rich.table import Table
from rich.text import Text

from crosslight.client.doctor import Finding
from crosslight.client.report import show
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.log import get_logger, setup_logging
from crosslight.runtime.terminal import PlainConsole
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient
from node.__main__ import main as node_main
from registry.__main__ import main as registry_main
from registry.commands import opened
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.submission import Publish, Submission
from registry.setup import init_registry

FORGED = "forged line"
HOSTILE = f"x[/x][bold]y\x1b[2J\x1b]0;t\x07\x9b1m\n{FORGED}\r\u202ez"
STUDY = "1.2.1"
NODE_ALONE = {"init", "serve", "join", "backup-key"}  # which print nothing from outside, or do not end
REGISTRY_ALONE = {"init", "serve", "migrate"}


def commands_of(group: click.Command, path: str = "") -> Iterator[str]:
    """Every command by its words; a group that is a command too."""
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands_of(command, f"{path} {name}".strip())
        if path and group.invoke_without_command:
            yield path
    else:
        yield path


def assert_plain(shown: str) -> None:
    assert {char for char in shown if not char.isprintable()} <= {"\n"}, repr(shown)
    assert not [line for line in shown.splitlines() if line.strip("│┃ ").startswith(FORGED)], shown


def run(command: click.Command, folder: Path, *words: str) -> Result:
    done = CliRunner().invoke(command, ["--dir", str(folder), *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
    assert "Traceback" not in done.output
    assert_plain(done.output)
    return done


def hostile_pile(folder: Path) -> None:
    folder.mkdir()
    named = {
        "PatientName": HOSTILE,
        "StudyDescription": HOSTILE,
        "IssuerOfPatientID": HOSTILE,
        "AccessionNumber": "A\x1b",
    }
    (folder / "one.dcm").write_bytes(part10(ct(**named)))
    (folder / "other uid.dcm").write_bytes(
        part10(ct(study="1.2.2", sop="1.2.2.1")).replace(b"1.2.2.1", b"1\x1b[2J.1")
    )
    (folder / f"no dicom{HOSTILE.replace('/', '')}.dcm").write_bytes(b"\0" * 200)


def test_every_command_of_a_node(tmp_path: Path) -> None:
    node, pile = tmp_path / "node", tmp_path / "pile"
    assert CliRunner().invoke(node_main, ["init", str(node)]).exit_code == 0
    hostile_pile(pile)
    asked: dict[str, list[list[str]]] = {
        "import": [["--dry-run", str(pile)], [str(pile)], [str(pile / HOSTILE)]],
        "status": [[]],
        "notes": [[]],
        "reject": [[HOSTILE, "--reason", "quality"], [STUDY, "--series", HOSTILE, "--reason", "safety"]],
        "firewall": [[]],
        "delete": [[STUDY, "--reason", HOSTILE], [HOSTILE, "--reason", "x"]],
        "undelete": [[HOSTILE], [STUDY]],
        "withdraw": [[STUDY, "--reason", HOSTILE], [HOSTILE, "--reason", "x"]],
        "publish": [[STUDY], [HOSTILE]],
        "retry": [[HOSTILE], []],
        "reread": [[HOSTILE], ["--all"]],
        "verify": [[]],
        "hold add": [
            ["--study", STUDY, "--reason", HOSTILE],
            ["--study", HOSTILE, "--reason", "x"],
            ["--patient", f"L{HOSTILE}", "--reason", HOSTILE],
            ["--reason", "x"],
        ],
        "hold list": [[], ["--lifted"]],
        "hold remove": [["1", "--reason", HOSTILE], [HOSTILE, "--reason", "x"], ["2", "--reason", "x"]],
        "retention": [[], ["--list"], ["--apply"]],
        "commitment ask": [[STUDY, "--to", HOSTILE], [HOSTILE, "--to", "CT1"]],
        "commitment show": [[STUDY], [HOSTILE]],
        "archive move": [["--to", str(pile)], ["--to", str(tmp_path / HOSTILE.replace("/", ""))]],
        "backup": [[str(tmp_path / "copy")], [str(tmp_path / HOSTILE)]],
        "restore": [[str(tmp_path / "copy")]],
        "doctor": [[]],
        "audit": [
            [],
            ["--csv"],
            ["--user", HOSTILE],
            ["--study", HOSTILE],
            ["--since", HOSTILE],
            ["--patient", HOSTILE],
        ],
        "audit expire": [["--before", "2001-01-01"], ["--before", HOSTILE]],
    }
    assert set(asked) == set(commands_of(node_main)) - NODE_ALONE
    shown = ""
    for words, lists in asked.items():
        for arguments in lists:
            run(node_main, node, *words.split(), *arguments)
            shown += run(node_main, node, "status").output
    assert "x[/x][bold]y" in shown, "the reason in the bin: shown, not read"


async def _fill(folder: Path) -> None:
    """Two records in dispute, with names that would rather be something else."""
    async with opened(folder) as offline:
        clock, ids = offline.ground.seams.clock, SystemIds()
        await offline.members.invite("RTK", "https://localhost", name=HOSTILE, hosts=("localhost",))
        await offline.members.store.set_status("RTK", "active", HOSTILE)
        await offline.members.refresh()
        index = IndexStore(offline.db, offline.members, clock, ids)
        identity = IdentityStore(offline.db, offline.region, ids, headers=index.read.headers_of)
        await index.open()
        await identity.open()
        await identity.settle_holders()
        acceptor = Acceptor(offline.db, index, identity, offline.members, clock, ids, offline.region)
        member = offline.members.by_code("RTK")
        assert member is not None
        principal = Principal(subject=HOSTILE, name=HOSTILE, roles=frozenset({"member"}), member=member.id)

        async def publish(who: Patient, n: int) -> None:
            who = replace(who, local=Identifier(who.local.value, member.authority))
            record = changed(study(who, n), description=HOSTILE)
            publication = published(member, record, n, epoch=member.epoch)
            act = Publish(publication=publication, digest=record.digest(), patient=record.patient)
            submission = Submission(
                member=member, caller=caller(principal), acts=(act,), road="grpc", strict=False
            )
            assert (await acceptor.accept(submission)).outcomes == ("accepted",)

        await publish(patient(member, "U1", number=nhs(1), family=HOSTILE, given="A", born="19800101"), 1)
        await publish(
            patient(member, "U1", number=nhs(2), family=f"B{HOSTILE}", given="B", born="19900202"), 2
        )


def test_every_command_of_a_registry(tmp_path: Path) -> None:
    registry, copy = tmp_path / "registry", tmp_path / "copy"
    values = {"listen": {"host": "127.0.0.1"}, "region": {"allow_test_numbers": True}}
    init_registry(registry, SystemFiles(), SystemIds(), values)
    asyncio.run(_fill(registry))
    queue = run(registry_main, registry, "identity", "list").output
    handle = next(
        word for line in queue.splitlines() for word in line.split() if len(word) == 9 and word[4] == "-"
    )
    asked: dict[str, list[list[str]]] = {
        "invite": [
            ["RXC", "--name", HOSTILE],
            [HOSTILE],
            ["RXD", "--host", HOSTILE],
            ["RXE", "--authority", HOSTILE],
        ],
        "authority": [["RTK", HOSTILE, "--agree"], [HOSTILE, "1.2.3", "--withdraw"]],
        "source": [["1.2.3.4", "--name", HOSTILE], ["1.2.3.4", "--dicomweb", HOSTILE], [HOSTILE]],
        "members": [[]],
        "suspend": [["RTK", "--reason", HOSTILE], [HOSTILE]],
        "readmit": [["RTK"], [HOSTILE]],
        "alarm-seen": [["RTK"], [HOSTILE]],
        "identity list": [["--all"]],
        "identity show": [[handle], [HOSTILE]],
        "identity decide": [[handle, "--another", "--reason", HOSTILE], [HOSTILE, "--same", "--reason", "x"]],
        "identity history": [[handle], [HOSTILE]],
        "identity end": [[HOSTILE, "--reason", HOSTILE]],
        "identity unmerge": [[HOSTILE, "--reason", HOSTILE], [f"1.2|{HOSTILE}", "--reason", HOSTILE]],
        "backup-key": [[str(tmp_path / "pair.key")]],
        "backup": [[str(copy)], [str(tmp_path / HOSTILE)]],
        "restore": [[str(copy)]],
        "doctor": [[]],
        "audit": [
            [],
            ["--csv"],
            ["--user", HOSTILE],
            ["--patient", f"1.2|{HOSTILE}"],
            ["--patient", HOSTILE],
        ],
        "audit expire": [["--before", "2001-01-01"], ["--before", HOSTILE]],
        **_systems_and_tokens(tmp_path),
    }
    assert set(asked) == set(commands_of(registry_main)) - REGISTRY_ALONE
    shown = ""
    for words, lists in asked.items():
        for arguments in lists:
            run(registry_main, registry, *words.split(), *arguments)
            shown += run(registry_main, registry, "members").output
    assert "x[/x][bold]y" in shown, "the member's name: shown, not read"


def _systems_and_tokens(folder: Path) -> dict[str, list[list[str]]]:
    medium, request, signed = (str(folder / name) for name in ("medium", "request.csr", "signed.pem"))
    return {
        "token": [["--role", "clinician", "--user", HOSTILE]],
        "system": [["viewer", str(folder / "system")], [HOSTILE, str(folder / "system")]],
        "credentials": [[], ["--all"]],
        "credentials end": [
            ["system", HOSTILE],
            ["system", "viewer"],
            ["--user", HOSTILE],
            ["token", HOSTILE],
        ],
        "ca root": [[medium, "--region", HOSTILE, "--no-passphrase"], [HOSTILE, "--region", "x"]],
        "ca request": [[request], [str(folder / HOSTILE)]],
        "ca sign": [
            [medium, request, signed, "--yes", "--no-passphrase"],
            [medium, HOSTILE, signed, "--yes"],
        ],
        "ca install": [[signed], [HOSTILE]],
        "ca retire": [[]],
        "ca show": [[]],
    }


# --- what they print with -----------------------------------------------------------------------------------


def test_a_console_and_a_doctor_print_text_as_text() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=200)
    console.print(HOSTILE)
    console.print(Text(HOSTILE.replace("\n", "")))
    table = Table()
    table.add_column(HOSTILE.replace("\n", ""))
    table.add_row(HOSTILE.replace("\n", ""))
    console.print(table)
    assert show(console, [(HOSTILE, [Finding("tls", "fail", HOSTILE, HOSTILE)])]) == 1
    assert_plain(out.getvalue())
    assert out.getvalue().count("x[/x][bold]y") == 7


@pytest.mark.parametrize("json", [True, False])
def test_a_log_line_is_one_line_of_text(json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    try:
        setup_logging(level="info", json=json)
        get_logger("link").warning("link begins", version=HOSTILE, reason=HOSTILE)
    finally:
        logging.getLogger().handlers, logging.getLogger().level = handlers, level
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert_plain(said)
