"""What is a date of birth, on every road."""

from __future__ import annotations

import pytest

from crosslight.runtime import wire
from crosslight.standards.birth_date import birth_date
from crosslight.standards.hl7.adt import parse_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Patient
from crosslight.standards.xds.mapping.people import patient_of
from registry.identity.header import Placeholders

TABLE = {
    "19800102": "19800102",
    "1980.01.02": "19800102",
    "1980-01-02": "19800102",
    "19800102103000": "19800102",
    "198001": "198001",
    "1980": "1980",
    "18000101": "18000101",
    "11111111": "11111111",
    "99991231": "99991231",
    "": "",
    "00000000": "",
    "19700000": "",
    "19701301": "",
    "19700230": "",
    "99999999": "",
    "0000": "",
    "198013": "",
    "19": "",
    "1980010": "",
    "unknown": "",
    "١٩٨٠٠١٠٢": "",
    "17000101": "",
}


@pytest.mark.parametrize(("text", "born"), TABLE.items())
def test_a_value_that_is_no_calendar_date_is_none(text: str, born: str) -> None:
    assert birth_date(text) == born
    pid = (
        "MSH|^~\\&|A|F|R|G|20200101||ADT^A04|c1|P|2.3.1|||||||UNICODE"
        f" UTF-8\rPID|||1^^^&1.2.3&ISO||DOE^Ann||{text}\rPV1||O\r"
    )
    assert parse_adt(pid.encode()).birth_date == born
    local = Identifier("1", "1.2.3")
    assert patient_of(local, [f"PID-7|{text}"]).birth_date == born
    sent = wire.patient_to_pb(Patient(local=local, birth_date=text))
    assert wire.patient_from_pb(sent).birth_date == born


def test_placeholders_and_partial_dates_are_not_known() -> None:
    known = Placeholders(birth_dates=frozenset({"19000101", "19110101"})).known_birth_date
    assert [known(t) for t in ("19000101", "19110101", "1980", "198001", "19801301", "19800102")] == [
        "",
        "",
        "",
        "",
        "",
        "19800102",
    ]
