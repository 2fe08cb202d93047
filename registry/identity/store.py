"""IdentityStore: patient records, the persons they make up, and their affinity-domain ids (D2-D4).

The ``_tx`` methods run inside a caller's transaction (the index commits a study and its patient together); the async ones
open their own. Errors name no patient.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.runtime.schema import SchemaVersion, migrate
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import family_keys
from crosslight.standards.problem import Invalid, NotFound
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, patient_to_json
from registry.identity import merges, queue
from registry.identity.batch import FeedBatch, Kind
from registry.identity.cases import Decision, LinkEvent
from registry.identity.compare import Comparison, HeadersOf
from registry.identity.config import IdentityRules
from registry.identity.header import merged
from registry.identity.model import PatientRecord, PersonKey, RecordChange, RecordKey, Texts
from registry.identity.reads import CxTarget, IdentityReads
from registry.identity.rows import Stored, from_micros, to_micros

SCHEMA = SchemaVersion("identity", schema=3, compat=3)
#: Told of records that were changed, how, and from when on.
Moved = Callable[[Tx, Collection[RecordKey], RecordChange, datetime], None]
MAX_ID = 255  # characters of a local id
log = get_logger("identity")


class IdentityStore(IdentityReads):
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
        super().__init__(region, rules)
        self._db, self._ids = db, ids
        self._headers_of, self._moved = headers or _no_headers, moved or _nothing_moved
        self.settled = False  # whether whoever holds a number goes on holding it
        self.alarms: Counter[str] = Counter()  # for metrics

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.identity", SCHEMA)
        sql = "SELECT 1 FROM identity_meta WHERE name = 'holders' AND value = 'settled'"
        self.settled = await self._db.read("identity_meta", lambda tx: tx.row(sql)) is not None

    # --- feeding ---------------------------------------------------------------------------------------------------

    def batch(self, tx: Tx, now: datetime) -> FeedBatch:
        """The one road of feeds and headers: patients in ``tx``, one or many."""
        return FeedBatch(self, tx, now)

    def feed_tx(
        self, tx: Tx, patient: Patient, member: MemberId | None, now: datetime, *, kind: Kind = "feed", **how: Any
    ) -> RecordKey:
        """A batch of one; see :meth:`FeedBatch.feed`."""
        batch = self.batch(tx, now)
        batch.prefetch([patient])
        key = batch.feed(patient, member, kind=kind, **how)
        batch.settle()
        return key

    def compare_tx(self, tx: Tx, described: Mapping[RecordKey, int], touched: Mapping[RecordKey, Texts], now: datetime) -> None:
        """Look at the headers of studies that were written outside a batch; see :meth:`FeedBatch.compare`."""
        self.batch(tx, now).compare(described, touched)

    def touch_tx(self, tx: Tx, key: RecordKey, started: datetime | None) -> None:
        """A study of this record that began at ``started`` was published: the banner follows the newest (D3)."""
        if started is not None:
            self.touch_all(tx, [(int(key), to_micros(started))])

    def touch_all(self, tx: Tx, rows: Sequence[tuple[int, int]]) -> None:
        """As :meth:`touch_tx`, of (record key, microseconds); each record once."""
        tx.update_many("patient_record", ("record_key",), ("newest_study",), rows, rising="newest_study")

    def said(
        self, patient: Patient, member: MemberId | None, traced: bool | None = None, erase: Collection[str] = frozenset()
    ) -> str:
        """What tells whether a feed says the same as the last one."""
        said = [patient_to_json(patient), member, traced, sorted(erase)]
        return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def described(self, local: Identifier, patients: Sequence[Patient]) -> tuple[Patient, frozenset[Identifier], bool]:
        """What ``patients`` say together of the record ``local``, later ones over earlier; the numbers it claims, and whether
        they are traced. Blanks do not erase, and a number that is not mentioned is not withdrawn."""
        whole, claims, traced = Patient(local=local), frozenset[Identifier](), False
        for patient in patients:
            before, claims = claims, self.claims(replace(patient, local=local), claims)
            traced = bool(claims) and (patient.traced or (traced and claims == before))
            whole = merged(whole, self.cleaned(patient, local, claims), (), traced)
        return whole, claims, traced

    def headers_of(self, tx: Tx, keys: Collection[RecordKey]) -> Mapping[RecordKey, Sequence[tuple[Patient, int]]]:
        """The headers of all studies under these records, and when the newest study with each began."""
        return self._headers_of(tx, keys) if keys else {}

    def moved(self, tx: Tx, records: Iterable[PatientRecord], at: int, kind: RecordChange = "moved") -> None:
        """Studies under these records, or under those that these are parts of, are somebody else's from now on, or in doubt or
        no more: whoever reads what changed reads them again. ``described``: only what is said of these persons is new."""
        keys = {record.part_of or record.key for record in records}
        if keys:
            self._moved(tx, keys, kind, from_micros(at))

    def is_fed(self, tx: Tx, authority: str) -> bool:
        """Whether a named feed describes records of ``authority``: then headers change none of them."""
        return tx.row("SELECT 1 FROM patient_record WHERE authority = ? AND fed = 1 LIMIT 1", (authority,)) is not None

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

    def cleaned(self, patient: Patient, local: Identifier, claims: frozenset[Identifier]) -> Patient:
        """``patient`` with national numbers as claimed: normal form, valid ones only."""
        others = [i for i in patient.others if i.authority not in self._region.nationals]
        gone = [Identifier("", authority) for authority in self._region.nationals]
        return replace(patient, local=local, others=(*others, *sorted(claims - {local}), *gone))

    # --- rows, for this room -----------------------------------------------------------------------------------------

    def insert(self, tx: Tx, local: Identifier, at: int) -> int:
        """The key of the record ``local``, made where there is none."""
        key = self.new_key()
        row = tx.row(
            "INSERT INTO patient_record (record_key, person_key, authority, local_id, fhir_id, minted, birth_date, family_key, "
            "family_alt, traced, disputed, created, updated, digest, patient) VALUES (?,?,?,?,?,?,'','','',0,0,?,?,'',?) "
            "ON CONFLICT (authority, local_id, part) DO NOTHING RETURNING record_key",
            (
                key, key, local.authority, local.value, self.new_fhir_id(), self.minted(local), at, at,
                orjson.dumps(patient_to_json(Patient(local=local))).decode(),
            ),
        )  # fmt: skip
        if row is None:  # another transaction was first
            row = tx.row(
                "SELECT record_key FROM patient_record WHERE authority = ? AND local_id = ? AND part = 0",
                (local.authority, local.value),
            )
        assert row is not None  # noqa: S101 - inserted by us or by the one that was first
        return int(row[0])

    def insert_part(self, tx: Tx, key: int, of: Stored, n: int, at: int) -> None:
        """Make part ``n`` of a record, in doubt and empty."""
        local = of.record.patient.local
        tx.execute(
            "INSERT INTO patient_record (record_key, person_key, authority, local_id, part, part_of, in_doubt, member, fhir_id, "
            "minted, birth_date, family_key, family_alt, traced, disputed, created, updated, digest, patient) "
            "VALUES (?,?,?,?,?,?,1,?,?,?,'','','',0,0,?,?,'',?)",
            (
                key, key, local.authority, local.value, n, int(of.record.key), of.record.member, self.new_fhir_id(),
                "CL" + self._ids.token_bytes(10).hex().upper(), at, at,
                orjson.dumps(patient_to_json(Patient(local=local))).decode(),
            ),
        )  # fmt: skip

    def new_key(self) -> int:
        """A random record key (D7)."""
        return self._ids.key63()

    def new_fhir_id(self) -> str:
        """A random FHIR id (D7)."""
        return str(self._ids.uuid4())

    def minted(self, local: Identifier) -> str:
        """The affinity-domain id of a record for when it holds no national number (D4)."""
        return local.value if local.authority == self._region.authority else "CL" + self._ids.token_bytes(10).hex().upper()

    def update(self, tx: Tx, key: int, patient: Patient, member: MemberId | None, traced: bool, at: int, *, digest: str) -> None:
        """Write what a record says."""
        family, alternative = family_keys(patient.name)
        tx.execute(
            "UPDATE patient_record SET member = ?, birth_date = ?, family_key = ?, family_alt = ?, traced = ?, updated = ?, "
            "digest = ?, patient = ? WHERE record_key = ?",
            (
                member, patient.birth_date, family, alternative, int(traced), at, digest,
                orjson.dumps(patient_to_json(patient)).decode(), key,
            ),
        )  # fmt: skip
        self._moved(tx, [RecordKey(key)], "described", from_micros(at))

    def claim(self, tx: Tx, stored: Stored, claims: frozenset[Identifier]) -> set[Identifier]:
        """Make a record claim just these numbers; those whose claims changed."""
        old, key = frozenset(stored.record.national), stored.record.key
        for number in sorted(old - claims):
            tx.execute(
                "DELETE FROM national_claim WHERE authority = ? AND value = ? AND record_key = ?",
                (number.authority, number.value, key),
            )
        rows = [(number.authority, number.value, key) for number in sorted(claims - old)]
        tx.insert_many("national_claim", ("authority", "value", "record_key"), rows)
        return set(old ^ claims)

    # --- who holds numbers ---------------------------------------------------------------------------------------------

    async def settle_holders(self) -> None:
        """From now on whoever holds a number goes on holding it: every member has filled the index once."""
        sql = "INSERT INTO identity_meta (name, value) VALUES ('holders', 'settled') ON CONFLICT (name) DO NOTHING"
        await self._db.write("identity_settle", lambda tx: tx.execute(sql))
        self.settled = True

    def alarm(self, member: MemberId | None) -> None:
        """A member's record claims a number that another holds: an operator must know, and a person must decide."""
        self.alarms["number claimed by two"] += 1
        log.error("alarm", what="a record claims a number that another person holds", member=member)

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
        merges.unmerge(tx, self, self._normal(subsumed), to_micros(now), who, why)

    def decide_tx(self, tx: Tx, record: RecordKey, other: RecordKey | None, now: datetime, *, who: str, why: str) -> str:
        """A person's decision on a record, or on a part of one that is in doubt.

        With ``other``: they are the same human being. Without: a part is another person than its record, and a record stands
        alone and holds no number that another claims.

        Returns:
            The decision's id, with which :meth:`end_decision_tx` takes it back.

        Raises:
            NotFound: if a record is unknown.
            Invalid: one record twice.
        """
        decision = str(self._ids.uuid4())
        merges.decide(tx, self, decision, record, other, to_micros(now), who, why)
        return decision

    def decide_other(self, tx: Tx, part: int, of: int, at: int, who: str, why: str) -> str:
        """``part`` of the record ``of`` is another person: it is in doubt no more. Linking is the caller's."""
        decision = str(self._ids.uuid4())
        merges.decide_other(tx, decision, part, of, at, who, why)
        return decision

    def end_decision_tx(self, tx: Tx, decision: str, now: datetime, *, who: str, why: str) -> None:
        """Take a decision back; records are linked as if it had never been, and what was in doubt is so again.

        Raises:
            NotFound: if there is no such decision in force.
        """
        record = merges.end_decision(tx, self, decision, to_micros(now), who, why)
        found = self.record_tx(tx, RecordKey(record))
        if found is not None and found.part_of is not None:
            Comparison(self, tx, to_micros(now), who).run([found.part_of])

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

    async def waiting(self, limit: int = 200) -> list[PatientRecord]:
        """The queue for an identity officer: disputed records that nobody set apart, parts in doubt; the latest changed first."""
        found = await self._db.read("identity_waiting", queue.waiting)
        return [s.record for s in sorted(found, key=lambda s: (-s.updated, s.record.key))[:limit]]

    async def waiting_count(self) -> int:
        """How many there are that nobody has decided on."""
        return await self._db.read("identity_waiting_count", queue.count)

    async def decisions(self, limit: int = 200) -> list[Decision]:
        """What people, feeds and merges decided, in force and ended, newest first."""
        return await self._db.read("identity_decisions", lambda tx: queue.decisions(tx, limit))

    async def decide(self, record: RecordKey, other: RecordKey | None, now: datetime, *, who: str, why: str) -> str:
        """:meth:`decide_tx` in a transaction of its own."""
        return await self._db.write("identity_decide", lambda tx: self.decide_tx(tx, record, other, now, who=who, why=why))

    async def end_decision(self, decision: str, now: datetime, *, who: str, why: str) -> None:
        """:meth:`end_decision_tx` in a transaction of its own."""
        await self._db.write("identity_end", lambda tx: self.end_decision_tx(tx, decision, now, who=who, why=why))

    async def unmerge(self, subsumed: Identifier, now: datetime, *, who: str, why: str) -> None:
        """:meth:`unmerge_tx` in a transaction of its own."""
        await self._db.write("identity_unmerge", lambda tx: self.unmerge_tx(tx, subsumed, now, who=who, why=why))

    async def history(self, record: RecordKey) -> list[LinkEvent]:
        """:meth:`history_tx` in a transaction of its own."""
        return await self._db.read("identity_history", lambda tx: self.history_tx(tx, record))

    async def feed(self, patient: Patient, member: MemberId | None, now: datetime, **how: Any) -> RecordKey:
        """:meth:`feed_tx` in a transaction of its own; committed when it returns."""
        return (await self.feed_all([(patient, member)], now, **how))[0]

    async def feed_all(self, patients: Sequence[tuple[Patient, MemberId | None]], now: datetime, **how: Any) -> list[RecordKey]:
        """Several records in one transaction: all, or none."""

        def fed(tx: Tx) -> list[RecordKey]:
            batch = self.batch(tx, now)
            batch.prefetch(patient for patient, _ in patients)
            keys = [batch.feed(patient, member, **{"kind": "feed", **how}) for patient, member in patients]
            batch.settle()
            return keys

        return await self._db.write("identity_feed", fed)

    async def merge(self, survivor: Identifier, subsumed: Identifier, now: datetime, *, who: str = "A40") -> None:
        """:meth:`merge_tx` in a transaction of its own."""
        await self._db.write("identity_merge", lambda tx: self.merge_tx(tx, survivor, subsumed, now, who=who))

    async def find_cx(self, cx: Identifier) -> CxTarget | None:
        """:meth:`find_cx_tx` in a transaction of its own."""
        return await self._db.read("identity_find", lambda tx: self.find_cx_tx(tx, cx))


def _nothing_moved(_: Tx, __: Collection[RecordKey], ___: RecordChange, ____: datetime) -> None:
    pass


def _no_headers(_: Tx, __: Collection[RecordKey]) -> Mapping[RecordKey, Sequence[tuple[Patient, int]]]:
    return {}


__all__ = ["CxTarget", "IdentityStore", "LinkEvent", "NotFound"]
