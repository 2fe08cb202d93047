"""Who holds a study, in which order they are asked, and when nobody may choose but who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.standards.choices import OneAnswer
from crosslight.standards.problem import ChoiceNeeded, Gone, NotFound
from registry.ask.question import Answer
from registry.gateway.agreement import agree
from registry.identity.model import Person
from registry.index.model import Holding
from registry.members.model import Member
from registry.members.standing import foremost
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

    @property
    def whose(self) -> int:
        """Whose study it is here: a person, or a record of nobody's."""
        return self.person.key if self.person is not None else -self.holding.whose


def holders_of(
    answer: Answer, study_uid: str, reach: Reach, *, code: str = "", root: str = "/dicomweb"
) -> list[Holder]:
    """The holders of a study that may stand for each other: those that can be reached first, then by code.

    An outside source stands for no member, and no member for it.

    Args:
        answer: What was found for the one who asks.
        study_uid: The study.
        reach: Which of them may be asked now.
        code: Only this member.
        root: The region's DICOMweb root, for the addresses of a choice.

    Raises:
        NotFound, Gone: nobody holds it, or nobody any more.
        ChoiceNeeded: holders do not agree on it, or have it for different patients, and none was named:
            nobody may be guessed (D1), and nothing that a holder says of itself ranks it above another.
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
        doubted = [m.code for m in answer.coverage.members if m.identity_doubt]
        search = f"If it is of {' or '.join(doubted)}: search first by the patient's own number there."
        raise NotFound(
            "No member holds this study.",
            why="Or none that you may know of.",
            todo=search if doubted else "",
            where=study_uid,
        )
    candidates = foremost(holders, lambda holder: holder.member)
    if len({holder.whose for holder in candidates}) > 1:
        raise _choice(candidates, study_uid, root, "Members hold this study for different patients.")
    if not agree([holder.holding.record for holder in candidates]):
        raise _choice(candidates, study_uid, root, "Members do not agree on what this study holds.")
    return sorted(candidates, key=lambda holder: (not reach.opens(holder.member), holder.member.code))


def _choice(holders: Sequence[Holder], study_uid: str, root: str, what: str) -> ChoiceNeeded:
    by_code = {holder.member.code: holder.member for holder in holders}
    return ChoiceNeeded(
        what,
        why=f"Holders: {', '.join(sorted(by_code))}. None of them is the default.",
        todo="Open it at the address of the one you mean.",
        where=study_uid,
        choices=[
            OneAnswer(code, member.name, f"{root}/members/{code}/studies/{study_uid}")
            for code, member in sorted(by_code.items())
        ],
    )
