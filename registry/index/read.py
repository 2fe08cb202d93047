"""Reading holdings in a caller's transaction: by patient record, by name, by population; past versions;
conflicts (D1).

A locator says where to look; what is found is verified against what was asked (D13).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, Oid, hash8, holding_fhir_id
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Patient, StudyRecord
from crosslight.standards.xds.model.publication import Publication, Source
from registry.identity.model import RecordKey
from registry.index.codec import Codec, PublicationRow, publication_ids
from registry.index.model import Holding, PastVersion
from registry.index.past_versions import State, publication_of, state_of, unpacked
from registry.index.population_window import Place, Window, narrowed, order_by, stretch
from registry.index.rows import (
    DEPRECATED,
    HOLDING_COLUMNS,
    NAME_COLUMNS,
    NO_RECORD,
    UNITED,
    HoldingRow,
    Loaded,
    Tombstone,
    accession_hash,
    chunks,
    fhir_hash,
    from_ms,
    holding_row,
    issuer_hash,
    marks,
    name_hash,
    names_in_row,
    version_of,
)
from registry.members.model import Directory

_COLUMNS = ", ".join(f"h.{c}" for c in HOLDING_COLUMNS) + ", p.body"
_FROM = "holding h JOIN patient_text p ON p.record_key = h.record_key AND p.n = h.patient_n"


class Reader:
    """Rows to holdings. ``region_key`` makes their FHIR ids (D12)."""

    region_key: bytes = b""

    def __init__(self, directory: Directory) -> None:
        self.directory, self.codec = directory, Codec()
        # hashes of issuers of accession numbers that are known to be in the table
        self.issuers: set[int] = set()

    # --- rows -----------------------------------------------------------------------------------------------

    def source(self, member: MemberId) -> tuple[Source, bytes]:
        """How a member's entries name it, and the secret of its ids."""
        found = self.directory.by_id(member)
        if found is not None:
            return found.source, found.secret
        none = Oid("")
        return (
            Source(
                code=f"member-{member}",
                name="",
                repository_unique_id=none,
                retrieve_location_uid=none,
                authority=none,
            ),
            b"",
        )

    def fhir_id(self, member: MemberId, record_key: int, study_uid: str) -> str:
        """The FHIR id of a holding (D12)."""
        return holding_fhir_id(self.region_key, member, str(record_key), study_uid)

    def load(self, row: HoldingRow, patient: Patient) -> Loaded:
        """What a row says."""
        member = MemberId(row.member_id)
        source, secret = self.source(member)
        deprecated = bool(row.flags & DEPRECATED)
        publication, digest = self.codec.decode(
            PublicationRow(body=row.body, extra=row.extra),
            version_of(row.version),
            patient,
            source,
            secret,
            "Deprecated" if deprecated else "Approved",
        )
        united = self.codec.united(row.extra, patient) if row.flags & UNITED else None
        return self.loaded(row, publication, digest, united)

    def loaded(
        self, row: HoldingRow, publication: Publication, digest: str, united: StudyRecord | None = None
    ) -> Loaded:
        """A row with a publication that is known already."""
        member = MemberId(row.member_id)
        holding = Holding(
            member=member,
            record_key=RecordKey(row.record_key),
            publication=publication,
            state="deprecated" if row.flags & DEPRECATED else "approved",
            digest=digest,
            revision=row.revision,
            fhir_id=self.fhir_id(member, row.record_key, publication.record.study_uid),
            updated=from_ms(row.updated),
            united=united,
        )
        return Loaded(row, holding)

    def select(self, tx: Tx, where: str, params: Sequence[Any] = (), tail: str = "") -> list[Loaded]:
        """Holdings by a condition of ours."""
        rows = tx.rows(f"SELECT {_COLUMNS} FROM {_FROM} WHERE {where} {tail}", params)
        tx.weigh(len(rows))
        texts = {
            row[12]: self.codec.decode_patient(bytes(row[12]))
            for row in {row[12]: row for row in rows}.values()
        }
        return [self.load(holding_row(row), texts[row[12]]) for row in tx.steps(rows)]

    # --- by patient record ----------------------------------------------------------------------------------

    def by_records(self, tx: Tx, keys: Collection[RecordKey], *, deprecated: bool) -> list[Loaded]:
        """All holdings under these patient records."""
        found: list[Loaded] = []
        for part in chunks(keys):
            state = "" if deprecated else f" AND h.flags & {DEPRECATED} = 0"
            found += self.select(tx, f"h.record_key IN ({marks(part)}){state}", part)
        return found

    def some_of(
        self, tx: Tx, keys: Collection[RecordKey], w: Window, studies: Collection[int] = ()
    ) -> list[Loaded]:
        """Those approved holdings under these patient records that a window's bounds do not rule out.

        Args:
            studies: Of these studies alone (hashes of their UIDs); none given: of any.
        """
        more, its = narrowed(w, "started", "updated")
        found: list[Loaded] = []
        for part in chunks(keys):
            for some in chunks(studies) if studies else [()]:
                of = [f"h.study_hash IN ({marks(some)})"] if some else []
                where = [f"h.record_key IN ({marks(part)})", *of, *more]
                found += self.select(tx, " AND ".join(where), [*part, *some, *its])
        return found

    def newest_studies(self, tx: Tx, keys: Sequence[RecordKey], offset: int, limit: int) -> list[int]:
        """A page of the studies that these patient records hold, as hashes of their UIDs: newest first,
        undated last.
        """
        where = f"record_key IN ({marks(keys)}) AND flags & {DEPRECATED} = 0"
        order = "GROUP BY study_hash ORDER BY max(started) DESC, study_hash"
        sql = f"SELECT study_hash FROM holding WHERE {where} {order} LIMIT {int(limit)} OFFSET {int(offset)}"
        return [int(row[0]) for row in tx.rows(sql, list(keys))]

    def held(self, tx: Tx, keys: Collection[RecordKey]) -> list[int]:
        """The study hash of every approved holding under these patient records."""
        found: list[int] = []
        for part in chunks(keys):
            sql = (
                f"SELECT study_hash FROM holding WHERE record_key IN ({marks(part)}) AND flags &"
                f" {DEPRECATED} = 0"
            )
            found += [int(row[0]) for row in tx.rows(sql, part)]
        return found

    def newest(self, tx: Tx, keys: Sequence[RecordKey], after: Place | None, limit: int) -> list[Loaded]:
        """A page of the approved holdings under these patient records, newest first, undated last; ties by
        key.
        """
        names = "h.started, h.record_key, h.study_hash, h.member_id"
        where, params = f"h.record_key IN ({marks(keys)}) AND h.flags & {DEPRECATED} = 0", list[int](keys)
        if after is not None:
            where, params = f"{where} AND ({names}) < (?, ?, ?, ?)", [*params, *after]
        order = ", ".join(f"{name} DESC" for name in names.split(", "))
        return self.select(tx, where, params, f"ORDER BY {order} LIMIT {int(limit)}")

    def marks(self, tx: Tx, keys: Collection[RecordKey], study_uid: str = "") -> list[tuple[int, ...]]:
        """(record, study, member, revision, flags) of every holding of a study that these patient records
        have, whoever's it is besides (D1): what changes when an answer about them would. With ``study_uid``,
        of that study alone."""
        found: list[tuple[int, ...]] = []
        only = " AND study_hash = ?" if study_uid else ""
        for part in chunks(keys):
            sql = (
                "SELECT record_key, study_hash, member_id, revision, flags FROM holding WHERE study_hash IN "
                f"(SELECT study_hash FROM holding WHERE record_key IN ({marks(part)}){only})"
            )
            found += [
                tuple(map(int, row)) for row in tx.rows(sql, [*part, hash8(study_uid)] if study_uid else part)
            ]
        return sorted(set(found))

    # --- by name --------------------------------------------------------------------------------------------

    def records_of(self, tx: Tx, hashes: Collection[int]) -> dict[int, set[int]]:
        """Hash of a name -> patient records that may have it (D13).

        Where names stand in the row (PostgreSQL, delta 0002), rows before that have theirs in locator.
        """
        found: dict[int, set[int]] = {}
        for part in chunks(set(hashes) - {0}):
            sql, params = f"SELECT hash, record_key FROM locator WHERE hash IN ({marks(part)})", list(part)
            if names_in_row(tx):
                for column in NAME_COLUMNS:
                    sql += (
                        f" UNION ALL SELECT {column}, record_key FROM holding WHERE {column} IN"
                        f" ({marks(part)})"
                    )
                    params += part
            for value, key in tx.rows(sql, params):
                found.setdefault(value, set()).add(key)
        return found

    def by_studies(self, tx: Tx, study_uids: Collection[str]) -> list[Loaded]:
        """Every holding of these studies, deprecated ones too."""
        wanted = {hash8(uid): uid for uid in study_uids}
        loaded: list[Loaded] = []
        for part in chunks(wanted):
            loaded += self.select(tx, f"h.study_hash IN ({marks(part)})", part)
        return [one for one in loaded if one.holding.study_uid == wanted[one.row.study_hash]]

    def current(self, tx: Tx, member: MemberId, study_uids: Collection[str]) -> dict[str, Loaded]:
        """The one holding that ``member``, a node of ours, has of each study.

        Raises:
            StorageError: if two of its studies share a hash.
        """
        return {uid: held[0] for (_, uid), held in self.held_by(tx, [member], study_uids).items()}

    def held_by(
        self, tx: Tx, members: Collection[MemberId], study_uids: Collection[str]
    ) -> dict[tuple[MemberId, str], list[Loaded]]:
        """What each of these members holds of each of these studies: one, or one for each patient that a
        foreign source names.

        Raises as :meth:`current`.
        """
        wanted = {hash8(uid): uid for uid in study_uids}
        if len(wanted) != len(set(study_uids)):
            raise StorageError("Two studies share a key.", why="Their 64-bit hashes are equal.")
        found: dict[tuple[MemberId, str], list[Loaded]] = {}
        of = [int(member) for member in members]
        for part in chunks(wanted):
            where = f"h.study_hash IN ({marks(part)}) AND h.member_id IN ({marks(of)})"
            for one in self.select(tx, where, [*part, *of]):
                uid = wanted[one.row.study_hash]
                if one.holding.study_uid != uid:
                    raise StorageError("Two studies share a key.", why="Their 64-bit hashes are equal.")
                found.setdefault((one.holding.member, uid), []).append(one)
        return found

    def by_fhir_ids(self, tx: Tx, fhir_ids: Collection[str]) -> list[Loaded]:
        """Holdings with these FHIR ids, deprecated ones too."""
        wanted = set(fhir_ids)
        return [
            one
            for one in self._by_hashes(tx, [fhir_hash(i) for i in wanted])
            if one.holding.fhir_id in wanted
        ]

    def by_accessions(self, tx: Tx, values: Collection[str]) -> list[Loaded]:
        """Holdings with one of these accession numbers, whatever its issuer."""
        wanted = set(values)
        found = self._by_hashes(tx, [accession_hash(v) for v in wanted])
        return [one for one in found if any(a.value in wanted for a in one.holding.record.accessions)]

    def issues_accessions(self, tx: Tx, authority: str) -> bool:
        """Whether any study was ever held here with an accession number of this issuer."""
        return (
            tx.row(
                "SELECT 1 FROM locator WHERE hash = ? AND record_key = ?", (issuer_hash(authority), NO_RECORD)
            )
            is not None
        )

    def by_names(self, tx: Tx, names: Collection[str]) -> list[Holding]:
        """Holdings one of whose versions, past ones too, has one of these entry UUIDs or unique ids; with
        their past.
        """
        wanted = set(names)
        found = self.with_past(tx, self._by_hashes(tx, [name_hash(n) for n in wanted]))
        return [one for one in found if wanted & names_of(one)]

    def _by_hashes(self, tx: Tx, hashes: Collection[int]) -> list[Loaded]:
        keys = {key for found in self.records_of(tx, hashes).values() for key in found}
        return self.by_records(tx, [RecordKey(k) for k in keys], deprecated=True)

    def gone(self, tx: Tx, fhir_ids: Collection[str]) -> set[str]:
        """Which of these FHIR ids were holdings once and are withdrawn or moved."""
        wanted, found = set(fhir_ids), set()
        for part in chunks([fhir_hash(i) for i in wanted]):
            found |= {
                row[0]
                for row in tx.rows(f"SELECT fhir_id FROM gone WHERE fhir_hash IN ({marks(part)})", part)
            }
        return found & wanted

    def tombstones(
        self, tx: Tx, members: Collection[MemberId], study_uids: Collection[str]
    ) -> dict[tuple[MemberId, str], list[Tombstone]]:
        """What is left of holdings of these studies that these members withdrew or moved."""
        wanted = {hash8(uid): uid for uid in study_uids}
        found: dict[tuple[MemberId, str], list[Tombstone]] = {}
        columns, of = (
            "member_id, study_hash, record_hash, version, revision",
            [int(member) for member in members],
        )
        for part in chunks(wanted):
            sql = (
                f"SELECT {columns} FROM tombstone WHERE member_id IN ({marks(of)}) AND study_hash IN"
                f" ({marks(part)})"
            )
            for row in tx.rows(sql, [*of, *part]):
                stone = Tombstone(record_hash=row[2], version=row[3], revision=row[4])
                found.setdefault((MemberId(row[0]), wanted[row[1]]), []).append(stone)
        return found

    # --- by population --------------------------------------------------------------------------------------

    def window(self, tx: Tx, w: Window) -> list[Loaded]:
        """One page of approved holdings in the window's order; ties by key, so that a cursor resumes
        exactly."""
        where, params = stretch(w)
        more, its = narrowed(w, "updated" if w.order == "started" else "started")
        tail = f"ORDER BY {order_by(w)} LIMIT {int(w.limit)}"
        return self.select(tx, " AND ".join([*where, *more]), [*params, *its], tail)

    def ahead(self, tx: Tx, w: Window, rows: int) -> Place | None:
        """The place of the last of the next ``rows`` rows of a window, whatever else is asked of them; None:
        there are fewer.

        As ``until`` it bounds what a page reads: what is rare would else be looked for through the whole
        index.
        """
        where, params = stretch(w)
        sql = (
            f"SELECT h.{w.order}, h.record_key, h.study_hash, h.member_id FROM holding h WHERE"
            f" {' AND '.join(where)}"
        )
        row = tx.row(f"{sql} ORDER BY {order_by(w)} LIMIT 1 OFFSET {int(rows) - 1}", params)
        return (row[0], row[1], row[2], row[3]) if row is not None else None

    # --- versions and conflicts -----------------------------------------------------------------------------

    def states(self, tx: Tx, loaded: Collection[Loaded]) -> dict[tuple[int, int, int], list[State]]:
        """Past versions of these holdings as plain data, newest first, by the holding's key."""
        found: dict[tuple[int, int, int], list[State]] = {one.row.key: [] for one in loaded}
        deltas: dict[tuple[int, int, int], list[bytes]] = {}
        for part in chunks({one.row.record_key for one in loaded}):
            where = f"record_key IN ({marks(part)}) ORDER BY seq DESC"
            sql = f"SELECT record_key, study_hash, member_id, body FROM past_version WHERE {where}"
            for key, study, member, body in tx.rows(sql, part):
                deltas.setdefault((key, study, member), []).append(bytes(body))
        past = [one for one in loaded if one.row.key in deltas]
        tx.weigh(sum(len(deltas[one.row.key]) for one in past))
        for one in tx.steps(past):
            state = self.state(one)
            for body in deltas[one.row.key]:
                state = unpacked(state, self.codec.decode_plain(body))
                found[one.row.key].append(state)
        return found

    def state(self, one: Loaded) -> State:
        """A current version as plain data."""
        secret = self.source(one.holding.member)[1]
        return state_of(one.holding.publication, one.holding.digest, one.row.patient_n, secret)

    def with_past(self, tx: Tx, loaded: Collection[Loaded]) -> list[Holding]:
        """The same holdings with their superseded versions."""
        states = self.states(tx, loaded)
        texts = self.patient_texts(tx, {one.row.record_key for one in loaded if states[one.row.key]})
        return [self._with_past(one, states[one.row.key], texts) for one in tx.steps(loaded)]

    def _with_past(self, one: Loaded, states: list[State], texts: dict[tuple[int, int], Patient]) -> Holding:
        if not states:
            return one.holding
        source, secret = self.source(one.holding.member)
        versions = [one.holding.publication]
        versions += [
            publication_of(s, texts[one.row.record_key, s["patient"]], source, secret)[0] for s in states
        ]
        successors = {p.replaces_entry_uuid: p.entry_uuid for p in versions if p.replaces_entry_uuid}
        past, siblings = [], []
        for newer, p in pairwise(versions):
            if p.status == "Approved":
                siblings.append(p)
                continue
            # a node's versions follow each other (D10)
            after = newer.entry_uuid if p.version is not None else ""
            past.append(PastVersion(publication=p, succeeded_by=successors.get(p.entry_uuid, after)))
        return replace(one.holding, past=tuple(past), siblings=tuple(siblings))

    def patient_texts(self, tx: Tx, keys: Collection[int]) -> dict[tuple[int, int], Patient]:
        """(record key, n) -> the patient as submitted."""
        found: dict[tuple[int, int], Patient] = {}
        for part in chunks(keys):
            for key, n, body in tx.rows(
                f"SELECT record_key, n, body FROM patient_text WHERE record_key IN ({marks(part)})", part
            ):
                found[key, n] = self.codec.decode_patient(bytes(body))
        return found

    def headers_of(self, tx: Tx, keys: Collection[RecordKey]) -> dict[RecordKey, list[tuple[Patient, int]]]:
        """The patient texts of all studies under these records, and when the newest study with each began
        (Unix seconds).
        """
        found: dict[RecordKey, list[tuple[Patient, int]]] = {}
        for part in chunks(keys):
            sql = (
                "SELECT u.record_key, u.started, p.body FROM (SELECT record_key, patient_n, max(started) AS"
                f" started FROM holding WHERE record_key IN ({marks(part)}) GROUP BY record_key, patient_n) u"
                " JOIN patient_text p ON p.record_key = u.record_key AND p.n = u.patient_n ORDER BY"
                " u.record_key, p.n"
            )
            for key, started, body in tx.rows(sql, part):
                found.setdefault(RecordKey(key), []).append((self.codec.decode_patient(bytes(body)), started))
        return found


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
