"""IdentityStore: patient records, the persons they make up, and their affinity-domain ids (D2-D4).

The ``_tx`` methods run inside a caller's transaction (the index commits a study and its patient together);
the async ones open their own. Errors name no patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import NotFound
from crosslight.standards.region import Region
from crosslight.standards.study import Patient
from registry.identity import merge_requests, merges
from registry.identity import officer_queue as queue
from registry.identity.batch import FeedBatch, Kind
from registry.identity.cases import LinkEvent, RecordDecision
from registry.identity.compare import Comparison
from registry.identity.config import IdentityRules
from registry.identity.model import PatientRecord, PersonKey, RecordKey, Texts
from registry.identity.queries import CxTarget
from registry.identity.rows import from_micros, to_micros
from registry.identity.tables import HeadersOf, IdentityTables, Moved, lock_writers

SCHEMA = SchemaVersion("identity", schema=5, compat=3)


class IdentityStore(IdentityTables):
    """The tables of identity, in the same database as the index."""

    def __init__(
        self,
        db: Db,
        region: Region,
        ids: Ids,
        rules: IdentityRules | None = None,
        headers: HeadersOf | None = None,
        moved: Moved | None = None,
    ) -> None:
        super().__init__(region, ids, rules, headers, moved)
        self._db = db

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.identity", SCHEMA)
        sql = "SELECT 1 FROM identity_meta WHERE name = 'holders' AND value = 'settled'"
        self.settled = await self._db.read("identity_meta", lambda tx: tx.row(sql)) is not None

    # --- feeding --------------------------------------------------------------------------------------------

    def batch(self, tx: Tx, now: datetime) -> FeedBatch:
        """The one road of feeds and headers: patients in ``tx``, one or many."""
        return FeedBatch(self, tx, now)

    def feed_tx(
        self,
        tx: Tx,
        patient: Patient,
        member: MemberId | None,
        now: datetime,
        *,
        kind: Kind = "feed",
        **how: Any,
    ) -> RecordKey:
        """A batch of one; see :meth:`FeedBatch.feed`."""
        batch = self.batch(tx, now)
        batch.prefetch([patient])
        key = batch.feed(patient, member, kind=kind, **how)
        batch.settle()
        return key

    def compare_tx(
        self, tx: Tx, described: Mapping[RecordKey, int], touched: Mapping[RecordKey, Texts], now: datetime
    ) -> None:
        """Look at the headers of studies that were written outside a batch; see :meth:`FeedBatch.compare`."""
        self.batch(tx, now).compare(described, touched)

    def touch_tx(self, tx: Tx, key: RecordKey, started: datetime | None) -> None:
        """A study of this record that began at ``started`` was published.

        The banner follows the newest (D3).
        """
        if started is not None:
            self.touch_all(tx, [(int(key), to_micros(started))])

    # --- who holds numbers ----------------------------------------------------------------------------------

    async def settle_holders(self) -> None:
        """From now on whoever holds a number goes on holding it: every member has filled the index once."""
        sql = (
            "INSERT INTO identity_meta (name, value) VALUES ('holders', 'settled') ON CONFLICT (name) DO"
            " NOTHING"
        )
        await self._db.write("identity_settle", lambda tx: tx.execute(sql))
        self.settled = True

    # --- merges, decisions, history -------------------------------------------------------------------------

    def merge_tx(
        self, tx: Tx, survivor: Identifier, subsumed: Identifier, now: datetime, *, who: str = "A40"
    ) -> None:
        """A40: ``subsumed`` is from now on ``survivor`` (ITI TF-2 3.8.4.2). Nothing changes when it raises.

        Raises:
            Invalid: the same id twice, or one that is already subsumed.
            NotFound: an id that is not known or not current here.
        """
        merges.merge(
            tx, self, self.normal(survivor), self.normal(subsumed), to_micros(now), who, self.new_decision()
        )

    def unmerge_tx(self, tx: Tx, subsumed: Identifier, now: datetime, *, who: str, why: str) -> None:
        """Undo a merge that was a mistake (D2); the wire has no such message, an identity officer does it.

        Raises:
            NotFound: if that id is not subsumed.
        """
        merges.unmerge(tx, self, self.normal(subsumed), to_micros(now), who, why)

    def decide_tx(
        self, tx: Tx, record: RecordKey, other: RecordKey | None, now: datetime, *, who: str, why: str
    ) -> str:
        """A person's decision on a record, or on a part of one that is in doubt.

        With ``other``: they are the same human being. Without: a part is another person than its record, and
        a record stands alone and holds no number that another claims.

        Returns:
            The decision's id, with which :meth:`end_decision_tx` takes it back.

        Raises:
            NotFound: if a record is unknown.
            Invalid: one record twice.
        """
        decision = self.new_decision()
        merges.decide(tx, self, decision, record, other, to_micros(now), who, why)
        return decision

    def end_decision_tx(self, tx: Tx, decision: str, now: datetime, *, who: str, why: str) -> None:
        """Take a decision back.

        Records are linked as if it had never been, and what was in doubt is so again.

        Raises:
            NotFound: if there is no such decision in force.
        """
        record = merges.end_decision(tx, self, decision, to_micros(now), who, why)
        decided = self.record_tx(tx, RecordKey(record))
        if decided is not None and decided.part_of is not None:
            Comparison(self, tx, to_micros(now), who).run([decided.part_of])

    def history_tx(self, tx: Tx, record: RecordKey) -> list[LinkEvent]:
        """Every move of ``record`` between persons, oldest first."""
        return [
            LinkEvent(
                record_key=record,
                from_person=PersonKey(r[0]),
                to_person=PersonKey(r[1]),
                disputed=bool(r[2]),
                at=from_micros(r[3]),
                who=r[4],
                why=r[5],
            )
            for r in tx.rows(
                "SELECT from_person, to_person, disputed, at, who, why FROM person_link WHERE record_key = ?"
                " ORDER BY n",
                (record,),
            )
        ]

    async def waiting(self, limit: int = 200) -> list[PatientRecord]:
        """The queue for an identity officer: disputed records that nobody set apart, parts in doubt.

        The latest changed first.
        """
        records = await self._db.read("identity_waiting", queue.waiting)
        return [s.record for s in sorted(records, key=lambda s: (-s.updated, s.record.key))[:limit]]

    async def waiting_count(self) -> int:
        """How many there are that nobody has decided on, merges that sources asked for among them."""
        return await self._db.read(
            "identity_waiting_count", lambda tx: queue.count(tx) + merge_requests.count(tx)
        )

    async def decisions(self, limit: int = 200) -> list[RecordDecision]:
        """What people, feeds and merges decided, in force and ended, newest first."""
        return await self._db.read("identity_decisions", lambda tx: queue.decisions(tx, limit))

    async def decide(
        self, record: RecordKey, other: RecordKey | None, now: datetime, *, who: str, why: str
    ) -> str:
        """:meth:`decide_tx` in a transaction of its own."""
        return await self._db.write(
            "identity_decide", lambda tx: self.decide_tx(tx, record, other, now, who=who, why=why)
        )

    async def end_decision(self, decision: str, now: datetime, *, who: str, why: str) -> None:
        """:meth:`end_decision_tx` in a transaction of its own."""
        await self._db.write(
            "identity_end", lambda tx: self.end_decision_tx(tx, decision, now, who=who, why=why)
        )

    async def unmerge(self, subsumed: Identifier, now: datetime, *, who: str, why: str) -> None:
        """:meth:`unmerge_tx` in a transaction of its own."""
        await self._db.write(
            "identity_unmerge", lambda tx: self.unmerge_tx(tx, subsumed, now, who=who, why=why)
        )

    async def history(self, record: RecordKey) -> list[LinkEvent]:
        """:meth:`history_tx` in a transaction of its own."""
        return await self._db.read("identity_history", lambda tx: self.history_tx(tx, record))

    async def feed(self, patient: Patient, member: MemberId | None, now: datetime, **how: Any) -> RecordKey:
        """:meth:`feed_tx` in a transaction of its own; committed when it returns."""
        return (await self.feed_all([(patient, member)], now, **how))[0]

    async def feed_all(
        self, patients: Sequence[tuple[Patient, MemberId | None]], now: datetime, **how: Any
    ) -> list[RecordKey]:
        """Several records in one transaction: all, or none."""

        def fed(tx: Tx) -> list[RecordKey]:
            lock_writers(tx)
            batch = self.batch(tx, now)
            batch.prefetch(patient for patient, _ in patients)
            keys = [batch.feed(patient, member, **{"kind": "feed", **how}) for patient, member in patients]
            batch.settle()
            return keys

        return await self._db.write("identity_feed", fed)

    async def merge(
        self, survivor: Identifier, subsumed: Identifier, now: datetime, *, who: str = "A40"
    ) -> None:
        """:meth:`merge_tx` in a transaction of its own."""

        def merged(tx: Tx) -> None:
            lock_writers(tx)
            self.merge_tx(tx, survivor, subsumed, now, who=who)

        await self._db.write("identity_merge", merged)

    async def ask_merge(
        self,
        survivor: Identifier,
        subsumed: Identifier,
        now: datetime,
        *,
        member: MemberId | None,
        source: str,
        who: str,
    ) -> bool:
        """:func:`merge_requests.ask` in a transaction of its own: whether they are one person now."""

        def asked(tx: Tx) -> bool:
            lock_writers(tx)
            pair = survivor, subsumed
            at = to_micros(now)
            return merge_requests.ask(tx, self, pair, member=member, source=source, at=at, who=who)

        return await self._db.write("identity_ask_merge", asked)

    async def find_cx(self, cx: Identifier) -> CxTarget | None:
        """:meth:`find_cx_tx` in a transaction of its own."""
        return await self._db.read("identity_find", lambda tx: self.find_cx_tx(tx, cx))


__all__ = ["CxTarget", "IdentityStore", "LinkEvent", "NotFound"]
