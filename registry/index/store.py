"""IndexStore: THE index on SQLite or PostgreSQL (D1, D5, D6, D13).

``read`` (``read.py``) and ``objects`` (``xds_objects.py``) work in a caller's transaction; changes go through
``write.Work``, by ``registry/intake/accept.py`` alone. The async methods here open transactions of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.census import Census, census_item
from crosslight.standards.ids import Identifier, MemberId, Version, hash8
from crosslight.standards.problem import Invalid
from registry.identity.model import RecordChange, RecordKey
from registry.index.changes import ChangeFeed, note_persons
from registry.index.imaging_documents import DocumentKey
from registry.index.leases import Leases
from registry.index.model import Holding, HoldingKey, XdsObject
from registry.index.owners import EntryOwners
from registry.index.read import Reader
from registry.index.rows import DEPRECATED, Loaded, chunks, marks, to_ms, version_of
from registry.index.sizes import sizes
from registry.index.upgrade import upgrade
from registry.index.write import Work
from registry.index.xds_objects import Objects
from registry.members.model import Directory

PACKAGE = "registry.index"
SCHEMA = SchemaVersion("index", schema=7, compat=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStudy:
    """What Compare needs of a holding (D10)."""

    study_uid: str
    version: Version | None  # of what is current
    newest: Version | None  # of the newest act on it, which may be a change of availability
    digest: str  # of the content
    sha1: str  # of the manifest, hex: what a census counts
    approved: bool
    patient: Identifier  # as submitted


class IndexStore:
    """The tables of the index. ``incarnation`` and ``region_key`` are known after :meth:`open`."""

    def __init__(self, db: Db, directory: Directory, clock: Clock, ids: Ids) -> None:
        self._db, self._clock, self._ids = db, clock, ids
        self.read = Reader(directory)
        self.objects = Objects(self.read.codec)
        self.owners = EntryOwners()
        self.changes = ChangeFeed(db)
        self.leases = Leases(db, clock)
        self.incarnation = ""

    @property
    def region_key(self) -> bytes:
        """What makes FHIR ids (D12): authoritative, never changes (D8)."""
        return self.read.region_key

    async def open(self) -> None:
        """Create or upgrade the tables; make the region's key and the incarnation where there are none."""
        await migrate(self._db, PACKAGE, SCHEMA)

        def meta(tx: Tx) -> dict[str, str]:
            for name, value in (
                ("region_key", self._ids.token_bytes(32).hex()),
                ("incarnation", str(self._ids.uuid4())),
            ):
                tx.execute(
                    "INSERT INTO registry_meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (name, value),
                )
            return {row[0]: row[1] for row in tx.rows("SELECT name, value FROM registry_meta")}

        stored = await self._db.write("index_meta", meta)
        self.read.region_key, self.incarnation = bytes.fromhex(stored["region_key"]), stored["incarnation"]
        await self._db.write(
            "index_upgrade", lambda tx: upgrade(tx, self.read, self.objects, self._clock.now())
        )

    async def new_incarnation(self) -> str:
        """After a restore: nodes then compare, and send again what was lost (D8)."""
        fresh = str(self._ids.uuid4())
        sql = "UPDATE registry_meta SET value = ? WHERE name = 'incarnation'"
        await self._db.write("index_incarnation", lambda tx: tx.execute(sql, (fresh,)))
        self.incarnation = fresh
        return fresh

    def moved(self, tx: Tx, records: Collection[RecordKey], kind: RecordChange, now: datetime) -> None:
        """Studies under these records, another patient's or shown to others now, count as changed ``now``.

        ``described``: only what is said of the patient is other than it was; the feed tells, the studies stay
        as they are.
        """
        note_persons(tx, records, kind, now)
        for batch in chunks(records if kind != "described" else ()):
            tx.execute(
                f"UPDATE holding SET updated = ? WHERE record_key IN ({marks(batch)}) AND updated < ?",
                (to_ms(now), *batch, to_ms(now)),
            )

    def work(self, tx: Tx, now: datetime) -> Work:
        """Changes within a transaction."""
        return Work(self.read, tx, now)

    # --- a member's feed ------------------------------------------------------------------------------------

    async def cursor(self, member: MemberId) -> Version | None:
        """The newest version of ``member`` that was acknowledged (D10)."""
        sql = "SELECT cursor_version FROM member_feed WHERE member_id = ?"
        row = await self._db.read("index_cursor", lambda tx: tx.row(sql, (int(member),)))
        return version_of(row[0]) if row else None

    async def census(self, member: MemberId) -> Census:
        """Approved holdings of ``member``; kept up to date in its row, so this is one small read."""
        sql = "SELECT studies, census FROM member_feed WHERE member_id = ?"
        row = await self._db.read("index_census", lambda tx: tx.row(sql, (int(member),)))
        if row is None:
            return Census()
        studies, digest = row
        return Census(studies=studies, digest=bytes(digest))

    async def counted(self, member: MemberId) -> Census:
        """The census counted anew from the rows: slow, for checks."""
        census, cursor = Census(), ""
        while True:
            page, cursor = await self.held_after(member, cursor, 1000)
            for study in page:
                if study.approved:
                    census = census.with_item(census_item(study.study_uid, study.sha1))
            if not cursor:
                return census

    async def held(self, member: MemberId, study_uids: Collection[str]) -> dict[str, HeldStudy]:
        """What is held of these studies, for Compare."""
        holdings = await self._db.read("index_held", lambda tx: self.read.current(tx, member, study_uids))
        return {uid: _held(loaded) for uid, loaded in holdings.items()}

    async def held_after(self, member: MemberId, cursor: str, limit: int) -> tuple[list[HeldStudy], str]:
        """A page of all that ``member`` holds, in no order of meaning; '' starts, '' ends.

        Raises:
            Invalid: for a cursor that is none of ours.
        """
        try:
            record, study = map(int, cursor.split(".")) if cursor else (0, -(1 << 63))
        except ValueError:
            raise Invalid("This is no cursor.", where="cursor") from None
        page = await self._db.read(
            "index_held_after", lambda tx: self.read.of_member(tx, member, (record, study), limit)
        )
        next_cursor = f"{page[-1].row.record_key}.{page[-1].row.study_hash}" if len(page) == limit else ""
        return [_held(loaded) for loaded in page], next_cursor

    # --- holdings -------------------------------------------------------------------------------------------

    async def holding(self, key: HoldingKey) -> Holding | None:
        """One holding, deprecated ones too, with its past."""

        def read(tx: Tx) -> Holding | None:
            where = "h.record_key = ? AND h.study_hash = ? AND h.member_id = ?"
            candidates = self.read.select(
                tx, where, (int(key.record_key), hash8(key.study_uid), int(key.member))
            )
            candidates = [loaded for loaded in candidates if loaded.holding.study_uid == key.study_uid]
            return self.read.with_past(tx, candidates)[0] if candidates else None

        return await self._db.read("index_holding", read)

    async def unenriched(self, members: Collection[MemberId], limit: int) -> list[HoldingKey]:
        """Holdings of detail ``entry`` that wait for the Enricher (D17), longest waiting first.

        They are of these ``members``.

        Deprecated ones are left out.
        """

        def read(tx: Tx) -> list[HoldingKey]:
            waiting = [
                (*row, int(member))
                for member in sorted(members)
                for row in self._unenriched(tx, member, limit)
            ]
            codec, longest = self.read.codec, sorted(waiting, key=lambda row: row[:2])[:limit]
            return [
                HoldingKey(RecordKey(key), codec.study_uid(bytes(body)), MemberId(member))
                for _, key, _, body, member in longest
            ]

        return await self._db.read("index_unenriched", read)

    @staticmethod
    def _unenriched(tx: Tx, member: MemberId, limit: int) -> list[Row]:
        """(since, record key, study hash, body) of one member's, read by turn and no further than needed."""
        sql = (
            "SELECT e.since, e.record_key, e.study_hash, h.body, h.flags FROM (SELECT since, record_key,"
            " study_hash, member_id FROM enrich_pending WHERE member_id = ? AND (since, record_key,"
            " study_hash) > (?, ?, ?) ORDER BY since, record_key, study_hash LIMIT ?) e LEFT JOIN holding h"
            " ON h.record_key = e.record_key AND h.study_hash = e.study_hash AND h.member_id = e.member_id"
            " ORDER BY e.since, e.record_key, e.study_hash"
        )
        waiting: list[Row] = []
        after: tuple[int, ...] = (-1, 0, 0)
        more = True
        while more and len(waiting) < limit:
            page = tx.rows(sql, (int(member), *after, limit))
            waiting += [row[:4] for row in page if row[4] is not None and not row[4] & DEPRECATED]
            more = len(page) == limit
            after = page[-1][:3] if page else after
        return waiting[:limit]

    async def unread_documents(self, members: Collection[MemberId], limit: int) -> list[DocumentKey]:
        """Documents that may be manifests and wait to be read (D17), longest waiting first."""
        waiting = self.objects.imaging.waiting
        return await self._db.read("index_unread", lambda tx: waiting(tx, members, limit))

    async def document(self, key: DocumentKey) -> XdsObject | None:
        """A stored document that waits to be read; None where it does not any more."""

        def read(tx: Tx) -> XdsObject | None:
            return self.objects.waiting(tx, key)

        return await self._db.read("index_document", read)

    async def sizes(self) -> dict[str, float]:
        """Bytes on disk per study, by what they are for (D5): see ``sizes.py``."""
        return await self._db.read("index_sizes", sizes)


def _held(loaded: Loaded) -> HeldStudy:
    publication = loaded.holding.publication
    return HeldStudy(
        study_uid=loaded.holding.study_uid,
        version=publication.version,
        newest=loaded.version,
        digest=loaded.holding.digest,
        sha1=publication.manifest.sha1,
        approved=not loaded.row.flags & DEPRECATED,
        patient=publication.record.patient.local,
    )
