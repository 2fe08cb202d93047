"""Batch: the rules of what becomes of acts, inside one transaction (D1, D2, D10, D16).

Every act is checked before it changes anything, so that one act of a batch can be refused and the others kept
(:attr:`Batch.touched` tells). Strict doors (SOAP) refuse as the standard says; the gRPC feed is idempotent
(D15).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from crosslight.runtime.db import Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.ids import MemberId, Version
from crosslight.standards.problem import Conflict, Forbidden, Invalid
from crosslight.standards.region import Region
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.publication import Publication
from crosslight.standards.xds.rules.errors import refusal
from registry.identity.store import IdentityStore
from registry.index.flush import HoldingEdit
from registry.index.model import Change, Holding
from registry.index.rows import version_int
from registry.index.store import IndexStore
from registry.intake.checks import check_publication, following, with_detail
from registry.intake.claims import under_claims
from registry.intake.generic_objects import GenericObjects, unread_in
from registry.intake.ownership import check_owned, note_owned
from registry.intake.registered_objects import APPROVED, DEPRECATED, RegisteredObjects
from registry.intake.study_patients import StudyPatients
from registry.intake.submission import Outcome, Publish, SetAvailability, StoreObjects, Submission, Withdraw
from registry.members.model import Member

log = get_logger("accept")


class Ran(NamedTuple):
    """What became of one submission, and of what its sender is warned."""

    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...] = ()


class Batch:
    """The submissions of one transaction, one or many: :meth:`begin`, :meth:`run` for each, :meth:`finish`.

    Args:
        tx: The transaction.
        index, identity: Stores in it.
        region: Whose ids count.
        now: The time of the change.
        new_id: Random ``urn:uuid:`` ids.
        alarm: Told of what an operator must know; called at once, so it counts what is then refused.
        foreign: Whether somebody is an outside source, and no member.
    """

    def __init__(
        self,
        tx: Tx,
        index: IndexStore,
        identity: IdentityStore,
        region: Region,
        now: datetime,
        new_id: Callable[[], str],
        alarm: Callable[[str, Member, str], None],
        foreign: Callable[[MemberId], bool],
    ) -> None:
        self.tx = tx
        self._index = index
        self._identity = identity
        self._region = region
        self._now = now
        self._alarm = alarm
        self._foreign = foreign
        self._arrived: dict[str, Member] = {}  # study -> the member, of those that came anew
        self.work = index.work(tx, now)
        self._generic = GenericObjects(tx, index, identity, self.work, region, now, new_id)
        self._patients = StudyPatients(tx, identity, self._generic, now)
        self._touched = False

    def begin(self, submissions: Sequence[Submission], *, exclusive: bool) -> None:
        """Lock the members and read what there is of their studies, in few statements.

        ``exclusive``: beside no other writer.
        """
        self.work.lock_writers(exclusive=exclusive)
        self.work.lock({submission.member.id for submission in submissions})
        self.work.prefetch(
            [
                (submission.member.id, uid)
                for submission in submissions
                for act in submission.acts
                if (uid := _study_of(act))
            ]
        )
        strict = [submission for submission in submissions if submission.strict]
        if strict:
            self._generic.prefetch(strict)
        acts = [act for submission in submissions for act in submission.acts]
        if len(acts) > 1:
            self._patients.prefetch(
                act.patient for act in acts if isinstance(act, Publish) and act.patient is not None
            )

    @property
    def touched(self) -> bool:
        """Whether the submission that ran last changed something, which only a roll-back takes back."""
        return self._touched or self._generic.changed or self._patients.changed

    def run(self, submission: Submission, member: Member) -> Ran:
        """All acts of one submission.

        Raises:
            CrosslightError: refused; the transaction is still good only if not :attr:`touched`.
        """
        self._touched = self._generic.changed = self._patients.changed = False
        if not submission.strict:
            return Ran(tuple(self._act(submission, member, act) for act in submission.acts))
        caused = self._generic.by_the_standard(submission, member, self._alarm)
        check_owned(self.tx, self._index, submission, member, caused)
        outcomes = tuple(self._act(submission, member, act) for act in submission.acts)
        self._generic.apply(caused, member)
        note_owned(self.tx, self._index, submission, member, caused)
        stored = (act for act in submission.acts if isinstance(act, StoreObjects))
        return Ran(outcomes, tuple(text for act in stored for text in unread_in(act)))

    def finish(self) -> list[Change]:
        """Write everything; what was changed."""
        self._patients.settle()
        self.work.flush()
        self._patients.compare(self.work)
        for study_uid, member in under_claims(self.tx, self._index, self._arrived, self._foreign):
            self._alarm("a member's study comes after a source's claim", member, study_uid)
        return self.work.changes

    def _act(self, submission: Submission, member: Member, act: Any) -> Outcome:
        match act:
            case Publish():
                return self._publish(submission, member, act)
            case SetAvailability():
                return self._availability(submission, member, act)
            case Withdraw():
                return self._withdraw(submission, member, act)
            case StoreObjects():
                self._generic.store(member, act)
                return "accepted"
        raise Invalid("An act of an unknown kind.")

    # --- publish --------------------------------------------------------------------------------------------

    def _publish(self, submission: Submission, member: Member, act: Publish) -> Outcome:
        publication, version = act.publication, act.publication.version
        check_publication(publication, act.patient, member)
        if member.status == "foreign":
            return self._publish_beside(submission, member, act)
        entry = self.work.entry(member.id, publication.record.study_uid)
        if version is not None:
            self._granted(member, version)
            settled = self._ordered(submission, member, entry, act, version)
            if settled is not None:
                return settled
        elif not submission.strict:
            raise Invalid("An act without a version.", where="version")
        key = self._patients.settled_key(self._patients.record_key(member, act), entry, act)
        self._touched = True
        old = entry.now
        if old is None:
            self._arrived.setdefault(publication.record.study_uid, member)
        if old is not None and old.holding.record_key != key:
            same = bool(publication.replaces_entry_uuid) and submission.strict
            self.work.move(entry, key, with_past=same, version=version)
        if not submission.strict:
            publication = following(publication, entry.now, member)
        self.work.publish(
            entry,
            key,
            publication.with_status("Approved"),
            act.digest,
            version,
            own_digest=not submission.strict,
        )
        self.work.reached(member.id, version)
        self._patients.began(key, publication)
        return "accepted"

    def _publish_beside(self, submission: Submission, member: Member, act: Publish) -> Outcome:
        """A foreign source's manifest: an entry beside the others of its study (D1).

        What it replaces is told by its RPLC.
        """
        publication = act.publication
        if not submission.strict:
            raise Invalid("A foreign source registers by ITI-42.")
        key = self._patients.record_key(member, act)
        entries = self.work.entries(member.id, publication.record.study_uid)
        other_keys = {
            self._patients.settled_key(key, entry, act) for entry in entries if entry.now is not None
        } - {key}
        key = min(other_keys, default=key)
        self._touched = True
        entry = self.work.entry_under(member.id, publication.record.study_uid, key)
        self.work.add_entry(entry, key, publication.with_status("Approved"), act.digest)
        self._patients.began(key, publication)
        self._set_apart(publication.record.study_uid, member)
        return "accepted"

    def _set_apart(self, study_uid: str, member: Member) -> None:
        """An operator is told of a source's claim on a study that a member, or another source, holds."""
        if self._index.read.members_of(self.tx, [study_uid]).get(study_uid, set()) - {member.id}:
            self._alarm("a source claims a study that another holds", member, study_uid)

    def _granted(self, member: Member, version: Version) -> None:
        if member.status != "foreign" and version.epoch != member.epoch:
            raise Conflict(
                f"Epoch {version.epoch} is not the one granted.",
                why=f"Granted is {member.epoch}.",
                todo="Say Hello again and compare.",
                where="epoch",
            )

    def _ordered(
        self, submission: Submission, member: Member, entry: HoldingEdit, act: Publish, version: Version
    ) -> Outcome | None:
        """What the order of versions says; None: newer than all that was there."""
        old, new = entry.now, version_int(version)
        if old is not None and old.holding.version == version:
            return self._same_version(submission, member, entry, act)
        newest = _newest(entry)
        if new == newest:
            raise self._disagreement(member, entry, version)
        if new > newest:
            return None
        if submission.strict:
            raise refusal(
                "XDSDuplicateUniqueIdInRegistry",
                "A newer version of this study was registered.",
                act.publication.entry_uuid,
            )
        return "stale"

    def _same_version(
        self, submission: Submission, member: Member, entry: HoldingEdit, act: Publish
    ) -> Outcome:
        old, publication = entry.now, act.publication
        if old is None or publication.version is None:
            raise Invalid("Nothing to compare with.")
        if submission.strict:
            raise refusal(
                "XDSDuplicateUniqueIdInRegistry",
                "This version is registered already.",
                publication.entry_uuid,
            )
        submitted, known = publication.manifest, old.holding.publication.manifest
        same_manifest = (submitted.document_uid, submitted.sha1, submitted.size_bytes) == (
            known.document_uid,
            known.sha1,
            known.size_bytes,
        )
        if same_manifest and not old.own_digest:  # it came by ITI-42 before, which says less (D17)
            self._touched = True
            self.work.replace_record(
                entry, with_detail(old.holding.publication, publication.record), act.digest
            )
            return "already"
        if not same_manifest or old.holding.digest != act.digest:
            raise self._disagreement(member, entry, publication.version)
        return "already"

    def _disagreement(self, member: Member, entry: HoldingEdit, version: Version) -> Conflict:
        self._alarm("one version, two contents", member, entry.study_uid)
        return Conflict(
            f"Version {version} of this study is known with other content.",
            why="A version is given once.",
            todo="An operator must look at this node's database.",
            where="version",
        )

    # --- availability ---------------------------------------------------------------------------------------

    def _availability(self, submission: Submission, member: Member, act: SetAvailability) -> Outcome:
        if act.version is not None and not submission.strict:
            self._granted(member, act.version)
        if act.entry_uuid:
            registry = self._generic.registered_now()
            stored = registry.stored(act.entry_uuid)
            if stored is not None:
                self._generic.availability(member, act, stored)
                return "accepted"
            if member.status == "foreign":
                return self._availability_of_entry(registry, member, act)
            entry = self._entry_named(registry, member, act.entry_uuid)
        else:
            entry = self.work.entry(member.id, act.study_uid)
        old, new = entry.now, version_int(act.version)
        if old is None:
            if not submission.strict and act.version is not None and new <= _newest(entry):
                return "stale"
            raise refusal("UnresolvedReferenceException", "This study is not registered.", act.entry_uuid)
        current = APPROVED if old.holding.state == "approved" else DEPRECATED
        if act.version is not None and new <= old.row.version:
            same = new == old.row.version
            if same and current == act.status and not submission.strict:
                return "already"
            if same and current != act.status:
                raise self._disagreement(member, entry, act.version)
            if submission.strict:
                raise refusal(
                    "XDSMetadataVersionError", "A newer act on this study was accepted.", act.entry_uuid
                )
            return "stale"
        if submission.strict and (current == act.status or act.original not in (None, current)):
            raise refusal("XDSMetadataVersionError", f"The entry is {current}.", act.entry_uuid)
        self._touched = True
        self.work.set_state(entry, deprecated=act.status == DEPRECATED, version=act.version)
        self.work.reached(member.id, act.version)
        return "accepted"

    def _availability_of_entry(
        self, registry: RegisteredObjects, member: Member, act: SetAvailability
    ) -> Outcome:
        """Of one of a foreign source's entries, which stand by themselves (D1)."""
        holding, named = self._version_named(registry, member, act.entry_uuid)
        if named.status == act.status or act.original not in (None, named.status):
            raise refusal("XDSMetadataVersionError", f"The entry is {named.status}.", act.entry_uuid)
        replaced = (
            association
            for association in registry.associations(act.entry_uuid)
            if association.type in v.REPLACING and association.target == act.entry_uuid
        )
        if (replacing := next(replaced, None)) is not None:
            raise refusal(
                "XDSMetadataVersionError", f"This entry was replaced by {replacing.source}.", act.entry_uuid
            )
        self._touched = True
        entry = self.work.entry_under(member.id, holding.study_uid, holding.record_key)
        self.work.set_entry_status(entry, act.entry_uuid, act.status)
        return "accepted"

    def _version_named(
        self, registry: RegisteredObjects, member: Member, uuid: str
    ) -> tuple[Holding, Publication]:
        for holding in registry.holdings(uuid):
            if holding.member != member.id:
                raise Forbidden("This study is another member's.", where=uuid)
            for publication in holding.entries:
                if publication.entry_uuid == uuid:
                    return holding, publication
        raise refusal("UnresolvedReferenceException", "This entry is not registered.", uuid)

    def _entry_named(self, registry: RegisteredObjects, member: Member, uuid: str) -> HoldingEdit:
        holding, publication = self._version_named(registry, member, uuid)
        if publication is not holding.publication:
            raise refusal("XDSMetadataVersionError", "This entry was replaced by a newer one.", uuid)
        return self.work.entry(member.id, holding.study_uid)

    # --- withdraw -------------------------------------------------------------------------------------------

    def _withdraw(self, submission: Submission, member: Member, act: Withdraw) -> Outcome:
        if act.entry_uuids:
            self._generic.remove(member, act)
            return "accepted"
        if act.version is None:
            raise Invalid("An act without a version.", where="version")
        self._granted(member, act.version)
        entry, new = self.work.entry(member.id, act.study_uid), version_int(act.version)
        newest = _newest(entry)
        if entry.now is None and new == newest:
            return "already"
        if entry.now is not None and new == newest:
            raise self._disagreement(member, entry, act.version)
        if new < newest:
            return "stale"
        self._touched = True
        self.work.withdraw(entry, act.version)
        self.work.reached(member.id, act.version)
        return "accepted"


def _study_of(act: Any) -> str:
    if isinstance(act, Publish):
        return act.publication.record.study_uid
    return act.study_uid if isinstance(act, SetAvailability | Withdraw) else ""


def _newest(entry: HoldingEdit) -> int:
    """The newest version of any act on this study, withdrawn or not."""
    newest = entry.now.row.version if entry.now is not None else -1
    return max((newest, *(stone.version for stone in entry.stones)))
