"""What a member's node asks the registry because of an order: the list of one patient (ADR 0060).

Between our own two ends: a FHIR operation (R4 3.1.4) of the type ImagingStudy, whose answer is a searchset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from crosslight.standards.problem import Invalid, Malformed

OPERATION: Final = "$for-order"
MOST_STUDIES: Final = 200  # of one list: the newest
MAX_REQUEST_BYTES: Final = 4096
MAX_ORDER_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAsked:
    """The number of an order, and whom it is for: a FHIR system and a number in it."""

    order: str
    system: str
    value: str

    def parameters(self) -> bytes:
        """As the Parameters of a request."""
        named: list[dict[str, Any]] = [
            {"name": "order", "valueString": self.order},
            {"name": "patient", "valueIdentifier": {"system": self.system, "value": self.value}},
        ]
        return orjson.dumps({"resourceType": "Parameters", "parameter": named})


def read_order(body: bytes) -> OrderAsked:
    """Read what :meth:`OrderAsked.parameters` wrote, and nothing else.

    Raises:
        Malformed: it is no Parameters resource.
        Invalid: the order's number or the patient is missing, or there are several.
    """
    try:
        said = orjson.loads(body)
    except ValueError:
        raise Malformed("The body is no JSON.", where="body") from None
    given = said.get("parameter") if isinstance(said, dict) else None
    if not isinstance(given, list) or said.get("resourceType") != "Parameters":
        raise Malformed("The body is no Parameters resource.", where="body")
    parameters = [p for p in given if isinstance(p, dict)]
    order = _only(parameters, "order", "valueString")
    if not isinstance(order, str) or not 0 < len(order.strip()) <= MAX_ORDER_CHARS or not order.isprintable():
        raise Invalid(f"An order number has 1 to {MAX_ORDER_CHARS} characters.", where="order")
    patient = _only(parameters, "patient", "valueIdentifier")
    system, value = (patient.get(n) for n in ("system", "value")) if isinstance(patient, dict) else ("", "")
    if not isinstance(system, str) or not isinstance(value, str) or not system or not value:
        raise Invalid("A patient is named by system and value.", where="patient")
    return OrderAsked(order=order.strip(), system=system, value=value)


def _only(parameters: list[dict[str, Any]], name: str, kind: str) -> Any:
    given = [p.get(kind) for p in parameters if p.get("name") == name]
    if len(given) != 1:
        raise Invalid(f"Exactly one {name} is wanted.", why="Each list is audited for its order.", where=name)
    return given[0]
