"""What a DocumentEntry is called by its procedure, in a region with a table of its own: the same on both
roads.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.sequence import Sequence
from road_studies import NHS, NUMBER, image, item
from whole_region import whole_region

from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import DocumentEntry
from crosslight.standards.xds.rules import stored_query as q

CX = f"{NUMBER}^^^&{NHS}&ISO"
CT = ("18747-6", "2.16.840.1.113883.6.1")
TABLE = [
    {"procedure": "XCHES", "type_code": "^".join((CT[0], "CT study", CT[1]))},
    {"procedure": "*sexual health*", "confidentiality": "R"},
]


@pytest.mark.scenario
async def test_a_region_and_its_nodes_say_the_same(tmp_path: Path) -> None:
    async with whole_region(
        tmp_path, {"RTK": "grpc", "RXC": "soap"}, facts={"procedure_codes": TABLE}
    ) as region:
        uids = []
        for at, home in enumerate(region.homes.values()):
            coded = image(70 + at, PatientID=f"L-{at}", StudyDescription="CT Sexual Health clinic")
            coded.ProcedureCodeSequence = Sequence(
                [item(CodeValue="XCHES", CodingSchemeDesignator="99LOCAL", CodeMeaning="Chest")]
            )
            await home.add([coded, image(80 + at, PatientID=f"L-{at}")])
            uids += [f"1.2.9.{70 + at}", f"1.2.9.{80 + at}"]
        for home in region.homes.values():
            await home.settled()
        await region.enriched(*uids)
        asked = {
            "$XDSDocumentEntryPatientId": (q.quoted(CX),),
            "$XDSDocumentEntryStatus": q.quoted_list((v.APPROVED,)),
        }
        for more, expected in (
            ({}, ["18747-6 R RTK", "18747-6 R RXC", "18748-4 N RTK", "18748-4 N RXC"]),
            ({"$XDSDocumentEntryTypeCode": (f"('{CT[0]}^^{CT[1]}')",)}, ["18747-6 R RTK", "18747-6 R RXC"]),
            (
                {"$XDSDocumentEntryConfidentialityCode": ("('N^^2.16.840.1.113883.5.25')",)},
                ["18748-4 N RTK", "18748-4 N RXC"],
            ),
        ):
            reply = await region.stored_query(q.FIND_DOCUMENTS, {**asked, **more})
            assert sorted(map(_said, reply.objects.documents)) == expected, more
        for holding in await region.holdings(*uids):
            assert "entry" not in holding.publication.extras, "what the table says is not kept beside it"


def _said(entry: DocumentEntry) -> str:
    assert entry.type_code is not None
    name, code = entry.authors[0].institutions[0].split("^^^^^&2.16.840.1.113883.2.1.3.2.4.19.1&ISO^^^^")
    assert code in name
    return f"{entry.type_code.value} {entry.confidentiality[0].value} {code}"
