"""A node's process is stopped, continued and killed: who can be reached shows within 8 s, and since when."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import members_node
import pytest
from members_region import registry, until

from registry.members.config import MembersConfig

pytestmark = pytest.mark.scenario


@asynccontextmanager
async def node_process(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    script = Path(members_node.__file__)
    path = os.pathsep.join([str(script.parent), str(script.parents[1])])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(folder), env={**os.environ, "PYTHONPATH": path}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_stopped_and_a_killed_process_count_as_unreachable(tmp_path: Path) -> None:
    async with registry(tmp_path / "r", MembersConfig()) as r:
        await r.joined("RTK", tmp_path / "n")
        member = r.members.active("RTK").id
        async with node_process(tmp_path / "n") as process:
            await until(lambda: r.members.presence(member).reachable, 60)
            process.send_signal(signal.SIGSTOP)
            await until(lambda: not r.members.presence(member).reachable)
            noticed, presence = datetime.now(UTC), r.members.presence(member)
            since = presence.since
            assert since is not None
            assert since == presence.last_heard, "the last heartbeat before it was stopped"
            silence = timedelta(seconds=r.config.silence_s)
            assert noticed - since > silence, "not because the link was lost: that still stands"
            async with asyncio.timeout(60):
                # a restart must know it too
                while (await r.members.presence_store.read())[0].reachable:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await r.members.presence_store.read())[0].since == since
            process.send_signal(signal.SIGCONT)
            await until(lambda: r.members.presence(member).reachable)
            process.kill()
            await until(lambda: not r.members.presence(member).reachable)
            presence = r.members.presence(member)
            assert presence.since is not None
            assert presence.last_heard is not None
            assert presence.since > presence.last_heard, "a lost link shows at once: nobody waits for silence"
