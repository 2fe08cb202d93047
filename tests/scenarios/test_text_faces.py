"""Text survives: archive record -> FHIR, QIDO, HTML.

Properties over the pure functions that the rooms use; what they are tried with: ``text_traps``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import orjson
import portal_samples
from fhir_facts import facts_of
from hypothesis import example, given
from lxml import html
from registry_samples import NHS, REGION, published
from text_traps import HOME, NUMBER, PROPERTY, free_text, names, record_of, values

from crosslight.standards.dicom.web.json import texts_of
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.people import patient as fhir_patient
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.ids import Identifier
from crosslight.standards.study import PersonName, StudyRecord
from registry.ask.question import Answer
from registry.dicomweb.rows import ListedStudy, SharedRows, study_row
from registry.identity.model import PatientRecord, Person, PersonKey, RecordKey
from registry.index.model import Holding
from registry.portal import wording as words
from registry.portal.coverage_wording import sites_of
from registry.portal.render import Pages
from registry.portal.timeline import banner_of, rows_of


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
    row = orjson.loads(orjson.dumps(study_row(_listed(record), "http://x", SharedRows(lambda _: True))))
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
