"""What a question finds, and small readings of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from crosslight.standards.ids import Identifier, MemberId
from registry.ask.filter import same_accession
from registry.ask.naming import Naming
from registry.identity.model import DisputedNotice, Person, PersonKey
from registry.index.model import Holding, XdsObject


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionResult:
    """What a question finds, before coverage and audit."""

    holdings: tuple[Holding, ...] = ()
    persons: tuple[Person, ...] = ()
    objects: tuple[XdsObject, ...] = ()
    disputed: tuple[DisputedNotice, ...] = ()
    doubts: frozenset[MemberId] = frozenset()
    cursor: str = ""
    gone: tuple[str, ...] = ()
    unread: int = 0
    patients: tuple[Identifier, ...] = field(default=())  # for the audit
    naming: Naming = Naming()
    total: int | None = None
    opens: frozenset[PersonKey] = frozenset()  # disputed persons whose studies may be opened from now on
    # one thing for all questions that found the very same; None: nothing is known of that
    same: object | None = field(default=None, compare=False)


def has_accession(holding: Holding, asked: Collection[Identifier]) -> bool:
    return any(same_accession(a, own) for a in asked for own in holding.record.accessions)


def current_names(holding: Holding) -> set[str]:
    current = (holding.publication, *holding.siblings)
    names = (
        (p.entry_uuid, p.submission_uuid, p.submission_uid, p.has_member_uuid, p.replaces_uuid)
        for p in current
    )
    return {name for names_of_one in names for name in names_of_one} | {
        p.manifest.document_uid for p in current
    } - {""}


def newest_first(holdings: Iterable[Holding]) -> list[Holding]:
    """By when the study began, undated last; then by its names, so that the order is always the same."""

    def order(holding: Holding) -> tuple[bool, float, str, int]:
        interval = holding.record.time.interval()
        return (
            interval is None,
            -interval[0].timestamp() if interval else 0.0,
            holding.study_uid,
            int(holding.member),
        )

    return sorted(holdings, key=order)


def audited(asked: Iterable[Identifier], persons: Iterable[Person]) -> tuple[Identifier, ...]:
    """Under which numbers the act is found again.

    Those asked for, and each person's id, national and local numbers.
    """
    numbers = dict.fromkeys(Identifier(i.value, i.authority) for i in asked)
    for person in persons:
        numbers[Identifier(person.domain_id.value, person.domain_id.authority)] = None
        for record in person.records:
            for number in (*record.national, record.patient.local):
                numbers[Identifier(number.value, number.authority)] = None
    return tuple(numbers)
