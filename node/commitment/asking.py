"""Asks for commitment, and waits for the report: on the same association, or another (PS3.4 J.3).

A report on an association of the peer's comes to the node's listener, in another process: both meet in the
table.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from crosslight.runtime.seams import Seams
from crosslight.standards.dicom.query.commitment import commitment_request, read_report
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
    write_identifier,
)
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.problem import CrosslightError, TooLarge, Unavailable
from crosslight.standards.study import InstanceRef
from node.commitment.store import CommitmentStore
from node.dimse.command import (
    ACTION_TYPE,
    FIELD,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    PROCESSING_FAILURE,
    REQUESTED_CLASS,
    REQUESTED_INSTANCE,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Values,
    response,
)
from node.dimse.on_loop import OnLoop
from node.dimse.outgoing import OutgoingAssociation, Proposal
from node.dimse.services.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, REQUEST_COMMITMENT

MOST_INSTANCES: Final = 2_000  # of one transaction
_LOOK_EVERY_S: Final = 0.2
#: Opens an association with the peer, in which this is proposed.
Reaching = Callable[[Sequence[Proposal]], AbstractContextManager[OutgoingAssociation]]


async def ask_for_commitment(
    store: CommitmentStore,
    seams: Seams,
    peer: str,
    reaching: Reaching,
    instances: Sequence[InstanceRef],
    *,
    wait_s: float,
) -> list[str]:
    """Ask ``peer`` to keep these instances of one study for good, and wait for its reports.

    Returns:
        The transactions, whether they were reported in time or not.

    Raises:
        Unavailable: it cannot be reached, or does not take the request.
    """
    transactions = []
    for start in range(0, len(instances), MOST_INSTANCES):
        part = instances[start : start + MOST_INSTANCES]
        transaction_uid = f"2.25.{seams.ids.uuid4().int}"
        await store.ask(transaction_uid, peer, part[0].study_uid, [ref.sop_uid for ref in part])
        over = threading.Event()
        asking = _Asking(store, peer, transaction_uid, over)
        thread = asyncio.ensure_future(
            seams.workers.run(asking.ask, reaching, commitment_request(transaction_uid, part))
        )
        until_s = seams.clock.monotonic_s() + wait_s
        try:
            while not await store.answered(transaction_uid) and seams.clock.monotonic_s() < until_s:
                if thread.done() and not asking.accepted:
                    break
                await seams.clock.sleep(_LOOK_EVERY_S)
        finally:
            over.set()
            await asyncio.wait([thread])
        if (error := thread.exception()) is not None and not asking.accepted:
            raise error
        transactions.append(transaction_uid)
    return transactions


class _Asking:
    """One transaction, in a thread; until ``over`` the association stays open for the report."""

    def __init__(
        self, store: CommitmentStore, peer: str, transaction_uid: str, over: threading.Event
    ) -> None:
        self._store, self._peer, self._transaction_uid, self._over = store, peer, transaction_uid, over
        self._on_loop = OnLoop()
        self.accepted = False

    def ask(self, reaching: Reaching, request: Attributes) -> None:
        """Ask, then listen.

        Raises:
            Unavailable: the peer cannot be reached, or refuses.
        """
        with reaching([Proposal(PUSH_MODEL, IDENTIFIER_SYNTAXES)]) as association:
            context = next(iter(association.contexts), None)
            if context is None:
                raise Unavailable(f"{self._peer} does not do storage commitment.")
            values: Values = {
                FIELD: N_ACTION_RQ,
                REQUESTED_CLASS: PUSH_MODEL,
                REQUESTED_INSTANCE: PUSH_MODEL_INSTANCE,
                ACTION_TYPE: REQUEST_COMMITMENT,
            }
            data = write_identifier(request, context.transfer_syntax_uid)
            status = association.ask(context.id, values, [data]).status
            if status != SUCCESS:
                raise Unavailable(f"{self._peer} refuses to commit.", why=f"Status {status:04X}H.")
            self.accepted = True
            while not self._over.is_set():
                if association.heard(_LOOK_EVERY_S):
                    try:
                        self._hear(association, context.transfer_syntax_uid)
                    except Unavailable:
                        return  # it has released: its report will come otherwise

    def _hear(self, association: OutgoingAssociation, transfer_syntax_uid: str) -> None:
        context_id, command = association.hear()
        data = bytearray()
        for fragment in association.data() if command.has_data_set else ():
            data += fragment
            if len(data) > MAX_IDENTIFIER_BYTES:
                raise TooLarge(f"{self._peer} reports too much.")
        status = UNRECOGNIZED_OPERATION
        if command.field == N_EVENT_REPORT_RQ:
            try:
                report = read_report(read_identifier(bytes(data), transfer_syntax_uid)[0])
                self._on_loop.run(self._store.report(self._peer, report))
                status = SUCCESS
            except CrosslightError:
                status = PROCESSING_FAILURE
        association.say(context_id, response(command, status))
