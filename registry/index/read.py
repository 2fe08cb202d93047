"""Reading holdings in a caller's transaction: by patient record, by name, by population.

A locator says where to look; what is found is verified against what was asked (D13). How a row becomes a
holding is in ``holding_rows.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, hash8
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Patient
from registry.identity.model import RecordKey
from registry.index.codec import publication_ids
from registry.index.holding_rows import HoldingRows
from registry.index.model import Holding
from registry.index.population_window import Place, Window, narrowed, order_by, stretch
from registry.index.rows import (
    DEPRECATED,
    NAME_COLUMNS,
    NO_RECORD,
    Loaded,
    Tombstone,
    accession_hash,
    chunks,
    fhir_hash,
    issuer_hash,
    marks,
    name_hash,
    names_in_row,
)
from registry.index.statements import EVERY_UNDER, HELD, UNDER

MEMBER_BUCKET = "(h.record_key >> 51)"  # of the index holding_member


class Reader(HoldingRows):
    """Finds holdings: by patient record, by name, by population."""

    # --- by patient record ----------------------------------------------------------------------------------

    def by_records(self, tx: Tx, keys: Collection[RecordKey], *, deprecated: bool) -> list[Loaded]:
        """All holdings under these patient records."""
        holdings: list[Loaded] = []
        for batch in chunks(keys):
            holdings += self.select(tx, (EVERY_UNDER if deprecated else UNDER).format(marks(batch)), batch)
        return holdings

    def some_of(
        self, tx: Tx, keys: Collection[RecordKey], w: Window, studies: Collection[int] = ()
    ) -> list[Loaded]:
        """Those approved holdings under these patient records that a window's bounds do not rule out.

        Args:
            studies: Of these studies alone (hashes of their UIDs); none given: of any.
        """
        bounds, bound_params = narrowed(w, "started", "updated")
        holdings: list[Loaded] = []
        for batch in chunks(keys):
            for study_hashes in chunks(studies) if studies else [()]:
                of = [f"h.study_hash IN ({marks(study_hashes)})"] if study_hashes else []
                where = [f"h.record_key IN ({marks(batch)})", *of, *bounds]
                holdings += self.select(tx, " AND ".join(where), [*batch, *study_hashes, *bound_params])
        return holdings

    def newest_studies(self, tx: Tx, keys: Sequence[RecordKey], offset: int, limit: int) -> list[int]:
        """A page of the studies under these records, newest first, undated last, as hashes of their UIDs."""
        where = f"record_key IN ({marks(keys)}) AND flags & {DEPRECATED} = 0"
        order = "GROUP BY study_hash ORDER BY max(started) DESC, study_hash"
        sql = f"SELECT study_hash FROM holding WHERE {where} {order} LIMIT {int(limit)} OFFSET {int(offset)}"
        return [int(row[0]) for row in tx.rows(sql, list(keys))]

    def held(self, tx: Tx, keys: Collection[RecordKey]) -> list[int]:
        """The study hash of every approved holding under these patient records."""
        hashes: list[int] = []
        for batch in chunks(keys):
            hashes += [int(row[0]) for row in tx.rows(HELD.format(marks(batch)), batch)]
        return hashes

    def newest(self, tx: Tx, keys: Sequence[RecordKey], after: Place | None, limit: int) -> list[Loaded]:
        """A page of the approved holdings under these patient records, newest first, undated last.

        Ties go by key.
        """
        names = "h.started, h.record_key, h.study_hash, h.member_id"
        where, params = f"h.record_key IN ({marks(keys)}) AND h.flags & {DEPRECATED} = 0", list[int](keys)
        if after is not None:
            where, params = f"{where} AND ({names}) < (?, ?, ?, ?)", [*params, *after]
        order = ", ".join(f"{name} DESC" for name in names.split(", "))
        return self.select(tx, where, params, f"ORDER BY {order} LIMIT {int(limit)}")

    def marks(self, tx: Tx, keys: Collection[RecordKey], study_uid: str = "") -> list[tuple[int, ...]]:
        """What changes when an answer about these patient records would.

        It is (record, study, member, revision, flags) of every holding of a study that they have, also under
        other records (D1). With ``study_uid``, of that study alone.
        """
        rows: list[tuple[int, ...]] = []
        only = " AND study_hash = ?" if study_uid else ""
        for batch in chunks(keys):
            sql = (
                "SELECT record_key, study_hash, member_id, revision, flags FROM holding WHERE study_hash IN "
                f"(SELECT study_hash FROM holding WHERE record_key IN ({marks(batch)}){only})"
            )
            rows += [
                tuple(map(int, row))
                for row in tx.rows(sql, [*batch, hash8(study_uid)] if study_uid else batch)
            ]
        return sorted(set(rows))

    # --- by name --------------------------------------------------------------------------------------------

    def records_of(self, tx: Tx, hashes: Collection[int]) -> dict[int, set[int]]:
        """Hash of a name -> patient records that may have it (D13).

        Where names stand in the row (PostgreSQL, delta 0002), rows before that have theirs in locator.
        """
        records: dict[int, set[int]] = {}
        for batch in chunks(set(hashes) - {0}):
            sql, params = f"SELECT hash, record_key FROM locator WHERE hash IN ({marks(batch)})", list(batch)
            if names_in_row(tx):
                for column in NAME_COLUMNS:
                    sql += f" UNION ALL SELECT {column}, record_key FROM holding"
                    sql += f" WHERE {column} IN ({marks(batch)})"
                    params += batch
            for name, key in tx.rows(sql, params):
                records.setdefault(name, set()).add(key)
        return records

    def by_studies(self, tx: Tx, study_uids: Collection[str]) -> list[Loaded]:
        """Every holding of these studies, deprecated ones too."""
        wanted = {hash8(uid): uid for uid in study_uids}
        loaded: list[Loaded] = []
        for batch in chunks(wanted):
            loaded += self.select(tx, f"h.study_hash IN ({marks(batch)})", batch)
        return [
            candidate
            for candidate in loaded
            if candidate.holding.study_uid == wanted[candidate.row.study_hash]
        ]

    def members_of(self, tx: Tx, study_uids: Collection[str]) -> dict[str, set[MemberId]]:
        """Who has a current holding of each study, by the hash of its UID; none of what nobody has."""
        uids, holders = {hash8(uid): uid for uid in study_uids}, dict[str, set[MemberId]]()
        for batch in chunks(uids):
            sql = f"SELECT study_hash, member_id FROM holding WHERE study_hash IN ({marks(batch)}) AND"
            for study, member in tx.rows(f"{sql} flags & {DEPRECATED} = 0", batch):
                holders.setdefault(uids[study], set()).add(MemberId(int(member)))
        return holders

    def current(self, tx: Tx, member: MemberId, study_uids: Collection[str]) -> dict[str, Loaded]:
        """The one holding that ``member``, a node of ours, has of each study.

        Raises:
            StorageError: if two of its studies share a hash.
        """
        return {uid: holdings[0] for (_, uid), holdings in self.held_by(tx, [member], study_uids).items()}

    def held_by(
        self, tx: Tx, members: Collection[MemberId], study_uids: Collection[str]
    ) -> dict[tuple[MemberId, str], list[Loaded]]:
        """What each of these members holds of each of these studies.

        That is one holding, or one for each patient that a foreign source names.

        Raises as :meth:`current`.
        """
        wanted = {hash8(uid): uid for uid in study_uids}
        if len(wanted) != len(set(study_uids)):
            raise StorageError("Two studies share a key.", why="Their 64-bit hashes are equal.")
        holdings: dict[tuple[MemberId, str], list[Loaded]] = {}
        member_ids = [int(member) for member in members]
        for batch in chunks(wanted):
            where = f"h.study_hash IN ({marks(batch)}) AND h.member_id IN ({marks(member_ids)})"
            for loaded in self.select(tx, where, [*batch, *member_ids]):
                uid = wanted[loaded.row.study_hash]
                if loaded.holding.study_uid != uid:
                    raise StorageError("Two studies share a key.", why="Their 64-bit hashes are equal.")
                holdings.setdefault((loaded.holding.member, uid), []).append(loaded)
        return holdings

    def by_fhir_ids(self, tx: Tx, fhir_ids: Collection[str]) -> list[Loaded]:
        """Holdings with these FHIR ids, deprecated ones too."""
        wanted = set(fhir_ids)
        return [
            candidate
            for candidate in self._by_hashes(tx, [fhir_hash(i) for i in wanted])
            if candidate.holding.fhir_id in wanted
        ]

    def by_accessions(self, tx: Tx, values: Collection[str]) -> list[Loaded]:
        """Holdings with one of these accession numbers, whatever its issuer."""
        wanted = set(values)
        candidates = self._by_hashes(tx, [accession_hash(v) for v in wanted])
        return [
            candidate
            for candidate in candidates
            if any(a.value in wanted for a in candidate.holding.record.accessions)
        ]

    def of_member(self, tx: Tx, member: MemberId, after: tuple[int, int], limit: int) -> list[Loaded]:
        """A page of all that ``member`` holds, by patient record and study, after these.

        Where an index leads there (PostgreSQL, delta 0007) it is read from its bucket of records on.
        """
        where, params = "h.member_id = ? AND (h.record_key, h.study_hash) > (?, ?)", [int(member), *after]
        order = "h.record_key, h.study_hash"
        if not tx.dialect.lean_rows:
            where, params = f"{where} AND {MEMBER_BUCKET} >= ?", [*params, after[0] >> 51]
            order = f"{MEMBER_BUCKET}, {order}"
        return self.select(tx, where, params, f"ORDER BY {order} LIMIT {int(limit)}")

    def issues_accessions(self, tx: Tx, authority: str) -> bool:
        """Whether any study was ever held here with an accession number of this issuer."""
        sql = "SELECT 1 FROM locator WHERE hash = ? AND record_key = ?"
        return tx.row(sql, (issuer_hash(authority), NO_RECORD)) is not None

    def by_names(self, tx: Tx, names: Collection[str]) -> list[Holding]:
        """Holdings, with their past, one of whose versions has one of these entry UUIDs or unique ids."""
        wanted = set(names)
        candidates = self.with_past(tx, self._by_hashes(tx, [name_hash(n) for n in wanted]))
        return [holding for holding in candidates if wanted & names_of(holding)]

    def _by_hashes(self, tx: Tx, hashes: Collection[int]) -> list[Loaded]:
        keys = {key for records in self.records_of(tx, hashes).values() for key in records}
        return self.by_records(tx, [RecordKey(k) for k in keys], deprecated=True)

    def gone(self, tx: Tx, fhir_ids: Collection[str]) -> set[str]:
        """Which of these FHIR ids were holdings once and are withdrawn or moved."""
        wanted, stored = set(fhir_ids), set()
        for batch in chunks([fhir_hash(i) for i in wanted]):
            stored |= {
                row[0]
                for row in tx.rows(f"SELECT fhir_id FROM gone WHERE fhir_hash IN ({marks(batch)})", batch)
            }
        return stored & wanted

    def tombstones(
        self, tx: Tx, members: Collection[MemberId], study_uids: Collection[str]
    ) -> dict[tuple[MemberId, str], list[Tombstone]]:
        """What is left of holdings of these studies that these members withdrew or moved."""
        wanted = {hash8(uid): uid for uid in study_uids}
        stones: dict[tuple[MemberId, str], list[Tombstone]] = {}
        columns = "member_id, study_hash, record_hash, version, revision"
        member_ids = [int(member) for member in members]
        for batch in chunks(wanted):
            sql = (
                f"SELECT {columns} FROM tombstone"
                f" WHERE member_id IN ({marks(member_ids)}) AND study_hash IN ({marks(batch)})"
            )
            for member, study, record, version, revision in tx.rows(sql, [*member_ids, *batch]):
                stone = Tombstone(record_hash=record, version=version, revision=revision)
                stones.setdefault((MemberId(member), wanted[study]), []).append(stone)
        return stones

    # --- by population --------------------------------------------------------------------------------------

    def window(self, tx: Tx, w: Window) -> list[Loaded]:
        """One page of approved holdings in the window's order.

        Ties go by key, so that a cursor resumes exactly.
        """
        where, params = stretch(w)
        bounds, bound_params = narrowed(w, "updated" if w.order == "started" else "started")
        tail = f"ORDER BY {order_by(w)} LIMIT {int(w.limit)}"
        return self.select(tx, " AND ".join([*where, *bounds]), [*params, *bound_params], tail)

    def ahead(self, tx: Tx, w: Window, rows: int) -> Place | None:
        """The place of the last of the next ``rows`` rows of a window; None: there are fewer.

        As ``until`` it bounds what a page reads: what is rare would else be looked for through the whole
        index.
        """
        where, params = stretch(w)
        sql = (
            f"SELECT h.{w.order}, h.record_key, h.study_hash, h.member_id FROM holding h WHERE"
            f" {' AND '.join(where)}"
        )
        row = tx.row(f"{sql} ORDER BY {order_by(w)} LIMIT 1 OFFSET {int(rows) - 1}", params)
        if row is None:
            return None
        place, record, study, member = row
        return place, record, study, member

    # --- what is said of patients ---------------------------------------------------------------------------

    def headers_of(self, tx: Tx, keys: Collection[RecordKey]) -> dict[RecordKey, list[tuple[Patient, int]]]:
        """The patient texts of all studies under these records.

        With each goes when the newest study that has it began (Unix seconds).
        """
        headers: dict[RecordKey, list[tuple[Patient, int]]] = {}
        for batch in chunks(keys):
            sql = (
                "SELECT u.record_key, u.started, p.body FROM"
                " (SELECT record_key, patient_n, max(started) AS started FROM holding"
                f" WHERE record_key IN ({marks(batch)}) GROUP BY record_key, patient_n) u"
                " JOIN patient_text p ON p.record_key = u.record_key AND p.n = u.patient_n"
                " ORDER BY u.record_key, p.n"
            )
            for key, started, body in tx.rows(sql, batch):
                headers.setdefault(RecordKey(key), []).append(
                    (self.codec.decode_patient(bytes(body)), started)
                )
        return headers


def names_of(holding: Holding) -> set[str]:
    """Every XDS name of a holding and its past versions: its own, not that of what the first one replaced."""
    names: set[str] = set()
    for publication in holding.entries:
        names |= {
            value
            for name, value in publication_ids(publication).items()
            if name != "replaces_entry_uuid" and value
        }
    return names
