"""Archives of others in the demo: what is refused before anything is started, and where studies go."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from crosslight.standards.problem import ConfigError
from simulations.foreign_plan import make_foreign_chapter
from simulations.region import DemoRegion
from simulations.topology import FOREIGN_REGION, OWN_ARCHIVE, Topology, read_topology, topology_path
from simulations.upstreams import installed
from simulations.upstreams.upstreams import Upstreams


@pytest.fixture
def topology() -> Topology:
    return read_topology(topology_path(FOREIGN_REGION))


@pytest.fixture
def upstreams(topology: Topology, tmp_path: Path) -> Upstreams:
    found = DemoRegion(topology=topology, data=tmp_path, foreign=True).upstreams
    assert found is not None
    return found


def test_a_program_that_is_not_installed_is_named_with_its_package(
    upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "found", lambda program: "" if program in ("java", "dcmqrscp") else "/x")
    with pytest.raises(ConfigError) as refused:
        upstreams.check_installed()
    assert "dcmqrscp, java" in refused.value.what
    assert "apt-get install dcmtk default-jdk-headless" in refused.value.todo


def test_a_region_that_describes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no archives of others"):
        DemoRegion(topology=read_topology(), data=tmp_path, foreign=True)


def test_no_two_processes_share_a_port(topology: Topology, tmp_path: Path) -> None:
    plain = DemoRegion(topology=topology, data=tmp_path)
    beside = DemoRegion(topology=topology, data=tmp_path, foreign=True)
    ports = beside.all_ports()
    assert len(set(ports)) == len(ports) > len(plain.all_ports())


def test_a_kept_demo_is_not_taken_for_one_beside_archives(topology: Topology, tmp_path: Path) -> None:
    plain = DemoRegion(topology=topology, data=tmp_path)
    plain.files.write_atomic(tmp_path / "demo.json", b"{}")
    with pytest.raises(ConfigError, match="holds another demo"):
        DemoRegion(topology=topology, data=tmp_path, foreign=True).kept()


@pytest.mark.parametrize("number", [1, 2])
def test_the_traveller_has_a_study_in_each_archive(
    topology: Topology, upstreams: Upstreams, number: int
) -> None:
    authorities = {code: f"1.2.3.{n}" for n, code in enumerate(topology.codes)}
    chapter = make_foreign_chapter(topology, authorities, number, date(2026, 3, 1))
    assert tuple(plan.archive for plan in chapter.travelled) == upstreams.keys
    assert {one.key for one in chapter.followed} == set(upstreams.all)
    for plan, archive in zip(chapter.travelled, topology.archives, strict=True):
        assert plan.code == archive.member
        upstream = upstreams.of(plan)
        assert (upstream is None) == (archive.kind == OWN_ARCHIVE)
    uids = [plan.uid for plan in chapter.opening]
    assert len(set(uids)) == len(uids), "no study is in two archives"


def test_two_archives_of_one_kind_at_one_member_are_refused(tmp_path: Path) -> None:
    text = topology_path(FOREIGN_REGION).read_text("utf-8")
    same = text.replace('member = "RKE", kind = "orthanc-dimse"', 'member = "RRV", kind = "orthanc-dicomweb"')
    assert same != text
    (tmp_path / "region.toml").write_text(same, "utf-8")
    with pytest.raises(ConfigError, match="one of each kind"):
        read_topology(tmp_path / "region.toml")
