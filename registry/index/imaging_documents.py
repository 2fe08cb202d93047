"""Imaging documents that are stored whole: of which studies they are, and which wait to be read (D17, D19).

They are kept by patient record beside ``xds_object``, so that a question about a patient counts them cheaply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, hash8
from crosslight.standards.xds.model.imaging import ImagingDocument, imaging_of
from crosslight.standards.xds.model.metadata import DocumentEntry, from_plain
from registry.identity.model import RecordKey
from registry.index.model import XdsObject
from registry.index.rows import chunks, marks, member_key, to_ms
from registry.index.statements import OF_DOCUMENTS

_KEY = "record_key = ? AND entry_hash = ? AND entry_uuid = ?"
MOST = 1000  # counted of those whose study nobody knows


@dataclass(frozen=True, slots=True, order=True)
class DocumentKey:
    """A stored document that waits for the Enricher."""

    member: MemberId
    entry_uuid: str


def entry_hash(uuid: str) -> int:
    """Of an entry UUID, in ``xds_object`` and here."""
    return hash8("o" + uuid)


def imaging_document(xds_object: XdsObject) -> ImagingDocument | None:
    """What a stored object says of imaging; None for other documents and other objects."""
    entry = from_plain(xds_object.kind, xds_object.body) if xds_object.kind == "document" else None
    return imaging_of(entry) if isinstance(entry, DocumentEntry) else None


class ImagingDocuments:
    """The table ``imaging_document``, in a caller's transaction."""

    def follow(self, tx: Tx, objects: Iterable[XdsObject], now: datetime) -> None:
        """Objects were written: Approved imaging documents are here, others are not.

        What was read of one stays.
        """
        rows, gone = [], []
        for xds_object in objects:
            said = imaging_document(xds_object)
            if said is None:
                continue
            if xds_object.record_key is None or not xds_object.status.endswith("Approved"):
                gone.append(xds_object)
                continue
            place = (
                int(xds_object.record_key),
                entry_hash(xds_object.entry_uuid),
                xds_object.entry_uuid,
                member_key(xds_object.member),
            )
            rows.append((*place, " ".join(said.studies), int(said.readable), to_ms(now)))
        names = ("record_key", "entry_hash", "entry_uuid", "member_id", "studies", "waits", "since")
        tx.insert_many("imaging_document", names, rows, "ON CONFLICT DO NOTHING")
        self.forget(tx, gone)

    def forget(self, tx: Tx, objects: Iterable[XdsObject]) -> None:
        """Objects were removed or deprecated."""
        for xds_object in objects:
            if xds_object.kind == "document":
                key = (
                    int(xds_object.record_key or 0),
                    entry_hash(xds_object.entry_uuid),
                    xds_object.entry_uuid,
                )
                tx.execute(f"DELETE FROM imaging_document WHERE {_KEY}", key)

    def was_read(self, tx: Tx, xds_object: XdsObject, studies: Sequence[str]) -> None:
        """A document was read, and is of these studies without being the manifest of one."""
        key = (int(xds_object.record_key or 0), entry_hash(xds_object.entry_uuid), xds_object.entry_uuid)
        tx.execute(
            f"UPDATE imaging_document SET studies = ?, waits = 0 WHERE {_KEY}",
            (" ".join(sorted(studies)), *key),
        )

    def waits(self, tx: Tx, xds_object: XdsObject) -> bool:
        """Whether a document waits to be read."""
        key = (int(xds_object.record_key or 0), entry_hash(xds_object.entry_uuid), xds_object.entry_uuid)
        return tx.row(f"SELECT 1 FROM imaging_document WHERE {_KEY} AND waits = 1", key) is not None

    def unread(self, tx: Tx, keys: Collection[RecordKey], known: Collection[int]) -> int:
        """How many documents of these patient records are of other studies than ``known``, or of none.

        ``known`` are hashes of StudyInstanceUIDs.
        """
        count, known_studies = 0, set(known)
        for batch in chunks(keys):
            for (studies,) in tx.rows(OF_DOCUMENTS.format(marks(batch)), batch):
                count += not studies or not known_studies.issuperset(map(hash8, studies.split()))
        return count

    def of_no_study(self, tx: Tx) -> int:
        """How many documents of anybody are of a study that nobody knows; counted up to :data:`MOST`."""
        row = tx.row(
            f"SELECT count(*) FROM (SELECT 1 FROM imaging_document WHERE studies = '' LIMIT {MOST}) AS found"
        )
        return int(row[0]) if row else 0

    def waiting(self, tx: Tx, members: Collection[MemberId], limit: int) -> list[DocumentKey]:
        """Documents of these members that wait to be read, longest waiting first."""
        member_ids = sorted(int(member) for member in members)
        if not member_ids:
            return []
        where = f"waits = 1 AND member_id IN ({marks(member_ids)})"
        sql = (
            f"SELECT member_id, entry_uuid FROM imaging_document WHERE {where} ORDER BY since, entry_uuid"
            " LIMIT ?"
        )
        return [DocumentKey(MemberId(row[0]), row[1]) for row in tx.rows(sql, (*member_ids, limit))]
