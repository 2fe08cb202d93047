"""Orders: which messages, whose, under which number, and whether they still stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.hl7.message import parse_message
from crosslight.standards.hl7.orders import ImagingOrder, parse_order
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import CrosslightError, Invalid, Unsupported

PID = "PID|1||A1^^^&1.2.3&ISO~943 476 5919^^^NHS^NH||Doe^Jane"


def order(*segments: str, kind: str = "ORM^O01", control: str = "c1") -> ImagingOrder:
    head = f"MSH|^~\\&|RIS|TRUST|NODE|TRUST|20261201||{kind}|{control}|P|2.5"
    return parse_order(parse_message("\r".join([head, *segments]).encode()))


@pytest.mark.parametrize("kind", ["ORM^O01", "OMG^O19^OMG_O19", "OMI^O23^OMI_O23"])
def test_an_order_has_its_number_and_its_patients(kind: str) -> None:
    read = order(PID, "PV1||O", "ORC|NW|P77^RIS|F88^RIS", "OBR|1|P77|F88|CT", kind=kind)
    assert read.number == "P77"
    assert Identifier("943 476 5919", NHS_NUMBER_OID, "NHS") in read.identifiers
    assert not read.ended


@pytest.mark.parametrize(
    ("segments", "number"),
    [
        (("ORC|NW||F88",), "F88"),
        (("ORC|NW", "OBR|1|P5"), "P5"),
        (("OBR|1||F6",), "F6"),
        (('ORC|NW|""|F88',), "F88"),
        (("ORC|CA|P1", "ORC|NW|P2"), "P2"),
    ],
)
def test_where_a_number_is_looked_for(segments: tuple[str, ...], number: str) -> None:
    assert order(PID, *segments).number == number


@pytest.mark.parametrize("control", ["CA", "DC", "OC", "CR", "OD", "DR", "ca"])
def test_a_cancelled_order_has_ended(control: str) -> None:
    assert order(PID, f"ORC|{control}|P1").ended
    assert not order(PID, f"ORC|{control}|P1", "ORC|XO|P2").ended, "another of the message stands"


@pytest.mark.parametrize(
    ("segments", "kind", "where"),
    [
        ((PID, "ORC|NW|P1"), "ADT^A04", "MSH-9.1"),
        ((PID, "ORC|NW|P1"), "ORM^O02", "MSH-9.2"),
        (("ORC|NW|P1",), "ORM^O01", "PID"),
        ((PID, PID, "ORC|NW|P1"), "ORM^O01", "PID"),
        ((PID, "ORC|NW"), "ORM^O01", "ORC-2"),
        ((PID, "ORC|NW|" + "9" * 65), "ORM^O01", "ORC-2"),
    ],
)
def test_what_is_refused_says_where(segments: tuple[str, ...], kind: str, where: str) -> None:
    with pytest.raises((Invalid, Unsupported)) as refused:
        order(*segments, kind=kind)
    assert refused.value.where == where


@given(st.binary(max_size=200))
def test_no_message_breaks_the_reader(tail: bytes) -> None:
    head = b"MSH|^~\\&|A|B|C|D|20200101||ORM^O01|c1|P|2.3.1\r"
    try:
        parse_order(parse_message(head + tail))
    except CrosslightError:
        pass
