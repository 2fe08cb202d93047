"""Views of a Publication: what XDS-I.b asks, any text survives, and nothing submitted is lost."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xds_examples import CX, NHS, SECRET, SOURCE, publication, through_xml

from crosslight.standards.ids import Identifier, Oid, Version
from crosslight.standards.problem import Invalid
from crosslight.standards.records import changed
from crosslight.standards.region import ProcedureCodes
from crosslight.standards.study import Coded, Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.mapping.people import xon
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.imaging import is_manifest
from crosslight.standards.xds.model.metadata import (
    Code,
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
    record = changed(
        RECORD, description=description, procedure_codes=tuple(Coded(value, "99LOCAL") for value in codes)
    )
    source = replace(SOURCE, organisation_authority=Oid("1.2.3.4"), procedure_codes=TABLE)
    pub = changed(publication(record), source=source)
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
    assert views.extras_of(changed(back, record=record), entry).get("entry", {}).keys() <= {"event_codes"}


@pytest.mark.parametrize(("pattern", "fits"), [("*", True), ("**", True), ("?*", False), ("CT*", False)])
def test_a_row_for_every_study_holds_also_without_a_description(pattern: str, fits: bool) -> None:
    table = (ProcedureCodes(procedure=pattern, confidentiality="R"),)
    codes = values.codes_of(changed(RECORD, description="", procedure_codes=()), table)
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
    pub = changed(pub, manifest=changed(pub.manifest, document_uid=pub.entry_uuid))
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
    growing = publication(changed(RECORD, progress="arriving"))
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
    entry = views.document_entry(changed(pub, manifest=changed(pub.manifest, document_uid=uid)), CX)
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
