"""Fair shares: whose turn it is, who waits, who is refused, and which connection gives way."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.runtime.caller import Caller
from crosslight.runtime.shares import FairQueue, Places, ShareLimits, Shares, Turn, peer_share, share_of
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.problem import Busy, OverShare


def queue(total: int = 2, each: int = 1, **more: int) -> FairQueue:
    return FairQueue(ShareLimits(total=total, each=each, **more), "things")


def test_turns_go_round_the_keys_and_in_order_within_one() -> None:
    fair = queue(total=1)
    first = fair.ask("noisy")
    waits = [fair.ask("noisy") for _ in range(3)] + [fair.ask("quiet"), fair.ask("other")]
    order: list[int] = []
    current = first
    for _ in waits:
        fair.leave(current)
        granted = [n for n, turn in enumerate(waits) if turn.granted]
        assert len(granted) == 1
        order += granted
        current = waits[granted[0]]
    # the quiet ones before the noisy one's second; the noisy one's own in their order
    assert order == [3, 4, 0, 1, 2]


def test_whoever_has_least_at_work_is_next() -> None:
    fair = queue(total=3, each=3)
    turns = [fair.ask("noisy"), fair.ask("noisy"), fair.ask("noisy")]
    again, quiet = fair.ask("noisy"), fair.ask("quiet")
    fair.leave(turns[0])
    assert (again.granted, quiet.granted) == (False, True)


def test_a_share_is_kept_free_of_one_key() -> None:
    fair = queue(total=3, each=2)
    assert [fair.ask("noisy").granted for _ in range(3)] == [True, True, False]
    assert fair.ask("quiet").granted


def test_who_waits_is_bounded_for_each_and_the_longest_queue_gives_way() -> None:
    fair = queue(total=1, waiting=4, waiting_each=3)
    fair.ask("noisy")
    own = [fair.ask("noisy") for _ in range(3)]
    with pytest.raises(OverShare):
        fair.ask("noisy")
    fair.ask("second")
    quiet = fair.ask("third")  # five would wait: the last of the longest queue goes
    assert [turn.dropped for turn in own] == [False, False, True]
    assert isinstance(fair.refusal(own[-1]), OverShare)
    assert not quiet.dropped
    assert fair.waiting == 4
    fair.ask("fourth")
    with pytest.raises(Busy) as refused:  # now one waits of each: nobody has more than a newcomer would have
        fair.ask("fifth")
    assert not isinstance(refused.value, OverShare)


def test_whoever_needs_much_is_waited_for() -> None:
    fair = queue(total=3, each=2)
    first = [fair.ask("a"), fair.ask("b")]
    heavy, light = fair.ask("c", 9), fair.ask("d")  # 9: the whole share of 2
    assert (heavy.weight, heavy.granted, light.granted) == (2, False, False)
    fair.leave(first[0])
    assert (heavy.granted, light.granted) == (True, False)
    fair.leave(first[1])
    assert light.granted


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 9)), max_size=60)


@given(STEPS, st.integers(1, 3))
def test_bounds_hold_and_nobody_waits_without_a_reason(steps: list[tuple[str, int, int]], each: int) -> None:
    fair = queue(total=4, each=each, waiting=8, waiting_each=4)
    turns: list[Turn] = []
    for key, weight, place in steps:
        if not weight and turns:
            fair.leave(turns.pop(place % len(turns)))
        else:
            try:
                turns.append(fair.ask(key, weight or 1))
            except Busy:
                pass
        turns = [turn for turn in turns if not turn.dropped]
        running: Counter[str] = Counter()
        for turn in turns:
            running[turn.key] += turn.weight if turn.granted else 0
        waiting = [turn for turn in turns if not turn.granted]
        assert fair.running == sum(running.values()) <= 4
        assert fair.waiting == len(waiting) <= 8
        assert max(running.values(), default=0) <= each
        next_one = fair._next()
        assert next_one is None or fair.running + next_one.weight > 4
    for turn in list(turns):
        fair.leave(turn)
    assert (fair.running, fair.waiting) == (0, 0)
    assert fair._served == {}  # nothing is kept of who has gone


async def test_waiting_ends_with_a_turn_with_patience_or_with_the_caller() -> None:
    shares = Shares("things", ShareLimits(total=1, each=1, patience_s=0.01))
    order: list[str] = []

    async def work(key: str) -> None:
        async with shares.turn(key):
            order.append(key)

    async with shares.turn("a"):
        with pytest.raises(OverShare):
            await work("a")
        with pytest.raises(Busy) as refused:
            await work("b")
        assert type(refused.value) is Busy
        assert (refused.value.http_status, refused.value.retry_after_s) == (503, 5)
        gone = asyncio.create_task(work("b"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert shares.queue.waiting == 0
    await work("b")
    assert order == ["b"]
    assert shares.queue.running == 0


async def test_one_is_served_before_the_queue_of_another_is_drained() -> None:
    shares = Shares("things", ShareLimits(total=1, each=1))
    order: list[str] = []

    async def work(key: str) -> None:
        async with shares.turn(key):
            await asyncio.sleep(0)
            order.append(key)

    await asyncio.gather(*(work("noisy") for _ in range(10)), work("quiet"))
    assert order.index("quiet") == 1


def test_a_connection_beyond_the_share_takes_the_place_of_an_idle_one_of_the_same_key() -> None:
    places, cut, at_work = Places("connections", total=4, each=2), list[str](), {"a1"}
    enter = lambda key, name: places.enter(key, lambda: cut.append(name), lambda: name not in at_work)  # noqa: E731 - named for its use
    first = enter("a", "a1")
    enter("a", "a2")
    enter("a", "a3")
    assert (cut, places.of("a")) == (["a2"], 2)
    at_work.add("a3")
    with pytest.raises(OverShare):
        enter("a", "a4")
    places.leave(first)
    places.leave(first)
    assert (len(places), places.of("a")) == (1, 1)


def test_where_all_places_are_taken_whoever_has_most_gives_way() -> None:
    places, cut, at_work = Places("connections", total=4, each=3), list[str](), set[str]()
    enter = lambda key, name: places.enter(key, lambda: cut.append(name), lambda: name not in at_work)  # noqa: E731 - named for its use
    for name in ("a1", "a2", "a3", "b1"):
        enter(name[0], name)
    enter("c", "c1")
    assert cut == ["a1"]
    at_work |= {"a2", "a3", "b1", "c1"}
    with pytest.raises(Busy) as refused:
        enter("d", "d1")
    assert type(refused.value) is Busy
    assert len(places) == 4


def test_whose_share_it_is() -> None:
    def caller(principal: Principal, peer: str) -> Caller:
        return Caller(principal=principal, correlation="c", peer=peer)

    person = Principal(subject="person:x")
    assert share_of(caller(person, "10.0.0.1")) == share_of(caller(person, "10.0.0.2"))
    assert share_of(caller(OPEN, "10.0.0.1")) != share_of(caller(OPEN, "10.0.0.2"))
    assert peer_share("2001:db8::1") == peer_share("2001:db8::ffff:1") != peer_share("2001:db8:0:1::1")
    assert peer_share("::ffff:10.0.0.1") == peer_share("10.0.0.1") == "10.0.0.1"
    assert peer_share("fe80::1%eth0") == "fe80::/64"
    assert peer_share("") == ""
