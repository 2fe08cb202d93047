"""One feed that makes or changes a record.

Of a named source, which describes it, or of any other, whose word is a header.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from crosslight.runtime.db import Tx
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.study import Patient
from registry.identity import rows
from registry.identity.compare import Comparison
from registry.identity.crowded_records import former_headers, former_text
from registry.identity.header import PatientHeader, agree, doubt, merged
from registry.identity.model import RecordKey
from registry.identity.record_parts import contradicts
from registry.identity.relink import relink
from registry.identity.rows import Stored, to_micros
from registry.identity.tables import IdentityTables

MAX_FORMER = 32  # former descriptions of one record that are remembered


@dataclass(frozen=True, slots=True)
class FeedOfOne:
    """See :meth:`registry.identity.batch.FeedBatch.feed`, whose arguments these are."""

    store: IdentityTables
    tx: Tx
    now: datetime
    patient: Patient
    local: Identifier
    who: str
    traced: bool | None
    erase: frozenset[str]

    def apply(
        self, member: MemberId | None, kind: Literal["study", "header", "feed"], digest: str
    ) -> RecordKey:
        """Make or change the record; its key."""
        key = self.store.insert(self.tx, self.local, to_micros(self.now))
        before = rows.load_by(self.tx, "record_key", [key], lock=True)[0]
        made = (
            not before.digest and before.headers == 1 and before.record.patient == Patient(local=self.local)
        )
        if kind == "feed":
            self._described(before, member, digest, made=made)
        elif made or (kind == "header" and self._beyond_doubt(before)):
            self._changed(before, member, digest)
        return RecordKey(key)

    def _beyond_doubt(self, before: Stored) -> bool:
        """Whether a source that is not named may say this of the record: nobody's word stands against it."""
        if before.fed or self.store.is_fed(self.tx, self.local.authority):
            return False
        was, now = self._headers(before)
        return not doubt(was, now) and not contradicts(was, now)

    def _headers(self, before: Stored) -> tuple[PatientHeader, PatientHeader]:
        """The record as it was, and as this feed makes it, as they are compared."""
        patient, claims, _ = self._said_of(before)
        return self.store.header(before.record.patient, before.record.national), self.store.header(
            patient, claims
        )

    def _said_of(self, before: Stored) -> tuple[Patient, frozenset[Identifier], bool]:
        old = frozenset(before.record.national)
        claims = self.store.claims(replace(self.patient, local=self.local), old)
        traced = self._is_traced(before, claims)
        base = (
            before.record.patient
            if before.digest or before.record.patient.name.pn
            else Patient(local=self.local)
        )
        return (
            merged(base, self.store.cleaned(self.patient, self.local, claims), self.erase, traced),
            claims,
            traced,
        )

    def _is_traced(self, before: Stored, claims: frozenset[Identifier]) -> bool:
        if not claims:
            return False
        if self.traced is not None:
            return self.traced
        return self.patient.traced or (before.traced and claims == frozenset(before.record.national))

    def _changed(self, before: Stored, member: MemberId | None, digest: str) -> set[Identifier]:
        """Writes what this says, and links; the numbers whose claims changed."""
        patient, claims, traced = self._said_of(before)
        key, at = before.record.key, to_micros(self.now)
        member = member if member is not None else before.record.member
        self.store.update(self.tx, key, patient, member, traced, at, digest=digest)
        old, changed = frozenset(before.record.national), self.store.claim(self.tx, before, claims)
        was, now = self.store.header(before.record.patient, old), self.store.header(patient, claims)
        if changed or (claims and (traced != before.traced or was != now)):
            relink(self.tx, self.store, {key}, old | claims, at=at, who=self.who, why="feed")
        return changed

    def _described(self, before: Stored, member: MemberId | None, digest: str, *, made: bool) -> None:
        """A named source describes the record.

        Studies follow where birth date or number agrees, others do not.
        """
        was, now = self._headers(before)
        follows = made or not doubt(was, now) or agree(was, now)
        former: list[PatientHeader] = []
        if follows and not made:
            former = former_headers(before.former)
            former = [*former, was] if was != now and was not in former else former
        self.tx.execute(
            "UPDATE patient_record SET fed = 1, former = ? WHERE record_key = ?",
            (former_text(former[-MAX_FORMER:]), before.record.key),
        )
        changed = self._changed(before, member, digest)
        if not made:
            comparison = Comparison(self.store, self.tx, to_micros(self.now), self.who)
            comparison.run(
                [before.record.key], rehomed=() if follows else [before.record.key], changed=changed
            )
