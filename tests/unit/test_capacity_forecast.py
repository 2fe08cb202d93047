"""The forecast: regions as graphs, demand, answers, what-ifs and the report."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import inf, isinf
from pathlib import Path

import pytest
from click.testing import CliRunner

from crosslight.standards.problem import ConfigError
from simulations.__main__ import main
from simulations.capacity import demand, service_times
from simulations.capacity.answers import Answer
from simulations.capacity.compared import Compared, Comparison
from simulations.capacity.forecast import answer
from simulations.capacity.network import REGISTRY, RegionNetwork
from simulations.capacity.report import render, short_answers, span, wait
from simulations.capacity.what_if import LostPlan, MovePlan, WhatIf, read_what_if
from simulations.topology import LinkPlan, MemberPlan, RegistryPlan, Topology, read_topology

TOPOLOGIES = Path(__file__).parents[2] / "simulations" / "topologies"
REGIONS = {path.stem: read_topology(path) for path in sorted(TOPOLOGIES.glob("*.toml"))}
TIMES = service_times.read().times
TODAY = date(2026, 11, 30)


def _line(a: str, b: str, mbit_s: float = 1000, rtt_ms: float = 10) -> LinkPlan:
    return LinkPlan(a=a, b=b, mbit_s=mbit_s, rtt_ms=rtt_ms)


def _region(
    links: tuple[LinkPlan, ...], networks: tuple[str, ...] = ("N",), exams: int = 100_000
) -> Topology:
    members = tuple(MemberPlan(code=code, name=code, exams_per_year=exams) for code in ("A", "B", "C"))
    return Topology(name="R", slug="r", members=members, networks=networks, links=links)


STAR = (_line("A", "N"), _line("B", "N"), _line("C", "N"), _line("N", REGISTRY))


@pytest.mark.parametrize(
    ("stem", "members", "exams", "migrated"),
    [
        ("surrey_sussex", 5, 1_700_000, 0),
        ("north_central_london", 6, 2_000_000, 21_000_000),
        ("scotland", 15, 5_000_000, 55_000_000),
        ("emory", 11, 1_300_000, 0),
    ],
)
def test_the_reference_regions_have_their_real_volumes(
    stem: str, members: int, exams: int, migrated: int
) -> None:
    region = REGIONS[stem]
    assert len(region.members) == members
    assert sum(member.exams_per_year for member in region.members) == exams
    assert sum(migration.studies for migration in region.migrations) == migrated
    for code in {hospital.member for hospital in region.hospitals}:
        assert sum(h.share for h in region.hospitals if h.member == code) == pytest.approx(1)


def test_tables_of_use_add_up() -> None:
    assert sum(demand.WEEKDAYS.values()) == pytest.approx(1)
    assert sum(demand.HOURS) == pytest.approx(1)
    assert sum(kind.share for kind in demand.MODALITIES.values()) == pytest.approx(1)
    region = REGIONS["scotland"]
    year = [
        demand.Demand(region).of_region(day, hour).exams * 3600 for day in demand.DAYS for hour in range(24)
    ]
    assert sum(year) * demand.WEEKS_OF_A_YEAR == pytest.approx(5_000_000)
    assert max(year) / (sum(year) / len(year)) == pytest.approx(2.66, abs=0.1)  # the peak over the mean


def test_members_have_their_part_of_what_is_asked() -> None:
    region = REGIONS["surrey_sussex"]
    whole = demand.Demand(region, 3).of_region("Mon", 10)
    parts = [demand.Demand(region, 3).of_member(member, "Mon", 10) for member in region.members]
    assert sum(part.finds for part in parts) == pytest.approx(whole.finds)
    assert whole.exams == pytest.approx(demand.Demand(region).of_region("Mon", 10).exams * 1.04**3)


def test_a_cut_isolates_whom_it_isolates() -> None:
    network = RegionNetwork(_region(STAR))
    assert network.isolated_by("A-N") == ("A",)
    assert network.isolated_by("N-registry") == ("A", "B", "C")
    assert network.isolated_by("N") == ("A", "B", "C")
    assert [point.name for point in network.weak_points()][:3] == ["N", "N-registry", "registry"]
    assert network.min_cut("A") in ((("A-N",), 1), (("N-registry",), 1))
    with pytest.raises(ConfigError, match="no line or place X"):
        network.isolated_by("X")


def test_two_ways_are_no_single_point_of_failure() -> None:
    ring = (*STAR, _line("A", "M"), _line("M", REGISTRY), _line("B", "M"))
    network = RegionNetwork(_region(ring, ("N", "M")))
    assert network.isolated_by("A-N") == ()
    assert network.min_cut("A")[1] == 2
    assert network.least_mbit_s("A") == 2000
    assert [point.name for point in network.weak_points()] == ["registry", "C-N", "N"]


@pytest.mark.parametrize(
    ("links", "why"),
    [((_line("A", "N"),), "no line from A, B, C"), ((*STAR, _line("A", "X")), "leads to X")],
)
def test_places_that_are_not_joined_are_refused(links: tuple[LinkPlan, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        RegionNetwork(_region(links))


@pytest.mark.parametrize("stem", REGIONS)
def test_every_reference_region_is_answered_and_the_same_each_time(stem: str) -> None:
    first, again = (answer(REGIONS[stem], TIMES, years=1) for _ in range(2))
    assert first == again
    assert [hour.year for hour in first.hours] == [0, 1]
    for hour in first.hours:
        assert 0 < hour.find.p50_s < hour.find.p95_s < hour.first_image.p95_s < 2
    assert answer(REGIONS[stem], TIMES, years=1, seed=2) != first


def test_a_distant_member_waits_for_its_line() -> None:
    answered = answer(_region((*STAR[:2], _line("C", "N", 10, 60), STAR[3])), TIMES, years=1)
    by_code = {member.code: member for member in answered.members}
    left = 10 * (1 - by_code["C"].line_busy)  # Mb/s, beside the images that take their part
    sent = 0.07 * 8 / left - 0.07 * 8 / 1000  # a list over this line, and over one of the others
    assert by_code["C"].find.p50_s - by_code["A"].find.p50_s == pytest.approx(0.05 + sent, rel=0.05)


def test_a_region_that_asks_too_much_is_told_so_and_what_it_needs() -> None:
    wide = tuple(replace(link, mbit_s=10_000_000.0) for link in STAR)
    crowd = _region(wide, exams=250_000_000)
    answered = answer(crowd, TIMES, years=1)
    assert isinf(answered.hours[0].find.p95_s)
    needed = answered.purchases[0].processes
    assert needed > 1
    enough = replace(crowd, registry=RegistryPlan(cores=needed, processes=needed))
    assert answer(enough, TIMES, years=1).hours[1].find.p95_s < inf
    assert "does not keep up" in short_answers(answered)[0]


def test_an_outage_delays_and_loses_nothing() -> None:
    answered = answer(_region(STAR), TIMES, years=1, what_if=WhatIf(lost=(LostPlan(name="A-N", hours=2),)))
    (outage,) = answered.outages
    assert outage.isolates == ("A",)
    monday = [demand.Demand(_region(STAR)).of_region("Mon", hour) for hour in (8, 9)]
    assert outage.waiting == pytest.approx(sum(rates.exams for rates in monday) * 3600 / 3)
    assert outage.partial_finds == pytest.approx(2 * outage.alone_finds)
    assert outage.expected_hours_per_year == 8


def test_what_if_changes_the_region_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "if.toml"
    path.write_text(
        'use_factor = 2.0\nmembers = [{ code = "D", name = "D", exams_per_year = 1000 }]\n'
        'links = [{ a = "D", b = "N" }, { a = "N", b = "A", mbit_s = 50 }]\n'
        'moves = [{ member = "A", studies = 900000 }]\n'
    )
    region = _region(STAR)
    changed = read_what_if(path).applied(region)
    assert [member.exams_per_year for member in changed.members] == [200_000] * 3 + [2000]
    assert {link.name: link.mbit_s for link in changed.links}["N-A"] == 50
    assert "A-N" not in {link.name for link in changed.links}
    (move,) = answer(region, TIMES, years=1, what_if=read_what_if(path)).moves
    assert (move.studies, move.hours) == (900_000, 10.0)
    with pytest.raises(ConfigError, match="no member X"):
        WhatIf(moves=(MovePlan(member="X"),)).applied(region)


def _answered() -> tuple[Topology, Answer]:
    region = replace(_region(STAR), name='R & <b>"Sons"</b>')
    return region, answer(region, TIMES, years=1)


def test_the_report_has_the_answer_first_and_fetches_nothing() -> None:
    region, answered = _answered()
    row = Compared(
        question="a list",
        load=0.4,
        rate=50,
        measured_p50_s=0.02,
        measured_p95_s=0.1,
        predicted_p50_s=0.021,
        predicted_p95_s=0.096,
    )
    beside = Comparison(measured=TODAY, release="0.3.0", machine="2 cores", rows=(row,))
    measured = replace(service_times.read(), compared=beside)
    page = render(answered, region, measured, TODAY)
    assert page == render(answered, region, measured, TODAY)
    assert page.index("The answer") < page.index("<table") < page.index("What fails")
    assert "R &amp; &lt;b&gt;&#34;Sons&#34;&lt;/b&gt;" in page
    assert "<b>" not in page
    assert page.count("<svg") == 4
    assert "off by 5 % at most" in page
    assert "<td>-4 %</td>" in page
    assert "not compared" in render(answered, region, replace(measured, compared=None), TODAY)
    for reaching in ("<script", "<link", "src=", "url(http", "@import"):
        assert reaching not in page


def test_waits_and_spans_are_said_as_people_say_them() -> None:
    assert [wait(s) for s in (0.038, 1.25, inf)] == ["38 ms", "1.2 s", "does not keep up"]
    assert [span(s) for s in (0.2, 13, 600, 7200, inf)] == [
        "less than 1 s",
        "13 s",
        "10 min",
        "2.0 h",
        "never",
    ]


def test_the_command_writes_the_report_and_says_the_answer(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    ran = CliRunner().invoke(
        main, ["simulate", str(TOPOLOGIES / "surrey_sussex.toml"), "--years", "1", "--out", str(out)]
    )
    assert ran.exit_code == 0, ran.output
    assert "The registry needs" in ran.output
    assert "Surrey and Sussex" in out.read_text("utf-8")


def test_a_region_that_is_not_joined_ends_in_words(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    text = (TOPOLOGIES / "surrey_sussex.toml").read_text("utf-8")
    path.write_text(text.replace('a = "RPC", b = "HSCN"', 'a = "RPC", b = "Nowhere"'), "utf-8")
    ran = CliRunner().invoke(main, ["simulate", str(path), "--out", str(tmp_path / "x.html")])
    assert ran.exit_code == 1
    assert "leads to Nowhere" in ran.output
    assert not (tmp_path / "x.html").exists()
