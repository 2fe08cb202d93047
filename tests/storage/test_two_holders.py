"""A key with two holders whose links end at two processes of one registry, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from members_region import FAST, FILES, HOST, TestNode, TestRegistry, linked, until

from crosslight.runtime.db import Db
from node.membership.state import RegionState
from registry.members.ends import LinkEnd
from registry.members.presence import Report
from registry.members.use_store import Alarm


async def standing(r: TestRegistry) -> list[Alarm]:
    found = await r.members.alarms.standing()
    return [alarm for each in found.values() for alarm in each]


def at(r: TestRegistry, state: RegionState) -> RegionState:
    """The same keys and memory, for a link to another process."""
    other = RegionState(state.folder, FILES)
    other.registry = replace(other.registry, grpc=f"{HOST}:{r.grpc_port}")
    return other


async def test_of_two_live_links_at_two_processes_the_second_is_refused(database: Db, tmp_path: Path) -> None:
    """As at one: with an alarm, without a new epoch, and let in when the first one's link has ended."""
    one, two = (TestRegistry(tmp_path / "r", FAST, db=database) for _ in range(2))
    await one.start()
    await two.start()
    try:
        state = await one.joined("RTK", tmp_path / "n")
        await two.members.refresh()
        number = one.members.active("RTK").id
        async with linked(TestNode(state)) as node:
            await until(lambda: two.members.presence(number).reachable)
            twin = TestNode(at(two, state), state_id="state-9")
            twin.link.start()
            try:
                async with asyncio.timeout(30):
                    while not (found := await standing(one)):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert node.link.status.connected
                assert not twin.link.status.connected
                await two.members.refresh()
                assert two.members.active("RTK").epoch == one.members.active("RTK").epoch == 1
                await node.link.stop()
                await until(lambda: twin.link.status.connected)
                await two.members.refresh()
                assert two.members.active("RTK").epoch == 2
            finally:
                await twin.link.stop()
        (alarm,) = found
        assert alarm.kind == "two-holders"
        assert "with another database" in alarm.detail
        assert "at another process of the registry" in alarm.detail
    finally:
        await two.stop()
        await one.stop()


async def test_the_word_of_a_process_that_died_is_over_with_its_lease(database: Db, tmp_path: Path) -> None:
    one, two = (TestRegistry(tmp_path / "r", FAST, db=database) for _ in range(2))
    await one.audit.open()
    await one.members.open()
    await one.members.invite("RTK", "https://registry.example")
    await two.audit.open()
    await two.members.open()
    member = one.members.by_code("RTK")
    assert member is not None
    same, other = LinkEnd("10.0.0.1", "a"), LinkEnd("10.0.0.2", "b")
    token = one.members.board.opened(member.id, same)
    await one.members._sync_presence()  # and then it dies
    assert await two.members.held_elsewhere(member.id, same) == "", "the same node is never shut out"
    assert await one.members.held_elsewhere(member.id, other) == "", "of its own links a process knows itself"
    assert "with another database" in await two.members.held_elsewhere(member.id, other)
    async with asyncio.timeout(30):
        while await two.members.held_elsewhere(member.id, other):  # noqa: ASYNC110 - a row ages, nobody tells
            await asyncio.sleep(0.05)
    one.members.board.heard(member.id, token, Report(waiting=1))
    await one.members._sync_presence()
    assert await two.members.held_elsewhere(member.id, other), "it lives after all"
    one.members.board.lost(member.id, token)
    await one.members._sync_presence()
    assert await two.members.held_elsewhere(member.id, other) == "", "at once, where it ended"


async def test_a_node_that_moves_to_another_process_is_no_second_holder(database: Db, tmp_path: Path) -> None:
    """Its presence there is replaced here, with another address and another database: that link had ended."""
    one, two = (TestRegistry(tmp_path / "r", FAST, db=database) for _ in range(2))
    await one.audit.open()
    await one.members.open()
    await one.members.invite("RTK", "https://registry.example")
    await two.audit.open()
    await two.members.open()
    member = one.members.by_code("RTK")
    assert member is not None
    first, second = one.members.board, two.members.board
    first.opened(member.id, LinkEnd("10.0.0.1", "a"))
    await one.members._sync_presence()
    token = second.opened(member.id, LinkEnd("10.0.0.2", "b"))
    for _ in range(2):
        await two.members._sync_presence()
        second.heard(member.id, token, Report(waiting=1))
    (row,) = await two.members.presence_store.read()
    assert (row.report.far_address, row.report.far_state) == ("10.0.0.2", "b")
    assert await standing(two) == []
