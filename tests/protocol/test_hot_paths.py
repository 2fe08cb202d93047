"""What a study more costs an answer, in calls of our own Python: counted, and no time is measured.

A count that grows says that something is done for each study which was done once, or in C. Where that is
meant, write the new count here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from hot_calls import Calls, forget
from registry_room import Room, make_room
from registry_samples import NHS, nhs, patient, study
from room_faces import room_faces

from crosslight.runtime.db import SqliteDb
from crosslight.standards.fhir.terms import NHS_NUMBER_SYSTEM
from crosslight.standards.xds.rules.stored_query import find_documents
from crosslight.standards.xds.wire.adhoc import ACTION_REQUEST, render_adhoc_request
from crosslight.standards.xds.wire.soap import render_envelope

#: Persons of so many studies each. More would be read by a thread beside, whose calls are not seen here.
FEW, MANY = (4, (7, 11, 12)), (24, (8, 13, 14))
FIRST = (5, (9,))
SOAP = "application/soap+xml; charset=UTF-8"
#: Calls for one study; hashing of texts differs from run to run, and moves them by a few. The portal asks
#: twice, and each piece of a page is a call.
BOUNDS = {"fhir": 145, "dicomweb": 155, "xds": 160, "portal": 440}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    forget()
    db = SqliteDb(tmp_path / "t.sqlite")
    made = await make_room(db)
    n = 0
    for person, count in ((person, count) for count, persons in (FEW, MANY, FIRST) for person in persons):
        who = patient(made.member("RA2"), f"H{person}", number=nhs(person))
        acts = []
        for _ in range(count):
            n += 1
            acts.append(made.published("RA2", study(who, n, modality="US", instances=3), n))
        await made.acceptor.accept(made.grpc("RA2", *acts))
    yield made
    await db.close()


async def _fhir(http: aiohttp.ClientSession, base: str, number: str) -> tuple[str, bytes]:
    path = f"/fhir/ImagingStudy?patient.identifier={quote(NHS_NUMBER_SYSTEM, safe='')}%7C{number}"
    async with http.get(aiohttp.client.URL(base + path, encoded=True)) as response:
        return '"ImagingStudy",'.replace(",", ""), await response.read()


async def _dicomweb(http: aiohttp.ClientSession, base: str, number: str) -> tuple[str, bytes]:
    async with http.get(f"{base}/dicomweb/studies?PatientID={number}&includefield=all") as response:
        return '"0020000D"', await response.read()


async def _xds(http: aiohttp.ClientSession, base: str, number: str) -> tuple[str, bytes]:
    query = render_adhoc_request(find_documents(f"{number}^^^&{NHS}&ISO"))
    body = render_envelope(ACTION_REQUEST, query, message_id="urn:uuid:1", to=f"{base}/xds/registry")
    headers = {"Content-Type": f'{SOAP}; action="{ACTION_REQUEST}"'}
    async with http.post(f"{base}/xds/registry", data=body, headers=headers) as response:
        return "<rim:ExtrinsicObject", await response.read()


async def _portal(http: aiohttp.ClientSession, base: str, number: str) -> tuple[str, bytes]:
    async with http.post(f"{base}/search", data={"number": number}) as response:  # leads to the timeline
        return "data-study-uid", await response.read()


@pytest.mark.parametrize("face", BOUNDS)
async def test_a_study_more_costs_no_more_calls_than_it_did(room: Room, face: str) -> None:
    ask = {"fhir": _fhir, "dicomweb": _dicomweb, "xds": _xds, "portal": _portal}[face]
    calls, spent = Calls(), dict[int, int]()
    async with (
        room_faces(room, kind="systems" if face == "xds" else "people") as served,
        aiohttp.ClientSession() as http,
    ):
        await ask(http, served.base, nhs(FIRST[1][0]))  # what is made once for all is made now
        for count, persons in (FEW, MANY):
            found = []
            for person in persons:
                with calls.counting():
                    mark, body = await ask(http, served.base, nhs(person))
                assert body.count(mark.encode()) >= count, body[:500]
                found.append(calls.count)
            spent[count] = min(found)  # in one of them the audit may have written once more
    each = (spent[MANY[0]] - spent[FEW[0]]) / (MANY[0] - FEW[0])
    assert each <= BOUNDS[face], f"{each} calls for each study"
