"""XDS objects that are no studies, stored whole (D6).

They are found by entry UUID, unique id, link or patient record.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, hash8
from registry.identity.model import RecordKey
from registry.index.codec import Codec
from registry.index.imaging_documents import DocumentKey, ImagingDocuments, entry_hash
from registry.index.model import XdsObject
from registry.index.rows import chunks, marks, member_key, to_ms
from registry.index.statements import objects_where


def _names(xds_object: XdsObject) -> set[int]:
    names = {entry_hash(xds_object.entry_uuid)} | {_link(uuid) for uuid in xds_object.links}
    return names | {_unique(xds_object.unique_id)} if xds_object.unique_id else names


def _unique(uid: str) -> int:
    return hash8("q" + uid)


def _link(uuid: str) -> int:
    return hash8("l" + uuid)


class Objects:
    """The tables ``xds_object`` and ``xds_locator``, in a caller's transaction."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.imaging = ImagingDocuments()

    def put(self, tx: Tx, objects: Sequence[XdsObject], now: datetime) -> None:
        """Insert objects, or replace them under the same patient record."""
        located, stored = [], []
        for xds_object in objects:
            key, entry = int(xds_object.record_key or 0), entry_hash(xds_object.entry_uuid)
            located += [(name, key, entry) for name in _names(xds_object)]
            body = self._codec.encode_plain([xds_object.body, list(xds_object.links)])
            stored.append(
                (
                    key,
                    entry,
                    xds_object.kind,
                    xds_object.entry_uuid,
                    xds_object.unique_id,
                    xds_object.logical_id,
                    xds_object.status,
                    member_key(xds_object.member),
                    to_ms(now),
                    body,
                )
            )
        tx.executemany(
            "INSERT INTO xds_locator (hash, record_key, entry_hash) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            located,
        )
        tx.executemany(
            "INSERT INTO xds_object (record_key, entry_hash, kind, entry_uuid, unique_id, logical_id, status,"
            " member_id, updated, body) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (record_key, entry_hash,"
            " entry_uuid) DO UPDATE SET unique_id = excluded.unique_id, logical_id = excluded.logical_id,"
            " status = excluded.status, updated = excluded.updated, body = excluded.body",
            stored,
        )
        self.imaging.follow(tx, objects, now)

    def follow_all(self, tx: Tx, now: datetime) -> None:
        """Every stored document is looked at for imaging, as when it was written."""
        after = (-(1 << 63), -(1 << 63), "")
        while True:
            where = "kind = 'document' AND (record_key, entry_hash, entry_uuid) > (?, ?, ?)"
            page = self._select(tx, where, after, "record_key, entry_hash, entry_uuid LIMIT 500")
            self.imaging.follow(tx, page, now)
            if len(page) < 500:
                return
            last = page[-1]
            after = (int(last.record_key or 0), entry_hash(last.entry_uuid), last.entry_uuid)

    def by_uuids(self, tx: Tx, uuids: Collection[str]) -> list[XdsObject]:
        """The objects of these entry UUIDs."""
        wanted = set(uuids)
        return [
            xds_object
            for xds_object in self._located(tx, {entry_hash(u) for u in wanted})
            if xds_object.entry_uuid in wanted
        ]

    def named(self, tx: Tx, uuids: Collection[str], unique_ids: Collection[str]) -> list[XdsObject]:
        """The objects that have one of these entry UUIDs or unique ids."""
        entries, uniques = set(uuids), set(unique_ids)
        located = self._located(tx, {entry_hash(u) for u in entries} | {_unique(u) for u in uniques})
        return [
            xds_object
            for xds_object in located
            if xds_object.entry_uuid in entries or (xds_object.unique_id and xds_object.unique_id in uniques)
        ]

    def by_unique_ids(self, tx: Tx, unique_ids: Collection[str]) -> list[XdsObject]:
        """The objects of these unique ids."""
        wanted = set(unique_ids)
        return [
            xds_object
            for xds_object in self._located(tx, {_unique(u) for u in wanted})
            if xds_object.unique_id in wanted
        ]

    def linking(self, tx: Tx, uuids: Collection[str]) -> list[XdsObject]:
        """The associations that have one of these as an end."""
        wanted = set(uuids)
        return [
            xds_object
            for xds_object in self._located(tx, {_link(u) for u in wanted})
            if wanted & set(xds_object.links)
        ]

    def waiting(self, tx: Tx, key: DocumentKey) -> XdsObject | None:
        """A document that waits to be read; None where it does not, any more."""
        of_member = [
            xds_object
            for xds_object in self.by_uuids(tx, [key.entry_uuid])
            if xds_object.member == key.member
        ]
        return of_member[0] if of_member and self.imaging.waits(tx, of_member[0]) else None

    def by_records(self, tx: Tx, keys: Collection[RecordKey]) -> list[XdsObject]:
        """Every object of these patient records."""
        objects: list[XdsObject] = []
        for chunk in chunks(keys):
            objects += self._select(tx, f"record_key IN ({marks(chunk)})", chunk)
        return objects

    def marks(self, tx: Tx, keys: Collection[RecordKey]) -> list[tuple[int, int, str, int]]:
        """(record, hash, status, when updated) of every object of these patient records.

        What changes when they do.
        """
        states: list[tuple[int, int, str, int]] = []
        for chunk in chunks(keys):
            sql = (
                "SELECT record_key, entry_hash, status, updated FROM xds_object WHERE record_key IN"
                f" ({marks(chunk)})"
            )
            states += [
                (int(record), int(entry), str(status), int(updated))
                for record, entry, status, updated in tx.rows(sql, chunk)
            ]
        return sorted(states)

    def _located(self, tx: Tx, hashes: Collection[int]) -> list[XdsObject]:
        places: set[tuple[int, int]] = set()
        for chunk in chunks(hashes):
            sql = f"SELECT record_key, entry_hash FROM xds_locator WHERE hash IN ({marks(chunk)})"
            places |= {(row[0], row[1]) for row in tx.rows(sql, chunk)}
        objects: list[XdsObject] = []
        for records in chunks({key for key, _ in places}):
            for entries in chunks({entry for key, entry in places if key in set(records)}):
                where = f"record_key IN ({marks(records)}) AND entry_hash IN ({marks(entries)})"
                objects += self._select(tx, where, [*records, *entries])
        return objects

    def _select(
        self, tx: Tx, where: str, params: Sequence[Any], order: str = "record_key, entry_uuid"
    ) -> list[XdsObject]:
        objects = []
        rows = tx.rows(objects_where(where, order), params)
        tx.weigh(len(rows))
        for row in tx.steps(rows):
            key, kind, entry_uuid, unique_id, logical_id, status, member, blob = row
            body, links = self._codec.decode_plain(bytes(blob))
            objects.append(
                XdsObject(
                    kind=kind,
                    entry_uuid=entry_uuid,
                    unique_id=unique_id,
                    record_key=RecordKey(key) if key else None,
                    status=status,
                    body=body,
                    member=MemberId(member) if member else None,
                    logical_id=logical_id,
                    links=tuple(links),
                )
            )
        return objects

    def set_status(self, tx: Tx, objects: Collection[XdsObject], status: str, now: datetime) -> None:
        """Approve or deprecate; the metadata in ``body`` is left as it was submitted."""
        self.put(tx, [replace(xds_object, status=status) for xds_object in objects], now)

    def remove(self, tx: Tx, objects: Collection[XdsObject]) -> None:
        """Remove objects and every name of theirs."""
        for xds_object in objects:
            key, entry = int(xds_object.record_key or 0), entry_hash(xds_object.entry_uuid)
            tx.execute(
                "DELETE FROM xds_locator WHERE record_key = ? AND entry_hash = ? AND hash IN "
                f"({marks(sorted(_names(xds_object)))})",
                [key, entry, *sorted(_names(xds_object))],
            )
            tx.execute(
                "DELETE FROM xds_object WHERE record_key = ? AND entry_hash = ? AND entry_uuid = ?",
                (key, entry, xds_object.entry_uuid),
            )
        self.imaging.forget(tx, objects)
