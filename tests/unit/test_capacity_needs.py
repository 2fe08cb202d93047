"""What a region must have, year by year and place by place, and how it fares beside a beginning or a move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulations.capacity import service_times
from simulations.capacity.demand import Demand, busiest_hour, mean_images, mean_study_mb
from simulations.capacity.forecast import answer
from simulations.capacity.report import key_figures, place_of, short_answers, short_name, size
from simulations.capacity.what_if import MovePlan, WhatIf, read_what_if
from simulations.topology import (
    HospitalPlan,
    LinkPlan,
    MemberPlan,
    MigrationPlan,
    RegistryPlan,
    Topology,
    read_topology,
)

SIMULATIONS = Path(__file__).parents[2] / "simulations"
TIMES = service_times.read().times


def _region(exams: int = 100_000, mbit_s: float = 1000) -> Topology:
    members = tuple(MemberPlan(code=code, name=code, exams_per_year=exams) for code in ("A", "B", "C"))
    links = (
        *(LinkPlan(a=code, b="N", mbit_s=mbit_s, rtt_ms=10) for code in ("A", "B", "C")),
        LinkPlan(a="N", b="registry", rtt_ms=10),
    )
    return Topology(name="R", slug="r", members=members, networks=("N",), links=links)


def test_each_year_a_member_needs_more() -> None:
    region = _region()
    (member, *_) = answer(region, TIMES, years=3).members
    assert [need.year for need in member.needs] == [1, 2, 3]
    made = [100_000 * 1.04**year for year in (1, 2, 3)]
    for number, need in enumerate(member.needs, 1):
        assert need.images_tb == pytest.approx(sum(made[:number]) * mean_study_mb() / 1e6)
        assert need.database_gb == pytest.approx(sum(made[:number]) * mean_images() * 1800 / 1e9)
        opens = Demand(region, number).of_member(region.members[0], *busiest_hour()).opens
        assert need.line_mbit_s == pytest.approx(opens * mean_study_mb() * 8 * 2)
        assert need.cores == 2


def test_what_a_member_holds_before_is_in_its_nodes_database() -> None:
    before = replace(_region(), migrations=(MigrationPlan(member="A", studies=1_000_000, per_second=10),))
    with_, without = (answer(region, TIMES, years=1).members[0].needs[0] for region in (before, _region()))
    more = with_.database_gb - without.database_gb
    assert more == pytest.approx(1_000_000 * mean_images() * 1800 / 1e9)
    assert with_.images_tb == without.images_tb


def test_a_node_that_receives_many_images_needs_cores() -> None:
    slow = replace(TIMES, store_cpu_s=0.02)
    member = answer(_region(exams=20_000_000, mbit_s=1e6), slow, years=1).members[0]
    assert member.needs[0].cores > 2


def test_a_hospitals_own_line_comes_before_its_members() -> None:
    places = (
        HospitalPlan(member="A", name="Near", share=0.75),
        HospitalPlan(member="A", name="Far", share=0.25, mbit_s=10, rtt_ms=50),
    )
    near, far = answer(replace(_region(), hospitals=places), TIMES, years=1).hospitals
    assert (near.exams_per_year, far.exams_per_year) == (75_000, 25_000)
    assert far.find.p50_s - near.find.p50_s == pytest.approx(
        0.049 + 0.07 * 8 / 10 - 0.07 * 8 / 1000, rel=0.01
    )
    assert far.first_image.p50_s > near.first_image.p50_s + 0.049


def test_searches_wait_longer_beside_a_beginning_or_a_move() -> None:
    busy = 0.8 * TIMES.publish_per_s
    region = replace(
        _region(exams=1_000_000), migrations=(MigrationPlan(member="A", studies=10**7, per_second=busy),)
    )
    move = WhatIf(moves=(MovePlan(member="B", studies=10**6, per_second=busy),))
    answered = answer(region, TIMES, years=1, what_if=move)
    assert answered.backfill_find is not None
    now = answered.hours[0].find.p95_s
    assert answered.backfill_find.p95_s > 1.5 * now
    assert answered.moves[0].find == answered.backfill_find
    assert answered.moves[0].busy == pytest.approx(0.8)
    assert answer(_region(), TIMES, years=1).backfill_find is None
    assert "Nothing is migrated" in " ".join(short_answers(answer(_region(), TIMES, years=1)))


def test_a_first_image_takes_the_registrys_part_of_it_and_not_a_searchs() -> None:
    slower = replace(TIMES, relay_s=TIMES.relay_s + 0.1, find_alone_s=TIMES.find_alone_s + 0.5)
    before, after = (answer(_region(), times, years=1).hours[0] for times in (TIMES, slower))
    assert after.first_image.p50_s - before.first_image.p50_s == pytest.approx(0.1, abs=0.01)
    assert after.busy > before.busy


def test_faster_cores_make_shorter_waits_and_fewer_cores() -> None:
    slow, fast = (
        answer(replace(_region(), registry=RegistryPlan(core_speed=speed)), TIMES, years=1)
        for speed in (0.25, 4)
    )
    assert slow.hours[0].find.p95_s > 4 * (fast.hours[0].find.p95_s - 0.02)
    assert slow.hours[0].busy == pytest.approx(16 * fast.hours[0].busy)


def test_what_is_shipped_as_a_what_if_is_answered() -> None:
    scotland = read_topology(SIMULATIONS / "topologies" / "scotland.toml")
    for path in sorted((SIMULATIONS / "what_ifs").glob("*.toml")):
        answered = answer(scotland, TIMES, years=1, what_if=read_what_if(path))
        assert [move.member for move in answered.moves] == ["S08000030"]
        west, registry = answered.outages
        assert 0 < len(west.isolates) < len(registry.isolates) == 15
        assert registry.waiting > west.waiting > 0


@pytest.mark.parametrize("path", sorted((SIMULATIONS / "topologies").glob("*.toml")), ids=lambda p: p.stem)
def test_reference_regions_are_complete(path: Path) -> None:
    region = read_topology(path)
    assert {place.member for place in region.hospitals} == set(region.codes)
    assert region.neighbours
    assert region.planned_outages
    names = {link.name for link in region.links}
    assert {work.link for work in region.planned_outages} <= names
    answered = answer(region, TIMES, years=1)
    planned = [outage for outage in answered.outages if outage.name == region.planned_outages[0].link]
    assert all(outage.expected_hours_per_year > 4 for outage in planned)
    assert all(member.cut for member in answered.members)
    assert len(key_figures(answered)) >= 4


def test_names_are_said_as_a_board_says_them() -> None:
    assert (
        short_name("Ashford and St Peter's Hospitals NHS Foundation Trust")
        == "Ashford and St Peter's Hospitals"
    )
    assert short_name("NHS Orkney") == "Orkney"
    place = place_of({"S1": "Orkney", "A-B": "odd"})
    assert [place(name) for name in ("S1", "S1-East", "registry", "A-B")] == [
        "Orkney",
        "Orkney – East",
        "registry",
        "odd",
    ]
    assert [size(gb) for gb in (3.4, 1234)] == ["3 GB", "1.2 TB"]
