"""What a member's certificate reads: its own entries, by their ids (ADR 0036).

A node asks what became of what it may have registered (D15), and for the list of one patient with an order
there (ADR 0060), and nothing else; people and systems ask in their own name. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from crosslight.standards.access import Decision, Principal
from crosslight.standards.ids import MemberId
from registry.ask.question import ByObject, ByPatient, Question
from registry.ask.results import QuestionResult

NOT_ITS_OWN = "member: reads its own entries, by their entryUUIDs"


def reads_its_own(principal: Principal) -> bool:
    """Whether a member's node asks, with nobody behind it."""
    return principal.member is not None and principal.roles == {"member"}


def is_for_order(question: Question) -> bool:
    """Whether a question is for the list of one patient with an order."""
    return isinstance(question, ByPatient) and bool(question.order)


def as_member(principal: Principal, question: Question, decided: Decision) -> Decision:
    """What was decided of a question, and for a member's node: whether it names entries, or an order."""
    named = isinstance(question, ByObject) or is_for_order(question)
    if decided.permit and reads_its_own(principal) and not named:
        return Decision(False, NOT_ITS_OWN)
    return decided


def of_member(principal: Principal, question: Question, result: QuestionResult) -> QuestionResult:
    """What is found, and for a member's node: what of that is its own, unless there is an order."""
    if not reads_its_own(principal) or principal.member is None or is_for_order(question):
        return result
    own = MemberId(principal.member)
    holdings = tuple(holding for holding in result.holdings if holding.member == own)
    objects = tuple(xds_object for xds_object in result.objects if xds_object.member == own)
    records = {holding.whose for holding in holdings} | {xds_object.record_key for xds_object in objects}
    persons = tuple(p for p in result.persons if any(record.key in records for record in p.records))
    return replace(result, holdings=holdings, objects=objects, persons=persons, disputed=(), gone=())
