"""StudyPatients: under which patient record a study comes, and when its newest study began (D2, D3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.problem import Invalid
from crosslight.standards.study import Patient
from crosslight.standards.xds.model.publication import Publication
from registry.identity.model import RecordKey
from registry.identity.store import IdentityStore
from registry.index.flush import HoldingEdit
from registry.index.rows import started_of
from registry.index.write import Work
from registry.intake.generic_objects import GenericObjects
from registry.intake.submission import Publish
from registry.members.model import Member


class StudyPatients:
    """The patients of one transaction's studies.

    ``changed`` tells whether the submission that runs has fed one; the batch resets it.
    """

    def __init__(self, tx: Tx, identity: IdentityStore, generic: GenericObjects, now: datetime) -> None:
        self._tx = tx
        self._identity = identity
        self._generic = generic
        self._feeds = identity.batch(tx, now)
        self._fed: dict[tuple[int, Patient], RecordKey] = {}
        self._newest: dict[RecordKey, int] = {}
        self._moments: dict[int, datetime] = {}
        self.changed = False

    def prefetch(self, patients: Iterable[Patient]) -> None:
        """Read what is known of these patients, in few statements."""
        self._feeds.prefetch(patients)

    def settle(self) -> None:
        """Write the patients that were fed, and when the newest study of each began."""
        self._feeds.settle()
        self._feeds.touch({key: self._moments[started] for key, started in self._newest.items()})

    def compare(self, work: Work) -> None:
        """Compare the patients of the studies that ``work`` has written with their records."""
        self._feeds.compare(work.described, work.touched)

    def record_key(self, member: Member, act: Publish) -> RecordKey:
        """Under which patient record a study comes (D2)."""
        if act.patient is not None:
            return self._fed_key(member, act.patient)
        addressed = self._generic.addressed(act.patient_cx, member)
        if addressed.record is not None:
            return addressed.record
        local, records = act.publication.record.patient.local, addressed.records
        for record in records:
            if (record.local.authority, record.local.value) == (local.authority, local.value):
                return record.key
        of_member = [r.key for r in records if r.member == member.id and r.active]
        return (of_member or [records[0].key])[0]

    def _fed_key(self, member: Member, patient: Patient) -> RecordKey:
        if patient.traced and f"member:{member.code}" not in self._identity.rules.traced_from:
            patient = replace(patient, traced=False)  # a member's own word outranks nobody
        key = self._fed.get((member.id, patient))
        if key is None:
            before, self.changed = self.changed, True
            try:
                key = self._feeds.feed(patient, member.id, kind="study")
            except Invalid:
                # told before anything was changed; whatever else fails may have left half of a feed
                self.changed = before
                raise
            self._fed[member.id, patient] = key
        return key

    def settled_key(self, key: RecordKey, entry: HoldingEdit, act: Publish) -> RecordKey:
        """A merge (A40) moves no rows: what is under a subsumed record stays there (D2)."""
        if entry.now is None or entry.now.holding.record_key == key:
            return key
        former = self._identity.record_tx(self._tx, entry.now.holding.record_key)
        return former.key if former is not None and former.subsumed_by == key else key

    def began(self, key: RecordKey, publication: Publication) -> None:
        """The banner follows the newest study (D3)."""
        interval = publication.record.time.interval()
        if interval is None:
            return
        started = started_of(publication.record.time)
        self._moments[started] = interval[0]
        self._newest[key] = max(started, self._newest.get(key, started))
