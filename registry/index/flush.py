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

    def _change(self, kind: ChangeKind, loaded: Loaded, former: RecordKey | None = None) -> Change:
        return Change(
            kind=kind,
            member=self.member,
            record_key=loaded.holding.record_key,
            former_key=former,
            study_uid=self.study_uid,
            revision=loaded.row.revision,
            waits=self.now is not None and _waits(loaded),
        )

    def settle(self, numbers: dict[int, int]) -> None:
        """Put the numbers of patient texts in the place of stand-ins."""
        if self.now is not None and self.now.row.patient_n in numbers:
            self.now = Loaded(
                self.now.row._replace(patient_n=numbers[self.now.row.patient_n]), self.now.holding
            )
        for states in (self.pushed, self.past or []):
            for index, state in enumerate(states):
                states[index] = {**state, "patient": numbers.get(state["patient"], state["patient"])}


class Flush:
    """Writes the changed entries of one transaction, at ``at`` (Unix milliseconds)."""

    def __init__(self, reader: Reader, tx: Tx, entries: list[HoldingEdit], at: int) -> None:
        self._reader = reader
        self._tx = tx
        self._entries = entries
        self._at = at

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
                (name, edit.now.row.record_key)
                for edit in entries
                if edit.now is not None
                for name in self._new_names(edit, edit.now)
            ),
            "ON CONFLICT DO NOTHING",
        )
        self._note_issuers([edit.now for edit in entries if edit.now is not None])
        self._tx.insert_many("patient_text", ("record_key", "n", "body"), texts)
        self._write_rows([(edit, edit.now) for edit in entries if edit.now is not None])
        self._write_past([edit for edit in entries if edit.now is not None])
        self._write_pending([edit for edit in entries if edit.now is not None])
        self._many(
            "INSERT INTO tombstone (study_hash, member_id, record_hash, version, revision, at) VALUES"
            " (?,?,?,?,?,?) ON CONFLICT (study_hash, member_id, record_hash) DO UPDATE SET version ="
            " excluded.version, revision = excluded.revision, at = excluded.at",
            [
                (study, int(edit.member), stone.record_hash, stone.version, stone.revision, self._at)
                for edit in entries
                for study, stone in edit.fresh_stones
            ],
        )
        self._write_feeds(entries, feeds, cursors, changes)

    def _note_issuers(self, loaded: list[Loaded]) -> None:
        """Remember who issues accession numbers here.

        Each is written once, and looked for until it is known to be there.
        """
        issuers = {
            issuer_hash(a.authority)
            for holding_row in loaded
            for a in holding_row.holding.record.accessions
            if a.authority
        }
        new = issuers - self._reader.issuers
        if new:
            stored = {
                row[0]
                for batch in chunks(new)
                for row in self._tx.rows(f"SELECT hash FROM locator WHERE hash IN ({marks(batch)})", batch)
            }
            self._reader.issuers |= stored
            self._tx.insert_many(
                "locator", ("hash", "record_key"), [(name, NO_RECORD) for name in sorted(new - stored)]
            )

    def _write_rows(self, entries: list[tuple[HoldingEdit, Loaded]]) -> None:
        rows: list[tuple[Any, ...]] = [now.row for _, now in entries]
        if not names_in_row(self._tx):
            self._tx.insert_many("holding", HOLDING_COLUMNS, rows, _UPSERT)
            return
        named = [edit.named or self._names(now) for edit, now in entries]
        rows = [
            (*row, names.tag, names.fhir, names.accession) for row, names in zip(rows, named, strict=True)
        ]
        self._tx.insert_many("holding", _NAMED_COLUMNS, rows, _NAMED_UPSERT)

    def _names(self, loaded: Loaded) -> Names:
        publication, secret = loaded.holding.publication, self._reader.source(loaded.holding.member)[1]
        return row_names(
            publication,
            loaded.holding.record,
            loaded.holding.fhir_id,
            fold_ids(publication, secret)[1],
            secret,
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
            (edit, edit.before)
            for edit in entries
            if edit.before is not None and any(loaded.row.key == edit.before.row.key for loaded in edit.left)
        ]
        keys = [before.row.key for _, before in stored]
        for table in ("holding", "past_version", "enrich_pending"):
            self._many(f"DELETE FROM {table} WHERE {_KEY}", keys)
        names = [
            (name, loaded.row.record_key)
            for edit in entries
            for loaded in edit.left
            for name in sorted(
                self._names(loaded).all()
                - {accession_hash(a.value) for a in loaded.holding.record.accessions}
            )
        ]
        self._many("DELETE FROM locator WHERE hash = ? AND record_key = ?", names)
        left_ids = {loaded.holding.fhir_id for edit in entries for loaded in edit.left}
        self._tx.insert_many(
            "gone",
            ("fhir_hash", "fhir_id", "at"),
            [(fhir_hash(i), i, self._at) for i in sorted(left_ids)],
            "ON CONFLICT DO NOTHING",
        )
        returned = {
            edit.now.holding.fhir_id
            for edit in entries
            if edit.now is not None and edit.before is None and edit.stones
        }
        returned |= {edit.now.holding.fhir_id for edit in entries if edit.now is not None and edit.left}
        self._many(
            "DELETE FROM gone WHERE fhir_hash = ? AND fhir_id = ?",
            [(fhir_hash(i), i) for i in sorted(returned)],
        )

    def _write_past(self, entries: list[HoldingEdit]) -> None:
        inserts = []
        for edit in entries:
            assert edit.now is not None  # noqa: S101 - filtered by the caller
            if edit.past is not None and (edit.before is None or edit.before.row.key == edit.now.row.key):
                self._tx.execute(f"DELETE FROM past_version WHERE {_KEY}", edit.now.row.key)
            if not edit.pushed and not edit.past:
                continue
            kept = 0
            if edit.past is None and edit.pushed and edit.before is not None:
                row = self._tx.row(f"SELECT max(seq) FROM past_version WHERE {_KEY}", edit.now.row.key)
                kept = int(row[0] or 0) if row else 0
            successor = state_of(
                edit.now.holding.publication,
                edit.now.holding.digest,
                edit.now.row.patient_n,
                self._secret(edit),
            )
            superseded = [*reversed(edit.pushed), *(edit.past or [])]
            for seq, state in zip(range(kept + len(superseded), kept, -1), superseded, strict=True):
                inserts.append(
                    (*edit.now.row.key, seq, self._reader.codec.encode_plain(packed(successor, state)))
                )
                successor = state
        self._tx.insert_many("past_version", (*_KEY_COLUMNS, "seq", "body"), inserts)

    def _secret(self, entry: HoldingEdit) -> bytes:
        return self._reader.source(entry.member)[1]

    def _write_pending(self, entries: list[HoldingEdit]) -> None:
        waiting, done = [], []
        for edit in entries:
            assert edit.now is not None  # noqa: S101 - filtered by the caller
            waited = edit.before is not None and _waits(edit.before)
            if _waits(edit.now):
                waiting.append((*edit.now.row.key, self._at))
            elif waited:
                done.append(edit.now.row.key)
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
        for edit in entries:
            by_member.setdefault(edit.member, []).append(edit)
        last_numbers = {member: feed.changes for member, feed in feeds.items()}
        numbered = []
        for change in changes:
            if change.member is None or change.member not in last_numbers:
                raise StorageError("A change of a member that this transaction has not locked.")
            last_numbers[change.member] += 1
            numbered.append((int(change.member), last_numbers[change.member], change))
        write_changes(self._tx, numbered, self._at)
        for member, feed in feeds.items():
            census = Census(feed.studies, feed.census)
            for edit in by_member.get(member, ()):
                if _counts(edit.before):
                    census = census.without_item(_item(edit.before))
                if _counts(edit.now):
                    census = census.with_item(_item(edit.now))
            new_feed = FeedRow(cursors[member], census.studies, census.digest, last_numbers[member])
            if new_feed != feed:
                changed.append((int(member), *new_feed))
        columns = ("cursor_version", "studies", "census", "changes")
        self._tx.update_many("member_feed", ("member_id",), columns, sorted(changed))


def _counts(loaded: Loaded | None) -> TypeGuard[Loaded]:
    return loaded is not None and not loaded.row.flags & DEPRECATED


def _item(loaded: Loaded) -> bytes:
    return census_item(loaded.holding.study_uid, loaded.holding.publication.manifest.sha1)


def _waits(loaded: Loaded) -> bool:
    """Whether it knows only its entry (D17)."""
    return loaded.holding.record.detail == "entry"
