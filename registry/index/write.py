"""Work: one transaction's changes of holdings, gathered and written together (D2, D6, D10, D13).

Rules are in ``registry/intake``; here is how a change rests in the tables. A batch reads what it needs once,
changes it in memory, and :meth:`Work.flush` writes it: locators first, then rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, Version, hash8
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Status
from registry.identity.model import RecordKey, Texts
from registry.identity.tables import lock_writers
from registry.index.flush import Flush, HoldingEdit
from registry.index.foreign_entries import arranged, together, with_status
from registry.index.imaging_documents import imaging_document
from registry.index.member_feeds import MemberFeeds
from registry.index.model import Change, ObjectChange, XdsObject
from registry.index.past_versions import State, publication_of, state_of
from registry.index.patient_texts import PatientTexts
from registry.index.read import Reader
from registry.index.rows import (
    ARRIVING,
    DEPRECATED,
    OTHER_DIGEST,
    UNITED,
    HoldingRow,
    Loaded,
    Tombstone,
    modality_bits,
    names_in_row,
    record_hash,
    row_names,
    started_of,
    to_ms,
    version_int,
)


class Work:
    """Changes of one transaction."""

    def __init__(self, reader: Reader, tx: Tx, now: datetime) -> None:
        self._reader, self.tx, self._now = reader, tx, now
        self._entries: dict[tuple[MemberId, str], list[HoldingEdit]] = {}
        self._texts = PatientTexts(reader, tx)
        self._feeds = MemberFeeds(tx)
        # before a flush: changes of objects that are no studies; after it: all changes
        self.changes: list[Change] = []
        # after a flush: records, and how many patient texts came that are new to them
        self.described: dict[RecordKey, int] = {}
        # after a flush: records under which anything changed, and whose studies
        self.touched: dict[RecordKey, Texts] = {}

    # --- reading --------------------------------------------------------------------------------------------

    def lock_writers(self, *, exclusive: bool) -> None:
        """Make a large batch wait for all other writers, and them for it; the first act of a transaction.

        Two large batches may change the same patients, each in its own order: side by side they would end in
        a deadlock. Single acts exclude such batches only, not each other.
        """
        lock_writers(self.tx, exclusive=exclusive)

    def lock(self, members: Iterable[MemberId]) -> None:
        """Make other writers of these members wait; first of all in a transaction."""
        self._feeds.lock(members)

    def prefetch(self, places: Collection[tuple[MemberId, str]]) -> None:
        """Read what members have of studies in few statements."""
        wanted = set(places) - self._entries.keys()
        if not wanted:
            return
        members, uids = sorted({member for member, _ in wanted}), {uid for _, uid in wanted}
        holdings = self._reader.held_by(self.tx, members, uids)
        stones = self._reader.tombstones(self.tx, members, uids)
        for place in wanted:
            current: list[Loaded | None] = [*holdings.get(place, ())]
            self._entries[place] = [
                HoldingEdit(*place, loaded, loaded, list(stones.get(place, [])))
                for loaded in current or [None]
            ]

    def entries(self, member: MemberId, study_uid: str) -> list[HoldingEdit]:
        """What ``member`` has of a study, changes of this transaction included; never empty."""
        if (member, study_uid) not in self._entries:
            self.prefetch([(member, study_uid)])
        return self._entries[member, study_uid]

    def entry(self, member: MemberId, study_uid: str) -> HoldingEdit:
        """The one that a node of ours has (D1)."""
        return self.entries(member, study_uid)[0]

    def entry_under(self, member: MemberId, study_uid: str, record_key: RecordKey) -> HoldingEdit:
        """The one under a patient record; empty where there is none yet.

        A foreign source may name several patients.
        """
        entries = self.entries(member, study_uid)
        for entry in entries:
            place = entry.now or entry.before
            if place is None or place.row.record_key == record_key:
                return entry
        entries.append(HoldingEdit(member, study_uid, None, None, list(entries[0].stones)))
        return entries[-1]

    def states(self, entry: HoldingEdit) -> list[State]:
        """The superseded versions, newest first, with those of this transaction."""
        if entry.past is None:
            before = entry.before
            entry.past = self._reader.states(self.tx, [before])[before.row.key] if before is not None else []
        return [*reversed(entry.pushed), *entry.past]

    # --- changing -------------------------------------------------------------------------------------------

    def publish(
        self,
        entry: HoldingEdit,
        record_key: RecordKey,
        publication: Publication,
        digest: str,
        version: Version | None,
        *,
        own_digest: bool = True,
    ) -> None:
        """Make ``publication`` the current version of a study that a node of ours holds (D1).

        What was current becomes past.

        Args:
            entry: The study of the member.
            record_key: Under which patient record; another one than before moves the holding (D2).
            publication: Approved, with its ids.
            digest: Content digest.
            version: Of this act; None for an entry whose ids are not the node's own: it is current until the
                node, which finds it when it compares (D10), replaces it.
            own_digest: Whether ``digest`` is the holder's own; ITI-42 carries none.
        """
        old, newest = entry.now, version_int(version)
        if old is not None and old.row.record_key == record_key:
            entry.pushed.append({**self._reader.state(old), "status": "Deprecated"})
            newest = max(newest, old.row.version)
        flags = 0 if own_digest else OTHER_DIGEST
        revision = self._revision(entry, record_key)
        self._set(entry, record_key, publication, digest, newest, revision, flags=flags)

    def _revision(self, entry: HoldingEdit, record_key: RecordKey) -> int:
        if entry.now is not None and entry.now.row.record_key == record_key:
            return entry.now.row.revision + 1
        return 1 + max(
            (s.revision for s in entry.stones if s.record_hash == record_hash(record_key)), default=0
        )

    # --- a foreign source's entries, each by itself (D1) ----------------------------------------------------

    def add_entry(
        self, entry: HoldingEdit, record_key: RecordKey, publication: Publication, digest: str
    ) -> None:
        """A further entry of a foreign source's study, beside those that are there."""
        text = self._texts.number(record_key, publication.record.patient)
        own = state_of(publication, digest, text, self._secret(entry))
        self._arrange(entry, record_key, [own, *self._all_states(entry)])

    def set_entry_status(self, entry: HoldingEdit, entry_uuid: str, status: Status) -> None:
        """Approve or deprecate one entry; the others stay as they are."""
        old = self._now_of(entry)
        states = with_status(self._all_states(entry), entry_uuid, status)
        self._arrange(entry, old.holding.record_key, states)

    def describe_entry(self, entry: HoldingEdit, publication: Publication) -> None:
        """Say more of one entry (D17)."""
        old, uuid = self._now_of(entry), publication.entry_uuid
        states = self._all_states(entry)
        for index, state in enumerate(states):
            if _uuid(state) == uuid:
                secret = self._secret(entry)
                states[index] = state_of(publication, state["digest"], state["patient"], secret)
        self._arrange(entry, old.holding.record_key, states)

    def remove_entries(self, entry: HoldingEdit, entry_uuids: Collection[str]) -> None:
        """Remove entries from sight; with the last one the holding goes (ITI-62)."""
        old = self._now_of(entry)
        left = [state for state in self._all_states(entry) if _uuid(state) not in entry_uuids]
        if left:
            self._arrange(entry, old.holding.record_key, left)
        else:
            self.withdraw(entry, None)

    def rearrange(self, entry: HoldingEdit) -> None:
        """Write the entries of a study anew, as an earlier release did not."""
        self._arrange(entry, self._now_of(entry).holding.record_key, self._all_states(entry))

    def _all_states(self, entry: HoldingEdit) -> list[State]:
        if entry.now is None:
            return []
        return [self._reader.state(entry.now), *self.states(entry)]

    def _arrange(self, entry: HoldingEdit, record_key: RecordKey, states: list[State]) -> None:
        """Write a study's entries: the row leads with an Approved one and shows what all Approved say."""
        lead, *others = arranged(states)
        texts = self._texts.under(record_key)
        source, secret = self._reader.source(entry.member)
        publications = [
            publication_of(state, texts[state["patient"]], source, secret) for state in (lead, *others)
        ]
        publication, digest = publications[0]
        united = together([publication for publication, _ in publications])
        flags = OTHER_DIGEST
        if publication.status == "Deprecated":
            flags |= DEPRECATED
        if united is not None:
            flags |= UNITED
        revision = self._revision(entry, record_key)
        self._reset(entry, others)
        self._set(entry, record_key, publication, digest, -1, revision, flags=flags, united=united)

    def _secret(self, entry: HoldingEdit) -> bytes:
        return self._reader.source(entry.member)[1]

    def _reset(self, entry: HoldingEdit, states: list[State]) -> None:
        """Write all superseded versions anew."""
        entry.past, entry.pushed = states, []
        entry.dirty = True

    def set_state(self, entry: HoldingEdit, *, deprecated: bool, version: Version | None) -> None:
        """Approve or deprecate the current version (D16)."""
        current = self._now_of(entry)
        row, holding = current.row, current.holding
        newest = max(row.version, version_int(version))
        publication = holding.publication.with_status("Deprecated" if deprecated else "Approved")
        flags = (row.flags & ~DEPRECATED) | (DEPRECATED if deprecated else 0)
        key, revision = holding.record_key, row.revision + 1
        self._set(entry, key, publication, holding.digest, newest, revision, flags=flags)

    def replace_record(self, entry: HoldingEdit, publication: Publication, digest: str = "") -> None:
        """Say more of the current version without a new one (D17).

        Superseded versions stay as they were submitted. ``digest`` is the holder's own, '' where it is still
        not known.
        """
        current = self._now_of(entry)
        row, holding = current.row, current.holding
        self._reset(entry, self.states(entry))
        flags = row.flags & ~OTHER_DIGEST if digest else row.flags
        digest = digest or holding.digest
        key, revision = holding.record_key, row.revision + 1
        self._set(entry, key, publication, digest, row.version, revision, flags=flags)

    def move(
        self, entry: HoldingEdit, record_key: RecordKey, *, with_past: bool, version: Version | None
    ) -> None:
        """Take the holding out from under its patient record before it is published under another (D2).

        Without ``with_past`` (another patient's) nothing of the old chain stays.
        """
        states = self.states(entry) if with_past else []
        old = self._now_of(entry)
        texts = self._reader.patient_texts(self.tx, {old.row.record_key}) if with_past else {}
        self._leave(entry, version)
        if with_past:
            own = {**self._reader.state(old), "status": "Deprecated"}
            moved = []
            for state in (own, *states):
                patient = texts.get((old.row.record_key, state["patient"]), old.holding.record.patient)
                moved.append({**state, "patient": self._texts.number(record_key, patient)})
            self._reset(entry, moved)

    def withdraw(self, entry: HoldingEdit, version: Version | None) -> None:
        """Remove the holding and its past from sight; hashes stay (D16)."""
        if entry.now is None:
            self._bury(entry, 0, version_int(version), 0)
            return
        self._leave(entry, version)

    def _leave(self, entry: HoldingEdit, version: Version | None) -> None:
        old = self._now_of(entry)
        entry.left.append(old)
        newest = max(old.row.version, version_int(version))
        self._bury(entry, record_hash(old.row.record_key), newest, old.row.revision)
        entry.now, entry.past, entry.pushed, entry.names = None, [], [], set()

    def _bury(self, entry: HoldingEdit, under: int, version: int, revision: int) -> None:
        stone = Tombstone(record_hash=under, version=version, revision=revision)
        entry.stones = [s for s in entry.stones if s.record_hash != under] + [stone]
        entry.fresh_stones.append((hash8(entry.study_uid), stone))
        entry.dirty = True

    def reached(self, member: MemberId, version: Version | None) -> None:
        """An act of this version was accepted: the cursor moves (D10)."""
        self._feeds.reached(member, version)

    # --- a row ----------------------------------------------------------------------------------------------

    def _now_of(self, entry: HoldingEdit) -> Loaded:
        if entry.now is None:
            raise StorageError("There is no holding to change.")
        return entry.now

    def _set(
        self,
        entry: HoldingEdit,
        record_key: RecordKey,
        publication: Publication,
        digest: str,
        version: int,
        revision: int,
        *,
        flags: int,
        united: StudyRecord | None = None,
    ) -> None:
        reader, record = self._reader, united if united is not None else publication.record
        secret = reader.source(entry.member)[1]
        act = Version(version >> 24, version & 0xFFFFFF) if version >= 0 else None
        stored = reader.codec.encode(publication, digest, act, secret, united)
        row = HoldingRow(
            record_key=record_key,
            study_hash=hash8(record.study_uid),
            started=started_of(record.time),
            updated=to_ms(self._now),
            version=version,
            revision=revision,
            member_id=int(entry.member),
            modalities=modality_bits(record.modalities),
            patient_n=self._text_of(entry, record_key, publication.record.patient),
            flags=(flags & ~ARRIVING) | (ARRIVING if record.progress == "arriving" else 0),
            body=stored.body,
            extra=stored.extra,
        )
        entry.now = reader.loaded(row, publication, digest, united)
        entry.named = row_names(publication, record, entry.now.holding.fhir_id, stored.ids, secret)
        entry.names |= entry.named.more if names_in_row(self.tx) else entry.named.all()
        entry.dirty = True

    def _text_of(self, entry: HoldingEdit, record_key: int, patient: Patient) -> int:
        """The number of a patient's text; the text that the study already had needs no reading."""
        old = entry.now
        if old is not None and old.row.record_key == record_key and old.holding.record.patient == patient:
            return old.row.patient_n
        return self._texts.number(record_key, patient)

    def note(
        self, objects: Collection[XdsObject], member: MemberId, kind: ObjectChange, *, waits: bool = True
    ) -> None:
        """Note that objects which are no studies were written or removed, by ``member``, which is locked.

        ``waits``: documents that may be manifests are to be read (D17).
        """
        for xds_object in objects:
            key, uuid = xds_object.record_key, xds_object.entry_uuid
            to_read = False
            if waits and kind == "changed" and xds_object.status.endswith("Approved"):
                document = imaging_document(xds_object)
                to_read = document is not None and document.readable and key is not None
            change = Change(kind=kind, member=member, record_key=key, entry_uuid=uuid, waits=to_read)
            self.changes.append(change)

    def flush(self) -> None:
        """Write everything; nothing may be changed afterwards."""
        dirty = [entry for entries in self._entries.values() for entry in entries if entry.dirty]
        settled = self._texts.settle()
        for entry in dirty:
            entry.settle(settled)
        self.changes += [change for entry in dirty if (change := entry.change) is not None]
        Flush(self._reader, self.tx, dirty, to_ms(self._now)).run(
            self._texts.new, self._feeds.rows, self._feeds.cursors, self.changes
        )
        self.described = dict(Counter(RecordKey(key) for key, _, _ in self._texts.new))
        for entry in dirty:
            for former in (entry.before, *entry.left):
                if former is not None:
                    texts = self.touched.setdefault(former.holding.record_key, Texts())
                    texts.went.add(former.holding.publication.record.patient)
            if entry.now is not None:
                texts = self.touched.setdefault(entry.now.holding.record_key, Texts())
                texts.came.add(entry.now.holding.publication.record.patient)


def _uuid(state: State) -> str:
    """The entryUUID of an entry whose ids are stated, as all of a foreign source's are."""
    return str(state["ids"]["entry_uuid"])
