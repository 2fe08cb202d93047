"""Which certificate of a member counts, and what shows that its key has two holders; over real TLS."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from members_region import FAST, FILES, TestNode, TestRegistry, linked, registry, until

from crosslight.standards.problem import Conflict
from node.membership.state import RegionState
from registry.members.config import MembersConfig
from registry.members.ends import LinkEnd, second_holder
from registry.members.printing import members_table
from registry.members.use_store import Alarm


def copied(state: RegionState, to: Path) -> RegionState:
    """Somebody's copy of all that a node has in its ``region`` folder."""
    shutil.copytree(state.folder, to)
    return RegionState(to, FILES)


@asynccontextmanager
async def renewing(state: RegionState) -> AsyncIterator[TestNode]:
    """A node that asks for certificates and has no link."""
    node = TestNode(state)
    await node.link._proof.renew()  # as a link does before its stream
    try:
        yield node
    finally:
        await node.link.stop()


async def refusal(node: TestNode) -> grpc.StatusCode:
    """How a renewal is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.renewal.renew()
    return refused.value.code()


async def alarms(r: TestRegistry, code: str) -> dict[str, Alarm]:
    """Those of a member, by kind."""
    member = r.members.by_code(code)
    assert member is not None
    return {alarm.kind: alarm for alarm in (await r.members.alarms.standing()).get(member.id, [])}


async def alarm_of(r: TestRegistry, code: str) -> Alarm:
    """The one alarm of a member, once it is kept."""
    async with asyncio.timeout(30):
        while not (found := await alarms(r, code)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (alarm,) = found.values()
    return alarm


@asynccontextmanager
async def member(
    folder: Path, config: MembersConfig = FAST
) -> AsyncIterator[tuple[TestRegistry, RegionState, RegionState]]:
    """A registry, a member's state, and a thief's copy of it."""
    async with registry(folder / "r", config) as r:
        state = await r.joined("RTK", folder / "n")
        yield r, state, copied(state, folder / "thief")


async def test_a_newer_certificate_that_was_shown_takes_the_place_of_the_older(tmp_path: Path) -> None:
    async with member(tmp_path, replace(FAST, superseded_grace_s=0.3)) as (r, state, thief):
        old = f"{thief.credentials.leaf().serial_number:x}"
        async with linked(TestNode(state)) as node:
            await node.renewal.renew()
            await until(lambda: old in r.members.issued.withdrawn_certificates)
            await until(lambda: state.directory is not None and old in state.directory.withdrawn_certificates)
            new = f"{state.credentials.leaf().serial_number:x}"
            assert new not in r.members.issued.withdrawn_certificates
            async with renewing(thief) as copy:
                assert await refusal(copy) is grpc.StatusCode.UNAUTHENTICATED
            rogue = TestNode(thief)
            rogue.link.start()
            await until(lambda: "withdrawn" in rogue.link.status.refused)
            await rogue.link.stop()
            assert node.link.status.connected
            await node.renewal.renew()


async def test_what_the_older_certificate_had_open_is_cut(tmp_path: Path) -> None:
    async with member(tmp_path, replace(FAST, superseded_grace_s=0.3)) as (_r, state, thief):
        async with renewing(state) as node, linked(TestNode(thief)) as rogue:
            await node.renewal.renew()
            async with renewing(state) as again:
                await again.renewal.renew()  # shows the new one
            await until(lambda: "withdrawn" in rogue.link.status.refused)


async def test_a_certificate_that_got_lost_on_its_way_supersedes_nothing(tmp_path: Path) -> None:
    async with member(tmp_path, replace(FAST, superseded_grace_s=0.0)) as (r, state, lost):
        async with renewing(lost) as node:
            await node.renewal.renew()
        async with linked(TestNode(state)) as other:
            await other.renewal.renew()
            await until(lambda: len(r.members.issued.withdrawn_certificates) == 2)
            await until(lambda: other.link.status.connected)


async def test_a_superseded_certificate_renews_nothing_even_within_the_grace(tmp_path: Path) -> None:
    async with member(tmp_path, replace(FAST, superseded_grace_s=3600)) as (r, state, thief):
        async with linked(TestNode(state)) as node:
            await node.renewal.renew()
            new = f"{state.credentials.leaf().serial_number:x}"
            await until(lambda: new in r.members.renewals._noted)
            assert r.members.issued.withdrawn_certificates == frozenset()
            async with renewing(thief) as copy:
                assert await refusal(copy) is grpc.StatusCode.UNAUTHENTICATED
            (alarm,) = (await alarms(r, "RTK")).values()
            assert (alarm.kind, alarm.times) == ("superseded", 1)
            assert r.members.alarms.sounded == {("RTK", "superseded"): 1}


async def test_renewals_are_bounded(tmp_path: Path) -> None:
    async with member(tmp_path, replace(FAST, max_renewals=3)) as (r, state, _):
        async with renewing(state) as node:
            await node.renewal.renew()
            await node.renewal.renew()  # with the one of joining: three
            assert await refusal(node) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "renewals" in await alarms(r, "RTK")


async def test_two_live_links_of_one_key_are_an_alarm(tmp_path: Path) -> None:
    """The link that stands goes on standing: two who took it from each other would use up the epochs."""
    async with member(tmp_path) as (r, state, thief):
        async with linked(TestNode(state)) as node:
            number, rogue = r.members.active("RTK").id, TestNode(thief, state_id="state-9")
            await until(lambda: r.members.presence(number).reachable)
            since = node.link.status.since
            rogue.link.start()
            alarm = await alarm_of(r, "RTK")
            assert alarm.kind == "two-holders"
            assert "127.0.0.1, with another database" in alarm.detail
            await until(lambda: r.members.alarms.sounded["RTK", "two-holders"] > 3)
            assert "Another node" in rogue.link.status.refused
            assert (node.link.status.connected, node.link.status.since) == (True, since)
            assert r.members.active("RTK").epoch == 1
            await rogue.link.stop()
            assert (await alarm_of(r, "RTK")).times == 1, "kept once a minute, however often it tries"
            acts = [act for act in await r.audit.search() if act.query.get("alarm") == "two-holders"]
            assert [act.who.subject for act in acts] == ["registry"]
            table = members_table(r.members, alarms=await r.members.alarms.standing())
            told = " ".join(str(cell) for column in table.columns for cell in column.cells)
            assert "ALARM: two holders of its key are linked at once" in told
            assert await r.members.alarms_seen("RTK") == 1
            assert await alarms(r, "RTK") == {}


async def test_who_has_the_nodes_memory_too_takes_the_link_and_is_an_alarm(tmp_path: Path) -> None:
    """The registry cannot tell it from the node: from the same address it is none."""
    async with member(tmp_path) as (r, state, thief):
        async with linked(TestNode(state)) as node:
            await until(lambda: r.members.presence(r.members.active("RTK").id).reachable)
            (live,) = r.servicer.links.values()
            live.far = LinkEnd("10.0.0.1", live.far.state_id)
            twin = TestNode(thief)
            twin.facts = replace(node.facts, epoch=1)
            async with linked(twin):
                alarm = await alarm_of(r, "RTK")
            assert (alarm.kind, alarm.detail) == ("two-holders", "from 127.0.0.1 beside 10.0.0.1")


async def test_a_node_that_restarts_or_renews_is_no_second_holder(tmp_path: Path) -> None:
    async with member(tmp_path) as (r, state, _):
        async with linked(TestNode(state)) as node:
            await node.renewal.renew()
            new = f"{state.credentials.leaf().serial_number:x}"
            await until(lambda: new in r.members.renewals._noted)
        async with linked(TestNode(state, state_id="state-2")):  # restored from a backup
            pass
        assert await alarms(r, "RTK") == {}


@pytest.mark.parametrize(
    ("live", "newer", "words"),
    [
        (LinkEnd("10.0.0.1", "a"), LinkEnd("10.0.0.1", "a"), ""),
        (LinkEnd("10.0.0.1", "a"), LinkEnd("10.0.0.2", "a"), "from 10.0.0.2 beside 10.0.0.1"),
        (
            LinkEnd("10.0.0.1", "a"),
            LinkEnd("10.0.0.1", "b"),
            "from 10.0.0.1, with another database than from 10.0.0.1",
        ),
    ],
)
def test_what_tells_two_holders(live: LinkEnd, newer: LinkEnd, words: str) -> None:
    assert second_holder(live, newer) == words


async def test_a_stolen_key_is_ended_for_good(tmp_path: Path) -> None:
    async with member(tmp_path) as (r, _own, thief):
        await r.members.suspend("RTK", "stolen")
        await r.members.readmit("RTK", new_key=True)
        async with renewing(thief) as copy:
            assert await refusal(copy) is grpc.StatusCode.UNAUTHENTICATED
        anew = await r.joined("RTK", tmp_path / "anew")
        async with linked(TestNode(anew)):
            pass


async def test_codes_that_differ_by_case_are_one(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        await r.invite("RTK")
        await r.invite("RTK")
        with pytest.raises(Conflict, match="There is a member RTK"):
            await r.invite("rtk")
