"""One C-MOVE or C-GET on its way to its last response: decided, audited, told, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from crosslight.standards.dicom.query.identifier import write_identifier
from crosslight.standards.dicom.query.retrieve import Wanted
from node.dimse.association import Request
from node.dimse.command import (
    CANCELLED,
    ORIGINATOR_MESSAGE,
    ORIGINATOR_TITLE,
    PENDING,
    SUCCESS,
    Values,
)
from node.dimse.sending import Sender, Tally
from node.dimse.services.wanted_objects import wanted_objects
from node.dimse.way_out import WayOut
from node.holdings import StoredObject

# PS3.4 Tables C.4-2, C.4-3
SOME_FAILED: Final = 0xB000
NONE_SENT: Final = 0xA702
TELL_EVERY_S: Final = 1.0
_MAX_FAILED_UIDS: Final = 10_000


class Retrieving:
    """A retrieve of one caller.

    Args:
        request: What is answered.
        way_out: What can be sent, and who decides.
        monotonic_s: A clock that never goes back.
        max_objects: Most of one request.
    """

    def __init__(
        self, request: Request, way_out: WayOut, monotonic_s: Callable[[], float], max_objects: int
    ) -> None:
        self._request, self._out = request, way_out
        self._monotonic_s, self._max_objects = monotonic_s, max_objects
        self._tally = Tally(0)
        self._told_s = 0.0

    @property
    def stopped(self) -> bool:
        """Whether no more is to be sent: it was cancelled, or the caller has gone."""
        return self._request.cancelled or self._request.association.over

    def run(
        self,
        wanted: Wanted,
        destination: str,
        send: Callable[[Sender, Sequence[StoredObject]], None],
        *,
        meanwhile: bool = True,
    ) -> None:
        """Decide, have it audited, send, and answer.

        Args:
            wanted: What.
            destination: AE title of who gets it.
            send: Sends all objects, and counts them.
            meanwhile: The caller can be told how far it is while an object is being sent.

        Raises:
            CrosslightError: it is refused, or the caller has gone.
        """
        request, on_loop = self._request, self._out.on_loop
        objects = on_loop.run(wanted_objects(self._out.holdings, wanted, self._max_objects))
        studies = list(dict.fromkeys(stored.ref.study_uid for stored in objects)) or list(wanted.studies)
        caller = request.account.caller
        query = {"level": wanted.level, "to": destination}
        self._tally = Tally(len(objects))
        with on_loop.inside(self._out.act(caller, "retrieve", studies, query, False)) as act:
            self._told_s = self._monotonic_s()
            sender = Sender(
                request,
                self._out,
                self._tally,
                _originator(request) if meanwhile else {},
                self.tell if meanwhile else lambda: None,
            )
            try:
                send(sender, objects)
            finally:
                sent = self._tally.completed + self._tally.warned
                act.gave(sent, "instances", of=len(objects))
        self._answer()

    def tell(self) -> None:
        """Say how far it is, once a second."""
        now_s = self._monotonic_s()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            self._request.answer(PENDING, more=self._tally.values(remaining=True))

    def _answer(self) -> None:
        tally = self._tally
        if self._request.cancelled:
            self._request.answer(
                CANCELLED, "Cancelled", more=tally.values(remaining=True), data=self._failed()
            )
        elif not tally.failed:
            status = SOME_FAILED if tally.warned else SUCCESS
            self._request.answer(status, more=tally.values(remaining=False))
        else:
            status = SOME_FAILED if tally.completed or tally.warned else NONE_SENT
            comment = f"{len(tally.failed)} of {tally.total} could not be sent"
            self._request.answer(status, comment, more=tally.values(remaining=False), data=self._failed())

    def _failed(self) -> list[bytes]:
        """Failed SOP Instance UID List (0008,0058)."""
        failed = {"00080058": {"vr": "UI", "Value": self._tally.failed[:_MAX_FAILED_UIDS]}}
        return [write_identifier(failed, self._request.context.transfer_syntax_uid)]


def _originator(request: Request) -> Values:
    """Who asked for a move, as each of its C-STOREs says (PS3.7 9.1.1.1)."""
    return {
        ORIGINATOR_TITLE: request.account.caller.principal.name,
        ORIGINATOR_MESSAGE: request.command.message_id,
    }
