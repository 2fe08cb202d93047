"""Any text and any entry go through XDS and back without loss."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xds_examples import CX, SOURCE, publication, through_xml

from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.mapping.people import patient_of, person_name, source_patient_info, xpn
from crosslight.standards.xds.mapping.references import comparable
from crosslight.standards.xds.mapping.study_times import service_times, study_time
from crosslight.standards.xds.model.metadata import (
    Author,
    Classification,
    Code,
    DocumentEntry,
    ExternalId,
    LocalText,
    RegistryObjects,
    Slot,
    from_plain,
    to_plain,
)
from crosslight.standards.xds.model.xml import legal

# --- any text -----------------------------------------------------------------------------------------------


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPECIAL = st.sampled_from(
    ["<", ">", "&", "'", '"', "\\", "^", "~", "|", "\n", "\r", "\t", "é", "山", "\x01", "=", " "]
)
TRICKY = (
    st.lists(st.one_of(SPECIAL, st.text(max_size=3)), max_size=20)
    .map("".join)
    .filter(lambda s: "\ud800" not in s)
)
ANY = st.one_of(TEXT, TRICKY).filter(lambda s: not any("\ud800" <= c <= "\udfff" for c in s))
IDENT = st.builds(
    Identifier, ANY.filter(lambda s: s.strip() == s and bool(legal(s))), st.sampled_from(["", "1.2.9"])
)
TIMES = st.builds(
    StudyTime,
    date=st.dates().map(lambda d: f"{d.year:04d}{d:%m%d}"),
    time=st.one_of(
        st.just(""), st.times().map(lambda t: f"{t:%H%M%S.%f}"), st.times().map(lambda t: f"{t:%H%M}")
    ),
    zone=st.sampled_from(["", "+0530", "-0930", "Europe/London"]),
)
RECORDS = st.builds(
    StudyRecord,
    study_uid=st.just("1.2.3"),
    patient=st.builds(
        Patient,
        local=st.builds(Identifier, ANY.filter(lambda s: s.strip() == s and bool(s)), st.just("1.2.3.3")),
        name=ANY.map(PersonName),
        birth_date=st.sampled_from(["", "19991231"]),
        sex=st.sampled_from(["", "M", "O"]),
    ),
    accessions=st.lists(IDENT, max_size=3).map(tuple),
    description=ANY,
    time=TIMES,
    modalities=st.lists(st.sampled_from(["CT", "MR", "SR", "XX"]), max_size=3).map(tuple),
)  # fmt: skip


@given(RECORDS)
@settings(max_examples=150, deadline=None)
def test_any_record_survives_the_wire(record: StudyRecord) -> None:
    pub = publication(record, replaced=True)
    said = views.objects_of(pub, CX)
    heard = through_xml(said)
    assert heard == said
    assert heard.documents[0].title == (
        ((LocalText(legal(record.description)),)) if record.description else ()
    )
    assert patient_of(record.patient.local, source_patient_info(record.patient)).local == record.patient.local


@given(
    st.one_of(
        ANY,
        st.lists(ANY, min_size=3, max_size=5).map("^".join),
        st.lists(ANY, min_size=2, max_size=3).map("=".join),
    )
)
def test_names_survive_xpn(text: str) -> None:
    once = person_name(xpn(PersonName(text)))
    assert person_name(xpn(once)) == once
    for component in ("family", "given", "middle", "prefix", "suffix"):
        assert getattr(PersonName(text), component).replace("=", " ").strip() == getattr(once, component)


@given(TIMES)
def test_service_times_are_ordered_and_come_back(time: StudyTime) -> None:
    start, stop = service_times(time)
    assert start <= stop
    if start >= "1972":  # before, London's clock was not whole hours or minutes off
        again = service_times(study_time(start, stop, "Europe/London"))
        assert again[0] <= start <= again[1]


@pytest.mark.parametrize(
    ("time", "zone"),
    [
        # 23 hours long
        (StudyTime(date="20240331", zone="Europe/London", zone_source="site"), "Europe/London"),
        # 25 hours long
        (StudyTime(date="20241027", zone="Europe/London", zone_source="site"), "Europe/London"),
        (StudyTime(date="20240601", time="00", zone="Europe/London", zone_source="site"), "Europe/London"),
        (StudyTime(date="20240601", time="0015", zone="Europe/London", zone_source="site"), "Europe/London"),
        (
            StudyTime(date="20240601", time="235959", zone="Europe/London", zone_source="site"),
            "Europe/London",
        ),
    ],
)
def test_local_text_is_found_again(time: StudyTime, zone: str) -> None:
    assert study_time(*service_times(time), zone) == time


# --- losslessness -------------------------------------------------------------------------------------------


SLOTS = st.lists(
    st.builds(Slot, st.sampled_from(["urn:a", "urn:b"]), st.lists(ANY, min_size=1, max_size=2).map(tuple)),
    max_size=2,
)
LOCAL = st.lists(
    st.builds(LocalText, ANY.filter(bool), st.sampled_from(["", "cy"]), st.sampled_from(["", "UTF-8"])),
    max_size=2,
)
CODE = st.builds(
    Code,
    ANY.filter(lambda s: s.strip() != ""),
    st.sampled_from(["1.2", "other"]),
    LOCAL.map(tuple),
    SLOTS.map(tuple),
)
ENTRIES = st.builds(
    DocumentEntry,
    entry_uuid=st.just("urn:uuid:11111111-1111-4111-8111-111111111111"),
    unique_id=st.just("1.2.3.4"),
    patient_id=st.just(CX),
    mime_type=st.just("application/dicom"),
    title=LOCAL.map(tuple),
    comments=LOCAL.map(tuple),
    slots=SLOTS.map(tuple),
    classifications=st.lists(
        st.builds(Classification, scheme=st.just("urn:x"), name=LOCAL.map(tuple)), max_size=1
    ).map(tuple),
    external_ids=st.lists(st.builds(ExternalId, scheme=st.just("urn:y"), value=ANY), max_size=1).map(tuple),
    creation_time=st.sampled_from(["2024", "20240601101112"]),
    language_code=st.sampled_from(["en-GB", "cy"]),
    service_start_time=st.sampled_from(["", "2024", "20240601", "20240601101112"]),
    service_stop_time=st.sampled_from(["", "20240601101112", "20250101"]),
    source_patient_id=st.just("L1^^^&1.2.3.3&ISO"),
    source_patient_info=st.lists(ANY.map(lambda s: f"PID-5|{legal(s)}"), max_size=3).map(tuple),
    hash=st.sampled_from(["a" * 40, "ABCDEF" * 6 + "ABCD"]),
    size=st.sampled_from(["0", "12", "007"]),
    repository_unique_id=st.sampled_from(["1.2.3.1", "9.9"]),
    uri=st.sampled_from([(), ("a.dcm",)]),
    reference_ids=st.lists(ANY.map(lambda s: f"{legal(s)}^^^^urn:t"), max_size=2).map(
        lambda r: ("1.2.3^^^&1.2&ISO^urn:ihe:iti:xds:2016:studyInstanceUID", *r)
    ),
    authors=st.lists(
        st.builds(Author, persons=st.lists(ANY.filter(bool), max_size=2).map(tuple), slots=SLOTS.map(tuple)),
        max_size=2,
    ).map(tuple),
    class_code=CODE,
    format_code=st.just(Code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")),
    event_codes=st.lists(CODE, max_size=3).map(tuple),
    confidentiality=st.lists(CODE, min_size=1, max_size=2).map(tuple),
)


@given(ENTRIES)
@settings(max_examples=150, deadline=None)
def test_nothing_submitted_is_lost(entry: DocumentEntry) -> None:
    """submit -> parse -> publication and extras -> render -> parse is what was submitted."""
    submitted = through_xml(RegistryObjects(documents=(entry,))).documents[0]
    pub = views.publication_from_submission(submitted, source=SOURCE, zone="Europe/London")
    answered = through_xml(RegistryObjects(documents=(views.document_entry(pub, CX),))).documents[0]
    assert answered == submitted
    assert from_plain("document", to_plain(submitted)) == submitted


def test_every_field_is_compared_or_rendered() -> None:
    """A new field of DocumentEntry cannot be forgotten by extras."""
    entry = DocumentEntry(
        entry_uuid="a", source_patient_id="1^^^&1.2&ISO", size="0", reference_ids=("1^^^^t",)
    )
    pub = views.publication_from_submission(entry, source=SOURCE)
    assert set(pub.extras["entry"]) <= {f.name for f in fields(DocumentEntry)}
    assert views.document_entry(pub, "") == entry


def test_references_compare_exactly_but_for_the_authority_of_a_study_uid() -> None:
    assert (
        comparable("1.2^^^&9.9&ISO^urn:ihe:iti:xds:2016:studyInstanceUID")
        == "1.2^^^^urn:ihe:iti:xds:2016:studyInstanceUID"
    )
    assert (
        comparable("A^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession")
        == "A^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession"
    )
