"""The rows of identity as feeding, comparing, merging and linking write them.

Each in a caller's transaction.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import family_keys
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from crosslight.standards.study import Patient, patient_to_json
from registry.identity.config import IdentityRules
from registry.identity.header import merged
from registry.identity.model import PatientRecord, RecordChange, RecordKey
from registry.identity.queries import IdentityReads
from registry.identity.rows import Stored, from_micros

#: The headers of all studies under these records, each with when its newest study began; any order.
HeadersOf = Callable[[Tx, Collection[RecordKey]], Mapping[RecordKey, Sequence[tuple[Patient, int]]]]
#: Told of records that were changed, how, and from when on.
Moved = Callable[[Tx, Collection[RecordKey], RecordChange, datetime], None]
MAX_ID = 255  # characters of a local id
_WRITERS = 0x43524F53_4C494748  # names our lock among those of the database
log = get_logger("identity")


def lock_writers(tx: Tx, *, exclusive: bool = False) -> None:
    """First of all in a transaction that writes persons or studies: beside the others, or ``exclusive``ly.

    Two of them that share patients in another order can end in a deadlock; the one that is run again then
    waits for all others here, so that it ends whatever they do.
    """
    tx.advisory_lock(_WRITERS, exclusive=exclusive)


def _nothing_moved(_: Tx, __: Collection[RecordKey], ___: RecordChange, ____: datetime) -> None:
    pass


def _no_headers(_: Tx, __: Collection[RecordKey]) -> Mapping[RecordKey, Sequence[tuple[Patient, int]]]:
    return {}


class IdentityTables(IdentityReads):
    """What the files of this room write with."""

    def __init__(
        self,
        region: Region,
        ids: Ids,
        rules: IdentityRules | None = None,
        headers: HeadersOf | None = None,
        moved: Moved | None = None,
    ) -> None:
        super().__init__(region, rules)
        self._ids = ids
        self._headers_of, self._moved = headers or _no_headers, moved or _nothing_moved
        self.settled = False  # whether whoever holds a number goes on holding it
        self.alarms: Counter[str] = Counter()  # for metrics

    # --- what a record says ---------------------------------------------------------------------------------

    def said(
        self,
        patient: Patient,
        member: MemberId | None,
        traced: bool | None = None,
        erase: Collection[str] = frozenset(),
    ) -> str:
        """What tells whether a feed says the same as the last one."""
        statement = [patient_to_json(patient), member, traced, sorted(erase)]
        return hashlib.blake2b(
            orjson.dumps(statement, option=orjson.OPT_SORT_KEYS), digest_size=16
        ).hexdigest()

    def described(
        self, local: Identifier, patients: Sequence[Patient]
    ) -> tuple[Patient, frozenset[Identifier], bool]:
        """What ``patients`` say together of the record ``local``, later ones over earlier.

        The numbers it claims, and whether they are traced. Blanks do not erase, and a number that is not
        mentioned is not withdrawn.
        """
        whole, claims, traced = Patient(local=local), frozenset[Identifier](), False
        for patient in patients:
            before, claims = claims, self.claims(replace(patient, local=local), claims)
            traced = bool(claims) and (patient.traced or (traced and claims == before))
            whole = merged(whole, self.cleaned(patient, local, claims), (), traced)
        return whole, claims, traced

    def headers_of(
        self, tx: Tx, keys: Collection[RecordKey]
    ) -> Mapping[RecordKey, Sequence[tuple[Patient, int]]]:
        """The headers of all studies under these records, and when the newest study with each began."""
        return self._headers_of(tx, keys) if keys else {}

    def moved(self, tx: Tx, records: Iterable[PatientRecord], at: int, kind: RecordChange = "moved") -> None:
        """Say that studies under these records are somebody else's from now on, or in doubt or no more.

        Or under those that these are parts of. Whoever reads what changed reads them again. ``described``:
        only what is said of these persons is new.
        """
        keys = {record.part_of or record.key for record in records}
        if keys:
            self._moved(tx, keys, kind, from_micros(at))

    def is_fed(self, tx: Tx, authority: str) -> bool:
        """Whether a named feed describes records of ``authority``: then headers change none of them."""
        return (
            tx.row("SELECT 1 FROM patient_record WHERE authority = ? AND fed = 1 LIMIT 1", (authority,))
            is not None
        )

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
            raise Invalid(
                "A national number that is not valid.",
                why="Check digit, range or test numbers.",
                where="PID-3.1",
            )
        return number

    def cleaned(self, patient: Patient, local: Identifier, claims: frozenset[Identifier]) -> Patient:
        """``patient`` with national numbers as claimed: normal form, valid ones only."""
        others = [i for i in patient.others if i.authority not in self._region.nationals]
        gone = [Identifier("", authority) for authority in self._region.nationals]
        return replace(patient, local=local, others=(*others, *sorted(claims - {local}), *gone))

    # --- rows -----------------------------------------------------------------------------------------------

    def insert(self, tx: Tx, local: Identifier, at: int) -> int:
        """The key of the record ``local``, made where there is none."""
        key = self.new_key()
        row = tx.row(
            "INSERT INTO patient_record (record_key, person_key, authority, local_id, fhir_id, minted,"
            " birth_date, family_key, family_alt, traced, disputed, created, updated, digest, patient) VALUES"
            " (?,?,?,?,?,?,'','','',0,0,?,?,'',?) ON CONFLICT (authority, local_id, part) DO NOTHING"
            " RETURNING record_key",
            (
                key,
                key,
                local.authority,
                local.value,
                self.new_fhir_id(),
                self.minted(local),
                at,
                at,
                orjson.dumps(patient_to_json(Patient(local=local))).decode(),
            ),
        )
        if row is None:  # another transaction was first
            row = tx.row(
                "SELECT record_key FROM patient_record WHERE authority = ? AND local_id = ? AND part = 0",
                (local.authority, local.value),
            )
        assert row is not None  # noqa: S101 - inserted by us or by the one that was first
        return int(row[0])

    def insert_part(self, tx: Tx, key: int, parent: Stored, number: int, at: int) -> None:
        """Make part ``n`` of a record, in doubt and empty."""
        local = parent.record.patient.local
        tx.execute(
            "INSERT INTO patient_record (record_key, person_key, authority, local_id, part, part_of,"
            " in_doubt, member, fhir_id, minted, birth_date, family_key, family_alt, traced, disputed,"
            " created, updated, digest, patient) VALUES (?,?,?,?,?,?,1,?,?,?,'','','',0,0,?,?,'',?)",
            (
                key,
                key,
                local.authority,
                local.value,
                number,
                int(parent.record.key),
                parent.record.member,
                self.new_fhir_id(),
                "CL" + self._ids.token_bytes(10).hex().upper(),
                at,
                at,
                orjson.dumps(patient_to_json(Patient(local=local))).decode(),
            ),
        )

    def new_key(self) -> int:
        """A random record key (D7)."""
        return self._ids.key63()

    def new_fhir_id(self) -> str:
        """A random FHIR id (D7)."""
        return str(self._ids.uuid4())

    def new_decision(self) -> str:
        """The random id of a decision."""
        return str(self._ids.uuid4())

    def minted(self, local: Identifier) -> str:
        """The affinity-domain id of a record for when it holds no national number (D4)."""
        return (
            local.value
            if local.authority == self._region.authority
            else "CL" + self._ids.token_bytes(10).hex().upper()
        )

    def update(
        self,
        tx: Tx,
        key: int,
        patient: Patient,
        member: MemberId | None,
        traced: bool,
        at: int,
        *,
        digest: str,
    ) -> None:
        """Write what a record says."""
        family, alternative = family_keys(patient.name)
        tx.execute(
            "UPDATE patient_record SET member = ?, birth_date = ?, family_key = ?, family_alt = ?, traced ="
            " ?, updated = ?, digest = ?, patient = ? WHERE record_key = ?",
            (
                member,
                patient.birth_date,
                family,
                alternative,
                int(traced),
                at,
                digest,
                orjson.dumps(patient_to_json(patient)).decode(),
                key,
            ),
        )
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

    def touch_all(self, tx: Tx, rows: Sequence[tuple[int, int]]) -> None:
        """Studies of these records began then, as (record key, microseconds), each once.

        The banner follows the newest (D3).
        """
        tx.update_many("patient_record", ("record_key",), ("newest_study",), rows, rising="newest_study")

    def alarm(self, member: MemberId | None) -> None:
        """A member's record claims a number that another holds.

        An operator must know, and a person must decide.
        """
        self.alarms["number claimed by two"] += 1
        log.error("alarm", what="a record claims a number that another person holds", member=member)
