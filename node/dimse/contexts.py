"""Storage SOP Classes and transfer syntaxes that the node accepts.

All of the standard, and all that the gate lets in.
"""

from __future__ import annotations

from collections.abc import Iterable

from pynetdicom.sop_class import _STORAGE_CLASSES

from crosslight.standards.dicom.file import gate

#: Storage SOP Classes of PS3.6 Table A-1 that pynetdicom does not list: retired ones, which old PACS are full
#: of, and non-patient and security objects, which the gate refuses for want of a study.
RETIRED = tuple(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in (
        "3",
        "5",
        "6",
        "8",
        "9",
        "9.1",
        "10",
        "11",
        "12.3",
        "77.1",
        "77.2",
        "88.1",
        "88.2",
        "88.3",
        "88.4",
        "129",
        "501.1",
        "501.2.1",
        "501.2.2",
        "501.3",
        "601.1",
        "601.2",
    )
)

_LOSSLESS = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in (70, 57, 80, 90, 92, 201, 202, 110)),
    "1.2.840.10008.1.2.5",
)
#: In the order of preference where a caller offers several in one context: uncompressed as it is most easily
#: read, then lossless, lossy, video; deflated and big endian last.
TRANSFER_SYNTAXES = (
    gate.EXPLICIT_LE,
    gate.IMPLICIT_LE,
    *_LOSSLESS,
    *sorted(gate.ENCAPSULATED.difference(_LOSSLESS)),
    gate.DEFLATED_LE,
    gate.EXPLICIT_BE,
)


def storage_classes(more: Iterable[str] = ()) -> tuple[str, ...]:
    """UIDs of every Storage SOP Class, and of ``more``, private ones, once each."""
    return tuple(dict.fromkeys((*(str(uid) for uid in _STORAGE_CLASSES.values()), *RETIRED, *more)))
