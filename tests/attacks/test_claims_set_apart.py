"""What an outside source says of a StudyInstanceUID that another holds takes nothing from the other (H3).

Over real TLS: two members, and sources that may publish and have an address.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from closed_region import CLINICIAN
from foreign_region import manifest
from granted_region import ELSES, OURS, Attacked, documents, granted_region
from registry_samples import nhs
from road_studies import image
from whole_region import until

from crosslight.runtime.caller import command_line
from crosslight.runtime.clock import SystemIds
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from registry.ihe import iti42
from registry.members.systems import asked_grants

ROOM = pytest.mark.asyncio(loop_scope="module")
NUMBER, OTHER_NUMBER = nhs(7), nhs(8)
CX, SOMEBODY_ELSES = (Identifier(number, NHS_NUMBER_OID).cx() for number in (NUMBER, OTHER_NUMBER))
CLAIM = "a source claims a study that another holds"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    async with granted_region(tmp_path_factory.mktemp("claims")) as made:
        await made.system("thief", asked_grants(("find",), publishes=(OURS,)))
        for repository in (OURS, ELSES):
            await made.region.registry.members.sources.describe(
                repository, dicomweb="https://127.0.0.1:9/dicomweb", by=command_line(SystemIds())
            )
        await held(made, 30, OTHER_NUMBER)
        yield made


async def held(at: Attacked, study: int, number: str = NUMBER) -> str:
    """A new study of the patient whom the sources' manifests describe, at RTK; its UID."""
    who = {"PatientName": "Strange^Zoe", "PatientBirthDate": "19610203", "PatientSex": "F"}
    await at.region.homes["RTK"].add([image(study, who=number, PatientID=f"Z-{number}", **who)])
    uid, rtk = f"1.2.9.{study}", at.region.registry.members.active("RTK").id

    async def known() -> bool:
        return any(holding.member == rtk for holding in await at.region.holdings(uid))

    await until(known)
    return uid


async def asked(at: Attacked, path: str) -> tuple[int, Any]:
    """What a clinician is answered: status and JSON."""
    token = at.region.registry.parts.access.tokens.issue_access_token(CLINICIAN)
    status, text = await at.http(
        "", "GET", f"{at.region.base}/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    return status, json.loads(text) if text else None


async def claims(at: Attacked, who: str, uid: str, cx: str) -> None:
    one = manifest("claimed", study_uid=uid, repository=ELSES if who == "owner" else OURS, cx=cx)
    done, text = await at.soap(who, iti42.ACTION_REQUEST, documents(one))
    assert done, text


async def opens(at: Attacked, uid: str, of: str = "RTK") -> None:
    """The member's study is at its normal address, unmarked, as its own row and resource."""
    status, found = await asked(at, f"dicomweb/studies/{uid}/metadata")
    assert status == 200, found
    assert {row["0020000D"]["Value"][0] for row in found} == {uid}
    status, rows = await asked(at, f"dicomweb/studies?PatientID={NUMBER}&StudyInstanceUID={uid}")
    assert status == 200
    ours = [row for row in rows if of in row["00091001"]["Value"]]
    assert len(ours) == 1
    assert "00091004" not in ours[0], "not in conflict"
    assert ours[0]["00080056"]["Value"] == ["ONLINE"]
    status, page = await asked(at, f"fhir/ImagingStudy?identifier=urn:oid:{uid}&patient.identifier={NUMBER}")
    assert status == 200
    marked = [
        "holding-in-conflict" in json.dumps(entry["resource"])
        for entry in page["entry"]
        if entry["search"]["mode"] == "match" and f"({of})" in json.dumps(entry["resource"])
    ]
    assert not any(marked)


@ROOM
@pytest.mark.parametrize("cx", [SOMEBODY_ELSES, CX], ids=["another-patient", "the-same-patient"])
async def test_a_claim_on_a_members_study_takes_it_from_nobody(attacked: Attacked, cx: str) -> None:
    alarms = attacked.region.registry.parts.waists.acceptor.alarms
    before, uid = alarms[CLAIM], await held(attacked, 41 if cx == CX else 42)
    await opens(attacked, uid)
    await claims(attacked, "thief", uid, cx)
    await opens(attacked, uid)
    assert alarms[CLAIM] == before + 1, "an operator is told"


@ROOM
async def test_a_claim_that_was_there_first_takes_nothing_either(attacked: Attacked) -> None:
    await held(attacked, 43)
    uid = "1.2.9.44"
    await claims(attacked, "thief", uid, SOMEBODY_ELSES)
    await claims(attacked, "thief", uid, CX)
    await held(attacked, 44)
    await opens(attacked, uid)


@ROOM
async def test_of_two_sources_neither_takes_the_others_place(attacked: Attacked) -> None:
    """Nothing ranks them: the address asks, and each is had at its own."""
    uid = "1.2.9.77"
    await claims(attacked, "owner", uid, CX)
    await claims(attacked, "thief", uid, CX)
    status, told = await asked(attacked, f"dicomweb/studies/{uid}/metadata")
    assert status == 409
    assert len({choice["address"] for choice in told["choices"]}) == 2


@ROOM
async def test_what_is_set_apart_is_listed_with_its_mark(attacked: Attacked) -> None:
    uid = await held(attacked, 45)
    await claims(attacked, "thief", uid, CX)
    status, page = await asked(
        attacked, f"fhir/ImagingStudy?patient.identifier={NUMBER}&identifier=urn:oid:{uid}"
    )
    assert status == 200
    studies = [e["resource"] for e in page["entry"] if e["search"]["mode"] == "match"]
    assert len(studies) == 2
    status, rows = await asked(attacked, f"dicomweb/studies?PatientID={NUMBER}&StudyInstanceUID={uid}")
    assert status == 200
    roots = {row["00091001"]["Value"][0]: row["00081190"]["Value"][0] for row in rows}
    assert len(roots) == 2
    (source,) = {*roots} - {"RTK"}
    assert "/members/" not in roots["RTK"]
    assert f"/members/{source}/" in roots[source]
