"""What the operator of an independent node does (kind = "xds", D18): withdrawal, backup, doctor, settings."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path

import pytest
from independent_node import (
    REPOSITORY,
    STUDY,
    Outside,
    node_values,
    numbered,
    outside_at,
    quiet,
    retrieved,
    serving,
)
from node_serving import ct, part10
from rich.console import Console
from whole_region import FILES, until

from crosslight.runtime.operators import person
from crosslight.runtime.seams import system_seams
from crosslight.standards.problem import ConfigError
from crosslight.standards.xds.wire.response import SUCCESS
from crosslight.standards.xds.wire.retrieve import DocumentRequest
from node import commands, doctor
from node import withdraw as withdrawal
from node.app import NodeApp
from node.care_command import verify_objects
from node.config import read_config as read_node_config
from node.setup import init_node, join_region


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside_at(tmp_path) as made:
        yield made


async def test_a_study_is_withdrawn_and_published_again_by_command(outside: Outside) -> None:
    async with serving(outside.folder) as node:
        await outside.send(numbered(ct()))
        await until(lambda: quiet(node, waiting=0))
        await outside.found(1)
        out = StringIO()
        console = Console(file=out, width=200)
        assert not await withdrawal.withdraw(outside.folder, [STUDY, "1.2.99"], "wrong side marked", console)
        assert "1 study is withdrawn." in out.getvalue()
        assert "1.2.99 was never here." in out.getvalue()
        await outside.found(0)
        shown = await outside.status()
        assert f"withdrawn: {STUDY} since" in shown
        assert "wrong side marked" in shown
        assert await withdrawal.publish(outside.folder, [STUDY], console)
        await outside.found(1)
        assert not await withdrawal.publish(outside.folder, [STUDY], console)
        assert f"{STUDY} is not withdrawn." in out.getvalue()
        acts = [act for act in await node.parts.ground.audit.search(study=STUDY) if act.face == "admin"]
        assert [(act.action, act.query, act.who.name) for act in acts] == [
            ("publish", {}, f"command line: {person()}"),
            ("withdraw", {"reason": "wrong side marked"}, f"command line: {person()}"),
        ]
        assert all(act.patients for act in acts)


async def test_a_backup_goes_on_under_its_own_next_epoch(outside: Outside, tmp_path: Path) -> None:
    """What was published after the backup is found again by its associations, and replaced; what is new comes
    into it.
    """
    console, target, restored = (
        Console(file=StringIO(), width=200),
        tmp_path / "backup",
        tmp_path / "restored",
    )
    async with serving(outside.folder) as node:
        await outside.send(numbered(ct()))
        await outside.found(1)
        await commands.backup_node(outside.folder, target, console, ())
        assert await verify_objects(outside.folder, console)
        await outside.send(numbered(ct(sop="1.2.1.1.2", number=2)))
        await until(lambda: quiet(node))
        (lost,) = await outside.found(1)
    await commands.restore_node(target, restored, console, ())
    shutil.copytree(outside.folder / "certs", restored / "certs")
    outside.folder = restored
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "image.dcm").write_bytes(part10(numbered(ct("1.2.3", "1.2.3.1", "1.2.3.1.1"))))
    report = await commands.import_paths(restored, [tmp_path / "late"], console)
    assert report.stored == 1
    async with serving(restored) as node:
        await until(lambda: quiet(node))
        assert (await node.publisher.status()).epoch == 2
        entries = await outside.found(2)
        assert {entry.study_uid for entry in entries} == {STUDY, "1.2.3"}
        assert lost.unique_id not in {entry.unique_id for entry in entries}
        async with outside.pacs.client() as client:
            asked = [DocumentRequest(REPOSITORY, entry.unique_id) for entry in entries]
            async with client.retrieve(outside.at("/xds/repository"), asked) as stream:
                status, documents = await retrieved(stream)
        assert (status, len(documents)) == (SUCCESS, 2)
        assert "nothing is joined" in await outside.status()


async def test_doctor(outside: Outside) -> None:
    """All is well while it runs; and says what is wrong once the registry is gone."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(outside.folder))
        out = StringIO()
        assert await doctor.doctor(outside.folder, Console(file=out, width=200)) == 0, out.getvalue()
        for said in ("C-ECHO", "ITI-18 answers.", "asks for credentials", "0 waiting, 0 refused."):
            assert said in out.getvalue()
        await outside.registry.stop()
        out = StringIO()
        assert await doctor.doctor(outside.folder, Console(file=out, width=200)) == 1, out.getvalue()


async def test_there_is_nothing_to_join(outside: Outside) -> None:
    invitation = await outside.registry.members.invite("RTK", outside.registry.people_url)
    with pytest.raises(ConfigError, match="joined by nobody"):
        await join_region(outside.folder, invitation, system_seams())


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("certificate", "certificate"),
        ("ca", "ca, certificate and key"),
        ("server_key", "server_key"),
        ("mllp", "mllp"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, missing: str, named: str) -> None:
    class Elsewhere:
        class addresses:  # noqa: N801
            systems, mllp = "https://registry.example", "registry.example:2575"

    values = node_values(Elsewhere, 1, 2, 3)  # type: ignore[arg-type]
    values["publish"]["xds"][missing] = ""
    init_node(tmp_path, FILES, values)
    with pytest.raises(ConfigError, match=named):
        NodeApp(tmp_path, read_node_config(tmp_path))
