"""When a study may go: the longest of the rules that name it counts, and what has no date stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.archive.config import RetentionRule
from node.archive.retention_rules import Ageing, verdict


def unix(year: int, month: int = 1, day: int = 1) -> float:
    return datetime(year, month, day, 12, tzinfo=UTC).timestamp()


STUDY = Ageing(
    study_uid="1.2",
    study_date="20150601",
    birth_date="19700102",
    modalities=("CT", "SR"),
    instances=1,
    size_bytes=1,
    stored_unix=unix(2016),
    opened_unix=unix(2020),
)


def rule(years: int = 8, **more: Any) -> RetentionRule:
    return RetentionRule(**{"name": "rule", "keep_years": years, **more})


def until(*rules: RetentionRule, **study: Any) -> date | None:
    judged = verdict(rules, replace(STUDY, **study))
    assert judged is not None
    return judged.until


@pytest.mark.parametrize(
    ("counted_from", "expected"),
    [("study", date(2023, 6, 1)), ("stored", date(2024, 1, 1)), ("opened", date(2028, 1, 1))],
)
def test_what_the_years_count_from(counted_from: str, expected: date) -> None:
    assert until(rule(counted_from=counted_from)) == expected


def test_what_was_received_after_it_was_opened_counts_from_then() -> None:
    assert until(rule(counted_from="opened"), stored_unix=unix(2025)) == date(2033, 1, 1)


def test_a_child_s_images_are_kept_until_the_age() -> None:
    kept = rule(until_age_years=25)
    assert until(kept, birth_date="20100315") == date(2035, 3, 15)
    assert until(kept, birth_date="19700102") == date(2023, 6, 1)


@pytest.mark.parametrize("text", ["", "2015", "201506", "20151301", "2015060١", "00000000", "20150230"])
def test_what_has_no_date_never_goes(text: str) -> None:
    assert until(rule(), study_date=text) is None
    assert until(rule(until_age_years=25), birth_date=text) is None
    assert until(rule(counted_from="stored"), study_date=text) == date(2024, 1, 1)


def test_a_rule_names_studies_by_any_of_their_modalities() -> None:
    assert verdict((rule(modalities=("MG",)),), STUDY) is None
    assert verdict((), STUDY) is None
    assert until(rule(modalities=("MG", "SR"))) == date(2023, 6, 1)


def test_all_who_are_named_by_any_rule_have_to_commit() -> None:
    rules = (
        rule(1, name="a", committed_to="DEEP"),
        rule(name="b", committed_to="OFFSITE"),
        rule(2, name="c"),
    )
    judged = verdict(rules, STUDY)
    assert judged is not None
    assert (judged.rule.name, judged.keepers) == ("b", ("DEEP", "OFFSITE"))
    other = rule(name="d", modalities=("MG",), committed_to="FILM")
    judged = verdict((other, rule()), STUDY)
    assert judged is not None
    assert judged.keepers == ()


def test_the_longest_rule_counts_whatever_the_order() -> None:
    short, long = rule(1, modalities=("CT",), name="short"), rule(9, name="long")
    for rules in ((short, long), (long, short)):
        judged = verdict(rules, STUDY)
        assert judged is not None
        assert (judged.rule.name, judged.until) == ("long", date(2024, 6, 1))
    undated = rule(1, until_age_years=25, name="undated")
    assert until(short, undated, long, birth_date="") is None


def test_a_leap_day_and_the_end_of_time() -> None:
    assert until(rule(1), study_date="20160229") == date(2017, 3, 1)
    assert until(rule(4), study_date="20160229") == date(2020, 2, 29)
    assert until(rule(200), study_date="99990101") == date.max


def test_the_first_day_is_the_one_after_the_years() -> None:
    judged = verdict((rule(),), STUDY)
    assert judged is not None
    assert not judged.is_due(date(2023, 5, 31))
    assert judged.is_due(date(2023, 6, 1))


@given(
    years=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    more=st.integers(1, 60),
    born=st.dates(date(1900, 1, 1), date(2015, 6, 1)),
    age=st.integers(0, 100),
)
def test_another_rule_never_shortens(years: list[int], more: int, born: date, age: int) -> None:
    rules = [rule(n, name=str(place)) for place, n in enumerate(years)]
    alone = until(*rules, birth_date=f"{born:%Y%m%d}")
    both = until(*rules, rule(more, until_age_years=age, name="more"), birth_date=f"{born:%Y%m%d}")
    assert alone is not None
    assert both is not None
    assert both >= alone
