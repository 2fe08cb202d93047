"""What asking a holder taught (D17): more of a study, that a document is its manifest, that an entry is none.

ITI-18 answers the same before and after: an entry is kept as it was registered, wherever it rests (D6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.dicom.record.kos import Manifest
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds.mapping.views import objects_of, publication_from_submission
from crosslight.standards.xds.model.metadata import DocumentEntry, RegistryObject, from_plain
from crosslight.standards.xds.model.publication import Publication
from registry.identity.store import IdentityStore
from registry.index.imaging_documents import DocumentKey
from registry.index.model import Change, HoldingKey, XdsObject
from registry.index.rows import Loaded
from registry.index.store import IndexStore
from registry.intake.checks import check_publication, with_detail
from registry.intake.manifest_records import manifest_record, studies_of
from registry.intake.registered_objects import xds_object
from registry.members.model import Member


class Lesson:
    """What was learned, in a caller's transaction; each method says what changed, if it was not too late.

    Args:
        tx: The transaction.
        index, identity: Stores in it.
        now: The time of the change.
    """

    def __init__(self, tx: Tx, index: IndexStore, identity: IdentityStore, now: datetime) -> None:
        self._tx = tx
        self._index = index
        self._identity = identity
        self._now = now
        self._work = index.work(tx, now)

    def update_detail(
        self, key: HoldingKey, record: StudyRecord, entry_uuid: str, digest: str, *, foreign: bool
    ) -> list[Change]:
        """More is known of a holding; ``foreign``: its entries stand by themselves (D1)."""
        self._work.lock([key.member])
        entry = self._work.entry_under(key.member, key.study_uid, key.record_key)
        if entry.now is None or entry.now.holding.record_key != key.record_key:
            return []
        publication = self._current(entry.now, entry_uuid)
        if publication is None:
            return []
        if foreign:
            self._work.describe_entry(entry, with_detail(publication, record))
        else:
            self._work.replace_record(entry, with_detail(publication, record), digest)
        return self._flushed()

    def document_read(
        self, key: DocumentKey, member: Member, manifest: Manifest, region: Region
    ) -> list[Change]:
        """A document that named no study was read: a foreign source's manifest of one study is its entry.

        Anything else stays a document, and of which studies it is is known from then on.
        """
        tx, objects, work = self._tx, self._index.objects, self._work
        work.lock([member.id])
        stored = objects.waiting(tx, key)
        entry = from_plain("document", stored.body) if stored is not None else None
        if stored is None or stored.record_key is None or not isinstance(entry, DocumentEntry):
            return []
        studies = studies_of(manifest)
        if manifest.role != "manifest" or len(studies) != 1 or member.status != "foreign":
            objects.imaging.was_read(tx, stored, studies)
            work.note([stored], member.id, "changed", waits=False)
            return self._flushed()
        publication = publication_from_submission(
            entry, source=member.source, zone=region.zone, study_uid=studies[0]
        )
        publication = with_detail(publication, manifest_record(publication.record, manifest))
        check_publication(publication, None, member)
        objects.remove(tx, [stored])
        work.note([stored], member.id, "withdrawn")
        edit = work.entry_under(member.id, studies[0], stored.record_key)
        work.add_entry(edit, stored.record_key, publication, entry.hash.lower())
        return self._flushed()

    def no_manifest(self, key: HoldingKey, entry_uuid: str, studies: Sequence[str]) -> list[Change]:
        """An entry taken for a study's manifest is another Key Object Selection: a document, and no study."""
        work, objects = self._work, self._index.objects
        work.lock([key.member])
        edit = work.entry_under(key.member, key.study_uid, key.record_key)
        publication = self._current(edit.now, entry_uuid) if edit.now is not None else None
        if publication is None:
            return []
        stored = [
            _stored(metadata, key)
            for metadata in objects_of(publication, publication.record.patient.local.cx())
        ]
        work.remove_entries(edit, {entry_uuid})
        work.note(stored, key.member, "changed", waits=False)
        changes = self._flushed()
        objects.put(self._tx, stored, self._now)
        for document in stored:
            if document.kind == "document":
                objects.imaging.was_read(self._tx, document, studies)
        return changes

    def _current(self, loaded: Loaded, entry_uuid: str) -> Publication | None:
        """Which of a holding's current entries is meant, '' the one that leads; None: it is not current."""
        (holding,) = self._index.read.with_past(self._tx, [loaded])
        current = (holding.publication, *holding.siblings)
        return next(
            (
                publication
                for publication in current
                if publication.entry_uuid == entry_uuid or not entry_uuid
            ),
            None,
        )

    def _flushed(self) -> list[Change]:
        self._work.flush()
        self._identity.compare_tx(self._tx, self._work.described, self._work.touched, self._now)
        return self._work.changes


def _stored(metadata: RegistryObject, key: HoldingKey) -> XdsObject:
    return replace(xds_object(metadata, key.record_key), member=key.member)
