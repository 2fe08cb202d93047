"""Who holds a study, in which order they are asked, and which copies may stand for each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.standards.problem import Conflict, Gone, NotFound
from registry.ask.question import Answer
from registry.identity.model import Person
from registry.index.model import Holding
from registry.members.model import Member
from registry.reach.members import Reach


@dataclass(frozen=True, slots=True)
class Holder:
    """One member that holds a study, for one patient."""

    member: Member
    holding: Holding
    person: Person | None

    @property
    def patient(self) -> str:
        """The patient as this holder knows them: its own local number as CX."""
        return self.holding.record.patient.local.cx()


def holders_of(answer: Answer, study_uid: str, reach: Reach, *, code: str = "") -> list[Holder]:
    """The holders of a study, best first: reachable, then the most images, then by code.

    Args:
        answer: What was found for the one who asks.
        study_uid: The study.
        reach: Which of them may be asked now.
        code: Only this member.

    Raises:
        NotFound, Gone: nobody holds it, or nobody any more.
        Conflict: members hold it for different patients and none was named: nobody may be guessed (D1).
    """
    holders = []
    for holding in answer.holdings:
        member = reach.directory.by_id(holding.member)
        if holding.study_uid != study_uid or holding.state != "approved" or member is None:
            continue
        if not code or member.code.casefold() == code.casefold():
            holders.append(Holder(member, holding, answer.person_of(holding)))
    if not holders:
        if study_uid in answer.gone or any(holding.study_uid == study_uid for holding in answer.holdings):
            raise Gone("This study is no longer held.", where=study_uid)
        raise NotFound("No member holds this study.", why="Or none that you may know of.", where=study_uid)
    if len({holder.person.key if holder.person else holder.holding.whose for holder in holders}) > 1:
        codes = ", ".join(sorted(holder.member.code for holder in holders))
        raise Conflict(
            "Members hold this study for different patients.",
            why=f"Holders: {codes}.",
            todo="Open it at /dicomweb/members/CODE/studies/… of the one you mean.",
            where=study_uid,
        )
    return sorted(
        holders,
        key=lambda holder: (
            not reach.opens(holder.member),
            -holder.holding.record.n_instances,
            holder.member.code,
        ),
    )


def alternatives(holders: Sequence[Holder]) -> list[Holder]:
    """The first holder, and others that hold the very same study (D1).

    A conflicting copy is never given in place of another.
    """
    if not holders:
        return []
    first = holders[0]
    if not first.holding.conflict:
        return list(holders)
    return [first, *(holder for holder in holders[1:] if holder.holding.digest == first.holding.digest)]
