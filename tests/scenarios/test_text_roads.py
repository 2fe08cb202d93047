"""Text end to end: difficult names and descriptions through real nodes and a real registry, on both roads and
every face.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import html
from road_studies import NHS, image
from whole_region import NHS_SYSTEM, Whole, whole_region

from crosslight.standards.dicom.web.json import texts_of
from crosslight.standards.study import PersonName
from crosslight.standards.xds.mapping.people import xpn
from crosslight.standards.xds.model.metadata import plain_text
from registry.portal import wording as words

NUMBERS = ("9434765919", "9434765870", "9990000018", "9990000026", "9990000034")
#: (PN, description): what DICOM allows in a PN and an LO, what some write all the same, and scripts of every
#: direction.
TEXTS = (
    ('O\'Brien-Smythe^Séan <b>&amp;</b>^"Pat"^Dr^Jr', "CT <head> & \"neck\" 'x' ^ ~ | {{7*7}} &lt;"),
    ("Yamada|~&^Tarou=山田^太郎=やまだ^たろう", "胸部X線 ]]> <!-- 100% \\E".replace("\\", "")),
    ("Иванов^Пётр Ильич", "line one\nline two\r\n\tthree & <four>"),
    ("إبراهيم^عليّ", "أشعة مقطعية <للرأس> ‎&‏ |^~"),
    ("Zoë-🧠^é^ﬁ", "Ünïcödé 🩻 \u2028 — “quotes” ''"),
)
ROADS = {"RTK": "grpc", "RXC": "soap"}


@pytest.mark.scenario
async def test_text_is_the_same_on_every_face(tmp_path: Path) -> None:
    async with whole_region(tmp_path, ROADS) as region:
        studies: dict[str, tuple[str, str, str, str]] = {}
        for base, code in ((100, "RTK"), (200, "RXC")):
            for n, (pn, description) in enumerate(TEXTS):
                local = f"{code}^&|~<{n}>'\""
                files = [
                    image(
                        base + n,
                        1,
                        1,
                        who=NUMBERS[n],
                        PatientName=pn,
                        PatientID=local,
                        StudyDescription=description,
                        SeriesDescription=description,
                        AccessionNumber=f"a^&|~<{n}>'",
                    )
                ]
                await region.homes[code].add(files)
                studies[f"1.2.9.{base + n}"] = (NUMBERS[n], pn, description, local)
        for home in region.homes.values():
            await home.settled()
        await region.enriched(*studies)
        for uid, (number, pn, description, local) in studies.items():
            await _xds(region, uid, number, pn, description)
            await _fhir(region, uid, number, pn, description, local)
            await _qido(region, uid, number, pn, description)
        for n, (pn, _) in enumerate(TEXTS):
            page: Any = html.fromstring(await region.page(NUMBERS[n]))
            shown = {
                row.get("data-study-uid"): row.xpath(".//h3/bdi")[0].text_content()
                for row in page.xpath("//li[@data-study-uid]")
            }
            assert shown == {f"1.2.9.{base + n}": words.plain(TEXTS[n][1]) for base in (100, 200)}
            assert page.xpath("//dd/bdi")[0].text_content() == words.person_name(PersonName(pn))
            assert not page.xpath("//main//script | //main//b")


async def _xds(region: Whole, uid: str, number: str, pn: str, description: str) -> None:
    reply = await region.all_of(f"{number}^^^&{NHS}&ISO")
    [entry] = [d for d in reply.objects.documents if any(r.startswith(f"{uid}^") for r in d.reference_ids)]
    assert plain_text(entry.title) == description
    assert f"PID-5|{xpn(PersonName(pn))}" in entry.source_patient_info


async def _fhir(region: Whole, uid: str, number: str, pn: str, description: str, local: str) -> None:
    [study] = [s for s in await region.studies_of(number) if s["identifier"][0]["value"] == f"urn:oid:{uid}"]
    assert (study["description"], study["series"][0]["description"]) == (description, description)
    [person] = [
        e["resource"]
        for e in (await region.get("fhir/Patient", params={"identifier": f"{NHS_SYSTEM}|{number}"}))["entry"]
        if e["search"]["mode"] == "match"
    ]
    first, name = pn.split("=")[0].split("^"), person["name"][0]
    assert (name["family"], name["given"][0]) == (first[0], first[1])
    assert local in {i["value"] for i in person["identifier"]}


async def _qido(region: Whole, uid: str, number: str, pn: str, description: str) -> None:
    [row] = await region.rows_of(StudyInstanceUID=uid)
    assert texts_of(row, "StudyDescription") == [description]
    assert texts_of(row, "PatientName") == [pn]
    [series] = await region.rows_of(f"studies/{uid}/series")
    assert texts_of(series, "SeriesDescription") == [description]
    assert texts_of(row, "PatientID") == [number]
