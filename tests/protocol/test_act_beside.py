"""The audit's act goes to the disk while the object does: neither waits for the other, an answer for both."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

import dicom_objects as make
import pytest
from dimse_calls import store
from dimse_node import Node, node
from node_serving import Served, ct, part10, related, serving

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.standards.problem import StorageError

OUT_OF_RESOURCES = 0xA700


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Node]:
    async with node(tmp_path) as made:
        yield made


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


class Disk:
    """Flushes of objects' files are held up until :meth:`go_on`, or refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._asked, self._go, self.refuses = threading.Event(), threading.Event(), False
        sync = SystemFiles.sync

        def held_up(files: SystemFiles, handle: BinaryIO) -> None:
            self._asked.set()
            assert self._go.wait(30)
            if self.refuses:
                raise OSError(5, "Input/output error")
            sync(files, handle)

        monkeypatch.setattr(SystemFiles, "sync", held_up)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._asked.wait, 30), "no object came to the disk"

    def go_on(self) -> None:
        self._go.set()


class Writer:
    """What the audit's acts meet on their way into the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meet: Callable[[], None]) -> None:
        submit = SqliteDb.submit_write

        def met(db: SqliteDb, name: str, fn: Any, *, lazy: bool = False) -> Any:
            def work(tx: Any) -> Any:
                if name == "audit" and not lazy:
                    meet()
                return fn(tx)

            return submit(db, name, work, lazy=lazy)

        monkeypatch.setattr(SqliteDb, "submit_write", met)


async def _on_the_disk(folder: Path, acts: int) -> None:
    """Wait until another process would find so many acts."""
    async with asyncio.timeout(30):
        while True:
            with sqlite3.connect(folder / "node.sqlite") as other:
                (count,) = other.execute("SELECT COUNT(*) FROM audit_act").fetchone()
            other.close()
            if count == acts:
                return
            await asyncio.sleep(0.01)


async def _outcomes(made: Node, acts: int) -> list[Any]:
    async with asyncio.timeout(30):
        while len(found := [act for act in await made.acts() if act.text]) < acts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


def _sent(made: Node, *numbers: int) -> asyncio.Task[list[int]]:
    """Statuses of slices of one study, over one association."""
    slices = [make.image(number) for number in numbers]
    return asyncio.create_task(asyncio.to_thread(store, made.service.port, *slices))


async def test_an_act_is_on_the_disk_while_its_object_is_not(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    sending = _sent(here, 1, 2)
    await disk.reached()
    await _on_the_disk(here.held.folder, acts=1)
    assert not sending.done(), "the object is not durable: nothing is answered"
    disk.go_on()
    assert await sending == [0, 0]
    (act,) = await _outcomes(here, 1)
    assert (act.text, act.studies) == ("ok 2 stored", (make.STUDY,))
    assert act.patients, "of a study of which nothing was held yet"
    assert act.patients == tuple(
        f"{one.authority}|{one.value}" for one in await here.held.archive.patients_of(make.STUDY)
    )


async def test_an_object_on_the_disk_is_answered_when_its_act_is_there(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable, go, sync_dir = threading.Event(), threading.Event(), here.held.files.sync_dir

    def noticed(path: Path) -> None:
        sync_dir(path)
        durable.set()

    def slow() -> None:
        assert go.wait(30)

    monkeypatch.setattr(here.held.files, "sync_dir", noticed)
    Writer(monkeypatch, slow)
    sending = _sent(here, 1)
    assert await asyncio.to_thread(durable.wait, 30), "the object waits for the audit"
    assert not sending.done(), "there is no act yet: nothing is answered"
    go.set()
    assert await sending == [0]


async def test_an_act_says_that_its_object_failed(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.go_on()
    disk.refuses = True
    assert await _sent(here, 1) == [OUT_OF_RESOURCES]
    await _outcomes(here, 1)
    disk.refuses = False
    assert await _sent(here, 1, 2) == [0, 0]
    assert [act.text for act in await _outcomes(here, 2)] == ["failed 0 stored, 1 failed", "ok 2 stored"]
    assert here.service.objects["failed"] == 1


async def test_an_object_without_its_act_is_not_answered_as_stored(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def refuse() -> None:
        if broken:
            raise sqlite3.OperationalError("disk I/O error")

    Writer(monkeypatch, refuse)
    assert await _sent(here, 1) == [OUT_OF_RESOURCES]
    broken = False
    assert await _sent(here, 1, 2) == [0, 0]
    (act,) = await _outcomes(here, 1)
    assert act.text == "ok 1 stored, 1 duplicate"


def _posted(served: Served, *files: bytes) -> asyncio.Task[int]:
    """The status of a Store Instances request."""
    body, content_type = related(("application/dicom", data) for data in files)

    async def post() -> int:
        headers = {"Content-Type": content_type}
        async with served.session.post(f"{served.url}/dicomweb/studies", data=body, headers=headers) as got:
            return got.status

    return asyncio.create_task(post())


async def test_an_act_of_stow_is_on_the_disk_while_its_objects_are_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    posting = _posted(served, part10(ct()))
    await disk.reached()
    async with asyncio.timeout(30):
        while not (found := await served.audit.search()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not posting.done(), "the object is not durable: nothing is answered"
    assert found[0].text == ""
    disk.go_on()
    assert await posting == 200
    assert [act.text for act in await served.acts()] == ["ok 1 stored, 1 in all"]


async def test_stow_without_its_act_is_not_answered_as_stored(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> int:
        raise StorageError("The audit cannot be written.")

    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "begin", refuse)
        assert await _posted(served, part10(ct())) == 503
    assert await _posted(served, part10(ct())) == 200
