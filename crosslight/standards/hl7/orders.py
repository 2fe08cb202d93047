"""Imaging orders as a radiology information system sends them: ORM^O01, OMG^O19 and OMI^O23.

HL7 v2.3.1 4.2 (ORM), v2.4 4.4 (OMG), v2.5 4.4 (OMI). What is read: PID-3, ORC-1 to ORC-3, where ORC has no
number OBR-2 and OBR-3. What is not understood is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crosslight.standards.hl7.adt import NATIONAL_NAMESPACES, identifiers_of
from crosslight.standards.hl7.message import Message, Segment
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, Unsupported

EVENTS = {"ORM": "O01", "OMG": "O19", "OMI": "O23"}
#: ORC-1, HL7 table 0119: cancel and discontinue, asked for, done, or told by whoever fills the order.
_ENDS = frozenset({"CA", "CR", "OC", "DC", "DR", "OD"})
_MAX_NUMBER = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingOrder:
    """One message about one patient's orders. ``ended``: every one of them is cancelled or discontinued."""

    number: str
    identifiers: tuple[Identifier, ...]
    ended: bool


def parse_order(message: Message, *, namespaces: Mapping[str, str] = NATIONAL_NAMESPACES) -> ImagingOrder:
    """Read an order; of several in a message the number of the first that has not ended.

    Args:
        message: As :func:`~crosslight.standards.hl7.message.parse_message` gave it.
        namespaces: Local names of authorities (PID-3.4.1) -> OID, for senders that give no OID.

    Raises:
        Unsupported: for another message type or event.
        Invalid: without exactly one patient, or without a number.
    """
    kind, event = message.header.component(9, 1), message.header.component(9, 2)
    if kind not in EVENTS:
        raise Unsupported("Only ORM, OMG and OMI messages are taken here.", where="MSH-9.1")
    if event and event != EVENTS[kind]:
        raise Unsupported(f"Of {kind} only {EVENTS[kind]} is taken here.", where="MSH-9.2")
    if not message.header.component(10):
        raise Invalid("The message has no control id.", where="MSH-10")
    pids = message.all("PID")
    if len(pids) != 1:
        raise Invalid("Exactly one PID segment is required.", why="One patient a message.", where="PID")
    controls = message.all("ORC")
    running = [orc for orc in controls if orc.component(1).upper() not in _ENDS]
    number = next((n for s in (*running, *controls, *message.all("OBR")) if (n := _number(s))), "")
    if not number:
        raise Invalid(
            "The order has no number.", why="ORC-2, ORC-3, OBR-2 and OBR-3 are empty.", where="ORC-2"
        )
    if len(number) > _MAX_NUMBER:
        raise Invalid(f"An order number has at most {_MAX_NUMBER} characters.", where="ORC-2")
    return ImagingOrder(
        number=number,
        identifiers=tuple(i for i in identifiers_of(pids[0], namespaces) if i.value),
        ended=bool(controls) and not running,
    )


def _number(segment: Segment) -> str:
    """The placer's number, else the filler's; what cannot be printed is no part of one."""
    for field in (2, 3):
        number = "".join(c for c in segment.component(field) if c.isprintable()).strip()
        if number and number != '""':
            return number
    return ""
