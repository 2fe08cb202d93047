"""NIST's RAD-69 exception cases (ids_2018-4811) and home community case (4820), sent as they stand to a real
node.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree
from node_serving import IDS, Served, ct, part10, serving

from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.ids import Oid
from crosslight.standards.xds.model.xml import XDSB, XDSIB
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS
from crosslight.standards.xds.wire.retrieve import parse_retrieve_response

pytestmark = pytest.mark.standards

SOURCE = Oid("1.3.6.1.4.1.21367.13.80.110")  # NIST's imaging document source
CT = "1.3.6.1.4.1.14519.5.2.1.2857.3273"  # stems of the UIDs in NIST's cases
MR = "1.3.6.1.4.1.14519.5.2.1.7085.2626"
HELD = (
    (
        f"{CT}.184862055846930271614754681036",
        f"{CT}.181092492540572112241403328675",
        f"{CT}.393987221165344252190796851776",
    ),
    (
        f"{MR}.192997540292073877946622133586",
        f"{MR}.831285735928731782652048570955",
        f"{MR}.310894536700672302243471156028",
    ),
    # case 03: in another series
    (f"{MR}.192997540292073877946622133586", f"{MR}.999", f"{MR}.917173693042362721495240037775"),
    (
        "1.3.6.1.4.1.21367.201599.1.201604020954059",
        "1.3.6.1.4.1.21367.201599.2.201604020954059",
        "1.3.6.1.4.1.21367.201599.3.201604020954059.1",
    ),
)
CASES = {
    "4811-case-00_Comparison_Transaction": "",
    "4811-case-01_Invalid_RepositoryUID": "XDSUnknownRepositoryId",
    "4811-case-02_Unknown_SOP_Instance_UID": "XDSDocumentUniqueIdError",
    "4811-case-03_SOP_Instance_UID_not_in_requested_series": "XDSDocumentUniqueIdError",
    "4811-case-04_SOP_Instance_UID_not_in_requested_study": "XDSDocumentUniqueIdError",
    "4811-case-05_Empty_Study_Instance_UID": "XDSIRequestError",
    "4811-case-06_Empty_Series_Instance_UID": "XDSIRequestError",
    "4811-case-07_Empty_Study_and_Series_Instance_UIDs": "XDSIRequestError",
    "4811-case-08_Empty_Transfer_Syntax_UID": "XDSRepositoryError",
    "4811-case-09_Invalid_Transfer_Syntax_UID": "XDSRepositoryError",
    "4803a": "",
    "4820-with-home": "",
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, listener="systems") as served:
        served.serve.retrieve_location_uid = lambda: SOURCE
        await served.add(*(part10(ct(study=study, series=series, sop=sop)) for study, series, sop in HELD))
        yield served


@pytest.mark.parametrize("case", CASES)
async def test_nist_case(node: Served, standards_folder: Path, case: str) -> None:
    (path,) = [*standards_folder.rglob(f"nist-ids2018-{case}.xml")]
    request = etree.parse(path).getroot()
    if request.tag != f"{{{XDSIB}}}RetrieveImagingDocumentSetRequest":
        (request,) = request.iter(f"{{{XDSIB}}}RetrieveImagingDocumentSetRequest")
    for study in request.iter(f"{{{XDSIB}}}StudyRequest"):  # what a case asks for and must be there, is there
        if not CASES[case]:
            series = study[0]
            sop = series.findtext(f".//{{{XDSB}}}DocumentUniqueId") or ""
            await node.add(
                part10(
                    ct(
                        study=study.get("studyInstanceUID") or "",
                        series=series.get("seriesInstanceUID") or "",
                        sop=sop,
                    )
                )
            )
    client = SoapClient(node.session, IDS)
    async with client.stream(f"{node.url}/rad69", rad69.ACTION_REQUEST, etree.tostring(request)) as stream:
        reply = parse_retrieve_response(stream.body)
        received = 0
        async for part in stream.parts():
            assert [piece async for piece in part.chunks()]
            received += 1
    expected = CASES[case]
    assert reply.registry.status == (FAILURE if expected else SUCCESS)
    assert {error.code for error in reply.registry.errors} == ({expected} if expected else set())
    assert (received > 0) is not bool(expected)
    homes = {e.text for e in request.iter(f"{{{XDSB}}}HomeCommunityId")}
    if received:
        assert {d.request.home_community_id for d in reply.documents} == (homes or {""})
