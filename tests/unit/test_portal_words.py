"""What the page says, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from unicodedata import category

import portal_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier, Oid
from crosslight.standards.study import PersonName, StudyTime
from registry.ask.question import Answer
from registry.portal import wording as words
from registry.portal.coverage_wording import sites_of, with_doubt
from registry.portal.search import read_search
from registry.portal.timeline import banner_of, by_year, rows_of

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("pn", "shown"),
    [
        ("Chandrasekhar^Subramanyan^^Mr", "CHANDRASEKHAR, Subramanyan (Mr)"),
        ("Smith^John^Paul^^Jr", "SMITH, John Paul Jr"),
        ("O'Neill", "O'NEILL"),
        ("^Madonna", "Madonna"),
        ("=山田^太郎", "山田, 太郎"),
        ("", "Name not known"),
        ("A\nB^C\u202eD", "A B, CD"),
        ("<script>^alert(1)", "<SCRIPT>, alert(1)"),
    ],
)
def test_names(pn: str, shown: str) -> None:
    assert words.person_name(PersonName(pn)) == shown


def test_second_scripts_stand_beside() -> None:
    assert words.other_name(PersonName("Yamada^Tarou=山田^太郎")) == "山田 太郎"
    assert words.other_name(PersonName("=山田^太郎")) == ""


@pytest.mark.parametrize(
    ("birth", "shown"),
    [
        ("19450714", "14-Jul-1945 (81y)"),
        ("20261121", "21-Nov-2026 (1d)"),
        ("20261001", "01-Oct-2026 (7w 3d)"),
        ("20251101", "01-Nov-2025 (12m)"),
        ("20200815", "15-Aug-2020 (6y 3m)"),
        ("20081123", "23-Nov-2008 (17y 11m)"),
        ("20081122", "22-Nov-2008 (18y)"),
        ("1945", "1945"),
        ("194507", "Jul-1945"),
        ("", "Not known"),
        ("garbage!", "Not known"),
        ("19451399", "Not known"),
        ("20270101", "01-Jan-2027"),
    ],
)
def test_born(birth: str, shown: str) -> None:
    assert words.born(birth, TODAY) == shown


def test_numbers_and_their_labels() -> None:
    assert words.number(Identifier("9990000018")) == "999 000 0018"
    assert words.number(Identifier("A-1")) == "A-1"
    assert words.number_label(NHS_NUMBER_OID, samples.REGION) == "NHS No."
    assert words.number_label(CHI_OID, samples.REGION) == "CHI No."


LINES = st.text(st.sampled_from("a é山\t\n\x00\x85\u00a0\u00ad\u200b\u200e\u2028\u202e\u2066\ue000\ufffe"))


@given(LINES | st.text())
@settings(max_examples=40)
def test_a_line_has_no_control_and_no_direction_characters(text: str) -> None:
    """Read one by one, as they were before whole texts were looked at."""
    away = {0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    kept = (" " if category(c) in ("Cc", "Zl", "Zp") else c for c in text if ord(c) not in away)
    assert words.plain(text) == "".join(kept).strip()


def test_small_words() -> None:
    assert words.count(1, "image") == "1 image"
    assert words.count(1204, "study", "studies") == "1,204 studies"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing([]) == ""
    assert words.body_part("CHEST") == "Chest"
    assert words.body_part("LSPINE") == "Lumbar spine"
    assert words.study_day(StudyTime()) == "No date"
    assert words.study_clock(StudyTime(time="0931")) == "09:31"
    assert words.moment(samples.NOW - timedelta(days=1), samples.NOW, "Europe/London") == "21-Nov-2026 03:12"
    summer = samples.NOW.replace(month=7)
    assert words.moment(summer, summer, "Europe/London") == "04:12", "the region's own time"


def test_no_imaging_is_said_only_when_proven() -> None:
    sure = sites_of(samples.coverage(), samples.REGION)
    assert (sure.complete, sure.proven) == (True, True)
    assert (sure.verdict, sure.absence) == ("No imaging", "Checked at 03:12: none of the 5 trusts holds any.")
    assert (sure.lead, sure.sentence) == ("Complete at 03:12:", "every trust’s list was up to date.")
    for change, said in (
        (samples.away, "Royal Surrey NHS Foundation Trust has not answered since 01:12"),
        (
            lambda p: replace(p, list_state="filling"),
            "Royal Surrey NHS Foundation Trust is still sending its past studies",
        ),
        (
            lambda p: replace(p, list_state="behind", waits="anybody", waiting=3),
            "Royal Surrey NHS Foundation Trust is behind, 3 studies waiting",
        ),
        (
            lambda p: replace(p, list_state="behind", waits="patient", waiting=3),
            "Royal Surrey NHS Foundation Trust has new or changed studies of this patient on their way",
        ),
        (
            lambda p: replace(p, list_state="behind", refused="patient", parked=2),
            (
                "Royal Surrey NHS Foundation Trust has images of this patient that were refused and are not"
                " listed"
            ),
        ),
        (
            lambda p: replace(p, refused="anybody", parked=2),
            (
                "Royal Surrey NHS Foundation Trust has images that were refused, and it is not known whose"
                " they are"
            ),
        ),
        (
            lambda p: replace(p, reachable=False, as_of=None, list_state="unknown"),
            "Royal Surrey NHS Foundation Trust has never linked",
        ),
        (
            lambda p: replace(p, list_state="unknown"),
            "nothing is known yet of Royal Surrey NHS Foundation Trust",
        ),
        (
            lambda p: replace(p, census_equal=None),
            "Royal Surrey NHS Foundation Trust has not been compared in full yet",
        ),
        (
            lambda p: replace(p, identity_doubt=True),
            "a record at Royal Surrey NHS Foundation Trust is in doubt",
        ),
        (lambda p: replace(p, suspended=True), "Royal Surrey NHS Foundation Trust has not answered yet"),
    ):
        sites = sites_of(samples.coverage(RA2=change), samples.REGION)
        assert not sites.proven
        assert (sites.verdict, sites.absence) == ("None found so far", f"{said[0].upper()}{said[1:]}.")


def test_who_does_not_answer_disproves_absence() -> None:
    silent = samples.coverage(RA2=lambda p: replace(p, reachable=False, since=samples.NOW))
    assert not sites_of(silent, samples.REGION).proven, "it may hold what it has not told"


def test_unreachable_concerns_opening_and_behind_the_list() -> None:
    sites = sites_of(
        samples.coverage(RA2=samples.away, RTK=lambda p: replace(p, list_state="behind", waiting=2)),
        samples.REGION,
    )
    gone, late = sites.by_code("RA2"), sites.by_code("RTK")
    assert gone is not None
    assert (gone.opens, gone.level, gone.state) == (False, "away", "Not reachable since 01:12")
    assert late is not None
    assert (late.opens, late.level, late.state) == (True, "behind", "Behind")
    assert sites.sentence.startswith("Royal Surrey NHS Foundation Trust has not answered since 01:12; ")
    assert [s["code"] for s in sites.as_json()["sites"]] == list(samples.TRUSTS)
    assert not sites_of(with_doubt(samples.coverage(), ["RXC"]), samples.REGION).complete


def answer(*holdings: object, **more: object) -> Answer:
    whose = samples.person(samples.record(1, "RTK"), samples.record(2, "RYR"), samples.record(3, "RA2"))
    return Answer(
        holdings=holdings if holdings else samples.STUDIES,
        persons=(whose,),
        objects=(),
        disputed=(),  # type: ignore[arg-type]
        coverage=samples.coverage(**more),
        correlation="c",
        incarnation="i",
    )


def test_one_row_for_each_study_newest_first() -> None:
    sites = sites_of(samples.coverage(RTK=samples.away), samples.REGION)
    rows = rows_of(answer(), samples.DIRECTORY, sites)
    assert [row.uid.rsplit(".", 1)[-1] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [year for year, _ in by_year(rows)] == ["2026", "2025", "2024", "Date not known"]
    first, second, *_, conflict, undated = rows
    assert not first.opens
    assert first.opening == "Not reachable since 01:12"
    assert second.holders == "RA2 RYR"
    assert second.opening == "Open now"
    assert conflict.conflict
    assert [c.record.n_instances for c in conflict.copies] == [4, 4]
    assert conflict.choice
    assert conflict.default is None, "nobody chooses but the reader"
    assert conflict.address == ""
    ryr = conflict.copy("RYR")
    assert ryr is not None
    assert conflict.root(ryr) == "/dicomweb/members/RYR", "never another trust's copy"
    assert not second.choice
    assert second.default is not None
    assert second.default.code == "RA2"
    assert second.address == "/dicomweb/studies/1.2.826.0.1.2"
    assert undated.partial
    assert undated.description == "No description"


def test_a_copy_that_can_be_reached_opens_the_study() -> None:
    sites = sites_of(samples.coverage(RA2=samples.away), samples.REGION)
    rows = rows_of(answer(), samples.DIRECTORY, sites)
    assert rows[1].opens


def test_banner() -> None:
    whose = samples.person(samples.record(1, "RTK"), samples.record(2, "RYR", pn="JONES^Ada"), differs=True)
    banner = banner_of(whose, samples.DIRECTORY, samples.REGION, TODAY)
    assert (banner.name, banner.born, banner.sex) == ("SMITH, Ada (Mrs)", "14-Feb-1955 (71y)", "Female")
    assert [(n.label, n.value) for n in banner.numbers] == [("NHS No.", "999 000 0018")]
    assert [r.name for r in banner.records] == ["SMITH, Ada (Mrs)", "JONES, Ada"]
    unknown = replace(whose, domain_id=Identifier("CL1", samples.REGION.authority))
    shown = banner_of(unknown, samples.DIRECTORY, samples.REGION, TODAY).numbers
    assert [(n.label, n.value) for n in shown] == [("NHS No.", "Not known"), ("Local No.", "RTK-00001")]
    nameless = replace(samples.REGION, national_authority=Oid(""), national_label="")
    assert banner_of(unknown, samples.DIRECTORY, nameless, TODAY).numbers[0].value == "RTK-00001"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "number"),
        ({"family": "X"}, "day"),
        ({"family": "X", "day": "31", "month": "2", "year": "1980"}, "day"),
        ({"family": "X", "day": "1", "month": "2", "year": "80"}, "day"),
        ({"family": "X", "day": "1", "month": "2", "year": "2080"}, "day"),
        ({"given": "X", "day": "1", "month": "2", "year": "1980"}, "family"),
    ],
)
def test_what_the_form_refuses(form: dict[str, str], field: str) -> None:
    search = read_search(form, samples.REGION, TODAY)
    assert search.selector is None
    assert field in search.errors


def test_what_the_form_asks() -> None:
    number = read_search({"number": " 999-000 0018 "}, samples.REGION, TODAY).selector
    assert number is not None
    assert number.identifiers == (
        samples.NUMBER,
        Identifier(samples.NUMBER.value),
    ), "it may be a trust's own number, too"
    local = read_search({"number": "RTK/123"}, samples.REGION, TODAY).selector
    assert local is not None
    assert local.identifiers == (Identifier("RTK/123"),)
    name = read_search(
        {"family": "Ng", "day": "1", "month": "2", "year": "1980"}, samples.REGION, TODAY
    ).selector
    assert name is not None
    assert (name.family, name.birth_date) == ("Ng", "19800201")
    real = replace(samples.REGION, allow_test_numbers=False)
    test_number = read_search({"number": "9990000018"}, real, TODAY).selector
    assert test_number is not None
    assert test_number.identifiers == (Identifier("9990000018"),), (
        "no national number there: somebody's own, perhaps"
    )
    lower = read_search({"number": "k563756"}, samples.REGION, TODAY).selector
    assert lower is not None
    assert lower.identifiers == (Identifier("k563756"), Identifier("K563756"))
