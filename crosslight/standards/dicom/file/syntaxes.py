"""The transfer syntaxes that are taken (PS3.6 Table A-1): how a data set is coded."""

from __future__ import annotations

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_MPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (100, 101, 102, 103, 104, 105, 106))
#: Encapsulated transfer syntaxes of PS3.6 Table A-1 whose pixel data is in the object itself.
ENCAPSULATED = frozenset(
    {
        ENCAPSULATED_UNCOMPRESSED,
        "1.2.840.10008.1.2.5",
        *(
            f"1.2.840.10008.1.2.4.{n}"
            for n in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 107, 108, 110, 111, 112, 201, 202, 203)
        ),
        *_MPEG,
        *(f"{uid}.1" for uid in _MPEG),
    }
)
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE})
TRANSFER_SYNTAXES = NATIVE | ENCAPSULATED
