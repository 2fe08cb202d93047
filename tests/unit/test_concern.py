"""Hashes of whom unlisted studies concern: keyed, bounded, the same on either end."""

from __future__ import annotations

import pytest

from crosslight.standards.concern import (
    HASH_BYTES,
    MAX_HASHES,
    Concern,
    concern_of,
    packed,
    patient_hash,
    unpacked,
)
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Invalid

SECRET = bytes(range(32))
LOCAL, NUMBER = Identifier("K563756", "1.2.3"), Identifier("9990000018", NHS_NUMBER_OID)


def test_the_vector_that_another_implementation_must_meet() -> None:
    assert patient_hash(SECRET, NUMBER).hex() == "d79ba05279aad7c5"


@pytest.mark.parametrize(
    ("other", "secret", "same"),
    [
        # a label is no part of an identifier
        (Identifier("K563756", "1.2.3", namespace="RTK"), SECRET, True),
        (Identifier("K563756", "1.2.4"), SECRET, False),
        (Identifier("K563757", "1.2.3"), SECRET, False),
        (Identifier("1.2.3\x00K563756", ""), SECRET, False),
        (LOCAL, bytes(32), False),
    ],
)
def test_a_hash_is_of_authority_and_value_under_the_members_secret(
    other: Identifier, secret: bytes, same: bool
) -> None:
    assert (patient_hash(secret, other) == patient_hash(SECRET, LOCAL)) is same


def test_equal_sets_have_equal_versions_and_others_do_not() -> None:
    one, again = concern_of(SECRET, [LOCAL, NUMBER], []), concern_of(SECRET, [NUMBER, LOCAL, NUMBER], [])
    assert one == again
    assert one.version == again.version
    others = [
        concern_of(SECRET, [LOCAL], [NUMBER]),
        concern_of(SECRET, [], [LOCAL, NUMBER]),
        concern_of(SECRET, [LOCAL, NUMBER], [], anybody_waiting=True),
        concern_of(SECRET, [LOCAL, NUMBER], [], anybody_refused=True),
        Concern(),
    ]
    assert len({c.version for c in (one, *others)}) == 6
    assert unpacked(packed(one.waiting)) == one.waiting
    assert "waiting" not in repr(one).replace("anybody_waiting", ""), (
        "hashes are not printed, whoever prints the set"
    )


@pytest.mark.parametrize(
    ("waiting", "refused", "kept", "anybody"),
    [
        (MAX_HASHES, 0, (MAX_HASHES, 0), (False, False)),
        (MAX_HASHES + 1, 0, (0, 0), (True, False)),
        (MAX_HASHES, 1, (0, 1), (True, False)),
        (1, MAX_HASHES, (0, MAX_HASHES), (True, False)),
        (1, MAX_HASHES + 1, (1, 0), (False, True)),
    ],
)
def test_what_is_over_the_bound_may_be_anybodys(
    waiting: int, refused: int, kept: tuple[int, int], anybody: tuple[bool, bool]
) -> None:
    made = concern_of(
        SECRET,
        (Identifier(f"W{n}", "1") for n in range(waiting)),
        (Identifier(f"R{n}", "1") for n in range(refused)),
    )
    assert (len(made.waiting), len(made.refused)) == kept
    assert (made.anybody_waiting, made.anybody_refused) == anybody


@pytest.mark.parametrize("data", [b"x", b"x" * (HASH_BYTES + 1), b"x" * (HASH_BYTES * (MAX_HASHES + 1))])
def test_what_is_no_set_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        unpacked(data)
