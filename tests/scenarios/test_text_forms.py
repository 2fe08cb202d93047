"""Text survives: DICOM -> archive record -> manifest, HL7 (ITI-8), ebRIM (ITI-42, ITI-18) and gRPC.

Properties over the pure functions that the rooms use; what they are tried with: ``text_traps``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import dicom_objects
import orjson
import pytest
from hypothesis import example, given
from registry_samples import NHS, REGION, published
from text_traps import HOME, PROPERTY, free_text, lines_of_text, names, record_of, trimmed, values

from crosslight.pb import feed_pb2 as pb
from crosslight.runtime.wire import patient_from_pb, patient_to_pb, study_from_pb, study_to_pb
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.dicom.record.kos_read import parse_manifest
from crosslight.standards.dicom.record.record import Instance, build
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.json import texts_of
from crosslight.standards.hl7.adt import MessageHeader, feed_message, parse_adt, render_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.study import InstanceRef
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.model.metadata import plain_text
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim import parse_submit_objects
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.response import SUCCESS

RULES = RecordRules(
    authority=HOME.authority, namespace=HOME.code, site_zone="Europe/London", nationals=(NHS,)
)


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
    assert trimmed(manifest.description) == description


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
