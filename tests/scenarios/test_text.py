"""Text survives: DICOM -> archive record -> HL7 (ITI-8) -> ebRIM (ITI-42, ITI-18) -> gRPC -> manifest -> FHIR
-> QIDO -> HTML.

Properties over the pure functions that the rooms use. What the standards themselves cannot carry is left out:
characters that XML 1.0 forbids, the delimiters of a PN inside a PN, a backslash in a DICOM string that may
have several values.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dicom_objects
import orjson
import portal_samples
import pytest
from fhir_facts import facts_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import html
from registry_samples import NHS, REGION, member, nhs, published, study

from crosslight.pb import feed_pb2 as pb
from crosslight.runtime.wire import patient_from_pb, patient_to_pb, study_from_pb, study_to_pb
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.dicom.record.kos_read import parse_manifest
from crosslight.standards.dicom.record.record import Instance, build
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.json import texts_of
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.people import patient as fhir_patient
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.hl7.adt import MessageHeader, feed_message, parse_adt, render_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.study import InstanceRef, Patient, PersonName, StudyRecord
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.model.metadata import plain_text
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim import parse_submit_objects
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.response import SUCCESS
from registry.ask.question import Answer
from registry.dicomweb.rows import ListedStudy, study_row
from registry.identity.model import PatientRecord, Person, PersonKey, RecordKey
from registry.index.model import Holding
from registry.portal import wording as words
from registry.portal.coverage_wording import sites_of
from registry.portal.render import Pages
from registry.portal.timeline import banner_of, rows_of

HOME, NUMBER = member("RTK", 3), nhs(1)
RULES = RecordRules(
    authority=HOME.authority, namespace=HOME.code, site_zone="Europe/London", nationals=(NHS,)
)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Every delimiter and escape of every form on the way, whole sequences of them, and scripts that have broken
#: systems before.
TRAPS = (
    "<",
    ">",
    "&",
    "'",
    '"',
    "^",
    "~",
    "|",
    "\\",
    "&amp;",
    "&#10;",
    "<b>",
    "]]>",
    "<!--",
    "{{7*7}}",
    "${x}",
    "%s",
    "\\E\\",
    "\\X0A\\",
    "\\.br\\",
    "''",
    '""',
    "\u00e9",
    "e\u0301",
    "\u4e57\u8868",
    "\u0634\u0639",
    "\U0001f9e0",
    "\u2028",
    "\u0085",
    "\xa0",
    "\ufeff",
    "\ufb01",
    "\u0130",
)
_LINES = ("\n", "\r\n", "\t")


def _text(without: str = "", lines: bool = False, most: int = 24) -> st.SearchStrategy[str]:
    """Text with many traps; no characters of ``without``, and no control characters but ``lines``."""
    banned = set(without) | {"\ufffe", "\uffff"}
    letters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=sorted(banned))
    traps = [
        t
        for t in (*TRAPS, *(_LINES if lines else ()))
        if not set(t) & banned and (lines or "\u0085" not in t)
    ]
    return st.lists(st.one_of(letters, st.sampled_from(traps)), max_size=most).map("".join)


def _trimmed(text: str) -> str:
    """Without what surrounds it: outer blanks of LO and PN mean nothing (PS3.5 6.2)."""
    return text.strip(" ")


_part = _text("\\^=", most=8).map(str.strip)
_group = st.lists(_part, min_size=1, max_size=5).map(lambda parts: "^".join(parts).rstrip("^"))
names = (
    st.lists(_group, min_size=1, max_size=3)
    .map(lambda groups: "=".join(groups).rstrip("="))
    .filter(lambda pn: len(pn) < 180)
)
lines_of_text = _text("\\").map(_trimmed)  # LO, SH in DICOM
free_text = _text(lines=True)  # from the record on: whatever a source wrote
values = _text("\\", most=10).map(_trimmed).filter(str.strip)  # identifiers


def record_of(pn: str, description: str, *, local: str = "L1", accession: str = "A1") -> StudyRecord:
    """A record with these texts in every place that has one."""
    patient = Patient(
        local=Identifier(local, HOME.authority),
        others=(Identifier(NUMBER, NHS),),
        name=PersonName(pn),
        birth_date="19700101",
        sex="F",
    )
    made = study(patient, 1, modality="CT", instances=2)
    texts: dict[str, Any] = {
        "description": description,
        "institution": description,
        "referrer": pn,
        "study_id": accession,
    }
    made = replace(
        made, accessions=(Identifier(accession, HOME.authority),), orders=(Identifier(accession),), **texts
    )
    return made.with_series((replace(s, description=description) for s in made.series), detail="full")


# --- DICOM -> record -> manifest ----------------------------------------------------------------------------


@PROPERTY
@given(pn=names, description=lines_of_text, local=values)
def test_dicom_to_record_to_manifest(pn: str, description: str, local: str) -> None:
    ds = dicom_objects.image(
        1,
        SpecificCharacterSet="ISO_IR 192",
        PatientName=pn,
        PatientID=local,
        StudyDescription=description,
        SeriesDescription=description,
        InstitutionName=description,
        ReferringPhysicianName=pn,
        AccessionNumber=local,
    )
    found = header.read(gate.examine(dicom_objects.part10(ds)))
    instance = Instance(
        series_uid=found.series_uid,
        sop_uid=found.sop_uid,
        sop_class_uid=found.sop_class_uid,
        sha256="0" * 64,
        study=orjson.loads(orjson.dumps(found.study)),
        series=orjson.loads(orjson.dumps(found.series)),
    )
    record = build(found.study_uid, [instance], RULES)
    assert record is not None
    assert (record.patient.name.pn, record.patient.local.value) == (pn, local)
    assert (record.description, record.institution, record.referrer) == (description, description, pn)
    assert (record.series[0].description, record.accessions[0].value) == (description, local)
    reference = InstanceRef(
        study_uid=record.study_uid,
        series_uid=found.series_uid,
        sop_uid=found.sop_uid,
        sop_class_uid=found.sop_class_uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    data = build_manifest(
        record,
        [reference],
        document_uid="2.25.1",
        series_uid="2.25.2",
        retrieve_ae_title="RTK",
        retrieve_location_uid="1.2.3",
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    manifest = parse_manifest(data)
    assert manifest.patient is not None
    assert (manifest.patient.name.pn, manifest.patient.local.value) == (pn, local)
    assert _trimmed(manifest.description) == description


#: Character sets whose octets hold the delimiter 5C inside a character, and code extensions that end at a
#: delimiter.
CHARSETS = {
    "GB18030": "誠乗^表",
    "GBK": "誠乗^表",
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 144": "Иванов^Пётр",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 166": "ไทย^ก",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
}


@pytest.mark.parametrize("term", CHARSETS)
def test_names_of_other_character_sets(term: str) -> None:
    codec = {
        "ISO_IR 13": "shift_jis",
        "ISO_IR 100": "latin_1",
        "ISO_IR 144": "iso8859_5",
        "ISO_IR 127": "iso8859_6",
    } | {"ISO_IR 126": "iso8859_7", "ISO_IR 138": "iso8859_8", "ISO_IR 166": "iso8859_11"}
    pn = CHARSETS[term]
    octets = pn.encode(codec.get(term, term.lower()))
    body = (
        dicom_objects.element(0x00080005, "CS", term.encode() + b" " * (len(term) % 2))
        + dicom_objects.IDENTITY
    )
    head, tail = body[: body.index(b"\x20\x00\x0d\x00")], body[body.index(b"\x20\x00\x0d\x00") :]
    data = head + dicom_objects.element(0x00100010, "PN", octets + b" " * (len(octets) % 2)) + tail
    found = header.read(gate.examine(dicom_objects.raw_part10(data)))
    assert header.first_text(found.study, "00100010").strip() == pn
    assert texts_of(found.study, "PatientName")[0].strip() == pn


# --- record -> HL7 ------------------------------------------------------------------------------------------


@PROPERTY
@given(pn=names, local=values, postcode=lines_of_text)
@example(pn="A~B|C&D^\\".replace("\\", ""), local="\\E\\|^~&", postcode="")
@example(pn="=山田^太郎", local='""x', postcode="GU2 7XX")
def test_record_to_patient_feed(pn: str, local: str, postcode: str) -> None:
    who = replace(record_of(pn, "", local=local).patient, postcode=postcode)
    sent = MessageHeader(control_id="1", time="20260101120000")
    data = render_adt(feed_message(who, sent))
    read = parse_adt(data)
    assert data.count(b"\r") == 4, "no text makes a segment of its own"
    assert read.identifiers == (who.local, *who.others)
    back = read.patient(read.identifiers[0])
    assert back.name.pn == _by_components(pn)
    assert (back.postcode, back.birth_date, back.sex) == (postcode, who.birth_date, who.sex)


def _by_components(pn: str) -> str:
    """A PN as its components mean it: outer blanks and empty ends of a group mean nothing (PS3.5 6.2.1)."""
    groups = ("^".join(part.strip(" ") for part in group.split("^")).rstrip("^") for group in pn.split("="))
    return "=".join(groups).rstrip("=")


# --- record -> ebRIM and gRPC -------------------------------------------------------------------------------


@PROPERTY
@given(pn=names, description=free_text, local=values, accession=values)
@example(pn="A^B", description="\n<x>\r\n\t\"'&]]>", local="'", accession="a^b&c~d|e\\f")
def test_record_to_registry_and_back(pn: str, description: str, local: str, accession: str) -> None:
    record = record_of(pn, description, local=local, accession=accession)
    publication = published(HOME, record, 1)
    sent = views.objects_of(publication, record.patient.local.cx())
    root = parse_untrusted_xml(
        render_submit_objects((*sent.documents, *sent.submissions, *sent.associations))
    )
    read = parse_submit_objects(root)
    assert read.documents == sent.documents
    [entry] = read.documents
    assert plain_text(entry.title) == description
    assert Identifier.parse_cx(entry.source_patient_id).value == local
    kept = views.publication_from_submission(entry, source=HOME.source, secret=HOME.secret, zone=REGION.zone)
    assert (kept.record.description, kept.record.patient.local, kept.record.accessions) == (
        description,
        record.patient.local,
        record.accessions,
    )
    assert kept.record.patient.name.pn == _by_components(pn)
    assert kept.extras == {}
    answered = views.registered_document(kept, record.patient.local.cx(), "urn:oid:1.2.3")
    reply = adhoc.parse_adhoc_response(
        parse_untrusted_xml(adhoc.render_adhoc_response(SUCCESS, objects=[answered]))
    )
    assert reply.objects.documents == (answered,)
    assert (answered.title, answered.reference_ids, answered.source_patient_info) == (
        entry.title,
        entry.reference_ids,
        entry.source_patient_info,
    )


@PROPERTY
@given(pn=names, description=free_text, accession=values)
def test_record_over_grpc(pn: str, description: str, accession: str) -> None:
    record = record_of(pn, description, accession=accession)
    wire = study_to_pb(record).SerializeToString()
    message = pb.Study()
    message.ParseFromString(wire)
    assert study_from_pb(message) == record
    assert (
        patient_from_pb(pb.Patient.FromString(patient_to_pb(record.patient).SerializeToString()))
        == record.patient
    )


# --- record -> FHIR, QIDO, HTML -----------------------------------------------------------------------------


@PROPERTY
@given(pn=names, description=free_text, accession=values)
def test_record_to_fhir_and_qido(pn: str, description: str, accession: str) -> None:
    record = record_of(pn, description, accession=accession)
    holding, region = facts_of(record, HOME, NUMBER)
    systems = Systems(REGION)
    resource = orjson.loads(orjson.dumps(imaging_study(holding, region, systems)))
    if description.strip():
        assert resource["description"] == description
        assert resource["location"]["display"] == description
        assert {s["description"] for s in resource["series"]} == {description}
    assert accession in {i["value"] for i in resource["identifier"]}
    assert holding.person is not None
    person = orjson.loads(orjson.dumps(fhir_patient(holding.person, systems, incarnation="i")))
    said = [[n.get("family", ""), *n.get("given", [])] for n in person.get("name", [])]
    assert said == [
        [p for p in _words_of(g) if p or p is _words_of(g)[0]] for g in pn.split("=") if g.strip("^ ")
    ]
    row = orjson.loads(orjson.dumps(study_row(_listed(record), "http://x", lambda _: True)))
    assert texts_of(row, "StudyDescription") == ([description] if description else [])
    assert texts_of(row, "PatientName") == ([pn] if pn.strip("=") else [])
    assert texts_of(row, "AccessionNumber") == [accession]


def _words_of(group: str) -> list[str]:
    parts = [part.strip() for part in group.split("^")] + [""] * 3
    return [parts[0], *(part for part in parts[1:3] if part)]


def _listed(record: StudyRecord) -> ListedStudy:
    return ListedStudy(None, ((_holding(record), HOME),))


def _holding(record: StudyRecord) -> Holding:
    return Holding(
        member=HOME.id,
        record_key=RecordKey(1),
        publication=published(HOME, record, 1),
        state="approved",
        digest="",
        revision=1,
        fhir_id="f",
        updated=datetime(2026, 1, 1, tzinfo=UTC),
    )


_PAGES = Pages()


def _page(record: StudyRecord, person: Person) -> Any:
    sites = sites_of(portal_samples.coverage(), REGION)
    answer = Answer(
        holdings=(_holding(record),),
        persons=(person,),
        objects=(),
        disputed=(),
        coverage=portal_samples.coverage(),
        correlation="c",
        incarnation="i",
    )
    rows = rows_of(answer, portal_samples.DIRECTORY, sites)
    common: dict[str, Any] = {"here": "/patients/x", "first_open": None}
    banner = banner_of(person, portal_samples.DIRECTORY, REGION, date(2026, 1, 1))
    get = _PAGES._env.get_template
    body = get("_banner.html").render(common | {"banner": banner}) + get("_row.html").render(
        common | {"row": rows[0]}
    )
    return html.document_fromstring(
        f"<html><head><meta charset='utf-8'></head><body>{body}</body></html>".encode()
    )


@PROPERTY
@given(pn=names, description=free_text)
@example(pn="<script>alert(1)</script>^'\"&lt;", description="{{7*7}}</h3><img src=x onerror=alert(1)>")
def test_record_to_page(pn: str, description: str) -> None:
    record = record_of(pn, description)
    known = PatientRecord(
        key=RecordKey(1),
        patient=record.patient,
        member=HOME.id,
        person=PersonKey(1),
        national=(Identifier(NUMBER, NHS),),
    )
    person = Person(key=PersonKey(1), fhir_id="f", domain_id=Identifier(NUMBER, NHS), records=(known,))
    page = _page(record, person)
    shown = page.xpath("//h3/bdi")[0].text_content()
    if words.plain(description):
        assert shown == words.plain(description)
        if description.isprintable():
            assert shown == description.strip()
    assert page.xpath("//dd/bdi")[0].text_content() == words.person_name(PersonName(pn))
    assert page.xpath("//script | //img[@onerror] | //b") == []
    assert len(page.xpath("//*[@data-study-uid]")) == 1
