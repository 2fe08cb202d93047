"""The census is the same however it is put together."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.census import Census, census_item, take_census

_PAIRS = st.lists(
    st.tuples(st.sampled_from(["1.2", "1.3", "1.4", "1.5"]), st.sampled_from(["aa", "bb"])), unique=True
)


@given(_PAIRS, st.randoms())
def test_order_does_not_matter(pairs: list[tuple[str, str]], random: Random) -> None:
    shuffled = sorted(pairs, key=lambda _: random.random())
    assert take_census(pairs) == take_census(shuffled)


@given(_PAIRS)
def test_step_by_step_is_the_same_as_at_once(pairs: list[tuple[str, str]]) -> None:
    census = Census()
    for study_uid, sha1 in pairs:
        census = census.with_item(census_item(study_uid, sha1))
    assert census == take_census(pairs)
    for study_uid, sha1 in pairs:
        census = census.without_item(census_item(study_uid, sha1))
    assert census == Census()


def test_another_revision_is_another_census() -> None:
    assert take_census([("1.2", "aa")]) != take_census([("1.2", "bb")])
    assert take_census([("1.2", "AA")]) == take_census([("1.2", "aa")])
