"""Flush: what a transaction changed, as few statements, locators before rows (D13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeGuard

from crosslight.runtime.db import Tx
from crosslight.standards.census import Census, census_item
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import StorageError
from registry.identity.model import RecordKey
from registry.index.changes import write_changes
from registry.index.codec import fold_ids
from registry.index.member_feeds import FeedRow
from registry.index.model import Change, ChangeKind
from registry.index.past_versions import State, packed, state_of
from registry.index.read import Reader
from registry.index.rows import (
    DEPRECATED,
    HOLDING_COLUMNS,
    NAME_COLUMNS,
    NO_RECORD,
    Loaded,
    Names,
    Tombstone,
    accession_hash,
    chunks,
    fhir_hash,
    issuer_hash,
    marks,
    names_in_row,
    row_names,
)

_KEY_COLUMNS = ("record_key", "study_hash", "member_id")


def _upsert(columns: tuple[str, ...]) -> str:
    sets = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in _KEY_COLUMNS)
    return (
        f"ON CONFLICT (record_key, study_hash, member_id) DO UPDATE SET {sets} WHERE holding.revision <"
        " excluded.revision"
    )


_NAMED_COLUMNS = (*HOLDING_COLUMNS, *NAME_COLUMNS)
_UPSERT, _NAMED_UPSERT = _upsert(HOLDING_COLUMNS), _upsert(_NAMED_COLUMNS)
_KEY = "record_key = ? AND study_hash = ? AND member_id = ?"


@dataclass(slots=True)
class HoldingEdit:
    """One study of one member in this transaction: as it was, and as it is now."""

    member: MemberId
    study_uid: str
    before: Loaded | None
    now: Loaded | None
    stones: list[Tombstone] = field(default_factory=list)
    past: list[State] | None = None  # newest first; None: as in the table
    pushed: list[State] = field(default_factory=list)  # superseded in this transaction, oldest first
    named: Names | None = None  # of ``now``, where it was set in this transaction
    names: set[int] = field(default_factory=set)  # locators to write
    fresh_stones: list[tuple[int, Tombstone]] = field(default_factory=list)
    left: list[Loaded] = field(default_factory=list)  # rows to delete
    dirty: bool = False

    @property
    def change(self) -> Change | None:
        """What became of it in this transaction; None: it was not there and is not."""
        before, now = self.before, self.now
        if now is None:
            return None if before is None else self._change("withdrawn", before)
        if before is None:
            return self._change("new", now)
        moved = before.row.record_key != now.row.record_key
        return self._change(
            "moved" if moved else "changed", now, before.holding.record_key if moved else None
        )

    def _change(self, kind: ChangeKind, one: Loaded, former: RecordKey | None = None) -> Change:
        return Change(
            kind=kind,
            member=self.member,
            record_key=one.holding.record_key,
            former_key=former,
            study_uid=self.study_uid,
            revision=one.row.revision,
            waits=self.now is not None and _waits(one),
        )

    def settle(self, numbers: dict[int, int]) -> None:
        """Put the numbers of patient texts in the place of stand-ins."""
        if self.now is not None and self.now.row.patient_n in numbers:
            self.now = Loaded(
                self.now.row._replace(patient_n=numbers[self.now.row.patient_n]), self.now.holding
            )
        for states in (self.pushed, self.past or []):
            for i, state in enumerate(states):
                states[i] = {**state, "patient": numbers.get(state["patient"], state["patient"])}


class Flush:
    """Writes the changed entries of one transaction, at ``at`` (Unix milliseconds)."""

    def __init__(self, reader: Reader, tx: Tx, entries: list[HoldingEdit], at: int) -> None:
        self._reader, self._tx, self._entries, self._at = reader, tx, entries, at

    def run(
        self,
        texts: list[Any],
        feeds: dict[MemberId, FeedRow],
        cursors: dict[MemberId, int],
        changes: list[Change],
    ) -> None:
        """Locators first, then rows, then what hangs on them."""
        entries = self._entries
        self._write_left(entries)
        self._tx.insert_many(
            "locator",
            ("hash", "record_key"),
            sorted(
                (name, e.now.row.record_key)
                for e in entries
                if e.now is not None
                for name in self._new_names(e, e.now)
            ),
            "ON CONFLICT DO NOTHING",
        )
        self._note_issuers([e.now for e in entries if e.now is not None])
        self._tx.insert_many("patient_text", ("record_key", "n", "body"), texts)
        self._write_rows([(e, e.now) for e in entries if e.now is not None])
        self._write_past([e for e in entries if e.now is not None])
        self._write_pending([e for e in entries if e.now is not None])
        self._many(
            "INSERT INTO tombstone (study_hash, member_id, record_hash, version, revision, at) VALUES"
            " (?,?,?,?,?,?) ON CONFLICT (study_hash, member_id, record_hash) DO UPDATE SET version ="
            " excluded.version, revision = excluded.revision, at = excluded.at",
            [
                (study, int(e.member), stone.record_hash, stone.version, stone.revision, self._at)
                for e in entries
                for study, stone in e.fresh_stones
            ],
        )
        self._write_feeds(entries, feeds, cursors, changes)

    def _note_issuers(self, loaded: list[Loaded]) -> None:
        """Remember who issues accession numbers here; each is written once, and looked for until it is known
        to be there.
        """
        issuers = {
            issuer_hash(a.authority) for one in loaded for a in one.holding.record.accessions if a.authority
        }
        new = issuers - self._reader.issuers
        if new:
            there = {
                row[0]
                for part in chunks(new)
                for row in self._tx.rows(f"SELECT hash FROM locator WHERE hash IN ({marks(part)})", part)
            }
            self._reader.issuers |= there
            self._tx.insert_many(
                "locator", ("hash", "record_key"), [(name, NO_RECORD) for name in sorted(new - there)]
            )

    def _write_rows(self, entries: list[tuple[HoldingEdit, Loaded]]) -> None:
        rows: list[tuple[Any, ...]] = [now.row for _, now in entries]
        if not names_in_row(self._tx):
            self._tx.insert_many("holding", HOLDING_COLUMNS, rows, _UPSERT)
            return
        named = [e.named or self._names(now) for e, now in entries]
        rows = [(*row, n.tag, n.fhir, n.accession) for row, n in zip(rows, named, strict=True)]
        self._tx.insert_many("holding", _NAMED_COLUMNS, rows, _NAMED_UPSERT)

    def _names(self, one: Loaded) -> Names:
        publication, secret = one.holding.publication, self._reader.source(one.holding.member)[1]
        return row_names(
            publication, one.holding.record, one.holding.fhir_id, fold_ids(publication, secret)[1], secret
        )

    def _new_names(self, entry: HoldingEdit, now: Loaded) -> set[int]:
        before = entry.before
        if not entry.names or before is None or before.row.record_key != now.row.record_key or entry.left:
            return entry.names
        known = self._names(before)
        return entry.names - (known.more if names_in_row(self._tx) else known.all())

    def _many(self, sql: str, params: list[Any]) -> None:
        if len(params) == 1:
            self._tx.execute(sql, params[0])
        elif params:
            self._tx.executemany(sql, params)

    def _write_left(self, entries: list[HoldingEdit]) -> None:
        """Rows that went: their past, their own names, and their FHIR ids, which are gone now."""
        stored = [
            (e, e.before)
            for e in entries
            if e.before is not None and any(one.row.key == e.before.row.key for one in e.left)
        ]
        keys = [before.row.key for _, before in stored]
        for table in ("holding", "past_version", "enrich_pending"):
            self._many(f"DELETE FROM {table} WHERE {_KEY}", keys)
        names = [
            (name, one.row.record_key)
            for e in entries
            for one in e.left
            for name in sorted(
                self._names(one).all() - {accession_hash(a.value) for a in one.holding.record.accessions}
            )
        ]
        self._many("DELETE FROM locator WHERE hash = ? AND record_key = ?", names)
        gone = {one.holding.fhir_id for e in entries for one in e.left}
        self._tx.insert_many(
            "gone",
            ("fhir_hash", "fhir_id", "at"),
            [(fhir_hash(i), i, self._at) for i in sorted(gone)],
            "ON CONFLICT DO NOTHING",
        )
        back = {e.now.holding.fhir_id for e in entries if e.now is not None and e.before is None and e.stones}
        back |= {e.now.holding.fhir_id for e in entries if e.now is not None and e.left}
        self._many(
            "DELETE FROM gone WHERE fhir_hash = ? AND fhir_id = ?", [(fhir_hash(i), i) for i in sorted(back)]
        )

    def _write_past(self, entries: list[HoldingEdit]) -> None:
        inserts = []
        for e in entries:
            assert e.now is not None  # noqa: S101 - filtered by the caller
            if e.past is not None and (e.before is None or e.before.row.key == e.now.row.key):
                self._tx.execute(f"DELETE FROM past_version WHERE {_KEY}", e.now.row.key)
            if not e.pushed and not e.past:
                continue
            kept = 0
            if e.past is None and e.pushed and e.before is not None:
                row = self._tx.row(f"SELECT max(seq) FROM past_version WHERE {_KEY}", e.now.row.key)
                kept = int(row[0] or 0) if row else 0
            successor = state_of(
                e.now.holding.publication, e.now.holding.digest, e.now.row.patient_n, self._secret(e)
            )
            chain = [*reversed(e.pushed), *(e.past or [])]
            for seq, state in zip(range(kept + len(chain), kept, -1), chain, strict=True):
                inserts.append(
                    (*e.now.row.key, seq, self._reader.codec.encode_plain(packed(successor, state)))
                )
                successor = state
        self._tx.insert_many("past_version", (*_KEY_COLUMNS, "seq", "body"), inserts)

    def _secret(self, entry: HoldingEdit) -> bytes:
        return self._reader.source(entry.member)[1]

    def _write_pending(self, entries: list[HoldingEdit]) -> None:
        waiting, done = [], []
        for e in entries:
            assert e.now is not None  # noqa: S101 - filtered by the caller
            was = e.before is not None and _waits(e.before)
            if _waits(e.now):
                waiting.append((*e.now.row.key, self._at))
            elif was:
                done.append(e.now.row.key)
        self._tx.insert_many("enrich_pending", (*_KEY_COLUMNS, "since"), waiting, "ON CONFLICT DO NOTHING")
        self._many(f"DELETE FROM enrich_pending WHERE {_KEY}", done)

    def _write_feeds(
        self,
        entries: list[HoldingEdit],
        feeds: dict[MemberId, FeedRow],
        cursors: dict[MemberId, int],
        changes: list[Change],
    ) -> None:
        """Cursors, censuses and the changes themselves, under the locks of their members."""
        changed = []
        by_member: dict[MemberId, list[HoldingEdit]] = {}
        for e in entries:
            by_member.setdefault(e.member, []).append(e)
        last = {member: feed.changes for member, feed in feeds.items()}
        numbered = []
        for change in changes:
            if change.member is None or change.member not in last:
                raise StorageError("A change of a member that this transaction has not locked.")
            last[change.member] += 1
            numbered.append((int(change.member), last[change.member], change))
        write_changes(self._tx, numbered, self._at)
        for member, feed in feeds.items():
            counted = Census(feed.studies, feed.census)
            for e in by_member.get(member, ()):
                if _counts(e.before):
                    counted = counted.without_item(_item(e.before))
                if _counts(e.now):
                    counted = counted.with_item(_item(e.now))
            now = FeedRow(cursors[member], counted.studies, counted.digest, last[member])
            if now != feed:
                changed.append((int(member), *now))
        columns = ("cursor_version", "studies", "census", "changes")
        self._tx.update_many("member_feed", ("member_id",), columns, sorted(changed))


def _counts(one: Loaded | None) -> TypeGuard[Loaded]:
    return one is not None and not one.row.flags & DEPRECATED


def _item(one: Loaded) -> bytes:
    return census_item(one.holding.study_uid, one.holding.publication.manifest.sha1)


def _waits(one: Loaded) -> bool:
    """Whether it knows only its entry (D17)."""
    return one.holding.record.detail == "entry"
