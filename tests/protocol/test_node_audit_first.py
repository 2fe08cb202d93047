"""No byte leaves a node before its act is in the audit, and every outcome gets there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from node_serving import CLINICIAN, CLOCK, Served, ct, part10, serving

from crosslight.runtime.audit import AuditEntry, AuditLog, Outcome
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import CORRELATION, admit
from crosslight.standards.problem import StorageError
from node.serve.release import GRANT, Grant, Release

STUDY = "1.2.1"


async def test_a_client_that_hangs_up_after_the_last_byte_is_no_cut_off(tmp_path: Path) -> None:
    """Nobody waits for the outcome of an answer that was sent whole, so nobody can cancel it; the node's end
    waits for it.
    """
    db = SqliteDb(tmp_path / "audit.db")
    audit = AuditLog(db, CLOCK)
    await audit.open()
    release, request = Release(audit), make_mocked_request("GET", "/dicomweb")
    request[CORRELATION] = "c-1"
    admit(request, CLINICIAN)
    request[GRANT] = Grant(principal=CLINICIAN, kind="access")

    async def handler() -> None:
        async with release.act(request, "retrieve", [STUDY], "dicomweb") as act:
            act.gave(1, "instances")

    try:
        task = asyncio.create_task(handler())
        await task
        assert not task.cancel()
        await release.close()
        assert [e.text for e in await audit.search()] == ["ok 1 instances"]
    finally:
        await db.close()


async def test_an_outcome_is_committed_by_itself_when_no_act_follows(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await node.add(part10(ct()))
        for _ in range(3):
            async with node.session.get(f"{node.url}/dicomweb/studies/1.2.1/metadata") as response:
                assert response.status == 200
        assert [act.text for act in await node.acts()] == ["ok 1 objects"] * 3


class _HeldAudit(AuditLog):
    """One whose disk is slow until it is let go, or refuses."""

    def __init__(self, node: Served, *, refuses: bool = False) -> None:
        super().__init__(node.archive._db, CLOCK)
        self.asked, self.go, self.refuses = asyncio.Event(), asyncio.Event(), refuses
        node.serve.release._audit = self

    async def begin(self, entry: AuditEntry) -> int:
        await self._hold()
        return await super().begin(entry)

    async def whole(self, entry: AuditEntry, outcome: Outcome) -> None:
        await self._hold()
        await super().whole(entry, outcome)

    async def _hold(self) -> None:
        self.asked.set()
        await self.go.wait()
        if self.refuses:
            raise StorageError("no audit")


IMAGE = "/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
OUT = (
    "/dicomweb/studies/1.2.1",
    "/dicomweb/studies/1.2.1/metadata",
    IMAGE,
    f"{IMAGE}/frames/1",
    f"{IMAGE}/frames/1,1",
    f"{IMAGE}/rendered",
)


@pytest.mark.parametrize("path", OUT)
async def test_not_a_byte_leaves_before_the_act_is_committed(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as node:
        await node.add(part10(ct()))
        audit = _HeldAudit(node)
        host, port = node.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        reading = asyncio.ensure_future(reader.read(1))
        await audit.asked.wait()
        await asyncio.sleep(0.3)
        assert not reading.done()
        audit.go.set()
        answer = await reading + await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("path", OUT)
async def test_no_audit_no_data(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as node:
        await node.add(part10(ct()))
        _HeldAudit(node, refuses=True).go.set()
        async with node.session.get(f"{node.url}{path}") as response:
            assert response.status == 503
            assert b"1.2.1.1.1" not in await response.read()
