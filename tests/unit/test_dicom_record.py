"""StudyRecord from live instances: whose numbers count, which zone, and the same answer whatever the
order."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import dicom_objects as make
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.record.record import (
    Claim,
    Instance,
    build,
    number_of,
    outside,
    outside_range,
    patient_of,
    series_digest,
    unidentified,
    unidentified_range,
)
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.ids import CHI_OID, NHS_NUMBER_OID, Identifier
from crosslight.standards.national import is_unread_number, was_unread
from crosslight.standards.study import StudyRecord

OWN = "2.16.840.1.113883.2.1.3.2.4.18.24"
NHS = "9434765919"
STUDY = "1.2.826.0.1.3680043.10.77"
RULES = RecordRules(
    authority=OWN,
    namespace="RTK",
    site_zone="Europe/London",
    nationals=(NHS_NUMBER_OID, CHI_OID),
    allow_test_numbers=True,
)


def _header(**attributes: Any) -> header.Header:
    return header.read(gate.examine(make.part10(make.image(**attributes))))


def _issuer(oid: str, kind: str = "ISO") -> Sequence:
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = oid, kind
    return Sequence([qualifier])


def _other(value: str, *, name: str = "", oid: str = "", kind: str = "TEXT") -> Dataset:
    made = Dataset()
    made.PatientID, made.TypeOfPatientID = value, kind
    if name:
        made.IssuerOfPatientID = name
    if oid:
        made.IssuerOfPatientIDQualifiersSequence = _issuer(oid)
    return made


def _instance(found: header.Header, shared: dict[bytes, tuple[Any, Any]]) -> Instance:
    key = repr((found.study, found.series)).encode()
    study, series = shared.setdefault(key, (found.study, found.series))
    return Instance(
        series_uid=found.series_uid,
        sop_uid=found.sop_uid,
        sop_class_uid=found.sop_class_uid,
        sha256=found.sop_uid[-1] * 64,
        study=study,
        series=series,
    )


def test_national_number_from_the_qualified_place_by_oid() -> None:
    found = _header(OtherPatientIDsSequence=Sequence([_other("943 476 5919", oid=NHS_NUMBER_OID)]))
    patient = patient_of(found.study, RULES, STUDY)
    assert patient.local == Identifier("L001", OWN, "RTK")
    assert patient.others == (Identifier(NHS, NHS_NUMBER_OID),)
    assert (patient.name.family, patient.birth_date, patient.sex) == ("Miller", "19700102", "F")


def test_national_number_by_issuer_name_only_when_mapped() -> None:
    found = _header(OtherPatientIDsSequence=Sequence([_other(NHS, name="NHS")]))
    assert patient_of(found.study, RULES, STUDY).others == ()
    mapped = RecordRules(
        authority=OWN, nationals=(NHS_NUMBER_OID,), issuers={"nhs": NHS_NUMBER_OID}, allow_test_numbers=True
    )
    assert patient_of(found.study, mapped, STUDY).others == (Identifier(NHS, NHS_NUMBER_OID),)


def test_bare_patient_id_is_never_national_but_by_configuration() -> None:
    found = _header(PatientID=NHS)
    assert patient_of(found.study, RULES, STUDY).others == ()
    bare = RecordRules(
        authority=OWN, nationals=(NHS_NUMBER_OID,), bare_patient_id=NHS_NUMBER_OID, allow_test_numbers=True
    )
    patient = patient_of(found.study, bare, STUDY)
    assert patient.others == (Identifier(NHS, NHS_NUMBER_OID),)
    assert patient.local == Identifier(NHS, OWN)


@pytest.mark.parametrize(
    "text",
    [
        "943 476 5919",
        "943\u00a0476\u00a05919",
        "943\u2013476\u20135919",
        "\u200b9434765919",
        "NHS No. 9434765919",
        "９４３４７６５９１９",
    ],
)
def test_a_national_number_is_read_as_people_write_it(text: str) -> None:
    other = Sequence([_other(text, oid=NHS_NUMBER_OID)])
    header = _header(SpecificCharacterSet="ISO_IR 192", OtherPatientIDsSequence=other)
    assert patient_of(header.study, RULES, STUDY).others == (Identifier("9434765919", NHS_NUMBER_OID),)


def test_invalid_and_test_numbers_do_not_count_and_are_kept_as_received() -> None:
    """Kept under the issuer's name only, so that nothing takes them for numbers."""
    wrong = _header(OtherPatientIDsSequence=Sequence([_other("943-476 5918", oid=NHS_NUMBER_OID)]))
    kept = patient_of(wrong.study, RULES, STUDY).others
    assert kept == (Identifier("943-476 5918", namespace=NHS_NUMBER_OID),)
    assert all(was_unread(one) and is_unread_number(one, RULES.nationals, allow_test=True) for one in kept)
    tests = _header(OtherPatientIDsSequence=Sequence([_other(NHS, oid=NHS_NUMBER_OID)]))
    strict = RecordRules(authority=OWN, nationals=(NHS_NUMBER_OID,))
    assert patient_of(tests.study, strict, STUDY).others == (Identifier(NHS, namespace=NHS_NUMBER_OID),)


@pytest.mark.parametrize(("main", "unread"), [("L001", 0), ("943476591", 1), ("9434765919", 0)])
def test_a_bare_patient_id_is_a_number_that_went_wrong_only_where_it_looks_like_one(
    main: str, unread: int
) -> None:
    rules = replace(RULES, bare_patient_id=NHS_NUMBER_OID)
    others = patient_of(_header(PatientID=main).study, rules, STUDY).others
    assert sum(was_unread(one) for one in others) == unread


def test_issuer_of_the_patient_id() -> None:
    own = patient_of(_header(IssuerOfPatientID="rtk").study, RULES, STUDY)
    assert own.local == Identifier("L001", OWN, "rtk")
    barcode = _header(OtherPatientIDsSequence=Sequence([_other(NHS, oid=NHS_NUMBER_OID, kind="RFID")]))
    assert patient_of(barcode.study, RULES, STUDY).others == ()


MERGED = RecordRules(
    authority=OWN, authorities=("1.2.3.7", "1.2.3.8"), namespace="RTK", nationals=(NHS_NUMBER_OID,),
    issuers={"Old General": "1.2.3.8"}, allow_test_numbers=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "local", "others"),
    [
        pytest.param({}, ("L001", OWN, "RTK"), [], id="no issuer: the default authority"),
        pytest.param({"oid": OWN}, ("L001", OWN, "RTK"), [], id="own OID"),
        pytest.param({"oid": "1.2.3.7"}, ("L001", "1.2.3.7", ""), [], id="a further own authority"),
        pytest.param(
            {"name": "old general"},
            ("L001", "1.2.3.8", "old general"),
            [],
            id="a further own authority by name",
        ),
        pytest.param(
            {"oid": "1.2.3.7", "other": _other("L2", oid="1.2.3.8")},
            ("L001", "1.2.3.7", ""),
            [("L2", "1.2.3.8", "")],
            id="two own authorities: in the order of the rules",
        ),
        pytest.param(
            {"oid": "1.2.3.7", "other": _other("L2", name="RTK")},
            ("L2", OWN, "RTK"),
            [("L001", "1.2.3.7", "")],
            id="two own authorities: the default one first",
        ),
        pytest.param({"oid": "1.9.9"}, None, [("L001", "1.9.9", "")], id="another organisation's"),
        pytest.param(
            {"name": "CD BURNER"},
            None,
            [("L001", "", "CD BURNER")],
            id="another organisation's, by name only",
        ),
        pytest.param(
            {"oid": "1.9.9", "other": _other("L2", oid=OWN)},
            ("L2", OWN, "RTK"),
            [("L001", "1.9.9", "")],
            id="another organisation's with an own number beside it",
        ),
    ],
)
def test_whose_number_it_is(
    attributes: dict[str, Any], local: tuple[str, str, str] | None, others: list[Any]
) -> None:
    said: dict[str, Any] = {}
    if oid := attributes.get("oid"):
        said["IssuerOfPatientIDQualifiersSequence"] = _issuer(oid)
    if name := attributes.get("name"):
        said["IssuerOfPatientID"] = name
    if other := attributes.get("other"):
        said["OtherPatientIDsSequence"] = Sequence([other])
    patient = patient_of(_header(**said).study, MERGED, STUDY)
    if local is None:
        local = (
            outside(Claim("L001", attributes.get("oid", ""), attributes.get("name", "")), STUDY),
            OWN,
            "RTK",
        )
    assert patient.local == Identifier(*local)
    assert patient.others == tuple(Identifier(*one) for one in others)


def test_an_outside_number_leads_to_its_records() -> None:
    """Each outside study is a record of its own; all of them begin alike, so that the original number finds
    them.
    """
    disc = [outside(Claim("L001", "1.9.9", ""), f"1.2.{n}") for n in range(3)]
    assert len(set(disc)) == 3
    for asked, found in (
        (Identifier("L001", "1.9.9"), True),
        (Identifier("L001"), True),
        (Identifier("L001", "1.9.8"), False),
        (Identifier("L002"), False),
    ):
        low, high = outside_range(asked)
        assert all((low <= one <= high) is found for one in disc), asked
    low, high = outside_range(Identifier("L001", "", "cd burner"))
    assert low <= outside(Claim("L001", "", "CD Burner"), "1.2.3") <= high
    assert all(len(one) <= 64 for one in disc), "LO of PS3.5 6.2"


def test_national_number_as_patient_id_with_the_local_one_beside_it() -> None:
    found = _header(
        PatientID=NHS,
        IssuerOfPatientIDQualifiersSequence=_issuer(NHS_NUMBER_OID),
        OtherPatientIDsSequence=Sequence(
            [_other("L9", name="RTK"), _other("X1", oid="1.2.3.9"), _other("Y1", name="who?")]
        ),
    )
    patient = patient_of(found.study, RULES, STUDY)
    assert patient.local == Identifier("L9", OWN, "RTK")
    assert patient.others == (
        Identifier(NHS, NHS_NUMBER_OID),
        Identifier("X1", "1.2.3.9"),
    ), "without authority it names nobody"


def test_study_series_and_identifiers() -> None:
    request = Dataset()
    request.AccessionNumber, request.PlacerOrderNumberImagingServiceRequest = "A2", "P7"
    issuer = Dataset()
    issuer.LocalNamespaceEntityID, issuer.UniversalEntityID, issuer.UniversalEntityIDType = (
        "RIS",
        "1.2.3.5",
        "ISO",
    )
    request.IssuerOfAccessionNumberSequence = Sequence([issuer])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTCHES", "NICIP", "CT Chest"
    attributes = {
        "RequestAttributesSequence": Sequence([request]),
        "ProcedureCodeSequence": Sequence([code]),
        "BodyPartExamined": "CHEST",
        "Laterality": "L",
        "SeriesDescription": "Axial",
        "ReferringPhysicianName": "Who^Doctor",
        "InstitutionName": "St Peter's",
    }
    shared: dict[bytes, tuple[Any, Any]] = {}
    record = build(make.STUDY, [_instance(_header(number=n, **attributes), shared) for n in (1, 2)], RULES)
    assert record is not None
    assert record.accessions == (Identifier("A1"), Identifier("A2", "1.2.3.5", "RIS"))
    assert record.orders == (Identifier("P7"),)
    assert [c.value for c in record.procedure_codes] == ["CTCHES"]
    assert (record.description, record.institution, record.referrer) == (
        "CT Thorax",
        "St Peter's",
        "Who^Doctor",
    )
    (series,) = record.series
    assert (series.n_instances, series.modality, series.body_site, series.laterality) == (
        2,
        "CT",
        "CHEST",
        "L",
    )
    assert series.sop_classes == ((make.CT, 2),)
    assert series.digest == series_digest([(f"{make.STUDY}.1.2", "2" * 64), (f"{make.STUDY}.1.1", "1" * 64)])
    assert (record.n_series, record.n_instances, record.modalities, record.body_sites) == (
        1,
        2,
        ("CT",),
        ("CHEST",),
    )


def test_zone_from_the_tag_else_the_site() -> None:
    def record(**attributes: Any) -> StudyRecord:
        found = build(make.STUDY, [_instance(_header(**attributes), {})], RULES)
        assert found is not None
        return found

    tagged, plain, broken = (
        record(TimezoneOffsetFromUTC="+0100"),
        record(),
        record(TimezoneOffsetFromUTC="BST"),
    )
    assert (tagged.time.zone, tagged.time.zone_source) == ("+0100", "tag")
    assert (plain.time.zone, plain.time.zone_source) == ("Europe/London", "site")
    assert broken.time == plain.time


def test_the_same_record_whatever_the_order_and_majority_where_they_disagree() -> None:
    headers = [_header(number=n, series=str(1 + n % 2), PatientID="L001") for n in range(1, 8)]
    headers += [_header(number=9, PatientID="L002", StudyDescription="Other", InstitutionName="Only here")]
    shared: dict[bytes, tuple[Any, Any]] = {}
    instances = [_instance(h, shared) for h in headers]
    first = build(make.STUDY, instances, RULES)
    assert first is not None
    assert first.patient.local.value == "L001"
    assert (first.description, first.institution) == (
        "CT Thorax",
        "Only here",
    ), "an empty attribute is filled"
    for seed in range(5):
        random.Random(seed).shuffle(instances)
        again = build(make.STUDY, instances, RULES)
        assert again is not None
        assert again.digest() == first.digest()


def test_no_instances_no_record() -> None:
    assert build(make.STUDY, [], RULES) is None


def test_a_patient_without_an_id_has_one_for_the_study() -> None:
    """D4: an unknown patient is publishable, and joins nobody."""
    instances = [_instance(_header(PatientName="Unknown^Male", PatientID=pid), {}) for pid in ("", " ")]
    one, two = build("1.2.3", instances, RULES), build("1.2.4", instances, RULES)
    assert one is not None
    assert two is not None
    assert one.patient.local == Identifier(unidentified("1.2.3"), RULES.authority, RULES.namespace)
    assert one.patient.local.value != two.patient.local.value
    assert one.patient.name.family == "Unknown"


@pytest.mark.parametrize("value", ["X\\1", "X\\2", "X\\", "\\X", "X\\X"])
def test_several_patient_ids_are_none(value: str) -> None:
    """VM is 1 (PS3.6): the first of several values would be somebody else's.

    What was sent finds the study again.
    """
    made = build("1.2.3", [_instance(_header(PatientID=value), {})], RULES)
    assert made is not None
    assert made.patient.local == Identifier(unidentified("1.2.3", value), RULES.authority, RULES.namespace)
    first, last = unidentified_range(value)
    assert first <= made.patient.local.value <= last
    assert number_of(made.patient) == ("none", None)
    assert all("X" not in other.value for other in made.patient.others)
