"""Absence is proven, or it is not said: questions against faces against answers, over the real stores, on
both databases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from four_faces import LISTED, MISREAD, NHS_SYSTEM, NONE, UNPROVEN, Faces, four_faces
from registry_room import make_room
from registry_samples import CODES, NHS, REGION, member, nhs, patient, study
from soap_calls import call_of

from crosslight.runtime.credentials import principal_of
from crosslight.runtime.db import Db
from crosslight.runtime.tls import Identity
from crosslight.standards.access import Grants
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.national import unread_number
from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules.stored_query import find_documents
from crosslight.standards.xds.wire import adhoc
from registry.ihe.iti18 import RegistryStoredQuery

KNOWN, EMPTY, NOBODY = nhs(1), nhs(2), nhs(3)
WRONG = KNOWN[:9] + str((int(KNOWN[9]) + 1) % 10)
LIKE_NATIONAL = nhs(7)  # a local number that passes the NHS number's check
LONG_LOCAL = "1234567890"  # ten digits, and no NHS number
SPACED = f"{KNOWN[:3]}\N{NO-BREAK SPACE}{KNOWN[3:6]}\N{EN DASH}{KNOWN[6:]}"
AT_RA2 = member("RA2", 1).authority
FACES = ("fhir", "qido", "iti18", "page")


@pytest.fixture
async def faces(database: Db) -> AsyncIterator[Faces]:
    room = await make_room(database)
    room.live(*CODES)
    people = (
        ("RA2", patient(room.member("RA2"), "A1", number=KNOWN, family="O'Brien-Łęska", given="Seán")),
        ("RPC", patient(room.member("RPC"), "P7", number=KNOWN, family="O'Brien-Łęska", given="Seán")),
        ("RTK", patient(room.member("RTK"), "K77", family="Yamada", born="19700101")),
        ("RXC", patient(room.member("RXC"), LONG_LOCAL, family="Ng", born="19700102")),
        ("RXC", patient(room.member("RXC"), LIKE_NATIONAL, family="Ito", born="19700104")),
    )
    for n, (code, who) in enumerate(people, 1):
        assert await room.publish(code, study(who, n, modality="CT"), n) == "accepted"
    named = patient(room.member("RYR"), "Y1", family="Hall", born="19700103")
    named = replace(named, local=replace(named.local, namespace="PAS NORTH"))
    await room.publish("RYR", study(named, 9), 9)
    await room.feed("RA2", patient(room.member("RA2"), "A2", number=EMPTY, family="Quiet"))
    room.live(*CODES)
    async with four_faces(room) as made:
        yield made
    await room.ask.close()


#: question -> (number, issuer, answer of every face)
NUMBERS = {
    "a known number": (KNOWN, NHS, LISTED),
    "a known number without issuer": (KNOWN, "", LISTED),
    "a known number as a letter writes it": (SPACED, NHS, LISTED),
    "the same without issuer": (SPACED, "", LISTED),
    "with a label and a full stop": (f"NHS No. {KNOWN}.", "", LISTED),
    "in other digits": (KNOWN.translate({48 + n: 0x0660 + n for n in range(10)}), "", LISTED),
    "a known patient without studies": (EMPTY, NHS, NONE),
    "a valid number that nobody has": (NOBODY, NHS, NONE),
    "a valid number that nobody has, without issuer": (NOBODY, "", NONE),
    "a failed check digit": (WRONG, NHS, MISREAD),
    "a failed check digit without issuer": (WRONG, "", MISREAD),
    "a digit short": (KNOWN[:9], NHS, MISREAD),
    "a digit short without issuer": (KNOWN[:9], "", MISREAD),
    "a digit too many": (KNOWN + "1", "", MISREAD),
    "two digits too many": (KNOWN + "12", "", MISREAD),
    "two digits short": (KNOWN[:8], "", MISREAD),
    "letters as an NHS number": ("K77", NHS, MISREAD),
    "a local number": ("K77", "", LISTED),
    "a local number in small letters": ("k77", "", {"page": LISTED, "fhir": UNPROVEN, "qido": UNPROVEN}),
    "a local number of ten digits": (LONG_LOCAL, "", LISTED),
    "a local number that could be an NHS number": (LIKE_NATIONAL, "", LISTED),
    "as an NHS number it is nobody's": (LIKE_NATIONAL, NHS, NONE),
    "a local number with its issuer": ("A1", AT_RA2, LISTED),
    "a local number that nobody has": ("A99", "", UNPROVEN),
    "a local number that nobody has, at a member": ("A99", AT_RA2, UNPROVEN),
    "an id of the region that nobody has": ("CL000", REGION.authority, UNPROVEN),
    "an issuer that nothing is numbered by": ("A1", "1.2.3.4", MISREAD),
    "an NHS number under another issuer": (KNOWN, "1.2.3.4", MISREAD),
    "an NHS number under a mistyped issuer": (KNOWN, NHS[:-1] + "2", MISREAD),
    "an NHS number at a member": (KNOWN, AT_RA2, UNPROVEN),
    "anything": ("%", "", UNPROVEN),
}


@pytest.mark.parametrize("name", NUMBERS)
async def test_a_number_on_every_face(faces: Faces, name: str) -> None:
    number, issuer, expected = NUMBERS[name]
    for face in FACES:
        if (face == "page" and issuer) or (face == "iti18" and not issuer):
            continue
        wanted = expected if isinstance(expected, str) else expected[face]
        assert await getattr(faces, face)(number, issuer) == wanted, (face, faces.said)
        if wanted == MISREAD and not issuer:
            assert "This is not a valid NHS number." in faces.said, "the same words on every face"
        assert number not in faces.said or wanted == LISTED, "no number in what is said of it"
    lenient = await faces.fhir(number, issuer, lenient=True)
    assert lenient == (expected if isinstance(expected, str) else expected["fhir"])


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (f"{NHS_SYSTEM}|{KNOWN}", LISTED),
        (f"{NHS_SYSTEM}|{SPACED}", LISTED),
        (f"{NHS_SYSTEM}|{NOBODY}", NONE),
        ("A99", UNPROVEN),
        (f"{NHS_SYSTEM}|{WRONG}", MISREAD),
        (WRONG, MISREAD),
        ("urn:oid:1.2.3.4|A1", MISREAD),
        ("http://wrong.example|A1", MISREAD),
        (f"urn:oid:{AT_RA2}|A1", LISTED),
        (f"urn:oid:{AT_RA2}|A99", UNPROVEN),
    ],
)
async def test_people_are_found_or_not_by_the_same_rule(faces: Faces, identifier: str, expected: str) -> None:
    for lenient in (False, True):
        assert (
            await faces.fhir_search({"identifier": identifier}, kind="Patient", lenient=lenient) == expected
        ), faces.said


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"accession": "urn:oid:1.2.3.4|A1"}, MISREAD), ({"accession": "A1"}, UNPROVEN),
        ({"accession": f"urn:oid:{AT_RA2}|A1"}, UNPROVEN), ({"study-instance-uid": "1.2.3"}, UNPROVEN),
        ({"patient": KNOWN}, MISREAD), ({"patient": f"Patient/{KNOWN}"}, MISREAD),
        ({"patient": "00000000-0000-4000-8000-000000000000"}, UNPROVEN),
        ({"custodian": "ZZZ"}, MISREAD), ({"custodian": "RA2"}, LISTED), ({"custodian": "ra2"}, LISTED),
        ({"custodian": "Organization/member-1"}, LISTED), ({"endpoint": "Endpoint/member-1-wado"}, LISTED),
        ({"endpoint": "Endpoint/member-77-wado"}, MISREAD), ({"endpoint": "Endpoint/other"}, MISREAD),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN}", "custodian": "ZZZ"}, MISREAD),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN}", "custodian": "RYR"}, NONE),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN}", "modality": "MR"}, NONE),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN}", "modality": "MRI"}, UNPROVEN),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN}", "description": "hesc ct"}, UNPROVEN),
        ({"patient.identifier": f"{NHS_SYSTEM}|{KNOWN},{NHS_SYSTEM}|{WRONG}"}, MISREAD),
        ({"patient.identifier": f"{NHS_SYSTEM}|{EMPTY},A99"}, UNPROVEN),
        ({"patient.identifier": f"http://wrong.example|{KNOWN}"}, MISREAD),
        ({"patient.identifier": f"https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C{KNOWN}"}, MISREAD),
    ],
)  # fmt: skip
async def test_what_only_fhir_can_ask(faces: Faces, params: dict[str, str], expected: str) -> None:
    assert await faces.fhir_search(params) == expected, faces.said
    assert await faces.fhir_search(params, lenient=True) == expected, faces.said


ASKED_NAMES = {
    "O'Brien-Łęska": True,
    "O’Brien–Leska": True,
    "obrien leska": True,
    "OBRIENLESKA": True,
    "Brien": False,
    "Smith": False,
}


@pytest.mark.parametrize("family", ASKED_NAMES)
async def test_a_name_finds_the_same_people_on_every_face_and_proves_nothing(
    faces: Faces, family: str
) -> None:
    expected = LISTED if ASKED_NAMES[family] else UNPROVEN
    born = {"day": "3", "month": "2", "year": "1961"}
    assert await faces.form({"family": family, **born}) == expected
    assert await faces.qido_search({"PatientName": family, "PatientBirthDate": "19610203"}) == expected
    for name in ("family", "name"):
        assert await faces.fhir_search({name: family, "birthdate": "1961-02-03"}, kind="Patient") == expected
    assert await faces.form({"family": family, **born, "day": "4"}) == UNPROVEN
    assert await faces.qido_search({"PatientName": family, "PatientBirthDate": "19610204"}) == UNPROVEN
    assert await faces.fhir_search({"family": family, "birthdate": "1961-02-04"}, kind="Patient") == UNPROVEN


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"family": "obr"}, True),
        ({"family": "lesk"}, True),
        ({"family": "brien"}, False),
        ({"given": "se"}, True),
        ({"given": "ean"}, False),
        ({"name": "sean"}, True),
        ({"name": "sean o brien"}, True),
        ({"name": "leska"}, True),
        ({"family": "obrien", "given": "S"}, True),
        ({"family": "obrien", "given": "T"}, False),
        ({"family:exact": "O'Brien-Łęska"}, True),
        ({"family:exact": "O'Brien-Leska"}, False),
        ({"name:exact": "Seán"}, True),
    ],
)
async def test_names_are_r4_strings(faces: Faces, params: dict[str, str], found: bool) -> None:
    answer = await faces.fhir_search({**params, "birthdate": "1961-02-03"}, kind="Patient")
    assert answer == (LISTED if found else UNPROVEN), faces.said


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("O*", True), ("obrien*", True), ("O?Brien*", False), ("*leska^S*", True), ("OBrienLeska^Se?n", True),
        ("O*^T*", False), ("?brien*", True), ("*^Sean", False), ("Obrien", False),
    ],
)  # fmt: skip
async def test_wildcards_of_names_are_those_of_dicom(faces: Faces, name: str, found: bool) -> None:
    if name == "*^Sean":  # nothing is said of the family: that would list people
        assert await faces.qido_search({"PatientName": name, "PatientBirthDate": "19610203"}) == MISREAD
        return
    answer = await faces.qido_search({"PatientName": name, "PatientBirthDate": "19610203"})
    assert answer == (LISTED if found else UNPROVEN)
    if "*" in name or "?" in name:  # beside a number it narrows
        assert await faces.qido_search({"PatientName": name, "PatientID": KNOWN}) == (
            LISTED if found else NONE
        )


async def test_every_id_that_an_answer_shows_finds_the_same_patient_on_every_face(faces: Faces) -> None:
    room = faces.room
    await room.publish(
        "RA2", study(patient(room.member("RA2"), "A3", family="Double", born="19800101"), 20), 20
    )
    await room.publish(
        "RA2", study(patient(room.member("RA2"), "A4", family="Double", born="19800101"), 21), 21
    )
    await room.identity.merge(Identifier("A3", AT_RA2), Identifier("A4", AT_RA2), room.clock.now())
    async with faces.http.get(
        f"{faces.base}/fhir/ImagingStudy", params={"_include": "ImagingStudy:patient"}
    ) as response:
        entries = (await response.json(content_type=None))["entry"]
    shown = [e["resource"] for e in entries if e["search"]["mode"] == "include"]
    assert len(shown) == 6
    for person in shown:
        wanted = await _studies(faces, {"patient": person["id"]})
        assert wanted
        for identifier in person["identifier"]:
            system, value = identifier["system"], identifier["value"]
            assert await _studies(faces, {"patient.identifier": f"{system}|{value}"}) == wanted
            assert await _studies(faces, {"patient.identifier": value}) == wanted
            assert await faces.page(value) == LISTED
            if system.startswith("urn:oid:"):
                assert await _rows(faces, value, system[8:]) == wanted
        async with faces.http.get(
            f"{faces.base}/dicomweb/studies", params={"PatientID": person["identifier"][0]["value"]}
        ) as response:
            rows = await response.json(content_type=None)
        for row in rows:
            for holder in (row, *row.get("00101002", {}).get("Value", ())):
                value, issuer = (holder[tag]["Value"][0] for tag in ("00100020", "00100021"))
                assert await _rows(faces, value, issuer) == wanted, (value, issuer)
                assert await _rows(faces, value, "") == wanted
        for entry in (await faces.documents(_cx(person))).objects.documents:
            assert len((await faces.documents(entry.patient_id)).objects.documents) == len(wanted)


def _cx(person: dict[str, list[dict[str, str]]]) -> str:
    first = person["identifier"][0]
    return Identifier(first["value"], first["system"].removeprefix("urn:oid:").replace(NHS_SYSTEM, NHS)).cx()


async def _studies(faces: Faces, params: dict[str, str]) -> set[str]:
    async with faces.http.get(f"{faces.base}/fhir/ImagingStudy", params=params) as response:
        body = await response.json(content_type=None)
        assert response.status == 200, body
    found = (e["resource"] for e in body["entry"] if e["search"]["mode"] == "match")
    return {one["identifier"][0]["value"].removeprefix("urn:oid:") for one in found}


async def _rows(faces: Faces, value: str, issuer: str) -> set[str]:
    params = {"PatientID": value} | ({"IssuerOfPatientID": issuer} if issuer else {})
    async with faces.http.get(f"{faces.base}/dicomweb/studies", params=params) as response:
        body = await response.json(content_type=None)
        assert response.status == 200, body
    return {row["0020000D"]["Value"][0] for row in body}


async def test_an_issuer_of_accession_numbers_is_known_from_its_first_on(faces: Faces) -> None:
    ris = "1.2.826.0.1.3680043.10.77.5"
    who = patient(faces.room.member("RA2"), "R1", family="Ris", born="19800501")
    assert await faces.fhir_search({"accession": f"urn:oid:{ris}|R1"}) == MISREAD
    assert "That issuer of accession numbers is not known here." in faces.said
    for n in (70, 71):
        record = changed(study(who, n), accessions=(Identifier(f"R{n}", ris),))
        await faces.room.publish("RA2", record, n)
    assert await faces.fhir_search({"accession": f"urn:oid:{ris}|R70"}) == LISTED
    assert await faces.fhir_search({"accession": f"urn:oid:{ris}|R99"}) == UNPROVEN, (
        "one that is not there yet can be asked for"
    )
    await faces.room.withdraw("RA2", record.study_uid, 72)
    assert await faces.fhir_search({"accession": f"urn:oid:{ris}|R71"}) == UNPROVEN
    rows = await faces.room.db.read("t", lambda tx: tx.rows("SELECT hash FROM locator WHERE record_key = 0"))
    assert len(rows) == len(set(rows)), "each issuer once"


async def test_the_issuer_of_national_numbers_goes_by_its_name_too(faces: Faces) -> None:
    assert await faces.qido(KNOWN, "NHS") == LISTED
    assert await faces.qido(WRONG, "nhs") == MISREAD
    assert await faces.qido(KNOWN, "CHI") == MISREAD, "this region has none"
    assert await faces.fhir_search({"patient.identifier": f"http://wrong|{KNOWN}"}) == MISREAD
    assert NHS_SYSTEM in faces.said, "a refusal says what there is"


async def test_what_a_source_that_is_no_member_holds_is_never_denied(faces: Faces) -> None:
    faces.room.directory.set(replace(member("foreign-8", 8, "foreign"), name="Northern XDS"))
    beyond = "What Northern XDS holds beyond what it registered is not known."
    for face in ("fhir", "qido", "page"):
        assert await getattr(faces, face)(NOBODY) == NONE
        assert beyond in faces.said, face
        assert await getattr(faces, face)(KNOWN) == LISTED
        assert beyond not in faces.said, "only where absence is stated"
    assert (
        await faces.fhir_search({"custodian": "urn:oid:" + member("foreign-8", 8).repository_unique_id})
        == UNPROVEN
    )


async def test_nothing_is_proven_while_a_member_is_not_counted(faces: Faces) -> None:
    room = faces.room
    room.directory.presences[MemberId(1)] = replace(room.directory.presences[MemberId(1)], reachable=False)
    for face in ("fhir", "page"):
        assert await getattr(faces, face)(NOBODY) == UNPROVEN
    assert "degraded" in (await _tags(faces, KNOWN))
    assert await _tags(faces, NOBODY) == ("degraded", "unproven")
    room.live(*CODES)
    assert await _tags(faces, KNOWN) == ()


async def _tags(faces: Faces, number: str) -> tuple[str, ...]:
    await faces.fhir(number)
    return faces.tags


async def test_a_consumer_that_takes_no_warnings_is_told_what_was_not_understood_all_the_same(
    faces: Faces,
) -> None:
    assert await faces.iti18("A99", AT_RA2, warn=False) == NONE, "as configured for it"
    assert await faces.iti18(WRONG, NHS, warn=False) == MISREAD


FINDS = Grants(capabilities=frozenset({"find"}))


@pytest.mark.parametrize("named", ["system:PAS", "spiffe://1.2.3/system/PAS"])
async def test_a_system_that_takes_no_warnings_is_named_as_any_release_named_it(
    faces: Faces, named: str
) -> None:
    query = parse_untrusted_xml(adhoc.render_adhoc_request(find_documents(Identifier("A99", AT_RA2).cx())))
    iti18 = RegistryStoredQuery(faces.room.ask, REGION, quiet=frozenset({named}), workers=faces.workers)
    warned = {}
    for name in ("PAS", "PACS"):
        answer = await iti18.answer(call_of(query, principal_of(Identity("system", name), grants=FINDS)))
        assert isinstance(answer, bytes)
        warned[name] = bool(adhoc.parse_adhoc_response(parse_untrusted_xml(answer)).errors)
    assert warned == {"PAS": False, "PACS": True}


async def test_a_region_wide_search_of_text_finds_what_a_patients_does(faces: Faces) -> None:
    who = patient(faces.room.member("RA2"), "A9", family="Text", born="19800301")
    record = changed(study(who, 40), description="Thórax / abdomen", time=StudyTime(date="20260101"))
    await faces.room.publish("RA2", record, 40)
    for text in ("thorax", "Thórax/Abd", "THORAX ABDOMEN"):
        wanted = await _studies(faces, {"patient.identifier": "A9", "description": text})
        assert wanted == {record.study_uid}
        assert await _studies(faces, {"description": text}) == wanted


async def test_a_study_with_a_number_that_is_none_is_published_and_counted(faces: Faces) -> None:
    room = faces.room
    who = patient(room.member("RTK"), "W1", family="Wrong", born="19800401")
    who = replace(who, others=(unread_number(WRONG, NHS),))
    assert await room.publish("RTK", study(who, 60), 60) == "accepted"
    assert await room.publish("RTK", study(who, 60), 60) == "already"
    assert (
        await room.publish("RTK", study(replace(who, others=(Identifier(WRONG, NHS),)), 61), 61) == "accepted"
    )
    assert dict(room.acceptor.unread) == {"RTK": 2}
    assert await faces.qido("W1") == LISTED
    assert await faces.qido(WRONG) == MISREAD, "nobody's number"
