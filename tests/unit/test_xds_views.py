"""Views of a Publication: what XDS-I.b asks, any text survives, and nothing submitted is lost."""

from __future__ import annotations

import hmac
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosslight.standards.ids import Identifier, Oid, Version
from crosslight.standards.problem import Invalid
from crosslight.standards.region import ProcedureCodes
from crosslight.standards.study import Coded, ManifestFacts, Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.mapping.people import patient_of, person_name, source_patient_info, xon, xpn
from crosslight.standards.xds.mapping.references import comparable
from crosslight.standards.xds.mapping.study_times import service_times, study_time
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.imaging import is_manifest
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
from crosslight.standards.xds.model.publication import Publication, Source
from crosslight.standards.xds.model.xml import legal, parse_untrusted_xml
from crosslight.standards.xds.wire import ebrim, ebrim_write

SECRET = b"s" * 32
NHS = "2.16.840.1.113883.2.1.4.1"
SOURCE = Source(
    code="RTK",
    name="Ashford & St Peter's <NHS>",
    repository_unique_id=Oid("1.2.3.1"),
    retrieve_location_uid=Oid("1.2.3.2"),
    authority=Oid("1.2.3.3"),
)
CX = "9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO"


def publication(record: StudyRecord, *, replaced: bool = False) -> Publication:
    return Publication.derived(
        source=SOURCE,
        secret=SECRET,
        version=Version(1, 7),
        record=record,
        manifest=ManifestFacts(
            document_uid="2.25.1", sha1="a" * 40, size_bytes=1234, creation_time="20240601101500"
        ),
        submission_time="20240601101501",
        replaces=Version(1, 6) if replaced else None,
    )


RECORD = StudyRecord(
    study_uid="1.2.840.1",
    patient=Patient(
        local=Identifier("L/1", "1.2.3.3"),
        others=(Identifier("9434765919", NHS),),
        name=PersonName("O'Neill^Siân^^Dr^Jr"),
        birth_date="19500131",
        sex="F",
    ),
    accessions=(Identifier("A&1", "1.2.9"), Identifier("B")),
    orders=(Identifier("P1", "1.2.8"),),
    description="CT Thorax <contrast> & 'more'",
    time=StudyTime(date="20240601", time="003000", zone="Europe/London", zone_source="site"),
    modalities=("CT", "SR"),
    body_sites=("CHEST", "SOMEWHERE"),
)


def test_what_xdsi_asks() -> None:
    entry = views.document_entry(publication(RECORD), CX)
    assert entry.reference_ids == (
        "1.2.840.1^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
        "A\\T\\1^^^&1.2.9&ISO^urn:ihe:iti:xds:2013:accession",
        "B^^^^urn:ihe:iti:xds:2013:accession",
        "P1^^^&1.2.8&ISO^urn:ihe:iti:xds:2013:order",
    )
    assert [c.key for c in entry.event_codes] == [
        ("CT", "1.2.840.10008.2.16.4"),
        ("816094009", "2.16.840.1.113883.6.96"),
    ]
    assert (entry.service_start_time, entry.service_stop_time) == ("20240531233000", "20240531233000")
    assert entry.source_patient_info == (
        "PID-3|L/1^^^&1.2.3.3&ISO",
        f"PID-3|9434765919^^^&{NHS}&ISO",
        "PID-5|O'Neill^Siân^^Jr^Dr",
        "PID-7|19500131",
        "PID-8|F",
    )
    assert (entry.hash, entry.size, entry.repository_unique_id) == ("a" * 40, "1234", "1.2.3.1")
    assert entry.patient_id == CX
    assert entry.authors[0].institutions == ("Ashford \\T\\ St Peter's <NHS>",)
    assert entry.type_code is not None
    assert (entry.type_code.key, [c.value for c in entry.confidentiality]) == (
        ("18748-4", "2.16.840.1.113883.6.1"),
        ["N"],
    )


@pytest.mark.parametrize(
    ("name", "code", "authority", "expected"),
    [
        ("St Peter's", "RTK", "1.2.3", "St Peter's^^^^^&1.2.3&ISO^^^^RTK"),
        ("A & B^C", "R^1", "1.2.3", "A \\T\\ B\\S\\C^^^^^&1.2.3&ISO^^^^R\\S\\1"),
        ("St Peter's", "RTK", "", "St Peter's"), ("St Peter's", "", "1.2.3", "St Peter's"),
        ("&" * 300, "RTK", "1.2.3", "\\T\\" * 78 + "^^^^^&1.2.3&ISO^^^^RTK"),
    ],
)  # fmt: skip
def test_an_organisation_with_its_code(name: str, code: str, authority: str, expected: str) -> None:
    """XON.1, XON.6 and XON.10; within the 256 characters of a slot value, never cut within an escape."""
    found = xon(name, code, authority)
    assert found == expected
    assert len(found) <= 256


TABLE = (
    ProcedureCodes(procedure="XCHES", type_code="18747-6^CT study^2.16.840.1.113883.6.1"),
    ProcedureCodes(procedure="*sexual health*", confidentiality="R"),
    ProcedureCodes(procedure="CT*", type_code="24627-2^CT Chest^2.16.840.1.113883.6.1", confidentiality="V"),
)


@pytest.mark.parametrize(
    ("description", "codes", "kind", "confidentiality"),
    [
        ("MR Head", (), "18748-4", "N"),
        ("CT Thorax", (), "24627-2", "V"),
        ("ct thorax", (), "24627-2", "V"),
        ("X", ("xches",), "18747-6", "N"),
        ("CT Thorax", ("XCHES",), "18747-6", "V"),
        ("CT Sexual Health clinic", (), "24627-2", "R"),
        ("", (), "18748-4", "N"),
        ("X", ("XCHEST",), "18748-4", "N"),
        ("X", ("CTABD",), "24627-2", "V"),
    ],
)
def test_what_the_procedure_says(
    description: str, codes: tuple[str, ...], kind: str, confidentiality: str
) -> None:
    """typeCode and confidentialityCode by the region's table, each by the first row that says it; the same on
    both roads.
    """
    record = replace(
        RECORD, description=description, procedure_codes=tuple(Coded(value, "99LOCAL") for value in codes)
    )
    source = replace(SOURCE, organisation_authority=Oid("1.2.3.4"), procedure_codes=TABLE)
    pub = replace(publication(record), source=source)
    said = through_xml(views.objects_of(pub, CX))
    entry = said.documents[0]
    assert entry.type_code is not None
    assert (entry.type_code.value, [c.key for c in entry.confidentiality]) == (
        kind,
        [(confidentiality, "2.16.840.1.113883.5.25")],
    )
    assert entry.authors[0].institutions[0].endswith(f"^^^^^&1.2.3.4&ISO^^^^{SOURCE.code}")
    assert entry.authors == said.submissions[0].authors
    back = views.publication_from_submission(entry, source=source, secret=SECRET, zone="Europe/London")
    assert views.document_entry(back, CX).type_code == entry.type_code, (
        "also before the procedure is known there"
    )
    assert views.extras_of(replace(back, record=record), entry).get("entry", {}).keys() <= {"event_codes"}


@pytest.mark.parametrize(("pattern", "fits"), [("*", True), ("**", True), ("?*", False), ("CT*", False)])
def test_a_row_for_every_study_holds_also_without_a_description(pattern: str, fits: bool) -> None:
    table = (ProcedureCodes(procedure=pattern, confidentiality="R"),)
    codes = values.codes_of(replace(RECORD, description="", procedure_codes=()), table)
    assert [code.value for code in codes] == ["18748-4", "R" if fits else "N"]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (ProcedureCodes(procedure="", confidentiality="R"), "procedure"),
        (ProcedureCodes(procedure="CT*"), "follows"),
        (ProcedureCodes(procedure="CT*", type_code="1"), "type_code"),
        (ProcedureCodes(procedure="CT*", type_code="1^CT^scheme"), "type_code"),
        (ProcedureCodes(procedure="CT*", type_code="1^^1.2"), "type_code"),
        (ProcedureCodes(procedure="CT*", confidentiality="X"), "N, R, V"),
    ],
)
def test_a_row_that_decides_nothing_is_refused(row: ProcedureCodes, word: str) -> None:
    with pytest.raises(Invalid) as caught:
        row.check()
    assert word in caught.value.what


def test_the_tables_types_are_in_the_value_set() -> None:
    own = values.type_code("18747-6^CT study^2.16.840.1.113883.6.1")
    assert not values.ValueSets().allows("type_code", own)
    assert values.ValueSets(type_codes=frozenset({own.key})).allows("type_code", own)


def test_registered_form_and_associations() -> None:
    home = "urn:oid:1.9"
    pub = publication(RECORD, replaced=True)
    objects = views.registered_objects(pub.with_status("Deprecated"), CX, home)
    assert objects.documents[0].status == v.DEPRECATED
    assert objects.submissions[0].status == v.APPROVED
    assert {o.home for o in objects} == {home}
    assert all(o.logical_id == o.entry_uuid and o.version == "1" for o in objects)
    member, rplc = objects.associations
    assert (member.source, member.target) == (
        objects.submissions[0].entry_uuid,
        objects.documents[0].entry_uuid,
    )
    assert (rplc.type, rplc.source, rplc.target) == (v.RPLC, pub.entry_uuid, pub.replaces_entry_uuid)


def test_own_publication_comes_back_without_extras() -> None:
    pub = publication(RECORD, replaced=True)
    # any document id: not ours
    pub = replace(pub, manifest=replace(pub.manifest, document_uid=pub.entry_uuid))
    said = views.objects_of(pub, CX)
    entry = said.documents[0]
    back = views.publication_from_submission(
        entry,
        source=SOURCE,
        secret=SECRET,
        zone="Europe/London",
        submission=said.submissions[0],
        member=said.associations[0],
        replacing=said.associations[1],
    )
    assert back.version is None  # the document uid is not derived with the same version
    assert back.extras == {}
    assert views.objects_of(back, CX) == said
    assert back.record.detail == "entry"
    assert back.record.time == RECORD.time
    assert (back.record.patient, back.record.description) == (RECORD.patient, RECORD.description)
    assert (back.record.accessions, back.record.orders) == (RECORD.accessions, RECORD.orders)
    assert (back.record.modalities, back.record.body_sites) == (("CT",), ("CHEST",))


def test_a_growing_study_says_so_and_is_heard() -> None:
    """D14 on the SOAP road: what FHIR calls registered is extra metadata of the entry, and comes back as no
    extra.
    """
    growing = publication(replace(RECORD, progress="arriving"))
    for pub in (growing, publication(RECORD)):
        entry = through_xml(views.objects_of(pub, CX)).documents[0]
        back = views.publication_from_submission(entry, source=SOURCE, secret=SECRET, zone="Europe/London")
        assert back.record.progress == pub.record.progress
        assert "entry" not in back.extras
        assert [s.name for s in entry.slots] == ([v.PROGRESS_SLOT] if pub is growing else [])


def test_own_version_needs_the_secret() -> None:
    from crosslight.standards.ids import DerivedId, Kind, study_tag

    uid = DerivedId(Kind.DOCUMENT, Version(1, 7), study_tag(SECRET, RECORD.study_uid)).uid()
    pub = publication(RECORD)
    entry = views.document_entry(replace(pub, manifest=replace(pub.manifest, document_uid=uid)), CX)
    assert views.own_version(entry, SECRET) == Version(1, 7)
    assert views.own_version(entry, b"other") is None
    assert views.own_version(replace(entry, unique_id="1.2.3"), SECRET) is None
    assert is_manifest(entry)
    assert not is_manifest(replace(entry, reference_ids=()))
    assert not is_manifest(replace(entry, format_code=Code("urn:ihe:rad:PDF", "x")))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_the_keyed_hash_is_hmac(key: bytes, message: bytes) -> None:
    from crosslight.standards.ids import hmac_sha256

    assert hmac_sha256(key, message) == hmac.digest(key, message, "sha256")


def test_every_kind_of_id_of_a_version_is_the_derived_one() -> None:
    from crosslight.standards.ids import DerivedId, IdFamily, Kind, study_tag

    tag = study_tag(SECRET, RECORD.study_uid)
    for version in (Version(0, 1), Version(3, 70_000), Version(255, (1 << 24) - 1)):
        family = IdFamily(version, tag)
        for kind in Kind:
            one = DerivedId(kind, version, tag)
            assert (family.urn(kind), family.uid(kind)) == (one.urn(), one.uid())
            assert DerivedId.parse(family.urn(kind)) == DerivedId.parse(family.uid(kind)) == one


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


def through_xml(objects: RegistryObjects) -> RegistryObjects:
    return ebrim.parse_submit_objects(parse_untrusted_xml(ebrim_write.render_submit_objects(objects)))


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
