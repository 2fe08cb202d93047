"""Generic XDS objects, and the standard's rules over whole submissions (ITI TF-2 3.42, 3.57, 3.62).

Studies go through ``batch.py``; this is for everything beside them, and for what they cause beside
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Forbidden, Invalid
from crosslight.standards.region import Region
from crosslight.standards.xds.mapping.views import objects_of
from crosslight.standards.xds.model.metadata import RegistryObject, RegistryObjects, from_plain
from crosslight.standards.xds.rules.errors import refusal
from registry.identity.model import RecordKey
from registry.identity.queries import Addressed
from registry.identity.store import IdentityStore
from registry.index.imaging_documents import imaging_document
from registry.index.model import Holding, HoldingKey, XdsObject
from registry.index.store import IndexStore
from registry.index.write import Work
from registry.intake.registered_objects import APPROVED, DEPRECATED, RegisteredObjects, touched, xds_object
from registry.intake.relations import Effects, check, check_removal, effects
from registry.intake.submission import Publish, SetAvailability, StoreObjects, Submission, Withdraw
from registry.members.model import Member

Alarm = Callable[[str, Member, str], None]


class GenericObjects:
    """Acts on objects that are no studies. ``changed`` says that something was written."""

    def __init__(
        self,
        tx: Tx,
        index: IndexStore,
        identity: IdentityStore,
        work: Work,
        region: Region,
        now: datetime,
        new_id: Callable[[], str],
    ) -> None:
        self._tx = tx
        self._index = index
        self._identity = identity
        self._work = work
        self._region, self._now, self._new_id = region, now, new_id
        self._found: dict[Identifier, Addressed | None] = {}
        # The registry as it was before this transaction, looked up together (:meth:`prefetch`): the rules of
        # ITI-42 are asked of it, for the submissions of a batch do not see each other (``grouping.py``).
        self._before = RegisteredObjects(tx, index, identity)
        self.changed = False

    def registered_now(self) -> RegisteredObjects:
        """What is registered, with the objects that this transaction has put.

        For what acts cause, and for ITI-57 and ITI-62. Each is read anew, for these go alone or come after
        what they must see.
        """
        return RegisteredObjects(self._tx, self._index, self._identity)

    def prefetch(self, submissions: Iterable[Submission]) -> None:
        """Look up in few statements what the rules will ask of these submissions."""
        uuids: set[str] = set()
        unique_ids: set[str] = set()
        patients: set[str] = set()
        for submission in submissions:
            for act in submission.acts:
                if isinstance(act, Publish):
                    publication = act.publication
                    uuids |= {
                        publication.entry_uuid,
                        publication.submission_uuid,
                        publication.has_member_uuid,
                        publication.replaces_uuid,
                        publication.replaces_entry_uuid,
                    }
                    unique_ids |= {publication.manifest.document_uid, publication.submission_uid}
                    patients.add(act.patient_cx)
        self._before.prefetch(uuids - {""}, unique_ids - {""})
        self._found |= self._identity.addressed_tx(self._tx, _parsed(patients))

    def addressed(self, cx: str, member: Member) -> Addressed:
        """The person that DocumentEntry.patientId names (D4).

        With the record, where the id is one authority's own number.
        """
        identifier = Identifier.parse_cx(cx)
        if identifier not in self._found:
            self._found |= self._identity.addressed_tx(self._tx, [identifier])
        target = self._found[identifier]
        shared = {*self._region.nationals, self._region.authority}
        own = (
            member.status == "foreign" or identifier.authority in shared or member.owns(identifier.authority)
        )
        if target is None or target.subsumed or not own:
            # TF-3 4.2.4.1
            raise refusal(
                "XDSUnknownPatientId", f"This patient id is not known here, or no longer current: {cx}"
            )
        return target

    # --- ITI-42's own rules ---------------------------------------------------------------------------------

    def by_the_standard(self, submission: Submission, member: Member, alarm: Alarm) -> Effects:
        """What relations.py asks of the whole submission, before anything is changed."""
        registry = self._before
        patients = {act.patient_cx for act in submission.acts if isinstance(act, Publish | StoreObjects)}
        objects = submission.said if submission.said is not None else _objects_of(submission)
        if not len(objects):
            return Effects()
        persons = {self.addressed(cx, member).person for cx in patients if cx}
        if len(persons) > 1:
            raise refusal(
                "XDSPatientIdDoesNotMatch",
                f"The objects of a submission are of different patients: {', '.join(patients)}",
            )
        if not persons:
            raise refusal("XDSUnknownPatientId", "The submission names no patient.")
        self._clashes(objects, registry, member, alarm)
        check(objects, registry, persons.pop())
        caused = effects(objects, registry, self._new_id)
        self._may_deprecate(caused.deprecate, registry, member)
        return caused

    def _clashes(
        self, objects: RegistryObjects, registry: RegisteredObjects, member: Member, alarm: Alarm
    ) -> None:
        """Refuse an id that belongs to another member's object, and tell the operator of it (D9)."""
        for metadata in objects:
            others = {holding.member for holding in registry.holdings(metadata.entry_uuid)}
            stored = registry.stored(metadata.entry_uuid)
            if stored is not None and stored.member is not None:
                others.add(stored.member)
            if others - {member.id}:
                alarm("an id of another member's", member, "")
                raise refusal(
                    "XDSDuplicateUniqueIdInRegistry",
                    f"{metadata.entry_uuid} belongs to another.",
                    metadata.entry_uuid,
                )

    def _may_deprecate(self, uuids: Sequence[str], registry: RegisteredObjects, member: Member) -> None:
        for uuid in uuids:
            owners = {holding.member for holding in registry.holdings(uuid)}
            stored = registry.stored(uuid)
            if stored is not None and stored.member is not None:
                owners.add(stored.member)
            if owners - {member.id}:
                raise Forbidden("A document of another member cannot be replaced.", where=uuid)

    def apply(self, caused: Effects, member: Member) -> None:
        """Deprecations beside the replaced study itself, folders' new members, folders' times."""
        registry = self.registered_now()
        changed: list[XdsObject] = []
        for uuid in caused.deprecate:
            stored = registry.stored(uuid)
            if stored is not None:
                changed.append(replace(stored, status=DEPRECATED))
            else:
                for holding in registry.holdings(uuid):
                    self._deprecate(holding, uuid, member)
        for association in caused.add:
            ends = [
                end
                for end in (registry.stored(association.source), registry.stored(association.target))
                if end is not None
            ]
            key = next((end.record_key for end in ends if end.record_key is not None), None)
            changed.append(replace(xds_object(association, key), member=member.id))
        for uuid in caused.touch:
            folder = registry.stored(uuid)
            if folder is not None:
                changed.append(touched(folder, self._now))
        if changed:
            self.put(member, changed)

    def _deprecate(self, holding: Holding, uuid: str, member: Member) -> None:
        """A study's entry; a node's that is not current any more is Deprecated already."""
        entry = self._work.entry_under(member.id, holding.study_uid, holding.record_key)
        if entry.now is None:
            return
        if member.status == "foreign":
            self._work.set_entry_status(entry, uuid, DEPRECATED)
        elif entry.now.holding.publication.entry_uuid == uuid:
            self._work.set_state(entry, deprecated=True, version=None)

    def availability(self, member: Member, act: SetAvailability, document: XdsObject) -> None:
        """ITI-57 UpdateAvailabilityStatus of a document that is no study."""
        if document.member not in (None, member.id):
            raise Forbidden("This object is another member's.", where=act.entry_uuid)
        if document.kind != "document":
            raise refusal("XDSMetadataUpdateError", "Only a document has an availability.", act.entry_uuid)
        current = APPROVED if document.status.endswith(APPROVED) else DEPRECATED
        if current == act.status or act.original not in (None, current):
            raise refusal("XDSMetadataVersionError", f"The entry is {current}.", act.entry_uuid)
        self.put(member, [replace(document, status=act.status)])

    def remove(self, member: Member, act: Withdraw) -> None:
        """ITI-62: remove studies, entries of foreign sources and other objects.

        A node's studies go only as whole chains (D16), a foreign source's entries and other objects as the
        standard lets them go.
        """
        registry = self.registered_now()
        check_removal(act.entry_uuids, registry)
        named = set(act.entry_uuids)
        entries: dict[HoldingKey, set[str]] = {}
        objects: list[XdsObject] = []
        for uuid in act.entry_uuids:
            for holding in registry.holdings(uuid):
                if holding.member != member.id:
                    raise Forbidden("This study is another member's.", where=uuid)
                key = HoldingKey(holding.record_key, holding.study_uid, holding.member)
                if key not in entries:
                    entries[key] = _removed(holding, named, whole=member.status != "foreign")
            stored = registry.stored(uuid)
            if stored is not None:
                if stored.member not in (None, member.id):
                    raise Forbidden("This object is another member's.", where=uuid)
                objects.append(stored)
        self.changed = True
        for key, uuids in entries.items():
            entry = self._work.entry_under(member.id, key.study_uid, key.record_key)
            if member.status == "foreign":
                self._work.remove_entries(entry, uuids)
            else:
                self._work.withdraw(entry, act.version)
        self._index.objects.remove(self._tx, objects)
        self._work.note(objects, member.id, "withdrawn")

    # --- other objects --------------------------------------------------------------------------------------

    def store(self, member: Member, act: StoreObjects) -> None:
        """Store objects whole, under the patient record that the submission names."""
        key: RecordKey | None = None
        if act.patient_cx:
            addressed = self.addressed(act.patient_cx, member)
            key = addressed.record if addressed.record is not None else addressed.records[0].key
        objects = [
            replace(given, record_key=given.record_key or key, member=member.id) for given in act.objects
        ]
        for uuid in act.deprecate:
            stored = self.registered_now().stored(uuid)
            if stored is not None:
                objects.append(replace(stored, status=DEPRECATED))
        self.put(member, objects)

    def put(self, member: Member, objects: Sequence[XdsObject]) -> None:
        """Write objects, by an act of ``member``."""
        self.changed = True
        self._index.objects.put(self._tx, objects, self._now)
        self._work.note(objects, member.id, "changed")


def _objects_of(submission: Submission) -> RegistryObjects:
    """What the acts of a submission say, where the door does not have it any more."""
    objects: list[RegistryObject] = []
    for act in submission.acts:
        if isinstance(act, Publish):
            objects += list(objects_of(act.publication, act.patient_cx))
        elif isinstance(act, StoreObjects):
            objects += [from_plain(stored.kind, stored.body) for stored in act.objects]
    return RegistryObjects.of(objects)


def unread_in(act: StoreObjects) -> Iterator[str]:
    """A warning for each imaging document whose study the registry does not know (D17)."""
    for stored in act.objects:
        document = imaging_document(stored)
        if document is None or (document.studies and not document.readable):
            continue
        named = "names no study" if not document.studies else f"names {len(document.studies)} studies"
        todo = (
            "it is shown as a study once it was read" if document.readable else "it is listed by ITI-18 only"
        )
        yield (
            f"{stored.entry_uuid}: its referenceIdList {named} (urn:ihe:iti:xds:2016:studyInstanceUID);"
            f" {todo}."
        )


def _parsed(patients: Iterable[str]) -> set[Identifier]:
    """Patient ids that can be read; the others are refused when their turn comes."""
    identifiers = set()
    for cx in patients:
        with suppress(Invalid):
            identifiers.add(Identifier.parse_cx(cx))
    return identifiers


def _removed(holding: Holding, named: set[str], *, whole: bool) -> set[str]:
    """The entryUUIDs that go with ``named``: each entry with everything that brought it.

    Where ``whole``, the whole chain has to go.

    Raises:
        RegistryRefusal: ReferencesExistException, naming what is missing.
    """
    going: set[str] = set()
    for publication in holding.entries:
        brought = {
            publication.entry_uuid,
            publication.submission_uuid,
            publication.has_member_uuid,
            publication.replaces_uuid,
        } - {""}
        if not whole and not brought & named:
            continue
        if missing := brought - named:
            rule = (
                "A study is removed with all its versions."
                if whole
                else "An entry is removed with all that brought it."
            )
            raise refusal("ReferencesExistException", rule, min(missing))
        going.add(publication.entry_uuid)
    return going
