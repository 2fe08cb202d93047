"""The manifest: same bytes for the same input, and everything that it says comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.dicom.record.kos import build_manifest, parse_manifest, role_of_title, zone_offset
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Invalid, Malformed, TooLarge
from crosslight.standards.study import Coded, InstanceRef, Patient, PersonName, StudyRecord, StudyTime

CT, SR, ECG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.9.1.1"
CREATED = datetime(2025, 7, 1, 12, 30, 5, tzinfo=UTC)


def instance(series: int, n: int, sop_class: str = CT) -> InstanceRef:
    return InstanceRef(
        study_uid="1.2.3",
        series_uid=f"1.2.3.{series}",
        sop_class_uid=sop_class,
        sop_uid=f"1.2.3.{series}.{n}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        number=str(n),
    )


def record(**changes: object) -> StudyRecord:
    base = StudyRecord(
        study_uid="1.2.3",
        patient=Patient(
            local=Identifier("A1", "1.2.99", "RTK"),
            others=(Identifier("9434765919", "2.16.840.1.113883.2.1.4.1"),),
            name=PersonName("Müller^Jo"),
            birth_date="19700101",
            sex="F",
        ),
        accessions=(Identifier("ACC1", "1.2.5"),),
        orders=(Identifier("O1", "1.2.6", "RIS"),),
        description="CT <chest> & more",
        time=StudyTime(date="20250701", time="101010", zone="Europe/London", zone_source="site"),
    )
    return StudyRecord(**{**{f: getattr(base, f) for f in base.__struct_fields__}, **changes})


INSTANCES = [instance(2, 1, SR), instance(1, 10), instance(1, 2), instance(3, 1, ECG)]


def build(rec: StudyRecord | None = None, instances: list[InstanceRef] | None = None) -> bytes:
    return build_manifest(
        rec or record(),
        INSTANCES if instances is None else instances,
        document_uid="2.25.1",
        series_uid="2.25.2",
        retrieve_ae_title="RTK",
        retrieve_location_uid="1.2.7",
        retrieve_url="https://rtk.example/dicomweb",
        created=CREATED,
    )


def test_what_is_written_is_read() -> None:
    manifest = parse_manifest(build())
    assert manifest.role == "manifest"
    assert (manifest.document_uid, manifest.study_uid, manifest.series_uid) == ("2.25.1", "1.2.3", "2.25.2")
    assert manifest.patient == record().patient
    assert manifest.accessions == record().accessions
    assert manifest.orders == record().orders
    assert [s.series_uid for s in manifest.series] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert {(s.retrieve_ae_title, s.retrieve_location_uid, s.retrieve_url) for s in manifest.series} == {
        ("RTK", "1.2.7", "https://rtk.example/dicomweb")
    }
    # By series, then instance number.
    assert [i.sop_uid for i in manifest.instances] == ["1.2.3.1.2", "1.2.3.1.10", "1.2.3.2.1", "1.2.3.3.1"]
    assert [i.sop_class_uid for i in manifest.instances] == [CT, CT, SR, ECG]
    assert manifest.description == "CT <chest> & more"


def test_same_input_same_bytes_whatever_the_order() -> None:
    assert build() == build(instances=INSTANCES[::-1])
    assert build() != build(record(description="other"))


def test_every_time_is_in_the_declared_zone() -> None:
    ds = pydicom.dcmread(BytesIO(build()))
    assert ds.TimezoneOffsetFromUTC == "+0100"  # British Summer Time at the study's own time
    assert (ds.InstanceCreationDate, ds.InstanceCreationTime) == ("20250701", "133005")
    assert (ds.ContentDate, ds.ContentTime) == ("20250701", "133005")


@pytest.mark.parametrize(
    ("time", "offset"),
    [
        (StudyTime(date="20250101", time="1200", zone="Europe/London"), "+0000"),
        (StudyTime(date="20250101", time="1200", zone="America/New_York"), "-0500"),
        (StudyTime(date="20250101", time="1200", zone="-0330"), "-0330"),
        (StudyTime(date="20250101", time="1200", zone="+1"), ""),
        (StudyTime(date="", time="", zone="Europe/London"), ""),
        (StudyTime(date="20250101"), ""),
    ],
)
def test_zone_offset(time: StudyTime, offset: str) -> None:
    assert zone_offset(time) == offset


def test_reference_types_follow_the_sop_class() -> None:
    ds = pydicom.dcmread(BytesIO(build()))
    assert [item.ValueType for item in ds.ContentSequence] == ["IMAGE", "IMAGE", "COMPOSITE", "WAVEFORM"]
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "2010"


def test_nothing_to_reference_is_refused() -> None:
    with pytest.raises(Invalid):
        build(instances=[])


def test_too_many_references_are_refused() -> None:
    with pytest.raises(TooLarge):
        parse_manifest(build(), max_instances=3)


def test_no_kos_is_refused() -> None:
    with pytest.raises(Malformed):
        parse_manifest(b"hello")
    with pytest.raises(Malformed):
        parse_manifest(build().replace(b"5.1.4.1.1.88.59", b"5.1.4.1.1.88.58"))


@given(st.integers(0, 3000), st.integers(0, 255))
def test_damaged_bytes_give_our_errors_or_a_manifest(at: int, value: int) -> None:
    data = bytearray(build())
    data[at % len(data)] = value
    try:
        parse_manifest(bytes(data))
    except CrosslightError:
        pass


@given(st.integers(0, 3000))
def test_cut_bytes_give_our_errors_or_a_manifest(keep: int) -> None:
    try:
        parse_manifest(build()[:keep])
    except CrosslightError:
        pass


_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\^="), min_size=1, max_size=30
).map(str.strip)


@given(family=_TEXT, given_=_TEXT, description=_TEXT, local=_TEXT)
def test_any_script_survives(family: str, given_: str, description: str, local: str) -> None:
    name = f"{family}^{given_}"
    patient = Patient(local=Identifier(local or "x", "1.2.99"), name=PersonName(name))
    manifest = parse_manifest(build(record(patient=patient, description=description)))
    assert manifest.patient is not None
    assert manifest.patient.local.value == (local or "x")
    assert manifest.patient.name.family == family.strip()
    assert manifest.patient.name.given == given_.strip()
    assert manifest.description == description


@pytest.mark.parametrize(
    ("code", "scheme", "role"),
    [
        ("113030", "DCM", "manifest"), ("113031", "DCM", "manifest"), ("MADOTEMP001", "99IHE", "manifest"),
        ("113001", "DCM", "rejection"), ("113037", "DCM", "rejection"), ("113038", "DCM", "rejection"),
        ("113039", "DCM", "rejection"), ("113000", "DCM", "other"), ("113030", "99X", "other"),
    ],
)  # fmt: skip
def test_roles_of_titles(code: str, scheme: str, role: str) -> None:
    assert role_of_title(Coded(code, scheme)) == role


def test_a_rejection_note_is_recognised() -> None:
    manifest = parse_manifest(build().replace(b"113030", b"113037"))
    assert manifest.role == "rejection"
    assert len(manifest.instances) == 4
