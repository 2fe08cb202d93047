"""Orders as they come by MLLP: kept, acknowledged, and told to whoever asks the region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from crosslight.runtime.clock import Clock, Ids, dtm
from crosslight.runtime.log import get_logger
from crosslight.runtime.mllp import Peer
from crosslight.runtime.refusals import Noted
from crosslight.standards.hl7.ack import ack_for, render_ack
from crosslight.standards.hl7.adt import NATIONAL_NAMESPACES, MessageHeader, header_of
from crosslight.standards.hl7.message import parse_header, parse_message
from crosslight.standards.hl7.orders import ImagingOrder, parse_order
from crosslight.standards.ids import Identifier
from crosslight.standards.national import national_number
from crosslight.standards.problem import CrosslightError, Forbidden, OurError, StorageError
from crosslight.standards.region import Region
from node.continuity.kept_lists import KeptLists

log = get_logger("continuity")
NO_NUMBER = "Taken. No national number that holds is in PID-3, so no list is asked for."


def national_of(region: Region, identifiers: tuple[Identifier, ...]) -> Identifier | None:
    """The first national number that holds, in its normal form."""
    for given in identifiers:
        if given.authority not in region.nationals:
            continue
        number = national_number(given.authority, given.value, allow_test=region.allow_test_numbers)
        if number:
            return Identifier(number, given.authority)
    return None


class OrderFeed:
    """Takes orders.

    Args:
        lists: Where they are kept.
        region: Whose national numbers count; asked anew for each message.
        senders: Addresses that may send; None: anybody may (an open node).
        clock: Time.
        ids: For control ids.
        noted: Told of callers who may not.
        wanted: Told that there is something to ask for.
    """

    def __init__(
        self,
        lists: KeptLists,
        region: Callable[[], Region],
        senders: frozenset[str] | None,
        clock: Clock,
        ids: Ids,
        *,
        noted: Noted,
        wanted: Callable[[], None],
    ) -> None:
        self._lists, self._region, self._senders = lists, region, senders
        self._clock, self._ids, self._noted, self._wanted = clock, ids, noted, wanted
        self.n_taken, self.n_refused = 0, 0

    async def handle(self, data: bytes, peer: Peer) -> bytes:
        """Answer one message: the handler of :class:`~crosslight.runtime.mllp.MllpServer`. Never raises."""
        header: MessageHeader | None = None
        problem: CrosslightError | None = None
        text = ""
        try:
            header = header_of(parse_header(data))
            self._check(peer)
            text = self._take(parse_order(parse_message(data), namespaces=self._namespaces()))
            self.n_taken += 1
        except CrosslightError as error:
            problem = error
            log.warning("order refused", kind=type(error).__name__, reason=error.what, peer=peer.address)
        except OSError as error:
            problem = StorageError(
                "The order cannot be kept.", why=error.strerror or "", todo="Send it again later."
            )
            log.error("order not kept", reason=error.strerror or "")
        except Exception:
            log.exception("unexpected", peer=peer.address)
            problem = OurError("Something went wrong here.", todo="Send it again later.")
        self.n_refused += problem is not None
        return self._answer(problem, header, text)

    def turn_away(self, data: bytes, error: CrosslightError) -> bytes:
        """The answer to a message that is not taken, whoever sent it: AR, to be repeated later."""
        header: MessageHeader | None = None
        with suppress(CrosslightError):
            header = header_of(parse_header(data))
        return self._answer(error, header)

    def _check(self, peer: Peer) -> None:
        if self._senders is None or peer.address in self._senders:
            return
        error = Forbidden(
            "This system may not send orders here.", todo="Name its address in continuity.senders."
        )
        self._noted("hl7", error, peer.address)
        raise error

    def _take(self, order: ImagingOrder) -> str:
        patient = national_of(self._region(), order.identifiers)
        if patient is None:
            return NO_NUMBER
        if order.ended:
            self._lists.end(patient, order.number)
            return ""
        self._lists.order(patient, order.number)
        self._wanted()
        return ""

    def _namespaces(self) -> dict[str, str]:
        return {name: oid for name, oid in NATIONAL_NAMESPACES.items() if oid in self._region().nationals}

    def _answer(self, problem: CrosslightError | None, header: MessageHeader | None, text: str = "") -> bytes:
        answer = ack_for(problem, header.control_id if header else "")
        if text:
            answer = replace(answer, text=text)
        return render_ack(answer, header, control_id=self._ids.uuid4().hex[:20], time=dtm(self._clock.now()))
