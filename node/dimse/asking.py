"""What we ask of another archive on an association of ours: C-FIND, C-GET, C-MOVE as SCU (PS3.4 C.4).

Blocking, for a thread. Everything that comes is bounded; what is too much is cancelled (PS3.7 9.3.2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.query.identifier import (
    IDENTIFIER_SYNTAXES,
    MAX_IDENTIFIER_BYTES,
    read_identifier,
    write_identifier,
)
from crosslight.standards.dicom.query.models import STUDY_FIND, STUDY_GET, STUDY_MOVE
from crosslight.standards.dicom.upper_layer.associate import MAX_CONTEXTS
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.problem import TooLarge, Unavailable
from node.dimse.command import (
    AFFECTED_CLASS,
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    CANCELLED,
    COMPLETED,
    FAILED,
    FIELD,
    MESSAGE_ID,
    MOVE_DESTINATION,
    PRIORITY,
    RESPONDED_TO,
    RESPONSE,
    SUCCESS,
    WARNED,
    Command,
    Values,
    command_set,
    response,
)
from node.dimse.contexts import storage_classes
from node.dimse.exchange import Context
from node.dimse.landing import Landing
from node.dimse.outgoing import OutgoingAssociation, Proposal

FIND: Final = Proposal(STUDY_FIND, IDENTIFIER_SYNTAXES)
GET: Final = Proposal(STUDY_GET, IDENTIFIER_SYNTAXES)
MOVE: Final = Proposal(STUDY_MOVE, IDENTIFIER_SYNTAXES)
#: CR, DX, MG, CT, MR, US, SC, XA, RF, NM, PET, SR, KO, presentation states, PDF, RT, VL, ECG.
_USUAL: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in (
        *("1", "1.1", "1.2", "2", "2.1", "3.1", "6.1", "4", "4.1", "7", "12.1", "12.2", "20", "128"),
        *("88.11", "88.22", "88.33", "88.59", "11.1", "104.1", "481.1", "481.2", "481.3", "481.5"),
        *("77.1.1", "77.1.4", "77.1.5.1", "9.1.1"),
    )
)
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_OUT_OF_RESOURCES: Final = 0xA700
_MEDIUM: Final = 0x0000  # Priority, PS3.7 Table E.1-1
_AFTER_CANCEL: Final = 100_000  # answers that are read and dropped until it takes effect
_NOT_ASKED_FOR: Final = 0xA900


@dataclass(frozen=True, slots=True)
class Found:
    """Answers to a C-FIND; ``complete`` is False where there are more than were wanted, or could be given."""

    answers: list[Attributes]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """How a C-GET or C-MOVE ended."""

    status: int
    completed: int
    failed: int


#: Reads an answer: the bytes of an Identifier and its transfer syntax.
Reading = Callable[[bytes, str], Attributes]


def plain_reading(data: bytes, transfer_syntax_uid: str) -> Attributes:
    """An Identifier in the character set that it says."""
    return read_identifier(data, transfer_syntax_uid)[0]


def context_of(association: OutgoingAssociation, sop_class_uid: str) -> Context | None:
    """The context that was agreed to for a service."""
    return next((cx for cx in association.contexts if cx.sop_class_uid == sop_class_uid), None)


def find(
    association: OutgoingAssociation, question: Attributes, most: int, reading: Reading = plain_reading
) -> Found:
    """Ask, and take at most ``most`` answers.

    Raises:
        Unavailable: the archive has gone, refuses, or has no C-FIND.
        Malformed, TooLarge: it answers what is no Identifier.
    """
    context = _agreed(association, STUDY_FIND, "C-FIND")
    asked = _ask(association, context, C_FIND_RQ, question)
    answers: list[Attributes] = []
    dropped = 0
    while True:
        _, command = association.hear()
        _check(command, C_FIND_RQ, asked)
        data = _gathered(association) if command.has_data_set else b""
        if command.status not in _PENDING:
            break
        if len(answers) < most:
            answers.append(reading(data, context.transfer_syntax_uid))
            continue
        if not dropped:
            _cancel(association, context, asked)
        dropped += 1
        if dropped > _AFTER_CANCEL:
            raise Unavailable("The archive does not stop when it is asked to (C-CANCEL).")
    if command.status == SUCCESS:
        return Found(answers, complete=not dropped)
    if command.status in (CANCELLED, _OUT_OF_RESOURCES):
        return Found(answers, complete=False)
    raise Unavailable("The archive refuses a search.", why=f"Status {command.status:04X}H.")


def get(association: OutgoingAssociation, wanted: Attributes, landing: Landing) -> Retrieved:
    """Retrieve on this association.

    Raises:
        Unavailable: the archive has gone, or has no C-GET.
    """
    context = _agreed(association, STUDY_GET, "C-GET")
    syntaxes = {cx.id: cx.transfer_syntax_uid for cx in association.contexts}
    asked = _ask(association, context, C_GET_RQ, wanted)
    while True:
        number, command = association.hear()
        if command.field == C_STORE_RQ:
            status = _land(association, command, syntaxes.get(number, ""), landing)
            association.say(number, response(command, status))
            continue
        _check(command, C_GET_RQ, asked)
        if command.has_data_set:
            _gathered(association)
        if command.status not in _PENDING:
            return _ended(command)


def move(
    association: OutgoingAssociation, wanted: Attributes, destination: str, message_id: int
) -> Retrieved:
    """Have what is wanted sent to ``destination``.

    Raises:
        Unavailable: the archive has gone, or has no C-MOVE.
    """
    context = _agreed(association, STUDY_MOVE, "C-MOVE")
    more: Values = {MOVE_DESTINATION: destination, MESSAGE_ID: message_id}
    asked = _ask(association, context, C_MOVE_RQ, wanted, more)
    while True:
        _, command = association.hear()
        _check(command, C_MOVE_RQ, asked)
        if command.has_data_set:
            _gathered(association)
        if command.status not in _PENDING:
            return _ended(command)


def store_proposals(sop_class_uid: str, syntaxes: Sequence[str]) -> list[Proposal]:
    """Contexts in which an object of this class can come to us, each syntax alone, the wanted one first."""
    return [Proposal(sop_class_uid, (syntax,), as_scp=True) for syntax in syntaxes]


def any_store_proposals() -> list[Proposal]:
    """Contexts in which an object can come whose class is not known: the usual classes first."""
    classes = dict.fromkeys((*_USUAL, *storage_classes()))
    wanted = (EXPLICIT_LE, IMPLICIT_LE)
    return [Proposal(uid, wanted, as_scp=True) for uid in list(classes)[: MAX_CONTEXTS - 1]]


def _agreed(association: OutgoingAssociation, sop_class_uid: str, what: str) -> Context:
    context = context_of(association, sop_class_uid)
    if context is None:
        raise Unavailable(f"The archive has no {what} (study root).")
    return context


def _ask(
    association: OutgoingAssociation,
    context: Context,
    field: int,
    identifier: Attributes,
    more: Values | None = None,
) -> int:
    values: Values = {
        FIELD: field,
        AFFECTED_CLASS: context.sop_class_uid,
        PRIORITY: _MEDIUM,
        MESSAGE_ID: association.new_id(),
        **(more or {}),
    }
    data = write_identifier(identifier, context.transfer_syntax_uid, states="ISO_IR 192")
    association.say(context.id, command_set(values, data_set=True), (data,))
    return int(values[MESSAGE_ID])


def _cancel(association: OutgoingAssociation, context: Context, message_id: int) -> None:
    values: Values = {FIELD: C_CANCEL_RQ, RESPONDED_TO: message_id}
    association.say(context.id, command_set(values, data_set=False))


def _check(command: Command, asked: int, message_id: int) -> None:
    if command.field != asked | RESPONSE or command.responded_to != message_id:
        raise Unavailable("The archive answers something else than it was asked.")


def _gathered(association: OutgoingAssociation) -> bytes:
    data = bytearray()
    for fragment in association.data():
        data += fragment
        if len(data) > MAX_IDENTIFIER_BYTES:
            raise TooLarge("The archive answers too much.", why=f"Limit here: {MAX_IDENTIFIER_BYTES} bytes.")
    return bytes(data)


def _land(association: OutgoingAssociation, command: Command, syntax: str, landing: Landing) -> int:
    """One object that comes on our own association; its status."""
    if not syntax or not landing.takes(command):
        for _ in association.data():
            pass
        return _NOT_ASKED_FOR
    landing.begin(command, syntax)
    for fragment in association.data():
        landing.write(fragment)
    return landing.finish()


def _ended(command: Command) -> Retrieved:
    return Retrieved(
        status=command.status,
        completed=command.number(COMPLETED) + command.number(WARNED),
        failed=command.number(FAILED),
    )
