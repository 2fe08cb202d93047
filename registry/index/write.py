"""Work: one transaction's changes of holdings, gathered and written together (D2, D6, D10, D13).

Rules are in ``registry/intake``; here is how a change rests in the tables. A batch reads what it needs once, changes it in
memory, and :meth:`Work.flush` writes it: locators first, then rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crosslight.runtime.db import Tx
from crosslight.standards.census import EMPTY, census_item, combine
from crosslight.standards.ids import MemberId, Version, hash8
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Patient
from crosslight.standards.xds.publication import Publication
from registry.index.codec import fold_ids
from registry.index.model import Change, ChangeKind, RecordKey
from registry.index.past import State, packed, state_of
from registry.index.read import Reader
from registry.index.rows import (
    DEPRECATED,
    HOLDING_COLUMNS,
    HoldingRow,
    Loaded,
    Tombstone,
    accession_hash,
    fhir_hash,
    flags_of,
    locators,
    modality_bits,
    record_hash,
    started_of,
    to_ms,
    version_int,
)

MAX_TEXTS = 30_000  # different patient texts of one record
_SETS = ", ".join(f"{c} = excluded.{c}" for c in HOLDING_COLUMNS if c not in ("record_key", "study_hash", "member_id"))
_UPSERT = (
    f"INSERT INTO holding ({', '.join(HOLDING_COLUMNS)}) VALUES ({', '.join('?' * len(HOLDING_COLUMNS))}) "
    f"ON CONFLICT (record_key, study_hash, member_id) DO UPDATE SET {_SETS} WHERE holding.revision < excluded.revision"
)
_KEY = "record_key = ? AND study_hash = ? AND member_id = ?"


@dataclass(slots=True)
class Entry:
    """One study of one member in this transaction: as it was, and as it is now."""

    member: MemberId
    study_uid: str
    before: Loaded | None
    now: Loaded | None
    stones: list[Tombstone] = field(default_factory=list)
    past: list[State] | None = None  # newest first; None: as in the table
    pushed: list[State] = field(default_factory=list)  # superseded in this transaction, oldest first
    names: set[int] = field(default_factory=set)  # locators to write
    fresh_stones: list[tuple[int, Tombstone]] = field(default_factory=list)
    left: list[Loaded] = field(default_factory=list)  # rows to delete
    dirty: bool = False


class Work:
    """Changes of one transaction."""

    def __init__(self, reader: Reader, tx: Tx, now: datetime) -> None:
        self._reader, self.tx, self._now = reader, tx, now
        self._entries: dict[tuple[MemberId, str], Entry] = {}
        self._texts: dict[int, dict[Patient, int]] = {}
        self._new_texts: list[tuple[int, int, bytes]] = []
        self._cursors: dict[MemberId, int] = {}
        self._feeds: dict[MemberId, tuple[int, int, bytes]] = {}
        self.changes: list[Change] = []

    # --- reading ---------------------------------------------------------------------------------------------------

    def lock(self, members: Iterable[MemberId]) -> None:
        """Make other writers of these members wait; first of all in a transaction."""
        suffix = " FOR UPDATE" if self.tx.engine == "postgres" else ""
        for member in sorted(set(members)):
            sql = f"SELECT cursor_version, studies, census FROM member_feed WHERE member_id = ?{suffix}"
            row = self.tx.row(sql, (int(member),))
            if row is None:
                self.tx.execute(
                    "INSERT INTO member_feed (member_id, cursor_version, studies, census) VALUES (?,?,?,?) "
                    "ON CONFLICT DO NOTHING",
                    (int(member), -1, 0, EMPTY),
                )
                row = self.tx.row(sql, (int(member),))
            assert row is not None  # noqa: S101 - inserted by us or by the one that was first
            self._feeds[member] = (row[0], row[1], bytes(row[2]))
            self._cursors[member] = row[0]

    def prefetch(self, member: MemberId, study_uids: Collection[str]) -> None:
        """Read what ``member`` has of these studies in few statements."""
        wanted = {uid for uid in study_uids if (member, uid) not in self._entries}
        if not wanted:
            return
        current = self._reader.current(self.tx, member, wanted)
        stones = self._reader.tombstones(self.tx, member, wanted)
        for uid in wanted:
            loaded = current.get(uid)
            self._entries[member, uid] = Entry(member, uid, loaded, loaded, stones.get(uid, []))

    def entry(self, member: MemberId, study_uid: str) -> Entry:
        """What ``member`` has of a study, changes of this transaction included."""
        if (member, study_uid) not in self._entries:
            self.prefetch(member, [study_uid])
        return self._entries[member, study_uid]

    def states(self, entry: Entry) -> list[State]:
        """The superseded versions, newest first, with those of this transaction; they may be changed and given back."""
        if entry.past is None:
            before = entry.before
            entry.past = self._reader.states(self.tx, [before])[before.row.key] if before is not None else []
        return [*reversed(entry.pushed), *entry.past]

    # --- changing --------------------------------------------------------------------------------------------------

    def publish(
        self,
        entry: Entry,
        record_key: RecordKey,
        publication: Publication,
        digest: str,
        version: Version | None,
        *,
        siblings: bool = False,
        replaced: str = "",
    ) -> None:
        """Make ``publication`` the current version; what was current becomes past.

        Args:
            entry: The study of the member.
            record_key: Under which patient record; another one than before moves the holding (D2).
            publication: Approved, with its ids.
            digest: Content digest.
            version: Of this act, None for a foreign source's.
            siblings: A foreign source's: former manifests stay Approved unless replaced (D1).
            replaced: The entry UUID that is replaced.
        """
        old = entry.now
        if old is not None and old.row.record_key == record_key:
            state = self._reader.state(old)
            keep = siblings and old.holding.publication.entry_uuid != replaced and old.holding.state == "approved"
            entry.pushed.append({**state, "status": "Approved" if keep else "Deprecated"})
            if siblings:
                self._reset(entry, [self._replaced(s, entry, replaced) for s in self.states(entry)])
            revision = old.row.revision + 1
        else:
            revision = 1 + max((s.revision for s in entry.stones if s.record_hash == record_hash(record_key)), default=0)
        self._set(entry, record_key, publication, digest, version_int(version), revision, deprecated=False)
        self._note("published", entry)

    def _replaced(self, state: State, entry: Entry, replaced: str) -> State:
        ours = replaced and state["ids"].get("entry_uuid") == replaced
        return {**state, "status": "Deprecated"} if ours else state

    def _reset(self, entry: Entry, states: list[State]) -> None:
        """Write all superseded versions anew."""
        entry.past, entry.pushed = states, []
        entry.dirty = True

    def set_state(self, entry: Entry, *, deprecated: bool, version: Version | None) -> None:
        """Approve or deprecate the current version (D16)."""
        old = self._now_of(entry)
        newest = max(old.row.version, version_int(version))
        holding, status = old.holding, "Deprecated" if deprecated else "Approved"
        publication = holding.publication.with_status(status)  # type: ignore[arg-type]
        self._set(entry, holding.record_key, publication, holding.digest, newest, old.row.revision + 1, deprecated=deprecated)
        self._note("availability", entry)

    def replace_record(self, entry: Entry, publication: Publication, digest: str) -> None:
        """Say more of the current version without a new one (D17); superseded versions stay as they were submitted."""
        old = self._now_of(entry)
        self._reset(entry, self.states(entry))
        deprecated = old.holding.state == "deprecated"
        self._set(
            entry, old.holding.record_key, publication, digest, old.row.version, old.row.revision + 1, deprecated=deprecated
        )
        self._note("detail", entry)

    def move(self, entry: Entry, record_key: RecordKey, *, with_past: bool, version: Version | None) -> None:
        """Take the holding out from under its patient record before it is published under another (D2).

        Without ``with_past`` (another patient's) nothing of the old chain stays.
        """
        states = self.states(entry) if with_past else []
        old = self._now_of(entry)
        self._note("withdrawn", entry)
        texts = self._reader.patient_texts(self.tx, {old.row.record_key}) if with_past else {}
        self._leave(entry, version)
        if with_past:
            own = {**self._reader.state(old), "status": "Deprecated"}
            moved = []
            for state in (own, *states):
                patient = texts.get((old.row.record_key, state["patient"]), old.holding.record.patient)
                moved.append({**state, "patient": self._text(record_key, patient)})
            self._reset(entry, moved)

    def withdraw(self, entry: Entry, version: Version | None) -> None:
        """Remove the holding and its past from sight; hashes stay (D16)."""
        if entry.now is None:
            self._bury(entry, 0, version_int(version), 0)
            return
        self._note("withdrawn", entry)
        self._leave(entry, version)

    def _leave(self, entry: Entry, version: Version | None) -> None:
        old = self._now_of(entry)
        entry.left.append(old)
        newest = max(old.row.version, version_int(version))
        self._bury(entry, record_hash(old.row.record_key), newest, old.row.revision)
        entry.now, entry.past, entry.pushed, entry.names = None, [], [], set()

    def _bury(self, entry: Entry, under: int, version: int, revision: int) -> None:
        stone = Tombstone(record_hash=under, version=version, revision=revision)
        entry.stones = [s for s in entry.stones if s.record_hash != under] + [stone]
        entry.fresh_stones.append((hash8(entry.study_uid), stone))
        entry.dirty = True

    def reached(self, member: MemberId, version: Version | None) -> None:
        """An act of this version was accepted: the cursor moves (D10)."""
        self._cursors[member] = max(self._cursors[member], version_int(version))

    # --- a row -----------------------------------------------------------------------------------------------------

    def _now_of(self, entry: Entry) -> Loaded:
        if entry.now is None:
            raise StorageError("There is no holding to change.")
        return entry.now

    def _set(
        self,
        entry: Entry,
        record_key: RecordKey,
        publication: Publication,
        digest: str,
        version: int,
        revision: int,
        *,
        deprecated: bool,
    ) -> None:
        reader, record = self._reader, publication.record
        secret = reader.source(entry.member)[1]
        act = Version(version >> 24, version & 0xFFFFFF) if version >= 0 else None
        stored = reader.codec.encode(publication, digest, act, secret)
        row = HoldingRow(
            record_key=record_key,
            study_hash=hash8(record.study_uid),
            started=started_of(record.time),
            updated=to_ms(self._now),
            version=version,
            revision=revision,
            member_id=int(entry.member),
            modalities=modality_bits(record.modalities),
            patient_n=self._text(record_key, record.patient),
            flags=flags_of(deprecated, record.progress == "arriving"),
            body=stored.body,
            extra=stored.extra,
        )
        entry.now = reader.loaded(row, publication, digest)
        entry.names |= locators(publication, entry.now.holding.fhir_id, stored.ids, secret)
        entry.dirty = True

    def _text(self, record_key: int, patient: Patient) -> int:
        """The number of a patient's text among the record's, new where there is none like it."""
        texts = self._texts.get(record_key)
        if texts is None:
            found = self._reader.patient_texts(self.tx, [record_key])
            texts = self._texts[record_key] = {text: n for (_, n), text in found.items()}
        if patient not in texts:
            texts[patient] = number = max(texts.values(), default=0) + 1
            if number > MAX_TEXTS:
                raise StorageError("One patient record has too many different texts.", todo="Look at what feeds it.")
            self._new_texts.append((record_key, number, self._reader.codec.encode_patient(patient)))
        return texts[patient]

    def _note(self, kind: ChangeKind, entry: Entry) -> None:
        now = self._now_of(entry)
        self.changes.append(
            Change(
                kind=kind,
                member=entry.member,
                record_key=now.holding.record_key,
                study_uid=entry.study_uid,
                revision=now.row.revision,
            )
        )

    # --- writing ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything; nothing may be changed afterwards."""
        entries = [e for e in self._entries.values() if e.dirty]
        self._write_left(entries)
        self._many(
            "INSERT INTO locator (hash, record_key) VALUES (?,?) ON CONFLICT DO NOTHING",
            [(name, e.now.row.record_key) for e in entries if e.now is not None for name in self._new_names(e, e.now)],
        )
        self._many("INSERT INTO patient_text (record_key, n, body) VALUES (?,?,?)", self._new_texts)
        self._many(_UPSERT, [tuple(e.now.row) for e in entries if e.now is not None])
        self._write_past([e for e in entries if e.now is not None])
        self._write_pending([e for e in entries if e.now is not None])
        self._many(
            "INSERT INTO tombstone (study_hash, member_id, record_hash, version, revision, at) VALUES (?,?,?,?,?,?) "
            "ON CONFLICT (study_hash, member_id, record_hash) DO UPDATE SET version = excluded.version, "
            "revision = excluded.revision, at = excluded.at",
            [
                (study, int(e.member), stone.record_hash, stone.version, stone.revision, to_ms(self._now))
                for e in entries
                for study, stone in e.fresh_stones
            ],
        )
        self._write_feeds(entries)

    def _names(self, one: Loaded) -> set[int]:
        publication, secret = one.holding.publication, self._reader.source(one.holding.member)[1]
        return locators(publication, one.holding.fhir_id, fold_ids(publication, secret)[1], secret)

    def _new_names(self, entry: Entry, now: Loaded) -> list[int]:
        before = entry.before
        if before is None or before.row.record_key != now.row.record_key or entry.left:
            return sorted(entry.names)
        return sorted(entry.names - self._names(before))

    def _many(self, sql: str, params: list[Any]) -> None:
        if len(params) == 1:
            self.tx.execute(sql, params[0])
        elif params:
            self.tx.executemany(sql, params)

    def _write_left(self, entries: list[Entry]) -> None:
        """Rows that went: their past, their own names, and their FHIR ids, which are gone now."""
        stored = [
            (e, e.before) for e in entries if e.before is not None and any(one.row.key == e.before.row.key for one in e.left)
        ]
        keys = [before.row.key for _, before in stored]
        for table in ("holding", "past_version", "enrich_pending"):
            self._many(f"DELETE FROM {table} WHERE {_KEY}", keys)
        names = [
            (name, one.row.record_key)
            for e in entries
            for one in e.left
            for name in sorted(self._names(one) - {accession_hash(a.value) for a in one.holding.record.accessions})
        ]
        self._many("DELETE FROM locator WHERE hash = ? AND record_key = ?", names)
        gone = {one.holding.fhir_id for e in entries for one in e.left}
        self._many(
            "INSERT INTO gone (fhir_hash, fhir_id, at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            [(fhir_hash(i), i, to_ms(self._now)) for i in sorted(gone)],
        )
        back = {e.now.holding.fhir_id for e in entries if e.now is not None and e.before is None and e.stones}
        back |= {e.now.holding.fhir_id for e in entries if e.now is not None and e.left}
        self._many("DELETE FROM gone WHERE fhir_hash = ? AND fhir_id = ?", [(fhir_hash(i), i) for i in sorted(back)])

    def _write_past(self, entries: list[Entry]) -> None:
        inserts = []
        for e in entries:
            assert e.now is not None  # noqa: S101 - filtered by the caller
            if e.past is not None and (e.before is None or e.before.row.key == e.now.row.key):
                self.tx.execute(f"DELETE FROM past_version WHERE {_KEY}", e.now.row.key)
            if not e.pushed and not e.past:
                continue
            kept = 0
            if e.past is None and e.pushed and e.before is not None:
                row = self.tx.row(f"SELECT max(seq) FROM past_version WHERE {_KEY}", e.now.row.key)
                kept = int(row[0] or 0) if row else 0
            successor = state_of(e.now.holding.publication, e.now.holding.digest, e.now.row.patient_n, self._secret(e))
            chain = [*reversed(e.pushed), *(e.past or [])]
            for seq, state in zip(range(kept + len(chain), kept, -1), chain, strict=True):
                inserts.append((*e.now.row.key, seq, self._reader.codec.encode_plain(packed(successor, state))))
                successor = state
        self._many("INSERT INTO past_version (record_key, study_hash, member_id, seq, body) VALUES (?,?,?,?,?)", inserts)

    def _secret(self, entry: Entry) -> bytes:
        return self._reader.source(entry.member)[1]

    def _write_pending(self, entries: list[Entry]) -> None:
        waiting, done = [], []
        for e in entries:
            assert e.now is not None  # noqa: S101 - filtered by the caller
            was = e.before is not None and e.before.holding.record.detail == "entry"
            if e.now.holding.record.detail == "entry":
                waiting.append((*e.now.row.key, to_ms(self._now)))
            elif was:
                done.append(e.now.row.key)
        self._many(
            "INSERT INTO enrich_pending (record_key, study_hash, member_id, since) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
            waiting,
        )
        self._many(f"DELETE FROM enrich_pending WHERE {_KEY}", done)

    def _write_feeds(self, entries: list[Entry]) -> None:
        for member, (cursor, studies, census) in self._feeds.items():
            count, total = studies, census
            for e in entries:
                if e.member == member:
                    for one, step in ((e.before, -1), (e.now, 1)):
                        if one is not None and not one.row.flags & DEPRECATED:
                            count, total = count + step, combine(total, census_item(e.study_uid, one.holding.digest))
            if (self._cursors[member], count, total) != (cursor, studies, census):
                self.tx.execute(
                    "UPDATE member_feed SET cursor_version = ?, studies = ?, census = ? WHERE member_id = ?",
                    (self._cursors[member], count, total, int(member)),
                )
