"""Entries written in bulk are byte for byte what the ordinary writer writes: any text, any shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publish_records import records
from xds_examples import CX, publication

from crosslight.standards.records import changed
from crosslight.standards.xds.mapping import values
from crosslight.standards.xds.mapping.views import registered_document, registered_objects
from crosslight.standards.xds.model.metadata import (
    Author,
    Classification,
    Code,
    DocumentEntry,
    ExternalId,
    LocalText,
    Slot,
)
from crosslight.standards.xds.wire import ebrim_templates
from crosslight.standards.xds.wire.ebrim_templates import write_object
from crosslight.standards.xds.wire.ebrim_write import render_object

HOME = "urn:oid:1.2.3"
UUID = "urn:uuid:01abcdef-0123-8456-89ab-0123456789ab"
#: What has a meaning in XML, in HL7 or in our own templates, and letters of many scripts.
PIECES = (
    *(
        "<",
        ">",
        "&",
        "'",
        '"',
        "\\",
        "^",
        "~",
        "|",
        "\n",
        "\r",
        "\t",
        "]]>",
        "&amp;",
        "\x00",
        "\x0b",
        "{}",
        "%s",
    ),
    *(
        "\ue000",
        "\ue0000\ue000",
        "\ue0000\ue000.1",
        ".1",
        "é",
        "山",
        "א",
        "\U0001f600",
        "\ufffe",
        "a",
        " ",
        "",
    ),
)
TEXT = st.one_of(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), st.text(max_size=6))
UUIDS = st.one_of(
    TEXT,
    st.uuids().map(lambda u: u.urn),
    st.sampled_from([UUID, UUID.upper(), UUID[:-4] + "+abc", UUID[:-4] + "1_23"]),
    st.just("urn:uuid:" + "<" * 32 + "00ff"),
)
LISTS = st.lists(TEXT, max_size=3).map(tuple)
CODES = st.one_of(
    st.sampled_from([values.IMAGES, values.modality_code("CT"), values.NORMAL]),
    st.builds(Code, TEXT, TEXT, st.lists(st.builds(LocalText, TEXT), max_size=1).map(tuple)),
)
ENTRIES = st.builds(
    DocumentEntry,
    entry_uuid=UUIDS,
    logical_id=UUIDS,
    version=st.sampled_from(["", "1", "2"]),
    status=st.sampled_from(["", "urn:Approved"]),
    home=st.sampled_from(["", HOME]),
    title=st.lists(st.builds(LocalText, TEXT, st.sampled_from(["", "en"])), max_size=2).map(tuple),
    comments=st.sampled_from([(), (), (LocalText("more"),)]),
    slots=st.sampled_from([(), (), (Slot("urn:x:more", ("1",)),)]),
    classifications=st.sampled_from([(), (), (Classification(node="urn:x"),)]),
    external_ids=st.sampled_from([(), (), (ExternalId(scheme="urn:x", value="1"),)]),
    unique_id=TEXT,
    patient_id=TEXT,
    mime_type=st.sampled_from(["", "application/dicom"]),
    creation_time=TEXT,
    service_start_time=TEXT,
    service_stop_time=TEXT,
    source_patient_id=TEXT,
    source_patient_info=LISTS,
    hash=TEXT,
    size=TEXT,
    repository_unique_id=st.sampled_from(["", "1.2.3.4"]),
    uri=LISTS,
    reference_ids=LISTS,
    authors=st.lists(st.builds(Author, institutions=LISTS, persons=LISTS), max_size=1).map(tuple),
    class_code=st.one_of(st.none(), CODES),
    confidentiality=st.lists(CODES, max_size=2).map(tuple),
    event_codes=st.lists(CODES, max_size=3).map(tuple),
)


@given(st.lists(ENTRIES, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_any_entries(entries: list[DocumentEntry]) -> None:
    for entry in entries:
        assert write_object(entry) == render_object(entry)
    # others of the same shapes, so that the templates are used and not only made
    for entry, other in zip(entries, entries[1:] + entries[:1], strict=True):
        filled = replace(entry, unique_id=other.unique_id or "x", hash=other.hash, title=other.title)
        assert write_object(filled) == render_object(filled)


@given(records)
@settings(max_examples=20, deadline=None)
def test_any_study_as_a_registry_answers_it(record: object) -> None:
    said = publication(record)
    for version in (said, changed(said, extras={"entry": {"comments": [{"value": "<more>"}]}})):
        entry = registered_document(version, CX, HOME)
        assert write_object(entry) == render_object(entry)
        for other in registered_objects(version, CX, HOME):
            assert write_object(other) == render_object(other)


@pytest.mark.parametrize("mark", ["\ue000", "\ue0000\ue000", "\ue0003\ue000.2"])
def test_texts_with_our_own_mark_in_them(mark: str) -> None:
    plain = DocumentEntry(entry_uuid=UUID, unique_id="1.2", title=(LocalText("Head"),), hash="00")
    named = [
        replace(plain, title=(LocalText(mark),), hash=mark, reference_ids=(mark, "", mark)),
        replace(plain, authors=(Author(institutions=(mark,)),)),
        replace(plain, event_codes=(Code(mark, "1.2"),)),
        replace(plain, slots=(Slot(mark, (mark,)),)),
    ]
    for entry in named:
        assert write_object(entry) == render_object(entry)


def test_of_entries_of_one_shape_the_ordinary_writer_writes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []

    def counted(member: object) -> str:
        written.append(member)
        return render_object(member)

    monkeypatch.setattr(ebrim_templates, "render_object", counted)
    shape = DocumentEntry(
        entry_uuid=UUID, unique_id="1", event_codes=(values.modality_code("CT"),), home=HOME
    )
    for n in range(50):
        write_object(replace(shape, unique_id=f"1.2.{n}", entry_uuid=f"{UUID[:-4]}{n:04x}"))
    assert len(written) <= 2, "one to see whether our mark is free, and the specimen"
