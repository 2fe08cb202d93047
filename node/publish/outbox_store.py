"""OutboxStore: what one destination wants, may have been sent, and has acknowledged (D15)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from crosslight.runtime.db import Db, Row, Tx
from crosslight.standards.census import Census, census_item, take_census
from crosslight.standards.ids import Identifier, Version
from node.publish import rows
from node.publish.decide import next_act
from node.publish.model import Acked, Act, Job, Parked, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRow:
    """What is known of a destination."""

    incarnation: str
    acked_epoch: int
    acked_n: int
    filling: bool
    reconcile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What to write of one job. ``truth`` is set where ``acked`` says what is there now; ``keep`` leaves the act in flight."""

    study_uid: str
    truth: bool
    acked: Acked | None = None
    keep: bool = False
    attempts: int = 0
    next_unix: float = 0.0
    parked_code: str = ""
    parked_why: str = ""
    acknowledged: Version | None = None  # of the act, for the cursor (D10)
    anew: bool = False


class OutboxStore:
    """The outbox of one destination. The census of what it acknowledged is kept in memory and counted at :meth:`open`."""

    def __init__(self, db: Db, destination: str) -> None:
        self.db, self._d = db, destination
        self.census = Census()
        self._counting = asyncio.Lock()  # the census follows one write at a time

    async def open(self) -> None:
        """Count the census. The tables are made by ``PublishStore.open``."""

        def read(tx: Tx) -> list[Row]:
            return tx.rows("SELECT study_uid, sha1 FROM publish_acked WHERE destination = ? AND status = 'Approved'", (self._d,))

        self.census = take_census((row[0], row[1]) for row in await self.db.read("outbox_census", read))

    async def destination(self) -> DestinationRow:
        """What is known of the destination."""

        def read(tx: Tx) -> DestinationRow:
            row = tx.row(
                "SELECT incarnation, acked_epoch, acked_n, filling, reconcile FROM publish_destination WHERE destination = ?",
                (self._d,),
            ) or ("", 0, 0, 1, "")
            return DestinationRow(incarnation=row[0], acked_epoch=row[1], acked_n=row[2], filling=bool(row[3]), reconcile=row[4])

        return await self.db.read("outbox_destination", read)

    async def set_incarnation(self, incarnation: str) -> None:
        """The registry that acknowledges from now on."""
        await self._set("incarnation = ?", incarnation)

    async def owe_reconciliation(self, why: str) -> None:
        """A comparison is owed; it survives a restart."""
        await self._set("reconcile = ?, filling = 1", why)

    async def filled(self) -> None:
        """All that was to be filled or compared is acknowledged."""
        await self._set("filling = 0")

    async def _set(self, what: str, *values: object) -> None:
        sql = f"UPDATE publish_destination SET {what} WHERE destination = ?"
        await self.db.write("outbox_set", lambda tx: tx.execute(sql, (*values, self._d)))

    # --- taking and settling ----------------------------------------------------------------------------------------

    async def take(self, now_unix: float, limit: int, *, busy: frozenset[str] = frozenset()) -> list[Job]:
        """Jobs that are due, in the order of their versions, each noted as in flight before anything is sent.

        Args:
            now_unix: Rows to be tried later are left.
            limit: Most jobs.
            busy: Studies already being worked on.
        """
        return await self.db.write("outbox_take", lambda tx: self._take(tx, now_unix, limit, busy))

    def _take(self, tx: Tx, now_unix: float, limit: int, busy: frozenset[str]) -> list[Job]:
        due = tx.rows(
            f"SELECT study_uid, attempts, {rows.WANT}, {rows.SENT} FROM publish_intent "
            "WHERE destination = ? AND parked_code = '' AND next_unix <= ? ORDER BY epoch, n LIMIT ?",
            (self._d, now_unix, limit + len(busy)),
        )
        jobs: list[Job] = []
        for study_uid, attempts, *columns in due:
            if study_uid in busy or len(jobs) >= limit:
                continue
            want, sent = rows.want_of(tuple(columns[:5])), rows.sent_of(tuple(columns[5:]))
            acked = self._acked(tx, study_uid)
            act = sent or next_act(want, acked)
            if act is None:
                self._delete(tx, study_uid)
                continue
            revision = self._revision(tx, act)
            if act.kind in ("fresh", "replace") and (revision is None or revision.record is None):
                # Its revision was dropped: make another.
                self._in_flight(tx, study_uid, None)
                self._force(tx, study_uid)
                continue
            if sent is None:
                self._in_flight(tx, study_uid, act)
                tx.execute("UPDATE publish_revision SET sent = 1 WHERE epoch = ? AND n = ?", (act.version.epoch, act.version.n))
            jobs.append(
                Job(study_uid=study_uid, act=act, acked=acked, unsettled=sent is not None, attempts=attempts, revision=revision)
            )
        return jobs

    def _revision(self, tx: Tx, act: Act) -> Revision | None:
        if act.kind not in ("fresh", "replace"):
            return None
        row = tx.row(
            f"SELECT {rows.REVISION} FROM publish_revision WHERE epoch = ? AND n = ?", (act.version.epoch, act.version.n)
        )
        return rows.revision_of(row) if row else None

    def _in_flight(self, tx: Tx, study_uid: str, act: Act | None) -> None:
        tx.execute(
            "UPDATE publish_intent SET sent = ?, sent_epoch = ?, sent_n = ?, sent_replaces = ? "
            "WHERE destination = ? AND study_uid = ?",
            (*rows.sent_values(act), self._d, study_uid),
        )

    def _delete(self, tx: Tx, study_uid: str) -> None:
        tx.execute("DELETE FROM publish_intent WHERE destination = ? AND study_uid = ?", (self._d, study_uid))

    def _force(self, tx: Tx, study_uid: str) -> None:
        tx.execute("UPDATE publish_study SET forced = 1 WHERE study_uid = ?", (study_uid,))

    def _acked(self, tx: Tx, study_uid: str) -> Acked | None:
        row = tx.row(f"SELECT {rows.ACKED} FROM publish_acked WHERE destination = ? AND study_uid = ?", (self._d, study_uid))
        return rows.acked_of(row) if row else None

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Write what became of jobs, all in one transaction."""

        def write(tx: Tx) -> Census:
            census = self.census
            for one in settled:
                if one.truth:
                    census = self._put_acked(tx, one.study_uid, one.acked, census)
                if one.acknowledged is not None:
                    self._advance(tx, one.acknowledged)
                if not one.keep:
                    self._in_flight(tx, one.study_uid, None)
                tx.execute(
                    "UPDATE publish_intent SET attempts = ?, next_unix = ?, parked_code = ?, parked_why = ?, parked_unix = ? "
                    "WHERE destination = ? AND study_uid = ?",
                    (
                        one.attempts, one.next_unix, one.parked_code, one.parked_why, one.next_unix, self._d, one.study_uid,
                    ),
                )  # fmt: skip
                if one.anew:
                    self._force(tx, one.study_uid)
                elif not one.keep and not one.parked_code:
                    self._drop_when_done(tx, one.study_uid)
            return census

        if settled:
            async with self._counting:
                self.census = await self.db.write("outbox_settle", write)

    def _drop_when_done(self, tx: Tx, study_uid: str) -> None:
        row = tx.row(f"SELECT {rows.WANT} FROM publish_intent WHERE destination = ? AND study_uid = ?", (self._d, study_uid))
        if row is not None and next_act(rows.want_of(row), self._acked(tx, study_uid)) is None:
            self._delete(tx, study_uid)

    def _advance(self, tx: Tx, version: Version) -> None:
        tx.execute(
            "UPDATE publish_destination SET acked_epoch = ?, acked_n = ? WHERE destination = ? "
            "AND (acked_epoch < ? OR (acked_epoch = ? AND acked_n < ?))",
            (version.epoch, version.n, self._d, version.epoch, version.epoch, version.n),
        )

    def _put_acked(self, tx: Tx, study_uid: str, acked: Acked | None, census: Census) -> Census:
        before = self._acked(tx, study_uid)
        if before is not None and before.status == "Approved":
            census = census.without_item(census_item(study_uid, before.sha1))
        if acked is None:
            tx.execute("DELETE FROM publish_acked WHERE destination = ? AND study_uid = ?", (self._d, study_uid))
            self._forget_chain(tx, study_uid, before)
            return census
        date_row = tx.row("SELECT record FROM publish_revision WHERE epoch = ? AND n = ?", (acked.version.epoch, acked.version.n))
        known = tx.row("SELECT study_date FROM publish_acked WHERE destination = ? AND study_uid = ?", (self._d, study_uid))
        date = _date_of(date_row) or (known[0] if known else "")
        marks = ",".join("?" * 10)
        tx.execute(
            f"INSERT OR REPLACE INTO publish_acked (destination, study_uid, {rows.ACKED}, study_date) VALUES ({marks})",
            (self._d, study_uid, *rows.acked_values(acked), date),
        )
        # The record of a superseded revision can no longer be needed; its manifest can.
        tx.execute(
            "UPDATE publish_revision SET record = NULL WHERE study_uid = ? AND sent = 1 AND record IS NOT NULL "
            "AND (epoch < ? OR (epoch = ? AND n < ?))",
            (study_uid, acked.version.epoch, acked.version.epoch, acked.version.n),
        )
        if acked.status == "Approved":
            census = census.with_item(census_item(study_uid, acked.sha1))
        return census

    def _forget_chain(self, tx: Tx, study_uid: str, before: Acked | None) -> None:
        """A withdrawn chain can no longer be asked for; its manifests go, unless another destination still has one."""
        if before is None or tx.row("SELECT 1 FROM publish_acked WHERE study_uid = ?", (study_uid,)) is not None:
            return
        for version in before.chain:
            tx.execute(
                "DELETE FROM publish_revision WHERE epoch = ? AND n = ? AND study_uid = ? AND NOT EXISTS (SELECT 1 FROM "
                "publish_intent i WHERE i.study_uid = publish_revision.study_uid AND ((i.epoch = publish_revision.epoch AND "
                "i.n = publish_revision.n) OR (i.sent_epoch = publish_revision.epoch AND i.sent_n = publish_revision.n)))",
                (version.epoch, version.n, study_uid),
            )

    # --- comparing --------------------------------------------------------------------------------------------------

    async def held_after(self, after: str, limit: int) -> list[tuple[str, Acked]]:
        """A page of what was acknowledged, in the order of study UIDs."""

        def read(tx: Tx) -> list[tuple[str, Acked]]:
            found = tx.rows(
                f"SELECT study_uid, {rows.ACKED} FROM publish_acked WHERE destination = ? AND study_uid > ? "
                "ORDER BY study_uid LIMIT ?",
                (self._d, after, limit),
            )
            return [(row[0], rows.acked_of(row[1:])) for row in found]

        return await self.db.read("outbox_held_after", read)

    async def acked(self, study_uid: str) -> Acked | None:
        """What was acknowledged of one study."""
        return await self.db.read("outbox_acked", lambda tx: self._acked(tx, study_uid))

    async def learnt(self, differing: dict[str, Acked | None], *, all_compared: bool) -> None:
        """Write what a comparison found, and have all of these studies published again.

        Args:
            differing: What the destination has of each study that differs (None: nothing).
            all_compared: It was the whole comparison: nothing is in flight any more, and none is owed.
        """

        def write(tx: Tx) -> Census:
            census = self.census
            for study_uid, acked in differing.items():
                census = self._put_acked(tx, study_uid, self._with_known(tx, study_uid, acked), census)
                self._in_flight(tx, study_uid, None)
                self._force(tx, study_uid)
                tx.execute(
                    "INSERT OR IGNORE INTO publish_study (study_uid, state, epoch, n, digest, progress, patient, seen_change, "
                    "forced) VALUES (?, 'deleted', 0, 0, '', 'complete', ?, 0, 1)",
                    (study_uid, rows.identifier_text(acked.patient if acked else Identifier(""))),
                )
            if all_compared:
                tx.execute("UPDATE publish_intent SET sent = '', attempts = 0, next_unix = 0 WHERE destination = ?", (self._d,))
                tx.execute("UPDATE publish_destination SET reconcile = '' WHERE destination = ?", (self._d,))
            return census

        async with self._counting:
            self.census = await self.db.write("outbox_learnt", write)

    def _with_known(self, tx: Tx, study_uid: str, acked: Acked | None) -> Acked | None:
        """What the other side has, with what we remember of its chain."""
        if acked is None:
            return None
        before = self._acked(tx, study_uid)
        if before is None:
            return acked
        chain = tuple(dict.fromkeys((*(v for v in before.chain if v < acked.version), *acked.chain)))
        return replace(acked, chain=chain, patient=acked.patient if acked.patient.value else before.patient)

    # --- for people -------------------------------------------------------------------------------------------------

    async def counts(self, scheduled: Iterable[str] = ()) -> tuple[int, int, str]:
        """(waiting, parked, oldest study date acknowledged as approved), as of one moment.

        Args:
            scheduled: Studies that wait for a revision: those that have no intent yet are waiting too.
        """
        asked = list(scheduled)

        def read(tx: Tx) -> tuple[int, int, str]:
            counted = tx.row(
                "SELECT count(*), coalesce(sum(parked_code <> ''), 0) FROM publish_intent WHERE destination = ?", (self._d,)
            ) or (0, 0)
            oldest = tx.row(
                "SELECT study_date FROM publish_acked WHERE destination = ? AND study_date <> '' ORDER BY study_date LIMIT 1",
                (self._d,),
            )
            unrevised = len(asked) - self._counted_elsewhere(tx, asked) + self._forced(tx)
            return counted[0] - counted[1] + unrevised, counted[1], oldest[0] if oldest else ""

        return await self.db.read("outbox_counts", read)

    async def unlisted(
        self, scheduled: Iterable[str], limit: int
    ) -> tuple[dict[str, set[Identifier]], dict[str, set[Identifier]]]:
        """Studies that wait, and studies refused for good, each with the patients under whom it was and is to be published.

        Withdrawn studies (for safety, or sealed) are left out.

        Args:
            scheduled: Studies that wait for a revision.
            limit: Most of each.
        """
        asked = list(scheduled)[:limit]
        known = (
            "FROM publish_intent i LEFT JOIN publish_study s ON s.study_uid = i.study_uid "
            "LEFT JOIN publish_acked a ON a.destination = i.destination AND a.study_uid = i.study_uid "
            "WHERE i.destination = ? AND coalesce(s.state, '') <> 'withdrawn' AND i.want <> 'withdraw'"
        )

        def read(tx: Tx) -> tuple[dict[str, set[Identifier]], dict[str, set[Identifier]]]:
            sql = f"SELECT i.study_uid, i.patient, s.patient, a.patient {known} AND i.parked_code {{}} '' LIMIT ?"
            waiting, refused = (_patients(tx.rows(sql.format(sign), (self._d, limit))) for sign in ("=", "<>"))
            forced = tx.rows(
                "SELECT study_uid, patient FROM publish_study WHERE forced = 1 AND state <> 'withdrawn' LIMIT ?", (limit,)
            )
            for study_uid, whose in _patients(forced).items():
                waiting.setdefault(study_uid, set()).update(whose)
            for study_uid in asked:
                row = tx.row("SELECT state, patient FROM publish_study WHERE study_uid = ?", (study_uid,))
                if row is None or row[0] != "withdrawn":
                    waiting.setdefault(study_uid, set()).update(_patients([(study_uid, row[1] if row else None)])[study_uid])
            return waiting, refused

        return await self.db.read("outbox_unlisted", read)

    def _forced(self, tx: Tx) -> int:
        """Studies to be published again, as a comparison found, that have no intent yet."""
        sql = (
            "SELECT count(*) FROM publish_study s WHERE s.forced = 1 AND NOT EXISTS "
            "(SELECT 1 FROM publish_intent i WHERE i.destination = ? AND i.study_uid = s.study_uid)"
        )
        return int((tx.row(sql, (self._d,)) or (0,))[0])

    def _counted_elsewhere(self, tx: Tx, study_uids: Sequence[str]) -> int:
        """How many of these have an intent, or are to be published again."""
        found = 0
        for start in range(0, len(study_uids), 400):
            part = study_uids[start : start + 400]
            marks = ",".join("?" * len(part))
            sql = (
                f"SELECT study_uid FROM publish_intent WHERE destination = ? AND study_uid IN ({marks}) "
                f"UNION SELECT study_uid FROM publish_study WHERE forced = 1 AND study_uid IN ({marks})"
            )
            found += len(tx.rows(sql, (self._d, *part, *part)))
        return found

    async def next_unix(self) -> float | None:
        """When the next job is due; None when nothing waits."""

        def read(tx: Tx) -> float | None:
            row = tx.row("SELECT min(next_unix) FROM publish_intent WHERE destination = ? AND parked_code = ''", (self._d,))
            return row[0] if row else None

        return await self.db.read("outbox_next", read)

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Intents that need an operator."""

        def read(tx: Tx) -> list[Parked]:
            found = tx.rows(
                "SELECT study_uid, parked_code, parked_why, parked_unix FROM publish_intent "
                "WHERE destination = ? AND parked_code <> '' ORDER BY parked_unix LIMIT ?",
                (self._d, limit),
            )
            return [Parked(study_uid=r[0], code=r[1], why=r[2], since_unix=r[3]) for r in found]

        return await self.db.read("outbox_parked", read)

    async def held_back(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Studies that the destination answered for and that wait all the same: (study UID, why)."""
        sql = (
            "SELECT study_uid, parked_why FROM publish_intent "
            "WHERE destination = ? AND parked_code = '' AND parked_why <> '' ORDER BY epoch, n LIMIT ?"
        )
        return await self.db.read("outbox_held_back", lambda tx: [(r[0], r[1]) for r in tx.rows(sql, (self._d, limit))])

    async def unpark(self, study_uid: str = "") -> int:
        """Try parked intents again: one study's, or all."""
        return await self.db.write(
            "outbox_unpark",
            lambda tx: tx.execute(
                "UPDATE publish_intent SET parked_code = '', parked_why = '', attempts = 0, next_unix = 0 "
                "WHERE destination = ? AND parked_code <> '' AND (? = '' OR study_uid = ?)",
                (self._d, study_uid, study_uid),
            ),
        )

    # --- patients fed (ITI-8) -----------------------------------------------------------------------------------------

    async def fed(self, patient: Identifier) -> str:
        """The digest of the demographics that the destination has, '' = never fed."""

        def read(tx: Tx) -> str:
            row = tx.row(
                "SELECT digest FROM publish_fed WHERE destination = ? AND authority = ? AND value = ?",
                (self._d, patient.authority, patient.value),
            )
            return row[0] if row else ""

        return await self.db.read("outbox_fed", read)

    async def set_fed(self, patient: Identifier, digest: str) -> None:
        """The destination has these demographics; '' = it has forgotten the patient."""
        await self.db.write(
            "outbox_set_fed",
            lambda tx: tx.execute(
                "INSERT OR REPLACE INTO publish_fed VALUES (?,?,?,?)", (self._d, patient.authority, patient.value, digest)
            ),
        )


def _patients(found: Iterable[Row]) -> dict[str, set[Identifier]]:
    """Rows of a study UID and patients (JSON, or None) as the patients of each study."""
    known = [(row[0], {rows.identifier_of(text) for text in row[1:] if text}) for row in found]
    return {study_uid: {patient for patient in whose if patient.value} for study_uid, whose in known}


def _date_of(row: Row | None) -> str:
    if row is None or row[0] is None:
        return ""
    date = str(orjson.loads(rows.unpack(row[0])).get("time", {}).get("date", "")).replace(".", "").replace("-", "")
    return date if len(date) == 8 and date.isdecimal() else ""
