"""OutboxStore: what one destination wants, may have been sent, and has acknowledged (D15).

A transaction here spans two rooms: the outbox's rows (``outbox_rows.py``) and the revisions that they are
about (``revisions.py``). Each statement stands in the room of its table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from crosslight.runtime.db import Db, Tx
from crosslight.standards.census import Census, census_item, take_census
from crosslight.standards.ids import Identifier
from node.publish.decide import next_act
from node.publish.model import Acked, Job, Parked
from node.publish.outbox_rows import DestinationRow, OutboxRows, Settled
from node.publish.revisions import Revisions

__all__ = ["DestinationRow", "OutboxStore", "Settled"]

Patients = dict[str, set[Identifier]]  # study UID -> whose it is, was and is to be
_PAGE = 400


class OutboxStore:
    """The outbox of one destination.

    The census of what it acknowledged is kept in memory and counted at :meth:`open`.
    """

    def __init__(self, db: Db, destination: str) -> None:
        self.db = db
        self._rows, self._revisions = OutboxRows(destination), Revisions()
        self.census = Census()
        self._counting = asyncio.Lock()  # the census follows one write at a time

    async def open(self) -> None:
        """Count the census. The tables are made by ``PublishStore.open``."""
        approved = await self.db.read("outbox_census", self._rows.approved_tx)
        self.census = take_census((row[0], row[1]) for row in approved)

    async def destination(self) -> DestinationRow:
        """What is known of the destination."""
        return await self.db.read("outbox_destination", self._rows.destination_tx)

    async def set_incarnation(self, incarnation: str) -> None:
        """The registry that acknowledges from now on."""
        await self.db.write("outbox_incarnation", lambda tx: self._rows.set_incarnation_tx(tx, incarnation))

    async def owe_reconciliation(self, why: str) -> None:
        """A comparison is owed; it survives a restart."""
        await self.db.write("outbox_owe", lambda tx: self._rows.owe_reconciliation_tx(tx, why))

    async def filled(self) -> None:
        """All that was to be filled or compared is acknowledged."""
        await self.db.write("outbox_filled", self._rows.filled_tx)

    # --- taking and settling --------------------------------------------------------------------------------

    async def take(self, now_unix: float, limit: int, *, busy: frozenset[str] = frozenset()) -> list[Job]:
        """Jobs that are due, in the order of their versions, each noted as in flight before anything is sent.

        Args:
            now_unix: Rows to be tried later are left.
            limit: Most jobs.
            busy: Studies already being worked on.
        """
        return await self.db.write("outbox_take", lambda tx: self._take(tx, now_unix, limit, busy))

    def _take(self, tx: Tx, now_unix: float, limit: int, busy: frozenset[str]) -> list[Job]:
        jobs: list[Job] = []
        for due in self._rows.due_tx(tx, now_unix, limit + len(busy)):
            if due.study_uid in busy or len(jobs) >= limit:
                continue
            acked = self._rows.acked_tx(tx, due.study_uid)
            act = due.sent or next_act(due.want, acked)
            if act is None:
                self._rows.drop_tx(tx, due.study_uid)
                continue
            publishes = act.kind in ("fresh", "replace")
            revision = self._revisions.at_tx(tx, act.version) if publishes else None
            if publishes and (revision is None or revision.record is None):
                # the revision was dropped once nothing seemed to need it: have another made
                self._rows.in_flight_tx(tx, due.study_uid, None)
                self._revisions.force_tx(tx, due.study_uid)
                continue
            if due.sent is None:
                self._rows.in_flight_tx(tx, due.study_uid, act)
                self._revisions.sent_tx(tx, act.version)
            jobs.append(
                Job(
                    study_uid=due.study_uid,
                    act=act,
                    acked=acked,
                    unsettled=due.sent is not None,
                    attempts=due.attempts,
                    revision=revision,
                )
            )
        return jobs

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Write what became of jobs, all in one transaction."""

        def write(tx: Tx) -> Census:
            census = self.census
            for settlement in settled:
                census = self._settle(tx, settlement, census)
            return census

        if settled:
            async with self._counting:
                self.census = await self.db.write("outbox_settle", write)

    def _settle(self, tx: Tx, settled: Settled, census: Census) -> Census:
        if settled.truth:
            census = self._put_acked(tx, settled.study_uid, settled.acked, census)
        if settled.acknowledged is not None:
            self._rows.advance_tx(tx, settled.acknowledged)
        if not settled.keep:
            self._rows.in_flight_tx(tx, settled.study_uid, None)
        self._rows.try_again_tx(tx, settled)
        if settled.anew:
            self._revisions.force_tx(tx, settled.study_uid)
        elif not settled.keep and not settled.parked_code:
            want = self._rows.want_tx(tx, settled.study_uid)
            if want is not None and next_act(want, self._rows.acked_tx(tx, settled.study_uid)) is None:
                self._rows.drop_tx(tx, settled.study_uid)
        return census

    def _put_acked(self, tx: Tx, study_uid: str, acked: Acked | None, census: Census) -> Census:
        before = self._rows.acked_tx(tx, study_uid)
        if before is not None and before.status == "Approved":
            census = census.without_item(census_item(study_uid, before.sha1))
        if acked is None:
            self._rows.forget_acked_tx(tx, study_uid)
            if before is not None and not self._rows.is_anywhere_tx(tx, study_uid):
                # nobody can ask for a withdrawn chain, so its manifests need not be kept
                self._revisions.forget_tx(
                    tx, study_uid, set(before.chain) - self._rows.named_tx(tx, study_uid)
                )
            return census
        self._rows.put_acked_tx(tx, study_uid, acked, self._revisions.day_tx(tx, acked.version))
        self._revisions.superseded_tx(tx, study_uid, acked.version)
        return census.with_item(census_item(study_uid, acked.sha1)) if acked.status == "Approved" else census

    # --- comparing ------------------------------------------------------------------------------------------

    async def held_after(self, after: str, limit: int) -> list[tuple[str, Acked]]:
        """A page of what was acknowledged, in the order of study UIDs."""
        return await self.db.read("outbox_held_after", lambda tx: self._rows.held_after_tx(tx, after, limit))

    async def acked(self, study_uid: str) -> Acked | None:
        """What was acknowledged of one study."""
        return await self.db.read("outbox_acked", lambda tx: self._rows.acked_tx(tx, study_uid))

    async def learnt(self, differing: dict[str, Acked | None], *, all_compared: bool) -> None:
        """Write what a comparison found, and have all of these studies published again.

        Args:
            differing: What the destination has of each study that differs (None: nothing).
            all_compared: It was the whole comparison: nothing is in flight any more, and none is owed.
        """

        def write(tx: Tx) -> Census:
            census = self.census
            for study_uid, acked in differing.items():
                census = self._put_acked(tx, study_uid, self._with_known(tx, study_uid, acked), census)
                self._rows.in_flight_tx(tx, study_uid, None)
                self._revisions.force_learnt_tx(tx, study_uid, acked.patient if acked else Identifier(""))
            if all_compared:
                self._rows.compared_tx(tx)
            return census

        async with self._counting:
            self.census = await self.db.write("outbox_learnt", write)

    def _with_known(self, tx: Tx, study_uid: str, acked: Acked | None) -> Acked | None:
        """What the other side has, with what we remember of its chain."""
        if acked is None:
            return None
        before = self._rows.acked_tx(tx, study_uid)
        if before is None:
            return acked
        chain = tuple(
            dict.fromkeys((*(version for version in before.chain if version < acked.version), *acked.chain))
        )
        return replace(acked, chain=chain, patient=acked.patient if acked.patient.value else before.patient)

    # --- for people -----------------------------------------------------------------------------------------

    async def counts(self, scheduled: Iterable[str] = ()) -> tuple[int, int, str]:
        """(waiting, parked, oldest study date acknowledged as approved), as of one moment.

        Args:
            scheduled: Studies that wait for a revision: those that have no intent yet are waiting too.
        """
        studies = list(scheduled)

        def read(tx: Tx) -> tuple[int, int, str]:
            intents, parked = self._rows.counts_tx(tx)
            elsewhere = self._rows.among_tx(tx, studies) | self._revisions.forced_among_tx(tx, studies)
            unrevised = len(studies) - len(elsewhere) + self._forced(tx, intents)
            return intents - parked + unrevised, parked, self._rows.oldest_day_tx(tx)

        return await self.db.read("outbox_counts", read)

    def _forced(self, tx: Tx, intents: int) -> int:
        """Studies to be published again, as a comparison found, that have no intent yet."""
        forced, after = self._revisions.forced_count_tx(tx), ""
        while forced and intents and (page := self._rows.studies_tx(tx, after, _PAGE)):
            forced -= len(self._revisions.forced_among_tx(tx, page))
            after = page[-1]
        return forced

    async def unlisted(self, scheduled: Iterable[str], limit: int) -> tuple[Patients, Patients]:
        """Studies that wait, and studies refused for good, each with its patients.

        These are the patients under whom it was and is to be published. Withdrawn studies (for safety, or
        sealed) are left out.

        Args:
            scheduled: Studies that wait for a revision.
            limit: Most of each.
        """
        studies = list(scheduled)[:limit]

        def read(tx: Tx) -> tuple[Patients, Patients]:
            waiting, refused = (self._with_intent(tx, limit, parked=parked) for parked in (False, True))
            for study_uid, patient in self._revisions.forced_patients_tx(tx, limit).items():
                waiting.setdefault(study_uid, set()).add(patient)
            known = self._revisions.patients_tx(tx, studies)
            for study_uid in studies:
                state, patient = known.get(study_uid, ("live", Identifier("")))
                if state != "withdrawn":
                    waiting.setdefault(study_uid, set()).add(patient)
            return _with_numbers(waiting), _with_numbers(refused)

        return await self.db.read("outbox_unlisted", read)

    def _with_intent(self, tx: Tx, limit: int, *, parked: bool) -> Patients:
        patients: Patients = {}
        for study_uid, whose in self._intended(tx, parked=parked):
            patients[study_uid] = whose
            if len(patients) == limit:
                break
        return patients

    def _intended(self, tx: Tx, *, parked: bool) -> Iterator[tuple[str, set[Identifier]]]:
        """Studies with an intent and whose they are, but those that have been withdrawn since."""
        after = ""
        while page := self._rows.patients_tx(tx, after, _PAGE, parked=parked):
            known = self._revisions.patients_tx(tx, [study_uid for study_uid, _ in page])
            for study_uid, whose in page:
                state, patient = known.get(study_uid, ("live", Identifier("")))
                if state != "withdrawn":
                    yield study_uid, whose | {patient}
            after = page[-1][0]

    async def next_unix(self) -> float | None:
        """When the next job is due; None when nothing waits."""
        return await self.db.read("outbox_next", self._rows.next_unix_tx)

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Intents that need an operator."""
        return await self.db.read("outbox_parked", lambda tx: self._rows.parked_tx(tx, limit))

    async def held_back(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Studies that the destination answered for and that wait all the same: (study UID, why)."""
        return await self.db.read("outbox_held_back", lambda tx: self._rows.held_back_tx(tx, limit))

    async def unpark(self, study_uid: str = "") -> int:
        """Try parked intents again: one study's, or all."""
        return await self.db.write("outbox_unpark", lambda tx: self._rows.unpark_tx(tx, study_uid))

    # --- patients fed (ITI-8) -------------------------------------------------------------------------------

    async def fed(self, patient: Identifier) -> str:
        """The digest of the demographics that the destination has, '' = never fed."""
        return await self.db.read("outbox_fed", lambda tx: self._rows.fed_tx(tx, patient))

    async def set_fed(self, patient: Identifier, digest: str) -> None:
        """The destination has these demographics; '' = it has forgotten the patient."""
        await self.db.write("outbox_set_fed", lambda tx: self._rows.set_fed_tx(tx, patient, digest))


def _with_numbers(patients_of_studies: Patients) -> Patients:
    """Without patients that have no number."""
    return {
        study_uid: {patient for patient in whose if patient.value}
        for study_uid, whose in patients_of_studies.items()
    }
