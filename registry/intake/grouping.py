"""Which submissions that wait at the same time may share a transaction: those that do not see each other.

Pure. Rules read the registry as it was before the transaction; so two submissions that name the same object,
or the same study of a member, do not go together. What deletes, deprecates or brings other objects than
studies goes alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from crosslight.standards.ids import DerivedId
from registry.intake.submission import Publish, Submission


def names_of(submission: Submission) -> frozenset[str] | None:
    """Every name that a submission uses; None: it goes alone."""
    if not submission.strict:
        return None
    names: set[str] = set()
    for act in submission.acts:
        if not isinstance(act, Publish):
            return None
        publication = act.publication
        if publication.replaces_entry_uuid and DerivedId.parse(publication.replaces_entry_uuid) is None:
            return None  # what hangs on another's document may go with it
        names |= {
            publication.entry_uuid,
            publication.submission_uuid,
            publication.submission_uid,
            publication.has_member_uuid,
            publication.replaces_entry_uuid,
            publication.replaces_uuid,
        }
        names |= {publication.manifest.document_uid, f"{submission.member.id} {publication.record.study_uid}"}
    return frozenset(names - {""})


def first_group(waiting: Iterable[frozenset[str] | None], most: int) -> list[int]:
    """Places of those that go next, in their order: the first, and others that may share its transaction."""
    taken: list[int] = []
    used: set[str] = set()
    for place, names in enumerate(waiting):
        if names is None:
            if not taken:
                return [place]
            continue
        if used.isdisjoint(names):
            taken.append(place)
            used |= names
        if len(taken) == most:
            break
    return taken
