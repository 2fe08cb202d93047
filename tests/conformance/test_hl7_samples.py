"""Every published ITI-8 sample is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosslight.standards.hl7.adt import parse_adt, render_adt
from crosslight.standards.ids import Identifier

pytestmark = pytest.mark.standards

_FIRST = {
    "ipf-A01": ("A01", "306563", "Barker^R."),
    "ipf-A04": ("A04", "305090", "Hiccock^WildBill"),
    "ipf-A08": ("A08", "306567", "BEST^XML^2"),
    "ipf-A40": ("A40", "142025", "LENNON^JOHN"),
    "ipf-PIX_FEED_MERGE_Maximal_Request": ("A40", "120-01", ""),
    "ipf-PIX_FEED_REG_Maximal_Request": ("A01", "PIX10515W3", "WASHINGTON^MARY^ROSE^Dr.^II"),
    "ipf-PIX_FEED_REV_Maximal_Request": ("A08", "PIX10515W3", "WASHINGTON-UPDATE^MARY^ROSE^Dr.^II"),
}


def test_samples_are_read_and_written_again(standards_folder: Path) -> None:
    files = sorted(standards_folder.glob("**/hl7v2/*.hl7"))
    assert len(files) >= len(_FIRST)
    for file in files:
        adt = parse_adt(file.read_bytes())
        event, value, name = _FIRST[file.stem]
        assert (adt.event, next(i.value for i in adt.identifiers if i.value)) == (event, value), file.name
        assert name in adt.name.pn, file.name
        again = parse_adt(render_adt(adt))
        assert (again.name, again.birth_date, again.postcode, again.subsumed) == (
            adt.name,
            adt.birth_date,
            adt.postcode,
            adt.subsumed,
        )
        assert [(i.value, i.authority) for i in again.identifiers] == [
            (i.value, i.authority) for i in adt.identifiers
        ]


def test_merge_sample_names_its_pair(standards_folder: Path) -> None:
    [file] = standards_folder.glob("**/hl7v2/ipf-PIX_FEED_MERGE_Maximal_Request.hl7")
    adt = parse_adt(file.read_bytes())
    assert adt.subsumed == Identifier("120-02", "1.2.3.4.666", "domain1")
    assert adt.survivor == Identifier("120-01", "1.2.3.4.5.1000")
