"""What people do at the machine is in the audit, with the person: what changes, copies or reads."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from node_serving import ct, part10

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import SqliteDb
from node.__main__ import main as node_main
from registry.__main__ import main as registry_main

STUDY = "1.2.1"
USER = pwd.getpwuid(os.getuid()).pw_name
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("SUDO_USER", raising=False)

    def run(command: object, *words: object) -> Result:
        result = CliRunner().invoke(command, [str(word) for word in words])  # type: ignore[arg-type]  # both are groups
        assert result.exit_code == 0, result.output
        return result

    return run


async def acts(folder: Path) -> list[Audited]:
    """As the folder's audit has them, oldest first."""
    db = SqliteDb(folder / "audit.db")
    audit = AuditLog(db, SystemClock())
    await audit.open()
    found = await audit.search()
    await db.close()
    return found[::-1]


async def of(folder: Path, action: str) -> Audited:
    (found,) = [act for act in await acts(folder) if act.action == action]
    return found


def test_a_person_is_known_by_the_system_and_said_by_themselves(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    run(node_main, "init", node)
    run(node_main, "--dir", node, "--as", "Jo Smith", "audit")
    monkeypatch.setenv("SUDO_USER", "alice")
    run(node_main, "--dir", node, "audit")
    refused = CliRunner().invoke(node_main, ["--dir", str(node), "--as", "a\x1b[2Jb", "audit"])
    assert refused.exit_code == 2
    said, sudo = asyncio.run(acts(node))
    assert {said.who.subject, sudo.who.subject} == {f"operator:{USER}"}, "known"
    assert (said.who.name, sudo.who.name) == ("command line: Jo Smith", "command line: alice"), "said"
    assert said.who.credential.startswith(f"uid {os.getuid()} {USER}")
    assert said.who.credential.endswith("says Jo Smith")
    assert sudo.who.credential.endswith("sudo by alice")


def test_what_is_done_to_a_node_is_audited(tmp_path: Path, run: Run) -> None:
    node, pile, copy, again = (tmp_path / name for name in ("node", "pile", "copy", "again"))
    pile.mkdir()
    (pile / "one.dcm").write_bytes(part10(ct()))
    run(node_main, "init", node)

    def node_does(*words: object) -> str:
        return run(node_main, "--dir", node, "--as", "Jo", *words).output

    node_does("import", pile)
    node_does("delete", STUDY, "--reason", "wrong patient")
    node_does("undelete", STUDY)
    node_does("retry")
    node_does("backup", copy)
    (held,) = (path for path in (node / "archive").rglob("*.dcm"))
    held.unlink()
    node_does("verify", "--repair-from", copy)
    node_does("audit", "--study", STUDY, "--csv")
    run(node_main, "--dir", again, "--as", "Jo", "restore", copy)
    done = asyncio.run(acts(node))
    assert [(act.action, act.text) for act in done] == [
        ("import", "ok 1 stored"),
        ("delete", "ok 1 instances"),
        ("undelete", "ok 1 instances"),
        ("retry", "ok 0 studies"),
        ("backup", "ok 1 objects, 1 copied"),
        ("verify", "failed 1 objects"),
        ("restore", "ok 1 objects, 1 in all"),
        ("audit", "ok 3 acts"),
    ]
    assert all(act.who.name == "command line: Jo" and act.decision == "permit" for act in done)
    assert done[0].query == {"paths": [str(pile)], "given": 1}
    assert (done[1].studies, done[1].query) == ((STUDY,), {"reason": "wrong patient"})
    assert done[1].patients, "found by the patient"
    assert done[5].query == {"instance": "1.2.1.1.1", "object": "missing"}
    assert done[7].query == {"study": STUDY, "form": "csv"}
    restored = asyncio.run(of(again, "restore"))
    assert (restored.text, restored.query) == ("ok 1 objects", {"source": str(copy)})
    assert asyncio.run(of(again, "backup")).outcome.kind == "cut", "copied while it was being made"


def test_what_is_done_to_a_registry_is_audited(tmp_path: Path, run: Run) -> None:
    registry, copy, again = (tmp_path / name for name in ("registry", "copy", "again"))
    run(registry_main, "init", registry)
    run(registry_main, "--dir", registry, "--as", "Jo", "invite", "RTK")
    run(registry_main, "--dir", registry, "--as", "Jo", "backup", copy)
    run(registry_main, "--dir", registry, "audit", "--patient", "999 000 0018")
    run(registry_main, "--dir", again, "--as", "Jo", "restore", copy)
    done = asyncio.run(acts(registry))
    assert [(act.action, act.text) for act in done] == [
        ("invite", "ok"),
        ("backup", "ok"),
        ("audit", "ok 0 acts"),
    ]
    assert [act.who.name for act in done[:2]] == ["command line: Jo"] * 2
    assert done[1].query == {"target": str(copy)}
    assert done[2].patients == ("|9990000018",), "who looked is found by whom they looked for"
    assert asyncio.run(of(again, "restore")).text == "ok"
