"""C-MOVE (PS3.4 C.4.2): objects of this node to another system, over associations that the node asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
)
from crosslight.standards.dicom.query.models import PATIENT_MOVE, ROOTS, STUDY_MOVE
from crosslight.standards.dicom.query.retrieve import read_retrieve
from crosslight.standards.problem import CrosslightError, Forbidden, Malformed, Unavailable
from node.dimse.association import Request
from node.dimse.command import C_MOVE_RQ, MOVE_DESTINATION
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.outgoing import CalledSystem, Channel, Proposal
from node.dimse.sending import Sender, groups_of
from node.dimse.services.find import status_of
from node.dimse.services.retrieving import Retrieving
from node.dimse.way_out import WayOut
from node.holdings import StoredObject

log = get_logger("dimse")

DESTINATION_UNKNOWN: Final = 0xA801  # PS3.4 Table C.4-2
Associating = Callable[[CalledSystem, Sequence[Proposal]], AbstractContextManager[Channel]]


class Move:
    """Answers C-MOVE, in the association's thread.

    Args:
        way_out: What can be sent, and who decides.
        peers: Where to, by AE title.
        associate: Asks a peer for an association.
        monotonic_s: A clock that never goes back.
        max_objects: Most of one request.
    """

    fields = (C_MOVE_RQ,)
    beside = True
    sop_classes = tuple(SupportedClass(uid, IDENTIFIER_SYNTAXES) for uid in (PATIENT_MOVE, STUDY_MOVE))

    def __init__(
        self,
        way_out: WayOut,
        peers: Mapping[str, CalledSystem],
        associate: Associating,
        monotonic_s: Callable[[], float],
        max_objects: int,
    ) -> None:
        self._out, self._peers, self._associate = way_out, peers, associate
        self._monotonic_s, self._max_objects = monotonic_s, max_objects

    def begin(self, request: Request) -> Exchange:
        """As :meth:`DimseService.begin`.

        Raises:
            Malformed: without an identifier or a destination.
        """
        if not request.command.has_data_set or not request.command.text(MOVE_DESTINATION):
            raise Malformed("A C-MOVE without an identifier or a destination.", why="PS3.7 9.1.4.")
        return Gathered(lambda data: self._answer(request, data), MAX_IDENTIFIER_BYTES)

    def _answer(self, request: Request, data: bytes) -> None:
        title = request.command.text(MOVE_DESTINATION)
        peer = self._peers.get(title)
        if peer is None:
            request.answer(DESTINATION_UNKNOWN, "The destination is not configured here")
            return
        try:
            if not request.account.calling.may_move_to(title):
                raise Forbidden("This caller may not move there")
            identifier, _ = read_identifier(data, request.context.transfer_syntax_uid)
            wanted = read_retrieve(identifier, ROOTS[request.context.sop_class_uid])
            retrieving = Retrieving(request, self._out, self._monotonic_s, self._max_objects)
            retrieving.run(
                wanted, title, lambda sender, objects: self._send(retrieving, peer, sender, objects)
            )
        except CrosslightError as error:
            request.answer(status_of(error), error.what)

    def _send(
        self, retrieving: Retrieving, peer: CalledSystem, sender: Sender, objects: Sequence[StoredObject]
    ) -> None:
        """All objects; one over which an association broke is tried once more, over another."""
        for proposals, group in groups_of(objects):
            waiting, broke_at = deque(group), ""
            while waiting and not retrieving.stopped:
                first = waiting[0]
                try:
                    with self._associate(peer, proposals) as channel:
                        while waiting and not retrieving.stopped:
                            _send_first(waiting, sender, channel)
                            retrieving.tell()
                except Unavailable as error:
                    log.warning("a move stumbles", destination=peer.ae_title, reason=error.what)
                    if waiting and waiting[0] is first and broke_at == first.ref.sop_uid:
                        for stored in waiting:
                            sender.fail(stored, error.what)
                        break
                    broke_at = waiting[0].ref.sop_uid if waiting else ""


def _send_first(waiting: deque[StoredObject], sender: Sender, channel: Channel) -> None:
    """Send the first that waits, and count it.

    Raises:
        Unavailable: as :meth:`Sender.send`; the object waits on, unless it was itself what broke off.
    """
    n_failed = len(sender.tally.failed)
    try:
        sender.send(waiting[0], channel)
    except Unavailable:
        if len(sender.tally.failed) > n_failed:
            waiting.popleft()
        raise
    waiting.popleft()
