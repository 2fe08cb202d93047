"""Numbers that are none, in objects that are kept all the same: they stop neither ingest nor publication nor
an answer.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dicom_objects import IDENTITY, element
from dicom_objects import raw_part10 as file
from fhir_facts import facts_of
from registry_samples import REGION, member, nhs, patient, published, study

from crosslight.standards.dicom.file import gate
from crosslight.standards.dicom.pixels import frames
from crosslight.standards.dicom.pixels.render import parse_options
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.problem import Invalid, Malformed
from crosslight.standards.records import changed
from crosslight.standards.study import InstanceRef
from node.serve.frames import frame_list
from registry.index.codec import Codec
from registry.index.past_versions import publication_of, state_of

ODD = ("--5", "+-5", "9" * 5000, "٣", "²", "1e5", "-", "")
RTK = member("RTK", 1)


@pytest.mark.parametrize("number", ODD)
def test_the_gate_lets_an_odd_number_of_frames_pass(number: str) -> None:
    parsed = gate.examine(
        file(IDENTITY + element(0x00280008, "IS", number.encode() + b" " * (len(number.encode()) % 2)))
    )
    assert parsed.number(0x00280008, 1) == 1


@pytest.mark.parametrize("number", ODD)
def test_a_study_with_odd_numbers_is_published_and_answered(number: str) -> None:
    record = study(patient(RTK, number=nhs(1)), 1)
    record = record.with_series((changed(s, number=number) for s in record.series), detail="full")
    instance = InstanceRef(
        study_uid=record.study_uid,
        series_uid=record.series[0].series_uid,
        sop_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        number=number,
        frames=1,
        sha256="",
        size_bytes=1,
    )
    assert build_manifest(
        record,
        [instance],
        document_uid="2.25.1",
        series_uid="2.25.2",
        retrieve_ae_title="RTK",
        retrieve_location_uid="1.2",
        retrieve_url="",
        created=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    made = published(RTK, record, 1)
    codec = Codec()
    stored = codec.encode(made, "", made.version, RTK.secret)
    back, _ = codec.decode(stored, made.version, record.patient, made.source, RTK.secret, made.status)
    assert back.record == record
    assert (
        publication_of(state_of(made, "", 1, RTK.secret), record.patient, made.source, RTK.secret)[0] == made
    )
    facts, region = facts_of(record, RTK, nhs(1))
    assert imaging_study(facts, region, Systems(REGION))["numberOfSeries"] == record.n_series


def test_odd_numbers_in_a_question_are_the_askers_fault() -> None:
    with pytest.raises(Invalid):
        frame_list("9" * 5000, 1)
    with pytest.raises(Invalid):
        parse_options({"quality": "9" * 5000}, "image/jpeg", max_side=1000, thumbnail_side=0)
    with pytest.raises(Malformed):
        frames.native_layout(
            {"Rows": "4", "Columns": "4", "BitsAllocated": "8", "NumberOfFrames": "--5"}, offset=1, length=16
        )
