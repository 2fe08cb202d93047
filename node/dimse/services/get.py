"""C-GET (PS3.4 C.4.3): objects of this node to its caller, on the caller's own association."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
)
from crosslight.standards.dicom.query.models import PATIENT_GET, ROOTS, STUDY_GET
from crosslight.standards.dicom.query.retrieve import read_retrieve
from crosslight.standards.dicom.upper_layer.pdata import Bytes
from crosslight.standards.problem import CrosslightError, Malformed
from node.dimse.association import Association, Request
from node.dimse.command import C_GET_RQ, Command, Values
from node.dimse.contexts import TRANSFER_SYNTAXES, storage_classes
from node.dimse.exchange import Context, Exchange, Gathered, SupportedClass
from node.dimse.sending import Sender
from node.dimse.services.find import status_of
from node.dimse.services.retrieving import Retrieving
from node.dimse.way_out import WayOut
from node.holdings import StoredObject


class Get:
    """Answers C-GET, in the association's thread.

    Args:
        way_out: What can be sent, and who decides.
        monotonic_s: A clock that never goes back.
        max_objects: Most of one request.
        more_sop_classes: Private Storage SOP Classes beside the standard's.
    """

    fields = (C_GET_RQ,)
    beside = True

    def __init__(
        self,
        way_out: WayOut,
        monotonic_s: Callable[[], float],
        max_objects: int,
        more_sop_classes: Iterable[str] = (),
    ) -> None:
        self._out, self._monotonic_s, self._max_objects = way_out, monotonic_s, max_objects
        self.sop_classes = (
            *(SupportedClass(uid, IDENTIFIER_SYNTAXES) for uid in (PATIENT_GET, STUDY_GET)),
            *(SupportedClass(uid, TRANSFER_SYNTAXES, asks=True) for uid in storage_classes(more_sop_classes)),
        )

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without an identifier.
        """
        if not request.command.has_data_set:
            raise Malformed("A C-GET without an identifier.", why="PS3.7 9.1.3.")
        return Gathered(lambda data: self._answer(request, data), MAX_IDENTIFIER_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        retrieving = Retrieving(request, self._out, self._monotonic_s, self._max_objects)

        def send(sender: Sender, objects: Sequence[StoredObject]) -> None:
            channel = _Caller(request.association)
            for stored in objects:
                if retrieving.stopped:
                    break
                sender.send(stored, channel)
                retrieving.tell()

        try:
            identifier, _ = read_identifier(data, request.context.transfer_syntax_uid)
            wanted = read_retrieve(identifier, ROOTS[request.context.sop_class_uid])
            title = request.account.caller.principal.name
            retrieving.run(wanted, title, send, meanwhile=False)
        except CrosslightError as error:
            request.answer(status_of(error), error.what)


class _Caller:
    """The caller's own association, as a channel."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self.contexts: Sequence[Context] = tuple(association.contexts.values())

    def ask(self, context_id: int, values: Values, data: Iterable[Bytes] | None = None) -> Command:
        """As :meth:`node.dimse.outgoing.Channel.ask`."""
        return self._association.ask(context_id, values, data).command
