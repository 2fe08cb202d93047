"""IdentityStore: patient records, the persons they make up, and their affinity-domain ids (D2-D4).

The ``_tx`` methods run inside a caller's transaction (the index commits a study and its patient together); the async ones
open their own. Errors name no patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.pg_columns import columns
from crosslight.runtime.schema import SchemaVersion, migrate
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import family_keys
from crosslight.standards.problem import Invalid, NotFound
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, PersonName, patient_to_json
from registry.identity import merges, rows
from registry.identity.batch import FeedBatch
from registry.identity.reads import CxTarget, IdentityReads
from registry.identity.relink import relink
from registry.identity.rows import Stored, from_micros, to_micros
from registry.index.model import PatientRecord, PersonKey, RecordKey

SCHEMA = SchemaVersion("identity", schema=2, compat=1)
MAX_ID = 255  # characters of a local id


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent:
    """One move of a record between persons (D2)."""

    record_key: RecordKey
    from_person: PersonKey
    to_person: PersonKey
    disputed: bool
    at: datetime
    who: str
    why: str


class IdentityStore(IdentityReads):
    """The tables of identity, in the same database as the index."""

    def __init__(self, db: Db, region: Region, ids: Ids) -> None:
        super().__init__(region)
        self._db, self._ids = db, ids

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.identity", SCHEMA)

    # --- feeding ---------------------------------------------------------------------------------------------------

    def feed_tx(
        self,
        tx: Tx,
        patient: Patient,
        member: MemberId | None,
        now: datetime,
        *,
        who: str = "",
        traced: bool | None = None,
        erase: frozenset[str] = frozenset(),
    ) -> RecordKey:
        """Insert or update the record of ``patient.local``, and link it by D3. Repeating a feed changes nothing.

        What a feed leaves out stays as it is: a blank does not erase, and a national number that is not mentioned is not
        withdrawn. An identifier with an empty value withdraws the number of its authority; a new one replaces it.

        Args:
            tx: The caller's transaction.
            patient: As the source describes them; ``local`` is the record.
            member: Whose authority it is, None for a foreign one.
            now: The time of the change.
            who: Who says so, for the history.
            traced: Whether the numbers are traced, where the source is the authority on that (a patient feed); None takes
                ``patient.traced`` and never takes back what was said of the same number before.
            erase: Demographic fields to blank (``birth_date``, ``sex``, ``postcode``).

        Raises:
            Invalid: without authority or id, or for an invalid national number as the id.
        """
        local, digest = self.checked_local(patient), self.said(patient, member, traced, erase)
        row = tx.row(
            "SELECT record_key, digest FROM patient_record WHERE authority = ? AND local_id = ?", (local.authority, local.value)
        )
        if row is not None and row[1] == digest:
            return RecordKey(row[0])
        key, at = (int(row[0]) if row else self._insert(tx, local, to_micros(now))), to_micros(now)
        before = rows.load_by(tx, "record_key", [key], lock=True)[0]
        old = frozenset(before.record.national)
        claims = self._claims(replace(patient, local=local), old)
        is_traced = self._traced(before, patient, claims, traced)
        merged = _merged(before.record.patient, self._cleaned(patient, local, claims), erase, is_traced, fresh=not before.digest)
        self._update(tx, key, merged, member if member is not None else before.record.member, is_traced, at, digest)
        for number in sorted(old - claims):
            tx.execute(
                "DELETE FROM national_claim WHERE authority = ? AND value = ? AND record_key = ?",
                (number.authority, number.value, key),
            )
        fresh = [(number.authority, number.value, key) for number in sorted(claims - old)]
        tx.insert_many("national_claim", ("authority", "value", "record_key"), fresh)
        linking = is_traced != before.traced or merged.birth_date != before.record.patient.birth_date
        if claims != old or (linking and (before.digest or claims)):
            relink(tx, {key}, old | claims, at=at, who=who or f"feed of {local.authority}", why="feed")
        return RecordKey(key)

    def batch(self, tx: Tx, now: datetime) -> FeedBatch:
        """Feeds of many patients in ``tx``."""
        return FeedBatch(self, tx, now)

    def touch_tx(self, tx: Tx, key: RecordKey, started: datetime | None) -> None:
        """A study of this record that began at ``started`` was published: the banner follows the newest (D3)."""
        if started is not None:
            self.touch_all(tx, [(int(key), to_micros(started))])

    def touch_all(self, tx: Tx, rows: Sequence[tuple[int, int]]) -> None:
        """As :meth:`touch_tx`, of (record key, microseconds); each record once."""
        newer = "(newest_study IS NULL OR newest_study < {})"
        if tx.engine == "postgres" and len(rows) > 1:
            sql = "UPDATE patient_record SET newest_study = v.at FROM unnest(?, ?) AS v (key, at) WHERE record_key = v.key AND "
            tx.execute(sql + newer.format("v.at"), columns(rows))
        elif rows:
            sql = "UPDATE patient_record SET newest_study = ? WHERE record_key = ? AND " + newer.format("?")
            tx.executemany(sql, [(at, key, at) for key, at in rows])

    def said(
        self, patient: Patient, member: MemberId | None, traced: bool | None = None, erase: Collection[str] = frozenset()
    ) -> str:
        """What tells whether a feed says the same as the last one."""
        said = [patient_to_json(patient), member, traced, sorted(erase)]
        return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def first(self, patient: Patient, local: Identifier) -> tuple[Patient, frozenset[Identifier]]:
        """A patient of whom nothing is known yet as its record describes them, and the numbers that it claims."""
        claims = self._claims(replace(patient, local=local), frozenset())
        traced = bool(claims) and patient.traced
        return _merged(Patient(local=local), self._cleaned(patient, local, claims), (), traced, fresh=True), claims

    def checked_local(self, patient: Patient) -> Identifier:
        """The record's id in its normal form. Raises as :meth:`feed_tx`."""
        local = patient.local
        if not local.authority or not local.value.strip():
            raise Invalid("A patient needs an id with its assigning authority.", where="PID-3")
        if "\0" in local.value:
            raise Invalid("A patient id holds a character that is none.", why="U+0000.", where="PID-3")
        if len(local.value) > MAX_ID:
            raise Invalid(f"A patient id is longer than {MAX_ID} characters.", where="PID-3")
        if local.authority not in self._region.nationals:
            return Identifier(local.value.strip(), local.authority, local.namespace)
        number = self._national(local)
        if number is None:
            raise Invalid("A national number that is not valid.", why="Check digit, range or test numbers.", where="PID-3.1")
        return number

    def _claims(self, patient: Patient, old: frozenset[Identifier]) -> frozenset[Identifier]:
        named = [patient.local, *patient.others]
        withdrawn = {i.authority for i in named if not i.value}
        new = {number for i in named if i.value and (number := self._national(i)) is not None}
        told = withdrawn | {n.authority for n in new}
        return frozenset(new | {n for n in old if n.authority not in told})

    def _cleaned(self, patient: Patient, local: Identifier, claims: frozenset[Identifier]) -> Patient:
        """``patient`` with national numbers as claimed: normal form, valid ones only."""
        others = [i for i in patient.others if i.authority not in self._region.nationals]
        gone = [Identifier("", authority) for authority in self._region.nationals]
        return replace(patient, local=local, others=(*others, *sorted(claims - {local}), *gone))

    @staticmethod
    def _traced(before: Stored, patient: Patient, claims: frozenset[Identifier], traced: bool | None) -> bool:
        if not claims:
            return False
        if traced is not None:
            return traced
        return patient.traced or (before.traced and claims == frozenset(before.record.national))

    def _insert(self, tx: Tx, local: Identifier, at: int) -> int:
        key = self.new_key()
        row = tx.row(
            "INSERT INTO patient_record (record_key, person_key, authority, local_id, fhir_id, minted, birth_date, family_key, "
            "family_alt, traced, disputed, created, updated, digest, patient) VALUES (?,?,?,?,?,?,'','','',0,0,?,?,'',?) "
            "ON CONFLICT (authority, local_id) DO NOTHING RETURNING record_key",
            (
                key, key, local.authority, local.value, self.new_fhir_id(), self.minted(local), at, at,
                orjson.dumps(patient_to_json(Patient(local=local))).decode(),
            ),
        )  # fmt: skip
        if row is None:  # another transaction was first
            row = tx.row(
                "SELECT record_key FROM patient_record WHERE authority = ? AND local_id = ?", (local.authority, local.value)
            )
        assert row is not None  # noqa: S101 - inserted by us or by the one that was first
        return int(row[0])

    def new_key(self) -> int:
        """A random record key (D7)."""
        return self._ids.key63()

    def new_fhir_id(self) -> str:
        """A random FHIR id (D7)."""
        return str(self._ids.uuid4())

    def minted(self, local: Identifier) -> str:
        """The affinity-domain id of a record for when it holds no national number (D4)."""
        return local.value if local.authority == self._region.authority else "CL" + self._ids.token_bytes(10).hex().upper()

    def _update(self, tx: Tx, key: int, patient: Patient, member: MemberId | None, traced: bool, at: int, digest: str) -> None:
        family, alternative = family_keys(patient.name)
        tx.execute(
            "UPDATE patient_record SET member = ?, birth_date = ?, family_key = ?, family_alt = ?, traced = ?, updated = ?, "
            "digest = ?, patient = ? WHERE record_key = ?",
            (
                member, patient.birth_date, family, alternative, int(traced), at, digest,
                orjson.dumps(patient_to_json(patient)).decode(), key,
            ),
        )  # fmt: skip

    # --- merges, decisions, history --------------------------------------------------------------------------------

    def merge_tx(self, tx: Tx, survivor: Identifier, subsumed: Identifier, now: datetime, *, who: str = "A40") -> None:
        """A40: ``subsumed`` is from now on ``survivor`` (ITI TF-2 3.8.4.2). Nothing changes when it raises.

        Raises:
            Invalid: the same id twice, or one that is already subsumed.
            NotFound: an id that is not known or not current here.
        """
        merges.merge(tx, self, self._normal(survivor), self._normal(subsumed), to_micros(now), who, str(self._ids.uuid4()))

    def unmerge_tx(self, tx: Tx, subsumed: Identifier, now: datetime, *, who: str, why: str) -> None:
        """Undo a merge that was a mistake (D2); the wire has no such message, an identity officer does it.

        Raises:
            NotFound: if that id is not subsumed.
        """
        merges.unmerge(tx, self._normal(subsumed), to_micros(now), who, why)

    def decide_tx(self, tx: Tx, record: RecordKey, other: RecordKey | None, now: datetime, *, who: str, why: str) -> str:
        """A person's decision: ``record`` and ``other`` are the same human being; without ``other``, ``record`` stands alone.

        Returns:
            The decision's id, with which :meth:`end_decision_tx` takes it back.

        Raises:
            NotFound: if a record is unknown.
        """
        decision = str(self._ids.uuid4())
        merges.decide(tx, decision, record, other, to_micros(now), who, why)
        return decision

    def end_decision_tx(self, tx: Tx, decision: str, now: datetime, *, who: str, why: str) -> None:
        """Take a decision back; records are linked as if it had never been.

        Raises:
            NotFound: if there is no such decision in force.
        """
        merges.end_decision(tx, decision, to_micros(now), who, why)

    def history_tx(self, tx: Tx, record: RecordKey) -> list[LinkEvent]:
        """Every move of ``record`` between persons, oldest first."""
        return [
            LinkEvent(
                record_key=record, from_person=PersonKey(r[0]), to_person=PersonKey(r[1]), disputed=bool(r[2]),
                at=from_micros(r[3]), who=r[4], why=r[5],
            )
            for r in tx.rows(
                "SELECT from_person, to_person, disputed, at, who, why FROM person_link WHERE record_key = ? ORDER BY n",
                (record,),
            )
        ]  # fmt: skip

    async def disputes(self, limit: int = 200) -> list[PatientRecord]:
        """The queue for an identity officer: disputed records, the latest changed first."""
        found = await self._db.read("identity_disputes", lambda tx: rows.load(tx, "disputed = 1", (), limit=10_000))
        return [s.record for s in sorted(found, key=lambda s: -s.updated)[:limit]]

    async def feed(self, patient: Patient, member: MemberId | None, now: datetime, **how: Any) -> RecordKey:
        """:meth:`feed_tx` in a transaction of its own; committed when it returns."""
        return (await self.feed_all([(patient, member)], now, **how))[0]

    async def feed_all(self, patients: Sequence[tuple[Patient, MemberId | None]], now: datetime, **how: Any) -> list[RecordKey]:
        """Several records in one transaction: all, or none."""
        return await self._db.write("identity_feed", lambda tx: [self.feed_tx(tx, p, m, now, **how) for p, m in patients])

    async def merge(self, survivor: Identifier, subsumed: Identifier, now: datetime, *, who: str = "A40") -> None:
        """:meth:`merge_tx` in a transaction of its own."""
        await self._db.write("identity_merge", lambda tx: self.merge_tx(tx, survivor, subsumed, now, who=who))

    async def find_cx(self, cx: Identifier) -> CxTarget | None:
        """:meth:`find_cx_tx` in a transaction of its own."""
        return await self._db.read("identity_find", lambda tx: self.find_cx_tx(tx, cx))


def _merged(before: Patient, said: Patient, erase: Collection[str], traced: bool, *, fresh: bool) -> Patient:
    """``said`` over ``before``: blanks do not erase; other ids are kept by authority unless said anew."""
    if fresh:
        before = Patient(local=said.local)
    others = [i for i in said.others if i.value]
    told = {(i.authority, i.namespace) for i in said.others}
    others += [i for i in before.others if (i.authority, i.namespace) not in told]
    values = {
        name: "" if name in erase else getattr(said, name) or getattr(before, name) for name in ("birth_date", "sex", "postcode")
    }
    name = said.name if said.name.pn.strip("^= ") else before.name
    return Patient(local=said.local, others=tuple(others), name=PersonName(name.pn), traced=traced, **values)


__all__ = ["CxTarget", "IdentityStore", "LinkEvent", "NotFound"]
