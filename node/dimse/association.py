"""One caller's association.

Its messages put together, given to the service of their command field, and answered.

No service is known here, and no socket: :mod:`node.dimse.upper` brings the fragments and takes the answers;
its picture shows which thread runs what. A service is a file in ``services/`` and a line in its
``__init__``::

    fragment -> command set -> service.begin(request) -> Exchange
    fragments of its data set -> exchange.write(…)
    the last one -> exchange.finish(): the service answers, by request.answer(…), once or (pending) often

Requests are answered one after the other (asynchronous operations are not negotiated, PS3.7 D.3.3.3). A
service that takes its time (``beside``) answers in the association's own thread, so that cancellations, and
responses to what it asks on the caller's association (C-GET), are read meanwhile; whatever else comes then
waits for its turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.upper_layer.pdata import COMMAND, LAST, Bytes, command_pdus, data_pdus
from crosslight.standards.problem import ConfigError, Malformed, Unavailable
from node.dimse.accounts import Account
from node.dimse.command import (
    C_CANCEL_RQ,
    MAX_COMMAND_BYTES,
    MESSAGE_ID,
    RESPONSE,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNIZED_OPERATION,
    Command,
    Values,
    command_set,
    response,
)
from node.dimse.exchange import Answer, Context, Exchange, Gathered, Line, SupportedClass

log = get_logger("dimse")

MAX_WAITING = 8  # requests ahead of their answers
MAX_ANSWER_BYTES = 1 << 20  # of the data set of a response that we get
_BATCH_BYTES = 1 << 18  # PDUs are handed down together up to this
_SHORT_BATCH_BYTES = 1 << 15  # messages, whose first is waited for

#: A status, its comment, and a data set where there is one.
Response = tuple[int, str, bytes | None]


class DimseService(Protocol):
    """What a node does for its callers, by command field.

    One object for all associations; called in many threads.
    """

    @property
    def fields(self) -> Sequence[int]:
        """The command fields of the requests that it answers (PS3.7 Table E.1-1)."""
        ...

    @property
    def beside(self) -> bool:
        """Whether it takes its time, and answers in the association's thread.

        Otherwise in the upper layer's, at once.
        """
        ...

    @property
    def sop_classes(self) -> Sequence[SupportedClass]:
        """The SOP classes that callers may propose for it."""
        ...

    def begin(self, request: Request) -> Exchange:
        """A request's command set has come, in the upper layer's thread.

        Raises:
            Malformed: when the request lacks what PS3.7 requires of it: the association is aborted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A command set of the caller, and the way to answer it."""

    association: Association
    context: Context
    command: Command

    @property
    def account(self) -> Account:
        """Who asks, and what is noted of it."""
        return self.association.account

    @property
    def cancelled(self) -> bool:
        """Whether the caller wants no more of it (C-CANCEL-RQ)."""
        return self.association.is_cancelled(self.command.message_id)

    def answer(
        self,
        status: int,
        comment: str = "",
        *,
        more: Values | None = None,
        data: Iterable[Bytes] | None = None,
    ) -> None:
        """Send a response, with a data set where ``data`` is given.

        Raises:
            Unavailable: when the association is over.
        """
        command = response(self.command, status, comment, more=more, data_set=data is not None)
        self.association.send(self.context.id, command, data)

    def answer_each(self, responses: Iterable[Response]) -> None:
        """Send responses as they are made, several at a time.

        Raises:
            Unavailable: when the association is over.
        """
        self.association.send_each(self.context.id, self._messages(responses))

    def _messages(self, responses: Iterable[Response]) -> Iterator[tuple[bytes, Sequence[Bytes] | None]]:
        said, command = None, b""
        for status, comment, data in responses:
            saying = (status, comment, data is None)
            if saying != said:  # most say what the one before said
                said, command = saying, response(self.command, status, comment, data_set=data is not None)
            yield command, None if data is None else (data,)


class Refusal:
    """An exchange that is answered with a status, whatever its data set says."""

    def __init__(self, request: Request, status: int, comment: str) -> None:
        self._request, self._status, self._comment = request, status, comment

    def write(self, data: memoryview) -> None:
        pass

    def finish(self) -> None:
        self._request.answer(self._status, self._comment)

    def discard(self) -> None:
        pass


def by_field(services: Sequence[DimseService]) -> dict[int, DimseService]:
    """Each service by the command fields that it answers.

    Raises:
        ConfigError: when two answer the same.
    """
    services_by_field: dict[int, DimseService] = {}
    for service in services:
        for field in service.fields:
            if services_by_field.setdefault(field, service) is not service:
                raise ConfigError(f"Two services answer the command field {field:04X}H.")
    return services_by_field


@dataclass(frozen=True, slots=True, eq=False)
class _Incoming:
    """A message whose data set is on its way, or that waits for its turn."""

    context_id: int
    exchange: Exchange
    message_id: int = 0
    beside: bool = False
    is_response: bool = False


class Association:
    """The messages of one caller's association, in both directions.

    Args:
        line: The layer below.
        services: By the command fields of requests.
        contexts: What was agreed to, by id.
        account: Who calls, and what is noted of it.
    """

    def __init__(
        self,
        line: Line,
        services: Mapping[int, DimseService],
        contexts: Mapping[int, Context],
        account: Account,
    ) -> None:
        self.contexts, self.account = contexts, account
        self._line, self._services = line, services
        self._command = bytearray()
        self._incoming: _Incoming | None = None
        self._lock = threading.Lock()
        self._waiting: list[_Incoming] = []  # for the association's thread, the one it is at included
        self._cancelled: set[int] = set()  # message ids of these
        # message ids of ours: the last one, and that whose answer is waited for
        self._asked = self._awaited = 0
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    # --- from the caller, in the upper layer's thread -------------------------------------------------------

    def fragment(self, context_id: int, data: memoryview) -> None:
        """A presentation data value: its control header (PS3.8 E.2) and a piece of a message.

        Raises:
            CrosslightError: for what breaks the rules; the association is to be aborted.
        """
        header = data[0]
        if header & COMMAND:
            self._piece_of_command(context_id, data[1:], last=bool(header & LAST))
            return
        if self._incoming is None or self._incoming.context_id != context_id:
            raise Malformed("A data set without its command, or in another context.", why="PS3.7 6.3.2.")
        self._incoming.exchange.write(data[1:])
        if header & LAST:
            self._complete()

    def _piece_of_command(self, context_id: int, data: memoryview, *, last: bool) -> None:
        if self._incoming is not None or len(self._command) + len(data) > MAX_COMMAND_BYTES:
            raise Malformed("A command where its data set should be, or one too long.", why="PS3.7 6.3.2.")
        self._command += data
        if last:
            command, self._command = Command.parse(self._command), bytearray()
            self._begin(context_id, command)

    def _begin(self, context_id: int, command: Command) -> None:
        context = self.contexts.get(context_id)
        if context is None:
            raise Malformed("A presentation context that was not agreed to.", why="PS3.8 9.3.2.2.")
        if command.field == C_CANCEL_RQ:
            self._cancel(command.responded_to)
            return
        self._incoming = (
            self._response(context, command) if command.field & RESPONSE else self._request(context, command)
        )
        if not command.has_data_set:
            self._complete()

    def _request(self, context: Context, command: Command) -> _Incoming:
        if not command.sop_class_uid:
            raise Malformed("A request without a SOP Class.", why="PS3.7 9.3, 10.3.")
        request = Request(self, context, command)
        service = self._services.get(command.field)
        if service is None:
            return _Incoming(context.id, Refusal(request, UNRECOGNIZED_OPERATION, "No such service here"))
        if command.sop_class_uid != context.sop_class_uid:
            comment = "SOP Class not of this presentation context"
            return _Incoming(context.id, Refusal(request, SOP_CLASS_NOT_SUPPORTED, comment))
        return _Incoming(context.id, service.begin(request), command.message_id, service.beside)

    def _response(self, context: Context, command: Command) -> _Incoming:
        if not self._awaited or command.responded_to != self._awaited:
            raise Malformed("A response to nothing that was asked.", why="PS3.7 6.3.1.")
        self._awaited = 0
        exchange = Gathered(lambda data: self._answers.put(Answer(command, data)), MAX_ANSWER_BYTES)
        return _Incoming(context.id, exchange, is_response=True)

    def _complete(self) -> None:
        """All of a message is here."""
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        if incoming.is_response or not self._must_wait(incoming):
            incoming.exchange.finish()
        else:
            self._line.later(lambda: self._answer_later(incoming))

    def _must_wait(self, incoming: _Incoming) -> bool:
        with self._lock:
            if not incoming.beside and not self._waiting:
                return False
            self._waiting.append(incoming)
            if len(self._waiting) > MAX_WAITING:
                raise Malformed("Too many requests ahead of their answers.", why="PS3.7 D.3.3.3.")
        return True

    def _cancel(self, message_id: int) -> None:
        with self._lock:
            if any(incoming.message_id == message_id for incoming in self._waiting):
                self._cancelled.add(message_id)

    # --- for services ---------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the caller has gone; whoever takes long looks now and then."""
        return self._line.over

    def is_cancelled(self, message_id: int) -> bool:
        """Whether the caller wants no more answers to this request."""
        with self._lock:
            return message_id in self._cancelled

    def send(self, context_id: int, command: bytes, data: Iterable[Bytes] | None = None) -> None:
        """Send a message, in PDUs of the size that the caller takes.

        Raises:
            Unavailable: when the association is over.
        """
        batch = bytearray()
        for pdu in self._pdus(context_id, command, data):
            batch += pdu
            if len(batch) >= _BATCH_BYTES:
                self._line.send(bytes(batch))
                batch.clear()
        if batch:
            self._line.send(bytes(batch))

    def send_each(self, context_id: int, messages: Iterable[tuple[bytes, Iterable[Bytes] | None]]) -> None:
        """Send messages as they are made, several at a time; those before an error of their maker too.

        Raises:
            Unavailable: when the association is over.
        """
        batch = bytearray()
        try:
            for command, data in messages:
                for pdu in self._pdus(context_id, command, data):
                    batch += pdu
                if len(batch) >= _SHORT_BATCH_BYTES:
                    ready, batch = bytes(batch), bytearray()
                    self._line.send(ready)
        finally:
            if batch:
                self._line.send(bytes(batch))

    def _pdus(self, context_id: int, command: bytes, data: Iterable[Bytes] | None) -> Iterator[bytes]:
        longest = self._line.longest_pdu
        yield from command_pdus(context_id, command, longest)
        if data is not None:
            yield from data_pdus(context_id, data, longest)

    def ask(self, context_id: int, values: Values, data: Iterable[Bytes] | None = None) -> Answer:
        """Ask the caller on its own association and wait for its answer.

        As C-GET does with its C-STOREs (PS3.4 C.4.3).

        Only for services ``beside``, whose thread may wait; the context must say that we may ask.

        Raises:
            Unavailable: when the caller has gone, or does not answer.
        """
        self._asked = self._asked % 0xFFFF + 1
        self._awaited = self._asked
        self.send(
            context_id, command_set({**values, MESSAGE_ID: self._asked}, data_set=data is not None), data
        )
        try:
            answer = None if self.over else self._answers.get(timeout=self._line.patience_s)
        except queue.Empty:
            answer = None
        if answer is None:
            self._answers.put(None)  # whoever asks next need not wait either
            raise Unavailable("The caller has gone, or does not answer.")
        return answer

    # --- the association's thread ---------------------------------------------------------------------------

    def _answer_later(self, incoming: _Incoming) -> None:
        try:
            incoming.exchange.finish()
        except Unavailable:
            log.info("an association ended before its answer", peer=self.account.caller.peer)
        except Exception:
            log.exception("answer")
            self._line.abort()
        finally:
            with self._lock:
                self._waiting.remove(incoming)
                self._cancelled.discard(incoming.message_id)

    def line_lost(self) -> None:
        """The layer below can send nothing any more: whoever waits for an answer of the caller gets none."""
        self._answers.put(None)

    def close(self) -> None:
        """Forget what is unfinished, once both threads are done with the association."""
        for incoming in (self._incoming, *self._waiting):
            if incoming is not None:
                incoming.exchange.discard()
        self._incoming, self._waiting = None, []
