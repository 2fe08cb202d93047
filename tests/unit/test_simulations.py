"""Synthetic people and images: valid test numbers, the same for the same seed, and no two trusts with one
local number.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from crosslight.client.dicomweb import dataset_bytes
from crosslight.runtime.files import SystemFiles
from crosslight.standards.ids import is_strict_uid
from crosslight.standards.national import nhs_number
from crosslight.standards.problem import ConfigError
from simulations.dicomfile import part10
from simulations.endpoints import ListedStudies
from simulations.images import PROCEDURES, StudyPlan, make_study, rejection_note
from simulations.people import make_patients
from simulations.plan import make_chapter
from simulations.topology import read_topology

TOPOLOGIES = sorted((Path(__file__).parents[2] / "simulations" / "topologies").glob("*.toml"))


def plan_of(modality: str, *, compressed: bool = False) -> StudyPlan:
    patient = make_patients(1, ("RTK",), seed=3, national=True)[0]
    return StudyPlan(
        patient=patient,
        code="RTK",
        institution="Ashford",
        modality=modality,
        when=datetime(2026, 3, 4, 5, 6),
        seed=7,
        instances=3,
        size=64,
        national_authority="2.16.840.1.113883.2.1.4.1",
        compressed=compressed,
    )


def test_numbers_are_valid_test_numbers_and_unique() -> None:
    people = make_patients(200, ("RTK", "RA2"), seed=1, national=True)
    numbers = [p.national for p in people]
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        assert number.startswith("9")
        assert nhs_number(number, allow_test=True) == number
        assert nhs_number(number, allow_test=False) is None
    assert all(len(set(p.local_ids.values())) == 2 for p in people)


def test_the_same_seed_makes_the_same_people() -> None:
    assert make_patients(5, ("A",), seed=9, national=True) == make_patients(5, ("A",), seed=9, national=True)
    assert make_patients(5, ("A",), seed=9, national=True) != make_patients(5, ("A",), seed=8, national=True)


@pytest.mark.parametrize("modality", sorted(PROCEDURES))
def test_studies_are_deterministic_and_part_10(modality: str) -> None:
    first = [part10(ds) for ds in make_study(plan_of(modality))]
    again = [part10(ds) for ds in make_study(plan_of(modality))]
    assert first == again
    assert len({dataset_bytes(data) for data in first}) == len(first)
    for ds in make_study(plan_of(modality)):
        assert is_strict_uid(str(ds.SOPInstanceUID))
        assert ds.pixel_array.std() > 0


def test_compressed_pixels_come_back_lossless() -> None:
    plain = [ds.pixel_array for ds in make_study(plan_of("CR"))]
    squeezed = [ds.pixel_array for ds in make_study(plan_of("CR", compressed=True))]
    assert all((a == b).all() for a, b in zip(plain, squeezed, strict=True))


def test_a_rejection_note_names_what_it_rejects() -> None:
    plan = plan_of("CR")
    images = list(make_study(plan))
    note = rejection_note(
        plan, list(images[:1]), code="113037", meaning="Rejected for Patient Safety Reasons", seed=2
    )
    evidence = note.CurrentRequestedProcedureEvidenceSequence[0]
    referenced = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert referenced == images[0].SOPInstanceUID
    assert evidence.StudyInstanceUID == plan.uid


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda p: p.stem)
def test_topologies_can_be_played(path: Path) -> None:
    topology = read_topology(path)
    chapter = make_chapter(topology, {}, 1, date(2026, 11, 22))
    assert {p.code for p in chapter.opening} == set(topology.codes)
    uids = [p.uid for p in (*chapter.opening, chapter.while_away, *chapter.while_registry_down)]
    assert len(set(uids)) == len(uids)
    assert {p.code for p in chapter.travelled} == set(topology.codes[:3])
    assert chapter.double.national == chapter.traveller.national
    assert chapter.double.birth_date != chapter.traveller.birth_date
    again = make_chapter(topology, {}, 2, date(2026, 11, 22))
    assert {p.uid for p in again.opening}.isdisjoint(uids)


def test_scotland_has_fifteen_boards_and_emory_no_national_number() -> None:
    by_name = {p.stem: read_topology(p) for p in TOPOLOGIES}
    assert len(by_name["scotland"].members) == 15
    assert len(by_name["emory"].members) == 11
    assert by_name["emory"].national.authority == ""
    assert by_name["surrey_sussex"].codes == ("RTK", "RXC", "RPC", "RA2", "RYR")
    assert len(by_name["north_central_london"].members) == 6


def test_a_topology_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "region.toml"
    path.write_text('name = "x"\nslug = "x"\nwrong = 1\n', "utf-8")
    with pytest.raises(ConfigError, match="unknown key wrong"):
        read_topology(path)


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda p: p.stem)
@pytest.mark.parametrize("today", [date(2026, 7, 16), date(2026, 7, 15), date(2026, 2, 1)])
def test_what_would_hide_a_fault_differs(path: Path, today: date) -> None:
    """Patient and accession numbers have authorities of their own, and one study lies in the summer, with its
    offset from UTC.
    """
    topology = read_topology(path)
    authorities = {code: f"1.2.3.{at}" for at, code in enumerate(topology.codes)}
    studies = make_chapter(topology, authorities, 1, today).opening
    assert all(s.when.date() < today for s in studies)
    for plan in studies:
        ds, *_ = make_study(plan)
        [accession] = ds.IssuerOfAccessionNumberSequence
        assert accession.LocalNamespaceEntityID != ds.IssuerOfPatientID
        if plan.local_authority:
            [patient] = ds.IssuerOfPatientIDQualifiersSequence
            assert accession.UniversalEntityID not in (patient.UniversalEntityID, "")
        if plan.zone:
            assert ds.TimezoneOffsetFromUTC == plan.when.replace(tzinfo=ZoneInfo(topology.zone)).strftime(
                "%z"
            )
    summer = [s for s in studies if s.when.month == 7 and s.when.hour == 0]
    assert {bool(s.zone) for s in summer} == {True, False}
    assert len({s.zone for s in studies} - {""}) == 2, "summer time and winter time"


def test_the_ledger_is_kept(tmp_path: Path) -> None:
    topology = read_topology()
    chapter = make_chapter(topology, {}, 1, date(2026, 11, 22))
    ledger = ListedStudies()
    ledger.add(topology, chapter.travelled[0], 120)
    ledger.add(topology, chapter.travelled[1], 48)
    ledger.add(topology, chapter.doubled, 2, disputed=True)
    ledger.save(tmp_path / "ledger.json", SystemFiles())
    kept = ListedStudies.read(tmp_path / "ledger.json")
    assert kept == ledger
    patients = kept.listed()
    assert [len(p["studies"]) for p in patients] == [2, 1]
    assert [p["disputed"] for p in patients] == [False, True]
    assert patients[0]["nhs_number"] == patients[1]["nhs_number"]
    assert set(patients[0]["local_ids"]) == {"RTK", "RXC"}


def test_nobody_is_disputed_where_there_is_no_national_number() -> None:
    topology = read_topology(Path(__file__).parents[2] / "simulations" / "topologies" / "emory.toml")
    ledger = ListedStudies()
    ledger.add(topology, make_chapter(topology, {}, 1, date(2026, 11, 22)).doubled, 2, disputed=True)
    assert [(p["disputed"], p["nhs_number"], p["identifiers"]) for p in ledger.listed()] == [
        (False, None, [])
    ]


def test_the_ledger_follows_what_is_held() -> None:
    topology = read_topology()
    chapter = make_chapter(topology, {}, 1, date(2026, 11, 22))
    ledger = ListedStudies()
    first, second = chapter.travelled[:2]
    ledger.add(topology, first, 120)
    ledger.add(topology, second, 48)

    def shown() -> dict[str, int]:
        return {s["study_uid"]: s["instances"] for p in ledger.listed() for s in p["studies"]}

    assert not ledger.follow(first.code, {first.uid: 120})
    assert ledger.follow(first.code, {first.uid: 119})
    assert shown() == {first.uid: 119, second.uid: 48}
    assert ledger.follow(first.code, {})
    assert shown() == {second.uid: 48}
    assert not ledger.follow(first.code, {})
    assert ledger.follow(first.code, {first.uid: 120})
    assert shown() == {first.uid: 120, second.uid: 48}
    assert all(
        set(s) == {"study_uid", "node", "modality", "accession", "instances"}
        for p in ledger.listed()
        for s in p["studies"]
    )
