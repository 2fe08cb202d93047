"""C-ECHO: are you there? (PS3.4 A, PS3.7 9.1.5)."""

from __future__ import annotations

from pynetdicom.sop_class import Verification

from crosslight.standards.dicom.file import gate
from node.dimse.association import Request
from node.dimse.command import C_ECHO_RQ, SUCCESS
from node.dimse.exchange import Exchange, Gathered, SupportedClass


class Echo:
    """Answers success."""

    fields = (C_ECHO_RQ,)
    beside = False
    sop_classes = (SupportedClass(str(Verification), (gate.EXPLICIT_LE, gate.IMPLICIT_LE, gate.EXPLICIT_BE)),)

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`; a C-ECHO has no data set."""
        return Gathered(lambda _: request.answer(SUCCESS), 0)
