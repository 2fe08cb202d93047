"""D3 as a pure function."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier
from crosslight.standards.names import family_keys, given_matches, search_key
from crosslight.standards.study import PersonName
from registry.identity.linking import Claimant, Linked, link

N = Identifier("9990000018", NHS_NUMBER_OID)
M = Identifier("9990000026", NHS_NUMBER_OID)
CHI = Identifier("9990000018", CHI_OID)


def claim(
    key: int,
    birth: str = "19500101",
    *,
    traced: bool = False,
    source: str = "",
    numbers: tuple[Identifier, ...] = (N,),
) -> Claimant:
    return Claimant(key, frozenset(numbers), birth, traced, source or f"m{key}")


def groups(linked: Linked) -> set[tuple[int, ...]]:
    return {tuple(sorted(group)) for group in linked.groups}


def test_records_join_when_birth_dates_agree() -> None:
    linked = link([claim(1), claim(2), claim(3, numbers=())])
    assert groups(linked) == {(1, 2), (3,)}
    assert linked.holders[N] == {1, 2}
    assert not linked.disputed


def test_traced_numbers_join_where_a_birth_date_is_not_known_and_never_where_they_differ() -> None:
    assert groups(link([claim(1, traced=True), claim(2, "", traced=True)])) == {(1, 2)}
    assert groups(link([claim(1, traced=True), claim(2, "19510101", traced=True)])) == {(1,), (2,)}
    assert groups(link([claim(1, traced=True), claim(2, "19510101")])) == {(1,), (2,)}


def test_a_missing_birth_date_agrees_with_nothing() -> None:
    assert groups(link([claim(1, ""), claim(2, "")])) == {(1,), (2,)}


def test_the_traced_group_holds_the_number_against_more_members() -> None:
    linked = link([claim(1), claim(2), claim(3, "19660606", traced=True)])
    assert linked.holders[N] == {3}
    assert linked.disputed == {1, 2}
    assert groups(linked) == {(1,), (2,), (3,)}, "losers stay alone"


def test_the_group_from_most_members_holds_it() -> None:
    linked = link([claim(1), claim(2), claim(3, "19660606")])
    assert linked.holders[N] == {1, 2}
    assert linked.disputed == {3}


def test_members_count_not_records() -> None:
    linked = link([claim(1, source="A"), claim(2, source="A"), claim(3, "19660606", source="B")])
    assert linked.holders[N] == frozenset()
    assert linked.disputed == {1, 2, 3}, "at a tie it belongs to none"


def test_authorities_are_not_told_apart_by_digits() -> None:
    linked = link([claim(1, numbers=(N,)), claim(2, numbers=(CHI,))])
    assert groups(linked) == {(1,), (2,)}
    assert linked.holders == {N: {1}, CHI: {2}}


def test_two_national_numbers_join_across_nations() -> None:
    assert groups(link([claim(1, numbers=(N,)), claim(2, numbers=(N, CHI)), claim(3, numbers=(CHI,))])) == {
        (1, 2, 3)
    }


def test_a_loser_of_one_number_supports_no_group_of_another() -> None:
    # 3 loses N, so it cannot bridge 4 and 5 for M.
    linked = link(
        [
            claim(1),
            claim(2),
            claim(3, "19660606", numbers=(N, M)),
            claim(4, "19660606", numbers=(M,), source="x"),
        ]
    )
    assert linked.disputed == {3}
    assert groups(linked) == {(1, 2), (3,), (4,)}
    assert linked.holders[M] == {4}


def test_a_disputed_record_keeps_a_number_that_only_it_claims() -> None:
    linked = link([claim(1), claim(2), claim(3, "19660606", numbers=(N, M))])
    assert linked.holders[M] == {3}
    assert linked.disputed == {3}


def test_people_decide() -> None:
    assert groups(link([claim(1), claim(2, "19510101")], same=[(1, 2)])) == {(1, 2)}
    apart = link([claim(1), claim(2)], apart=[2])
    assert groups(apart) == {(1,), (2,)}
    assert apart.disputed == {2}
    assert apart.holders[N] == {1}


CLAIMS = st.lists(
    st.builds(
        Claimant,
        key=st.just(0),
        numbers=st.frozensets(st.sampled_from([N, M, CHI]), max_size=2),
        birth_date=st.sampled_from(["", "19500101", "19660606", "19700707"]),
        traced=st.booleans(),
        source=st.sampled_from("ABC"),
    ),
    max_size=9,
)


@settings(max_examples=300, deadline=None)
@given(
    CLAIMS,
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=2),
)
def test_the_order_of_arrival_changes_nothing(
    made: list[Claimant], random: Random, same: list[tuple[int, int]]
) -> None:
    claims = [
        Claimant(i, c.numbers, c.birth_date, c.traced and bool(c.numbers), c.source)
        for i, c in enumerate(made)
    ]
    before = link(claims, same=same)
    shuffled = list(claims)
    random.shuffle(shuffled)
    assert link(shuffled, same=list(reversed(same))) == before
    # Every record is in one group; holders are one person each; whoever claims and does not hold is disputed.
    assert sorted(k for g in before.groups for k in g) == list(range(len(claims)))
    for number, group in before.holders.items():
        assert any(group <= g for g in before.groups)
        assert {c.key for c in claims if number in c.numbers} - group <= before.disputed
    if not same:
        for group in before.groups:
            assert len(group) == 1 or not group & before.disputed, "disputed records stay alone"


def test_names_fold_case_diacritics_and_punctuation() -> None:
    assert search_key("O’Brien-Ångström") == search_key("OBRIEN ANGSTROM")
    assert search_key("Łukasz") == "lukasz"
    assert search_key("Straße") == "strasse"
    assert search_key("Ибраимов") == "ибраимов"
    assert search_key("किरण") != search_key("करण"), "Devanagari vowel signs are letters"
    assert family_keys(PersonName("Yamada^Tarou=山田^太郎=やまだ^たろう")) == ("yamada", "山田")
    assert family_keys(PersonName("=山田^太郎")) == ("山田", "")
    assert given_matches(PersonName("Yamada^Tarou=山田^太郎"), "太郎")
    assert given_matches(PersonName("Smith^Mary Ann"), "mary")
    assert not given_matches(PersonName("Smith^Ann"), "mary")
