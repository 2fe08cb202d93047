"""Whose the objects of a source that is no member are: whoever registered them, and nobody else's (ADR 0036).

A member's objects are the member's, by its repository; here are those of outside systems, several of which
may register for one repository.
"""

from __future__ import annotations

from collections.abc import Iterator

from crosslight.runtime.db import Tx
from crosslight.standards.problem import Forbidden
from registry.index.store import IndexStore
from registry.intake.relations import Effects
from registry.intake.submission import SetAvailability, Submission, Withdraw
from registry.members.model import Member


def check_owned(tx: Tx, index: IndexStore, submission: Submission, member: Member, caused: Effects) -> None:
    """Whether all that a submission changes was registered by its sender.

    Raises:
        Forbidden: something was registered by another.
    """
    if member.status != "foreign":
        return
    subject = submission.caller.principal.subject
    changed = {*caused.deprecate, *caused.touch, *_named(submission)}
    for uuid, owner in index.owners.of(tx, changed).items():
        if owner != subject:
            raise Forbidden(
                "This object is another's.",
                why="Only the system that registered it may change it.",
                where=uuid,
            )


def note_owned(tx: Tx, index: IndexStore, submission: Submission, member: Member, caused: Effects) -> None:
    """Keep who registered what a submission brought; what it removed is nobody's."""
    if member.status != "foreign":
        return
    if submission.said is not None:
        registered = [entry.entry_uuid for entry in (*submission.said, *caused.add)]
        index.owners.put(tx, registered, submission.caller.principal.subject)
    index.owners.remove(
        tx, [uuid for act in submission.acts if isinstance(act, Withdraw) for uuid in act.entry_uuids]
    )


def _named(submission: Submission) -> Iterator[str]:
    for act in submission.acts:
        if isinstance(act, SetAvailability):
            yield act.entry_uuid
        elif isinstance(act, Withdraw):
            yield from act.entry_uuids
