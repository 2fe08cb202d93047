"""D10 as a table: who remembers what, and what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.ids import Version
from crosslight.standards.problem import Conflict
from registry.link.epochs import MAX_EPOCH, EpochDecision, NodeSays, RegistrySays, decide

#           node: epoch acked made incarnation state | registry: epoch cursor incarnation state | epoch
# reconcile
TABLE = {
    "first link after joining": ((0, 0, 0, "", "s"), (1, None, "i", ""), (1, False)),
    "the welcome was lost": ((0, 0, 0, "", "s"), (1, None, "i", "s"), (1, False)),
    "agreed": ((1, 9, 9, "i", "s"), (1, Version(1, 9), "i", "s"), (1, False)),
    "agreed, nothing yet": ((1, 0, 0, "", "s"), (1, None, "i", "s"), (1, False)),
    "work waits": ((1, 9, 30, "i", "s"), (1, Version(1, 9), "i", "s"), (1, False)),
    "acknowledgements lost on the way": ((1, 9, 12, "i", "s"), (1, Version(1, 11), "i", "s"), (1, False)),
    "the first acknowledgement lost": ((1, 0, 2, "", "s"), (1, Version(1, 2), "i", "s"), (1, False)),
    "node restored by command": ((1, 9, 9, "i", "t"), (1, Version(1, 30), "i", "s"), (2, True)),
    "node restored, said so, and behind by nothing": (
        (1, 9, 9, "i", "t"),
        (1, Version(1, 9), "i", "s"),
        (2, True),
    ),
    "node's files put back": ((1, 9, 9, "i", "s"), (1, Version(1, 30), "i", "s"), (2, True)),
    "node's files put back, and it went on": ((1, 9, 20, "i", "s"), (1, Version(1, 30), "i", "s"), (2, True)),
    "node does not say what it made": ((1, 9, 0, "i", "s"), (1, Version(1, 11), "i", "s"), (2, True)),
    "node lost its database, same files of region": (
        (0, 0, 0, "", "t"),
        (1, Version(1, 30), "i", "s"),
        (2, True),
    ),
    "node joined again with an empty database": ((0, 0, 0, "", "t"), (2, Version(1, 30), "i", ""), (2, True)),
    "node joined again with its database": ((1, 30, 30, "i", "s"), (2, Version(1, 30), "i", ""), (2, True)),
    "registry restored by command": ((1, 30, 30, "i", "s"), (1, Version(1, 9), "j", "s"), (1, True)),
    "registry restored, nothing lost": ((1, 9, 9, "i", "s"), (1, Version(1, 9), "j", "s"), (1, True)),
    "registry's database put back": ((1, 30, 30, "i", "s"), (1, Version(1, 9), "i", "s"), (1, True)),
    "registry restored before the epoch was granted": (
        (3, 4, 4, "i", "s"),
        (1, Version(1, 9), "j", "s"),
        (3, True),
    ),
    "registry's database put back before the grant": (
        (3, 0, 0, "i", "s"),
        (1, Version(1, 9), "i", "s"),
        (3, True),
    ),
    "registry rebuilt from nothing but members": ((2, 30, 30, "i", "s"), (2, None, "j", "s"), (2, True)),
    "a grant was missed": ((1, 9, 9, "i", "s"), (2, Version(1, 9), "i", "s"), (2, True)),
    "both restored": ((1, 5, 5, "i", "t"), (1, Version(1, 9), "j", "s"), (2, True)),
}


@pytest.mark.parametrize("case", TABLE)
def test_table(case: str) -> None:
    (epoch, acked, made, incarnation, state), (granted, cursor, ours, known), (want, reconcile) = TABLE[case]
    node = NodeSays(epoch=epoch, acked_n=acked, made_n=made, incarnation=incarnation, state_id=state)
    registry = RegistrySays(epoch=granted, cursor=cursor, incarnation=ours, state_id=known)
    decision = decide(node, registry)
    assert (decision.epoch, decision.reconcile) == (want, reconcile), decision.why


def test_epochs_run_out_loudly() -> None:
    node = NodeSays(epoch=MAX_EPOCH, acked_n=1, state_id="t")
    with pytest.raises(Conflict):
        decide(
            node, RegistrySays(epoch=MAX_EPOCH, cursor=Version(MAX_EPOCH, 5), incarnation="i", state_id="s")
        )


numbers = st.integers(0, 40)


@given(
    st.builds(
        NodeSays,
        epoch=st.integers(0, 5),
        acked_n=numbers,
        made_n=numbers,
        incarnation=st.sampled_from(["", "i", "j"]),
        state_id=st.sampled_from(["s", "t"]),
    ),
    st.builds(
        RegistrySays,
        epoch=st.integers(0, 5),
        cursor=st.none() | st.builds(Version, st.integers(1, 5), numbers),
        incarnation=st.sampled_from(["i", "j"]),
        state_id=st.sampled_from(["", "s", "t"]),
    ),
)
def test_no_version_is_ever_used_twice(node: NodeSays, registry: RegistrySays) -> None:
    """Whatever is said: nobody is sent back to an epoch below what either has seen, and forgetting never goes
    unnoticed.
    """
    decision: EpochDecision = decide(node, registry)
    seen = max(node.epoch, registry.epoch)
    assert decision.epoch >= seen
    assert decision.epoch >= 1
    cursor = registry.cursor
    if cursor is not None:
        assert decision.epoch >= cursor.epoch
        # goes on in an epoch with acknowledged versions: then it remembers them
        if decision.epoch == cursor.epoch:
            assert node.epoch == cursor.epoch
            assert max(node.acked_n, node.made_n) >= cursor.n
    if node.incarnation and node.incarnation != registry.incarnation and node.acked_n:
        assert decision.reconcile
