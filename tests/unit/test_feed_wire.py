"""Everything that a StudyRecord says crosses the gRPC feed, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from publish_records import make_patient, make_record, manifests, patients, records, versions

from crosslight.pb import feed_pb2 as pb
from crosslight.runtime import wire
from crosslight.standards.ids import Version
from crosslight.standards.problem import Invalid, TooLarge
from crosslight.standards.study import ManifestFacts, Patient, StudyRecord


@given(records)
def test_a_record_crosses(record: StudyRecord) -> None:
    sent = wire.study_to_pb(record).SerializeToString()
    got = wire.study_from_pb(pb.Study.FromString(sent))
    assert got == record
    assert got.digest() == record.digest()


@given(patients)
def test_a_patient_crosses(patient: Patient) -> None:
    assert (
        wire.patient_from_pb(pb.Patient.FromString(wire.patient_to_pb(patient).SerializeToString()))
        == patient
    )


@given(manifests)
def test_a_manifest_crosses(facts: ManifestFacts) -> None:
    assert (
        wire.manifest_from_pb(pb.Manifest.FromString(wire.manifest_to_pb(facts).SerializeToString())) == facts
    )


@given(versions)
def test_a_version_crosses(version: Version) -> None:
    assert (
        wire.version_from_pb(pb.Version.FromString(wire.version_to_pb(version).SerializeToString()))
        == version
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("study_uid", "not-a-uid"), ("study_uid", ""), ("detail", "some"), ("progress", "")],
)
def test_a_study_that_is_none_is_refused(field: str, value: str) -> None:
    message = wire.study_to_pb(make_record("1.2.3"))
    setattr(message, field, value)
    with pytest.raises(Invalid):
        wire.study_from_pb(message)


def test_a_patient_without_a_number_is_refused() -> None:
    message = wire.patient_to_pb(make_patient())
    message.local.value = ""
    with pytest.raises(Invalid):
        wire.patient_from_pb(message)


def test_an_unknown_zone_is_refused() -> None:
    message = wire.study_to_pb(make_record("1.2.3"))
    for zone in ("Mars/Olympus", "../../etc/passwd", "x" * 300):
        message.time.zone = zone
        with pytest.raises(Invalid):
            wire.study_from_pb(message)


def test_bounds() -> None:
    message = wire.study_to_pb(make_record("1.2.3"))
    message.description = "x" * (wire.MAX_TEXT + 1)
    with pytest.raises(TooLarge):
        wire.study_from_pb(message)
    message = wire.study_to_pb(make_record("1.2.3"))
    message.modalities.extend(["CT"] * (wire.MAX_LIST + 1))
    with pytest.raises(TooLarge):
        wire.study_from_pb(message)


def _one_too_many(place: str, text: str) -> pb.Study:
    message = wire.study_to_pb(make_record("1.2.3"))
    *path, name = place.split(".")
    part: Any = message
    for step in path:
        part = getattr(part, step)
        if hasattr(part, "append"):
            part = part[0] if part else part.add()
    setattr(part, name, text)
    return message


@pytest.mark.parametrize(
    "place",
    [
        "study_id",
        "description",
        "reason",
        "referrer",
        "institution",
        "patient.name",
        "patient.postcode",
        "patient.local.value",
        "patient.local.namespace",
        "accessions.value",
        "time.date",
        "time.time",
        "series.description",
        "series.number",
        "series.digest",
        "series.time.time",
        "procedure_codes.meaning",
    ],
)
def test_a_text_that_is_too_long_is_refused_wherever_it_stands(place: str) -> None:
    wire.study_from_pb(_one_too_many(place, "1" * 600))
    with pytest.raises(TooLarge):
        wire.study_from_pb(_one_too_many(place, "1" * (wire.MAX_TEXT + 1)))


@pytest.mark.parametrize(
    "place", ["accessions", "orders", "procedure_codes", "patient.others", "series.sop_classes", "body_sites"]
)
def test_a_list_of_empty_items_is_bounded_too(place: str) -> None:
    message = wire.study_to_pb(make_record("1.2.3"))
    part: Any = message
    for step in place.split("."):
        part = part[0] if hasattr(part, "append") else part
        part = getattr(part, step)
    for _ in range(wire.MAX_LIST + 1):
        part.append("") if place == "body_sites" else part.add()
    with pytest.raises(TooLarge):
        wire.study_from_pb(message)


@pytest.mark.parametrize(("sha1", "when"), [("abc", "2025"), ("0" * 40, "yesterday"), ("g" * 40, "2025")])
def test_a_manifest_that_is_none_is_refused(sha1: str, when: str) -> None:
    with pytest.raises(Invalid):
        wire.manifest_from_pb(pb.Manifest(document_uid="2.25.1", sha1=sha1, size_bytes=1, creation_time=when))


def test_a_version_out_of_range_is_refused() -> None:
    with pytest.raises(Invalid):
        wire.version_from_pb(pb.Version(epoch=256, n=1))
    with pytest.raises(Invalid):
        wire.version_from_pb(pb.Version(epoch=1, n=1 << 24))
