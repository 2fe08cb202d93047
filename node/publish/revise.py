"""From a marked study to a revision (D14): record, manifest and digest, and the intent in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crosslight.runtime.clock import dtm
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.waiting import Wake
from crosslight.standards.dicom.record.kos import build_manifest
from crosslight.standards.ids import DerivedId, Kind, Version, study_tag
from crosslight.standards.national import was_unread
from crosslight.standards.problem import CrosslightError
from crosslight.standards.records import changed
from crosslight.standards.study import InstanceRef, ManifestFacts, StudyRecord
from node.holdings import Holdings
from node.marks import Mark
from node.publish.model import PublisherIdentity, Revision, Want
from node.publish.revisions import StudyRow
from node.publish.schedule import Schedule
from node.publish.store import EpochUsedUp, NoEpoch, PublishStore

log = get_logger("publish")

PAGE = 500  # studies loaded at once after a start
AT_ONCE = 16  # revisions made at once
AGAIN_S = 30.0  # after a revision that failed
LOOK_EVERY_S = 1.0  # for changes that another process made: import, delete and undelete from the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How manifests say that images can be had, beside the retrieveLocationUID."""

    ae_title: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who publishes, and what the manifests say of retrieval.

    ``identity`` is asked at each revision, since the region may change it.
    """

    identity: Callable[[], PublisherIdentity]
    retrieval: Retrieval


class Reviser:
    """Makes revisions as studies settle.

    Args:
        store: Where they rest.
        holdings: Where studies come from.
        seams: Time, and threads in which manifests are built.
        schedule: The timing.
        origin: Who publishes.
        on_revision: Called after each commit.
        on_used_up: Called when another epoch is needed.
    """

    def __init__(
        self,
        store: PublishStore,
        holdings: Holdings,
        seams: Seams,
        schedule: Schedule,
        origin: Origin,
        *,
        on_revision: Callable[[], None],
        on_used_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._schedule = schedule
        self._origin = origin
        self._workers, self._clock = seams.workers, seams.clock
        self._on_revision, self._on_used_up = on_revision, on_used_up
        self._wake = Wake(seams.clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock, self._told = threading.Lock(), list[str]()
        self._unseen: str | None = ""  # cursor through the marks of before the start; None = done
        self._forced: str | None = ""  # cursor through studies to be published again; None = done
        self._serial: int | None = None  # of the last change looked at; None = before the first look
        self._look_at = 0.0

    # --- told by others -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen to what is held."""
        self._loop = asyncio.get_running_loop()
        self._holdings.on_change(self._changed_in_any_thread)

    def _changed_in_any_thread(self, study_uid: str) -> None:
        """One wake of the loop for all changes until it comes to them."""
        if self._loop is None or self._loop.is_closed():
            return
        with self._lock:
            self._told.append(study_uid)
            if len(self._told) > 1:
                return
        self._loop.call_soon_threadsafe(self._take_told)

    def _take_told(self) -> None:
        with self._lock:
            told, self._told = self._told, []
        for study_uid in dict.fromkeys(told):
            self._changed(study_uid)

    def _changed(self, study_uid: str) -> None:
        fresh = study_uid not in self._schedule
        self._schedule.changed(study_uid, self._clock.monotonic_s(), known=False)
        if fresh:  # a change of a scheduled study can only make it due later: no need to wake
            self._wake.set()

    def look_for_forced(self) -> None:
        """Studies may have to be published again."""
        self._forced = ""
        self._wake.set()

    @property
    def settled(self) -> bool:
        """Whether all that has to be looked at has been.

        That is every study that changed before the start, and every one that a comparison found to differ.
        """
        return self._unseen is None and self._forced is None

    async def catch_up(self) -> None:
        """Hear of all that was taken in, so that nothing of it is missing in :meth:`pending`."""
        await self._holdings.catch_up()

    def pending(self) -> list[str]:
        """Studies that wait for a revision."""
        return self._schedule.studies()

    # --- the loop -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make revisions until cancelled."""
        while True:
            try:
                await self._refill()
                await self.revise_due()
                due = self._schedule.next_due()
                wait_s = None if due is None else due - self._clock.monotonic_s()
                wait_s = LOOK_EVERY_S if wait_s is None else min(wait_s, LOOK_EVERY_S)
                if not self.settled:
                    wait_s = 0.0 if len(self._schedule) < PAGE else wait_s
            except CrosslightError as error:
                log.warning("revisions wait", reason=error.what)
                wait_s = 1.0
            except Exception:
                log.exception("revisions wait")
                wait_s = 1.0
            await self._wake.wait(wait_s)

    async def _refill(self) -> None:
        """Load studies that changed before the start, and those to be published again, a page at a time."""
        now, unix = self._clock.monotonic_s(), self._clock.now().timestamp()
        await self._look_for_others(now, unix)
        if self._forced is not None and len(self._schedule) < PAGE:
            study_uids = await self._store.forced(self._forced, PAGE)
            for study_uid in study_uids:
                self._schedule.at_once(study_uid, now)
            self._forced = study_uids[-1] if len(study_uids) == PAGE else None
        if self._unseen is not None and len(self._schedule) < PAGE:
            marks, self._unseen = await self._store.unseen(self._unseen, PAGE)
            for mark, known in marks:
                ago = max(0.0, unix - mark.last_change_unix)
                self._schedule.changed(mark.study_uid, now, known=known, last=now - ago)

    async def _look_for_others(self, now: float, unix: float) -> None:
        """Changes that no callback told of, made by other processes (``crosslight-node import``)."""
        if self._serial is None:
            self._serial = await self._store.last_serial()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        for mark, seen in await self._store.changed_after(self._serial, PAGE):
            if seen is not None and seen.forced:  # an operator's order, or what a comparison found
                self._schedule.at_once(mark.study_uid, now)
            elif seen is None or mark.change > seen.change:
                ago = max(0.0, unix - mark.last_change_unix)
                self._schedule.changed(mark.study_uid, now, known=seen is not None, last=now - ago)
            self._serial = mark.serial

    async def revise_due(self) -> int:
        """Make the revisions whose time has come; how many studies were looked at."""
        due = self._schedule.due(self._clock.monotonic_s())
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            await asyncio.gather(*(self._revise_safely(study_uid) for study_uid, _ in batch))
        return len(due)

    async def _revise_safely(self, study_uid: str) -> None:
        try:
            await self._revise(study_uid)
        except NoEpoch:
            self._schedule.postpone(study_uid, self._clock.monotonic_s() + 0.5)
        except EpochUsedUp:
            self._on_used_up()
            self._schedule.postpone(study_uid, self._clock.monotonic_s() + 5.0)
        except CrosslightError as error:
            log.error("no revision", study=study_uid, kind=type(error).__name__, reason=error.what)
            self._schedule.postpone(study_uid, self._clock.monotonic_s() + AGAIN_S)
        except Exception:
            log.exception("no revision", study=study_uid)
            self._schedule.postpone(study_uid, self._clock.monotonic_s() + AGAIN_S)

    # --- one study ------------------------------------------------------------------------------------------

    async def _revise(self, study_uid: str) -> None:
        now = self._clock.monotonic_s()
        row, mark = await self._store.look(study_uid)
        if row is not None and self._schedule.know(study_uid) and self._schedule.due_at(study_uid) > now:
            return  # it was published before: the first-object rule is not for it
        progress = self._schedule.progress(study_uid, now)
        record = await self._holdings.record(study_uid)
        instances: list[InstanceRef] = []
        if record is not None:
            instances = [stored.ref for stored in await self._holdings.objects(study_uid)]
        if record is None or not instances or (row is not None and row.state == "withdrawn"):
            progress = "complete"
            done = await self._gone(study_uid, row, mark)
        else:
            done = await self._live(changed(record, progress=progress), instances, row, mark)
        if not done:
            self._schedule.at_once(study_uid, now)
            return
        self._schedule.revised(study_uid, self._clock.monotonic_s(), progress, changes_seen_until=now)

    async def _gone(self, study_uid: str, row: StudyRow | None, mark: Mark | None) -> bool:
        """Nothing is there to publish: deprecate, or withdraw, what was."""
        if row is None:
            return True
        change = mark.change if mark else row.seen_change
        if row.state != "live" and not row.forced:
            await self._store.saw(study_uid, change, "complete")
            return True
        version = await self._store.reserve(study_uid)
        withdrawn = row.state == "withdrawn"
        want = Want(kind="withdraw" if withdrawn else "deprecate", version=version, patient=row.patient)
        gone = replace(
            row,
            state="withdrawn" if withdrawn else "deleted",
            version=version,
            digest="",
            progress="complete",
            seen_change=change,
        )
        return await self._commit(gone, want, None, b"")

    async def _live(
        self, record: StudyRecord, instances: Sequence[InstanceRef], row: StudyRow | None, mark: Mark | None
    ) -> bool:
        digest, change = record.digest(), mark.change if mark else 0
        if row is not None and row.state == "live" and row.digest == digest and not row.forced:
            await self._store.saw(record.study_uid, change, record.progress)
            return True
        version = await self._store.reserve(record.study_uid)
        manifest, revision = await self._workers.run(self._build, record, instances, version, digest)
        want = Want(kind="publish", version=version, digest=digest, patient=record.patient.local)
        fresh = StudyRow(
            study_uid=record.study_uid,
            state="live",
            version=version,
            digest=digest,
            progress=record.progress,
            patient=record.patient.local,
            seen_change=change,
            forced=False,
            unread=sum(was_unread(number) for number in record.patient.others),
        )
        return await self._commit(fresh, want, revision, manifest)

    def _build(
        self, record: StudyRecord, instances: Sequence[InstanceRef], version: Version, digest: str
    ) -> tuple[bytes, Revision]:
        """Fix manifest, hash, size and times (D14). Runs in a worker."""
        identity, created = self._origin.identity(), self._clock.now()
        tag = study_tag(identity.secret, record.study_uid)
        document_uid = DerivedId(Kind.DOCUMENT, version, tag).uid()
        manifest = build_manifest(
            record,
            instances,
            document_uid=document_uid,
            series_uid=DerivedId(Kind.MANIFEST_SERIES, version, tag).uid(),
            retrieve_ae_title=self._origin.retrieval.ae_title,
            retrieve_location_uid=identity.source.retrieve_location_uid,
            retrieve_url=self._origin.retrieval.url,
            created=created,
        )
        facts = ManifestFacts(
            document_uid=document_uid,
            sha1=hashlib.sha1(manifest, usedforsecurity=False).hexdigest(),
            size_bytes=len(manifest),
            creation_time=dtm(created),
        )
        revision = Revision(
            version=version,
            study_uid=record.study_uid,
            manifest=facts,
            submission_time=dtm(created),
            digest=digest,
            patient=record.patient.local,
            record=record,
        )
        return manifest, revision

    async def _commit(self, row: StudyRow, want: Want, revision: Revision | None, manifest: bytes) -> bool:
        if not await self._store.commit(row, want, revision, manifest):
            return False
        self._on_revision()
        return True
