"""The outbox of one destination: takes what is due, has it delivered, writes what became of it (D15).

Every act is noted as in flight before it leaves; one whose fate is unknown is settled by the road before the
next is built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Backoff, Draw, Wake
from crosslight.standards.problem import CrosslightError
from node.publish.model import Anew, DeliveryRefused, Disagreement, Done, Job, Later, Learnt, Result
from node.publish.outbox_store import OutboxStore, Settled
from node.publish.road import Road, RoadDown

log = get_logger("publish")

IDLE_S = 30.0  # looks at the table at least so often, whatever it was told
COMPARED_FOR_ONE = 3  # comparisons for one study's sake; where it still disagrees it is put off by itself
MOST_DISAGREEING = 10_000  # studies of which it is known how often they disagreed


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How retries are spaced, and when patience ends."""

    first_s: float = 0.5
    longest_s: float = 5.0
    study_longest_s: float = 300.0
    park_after: int = 8


class Outbox:
    """Delivers to one destination.

    Args:
        store: Its rows.
        road: How it is reached.
        clock: Time.
        draw: Jitter of retries.
        retry: Spacing of retries.
        on_disagreement: Called with a reason and seconds to wait when the destination knows more than we
            remember; it should hold the outbox, and compare after so long.
        on_anew: Called when studies need a new revision.
    """

    def __init__(
        self,
        store: OutboxStore,
        road: Road,
        clock: Clock,
        draw: Draw,
        retry: Retry,
        *,
        on_disagreement: Callable[[str, float], None],
        on_anew: Callable[[], None],
    ) -> None:
        self._store = store
        self._road = road
        self._clock = clock
        self._retry = retry
        self._backoff = Backoff(retry.first_s, retry.longest_s, draw)
        self._study_backoff = Backoff(retry.first_s, retry.study_longest_s, draw)
        self._on_disagreement, self._on_anew = on_disagreement, on_anew
        self._held: dict[str, str] = {}
        self._disagreed: dict[str, int] = {}  # study -> how often, since it was last acknowledged
        self._disagreement: tuple[str, int] = ("", 0)  # of this pass: why, and how often before at most
        self._wake = Wake(clock)
        self._failures = 0
        self._down = ""
        self.quiet = asyncio.Lock()  # held by a pass; whoever compares takes it

    # --- told by others -------------------------------------------------------------------------------------

    def wake(self, *, link_up: bool = False) -> None:
        """There may be something to do.

        Args:
            link_up: The destination can be reached again, so do not wait out a retry.
        """
        if link_up:
            self._failures = 0
        self._wake.set()

    def hold(self, reason: str, why: str) -> None:
        """Send nothing until :meth:`release` of the same reason."""
        self._held[reason] = why

    def release(self, reason: str) -> None:
        """End the :meth:`hold` of this reason; others stay in force."""
        self._held.pop(reason, None)
        self.wake(link_up=True)

    @property
    def held_up(self) -> str:
        """Why nothing is sent now; '' when nothing holds it up."""
        return next(iter(self._held.values()), "") or self._down

    # --- the loop -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            wait_s: float | None = IDLE_S
            try:
                if not self._held:
                    wait_s = await self.pass_once()
            except Exception as error:
                if isinstance(error, CrosslightError):
                    log.warning("publication pass failed", reason=error.what)
                else:  # a fault of ours: logged, so that publication does not stop silently until a restart
                    log.exception("publication pass failed")
                wait_s = self._backoff.delay_s(self._failures)
                self._failures += 1
            await self._wake.wait(wait_s)

    async def pass_once(self) -> float | None:
        """One round of deliveries; seconds until the next is due."""
        async with self.quiet:
            if self._held:
                return IDLE_S
            now = self._clock.now().timestamp()
            jobs = await self._store.take(now, self._road.together * self._road.parallel)
            if jobs:
                return await self._deliver_all(jobs)
            due = await self._store.next_unix()
            return IDLE_S if due is None else min(IDLE_S, max(0.0, due - now))

    async def _deliver_all(self, jobs: Sequence[Job]) -> float:
        size = self._road.together
        batches = [jobs[i : i + size] for i in range(0, len(jobs), size)]
        answers = await asyncio.gather(*(self._deliver(batch) for batch in batches), return_exceptions=True)
        down: BaseException | None = None
        settled: list[Settled] = []
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, BaseException):
                down = answer
            else:
                settled += [self._settled(job, result) for job, result in zip(batch, answer, strict=True)]
        await self._store.settle(settled)
        self._tell_disagreement()
        if any(settlement.anew for settlement in settled):
            self._on_anew()
        await self._note_incarnation()
        if down is None:
            self._failures, self._down = 0, ""
            return 0.0
        if not isinstance(down, RoadDown):
            raise down
        self._down = str(down)
        wait_s = self._backoff.delay_s(self._failures)
        log.info("registry not reached", reason=down.what, attempt=self._failures, delay_s=round(wait_s, 2))
        self._failures += 1
        return wait_s

    async def _deliver(self, batch: Sequence[Job]) -> list[Result]:
        return await self._road.deliver(batch)

    async def _note_incarnation(self) -> None:
        incarnation = self._road.incarnation
        if not incarnation:
            return
        known = (await self._store.destination()).incarnation
        if known and known != incarnation:
            self._on_disagreement("the registry's database is another one than before", 0.0)
        elif not known:
            await self._store.set_incarnation(incarnation)

    # --- what became of a job -------------------------------------------------------------------------------

    def _settled(self, job: Job, result: Result) -> Settled:
        now = self._clock.now().timestamp()
        if isinstance(result, Done):
            self._disagreed.pop(job.study_uid, None)
            return Settled(
                study_uid=job.study_uid, truth=True, acked=result.acked, acknowledged=job.act.version
            )
        if isinstance(result, DeliveryRefused):
            return self._park(job, result.code, result.why, now)
        if isinstance(result, Disagreement):
            return self._disagree(job, result, now)
        if isinstance(result, Learnt) and not result.refused:
            return Settled(study_uid=job.study_uid, truth=True, acked=result.acked, attempts=job.attempts)
        attempts = job.attempts + 1
        if isinstance(result, Later):
            delay_s = self._study_backoff.delay_s(attempts)
            if attempts >= self._retry.park_after and not result.patience and not result.sent:
                return self._park(job, "XDSRegistryError", result.why, now)
            return Settled(
                study_uid=job.study_uid,
                truth=False,
                keep=result.sent,
                attempts=attempts,
                next_unix=now + delay_s,
                parked_why=result.why,
            )
        if attempts >= self._retry.park_after:
            return self._park(job, "XDSRegistryError", result.why, now, result)
        # What is there was learnt: the next act is built from it at once, unless that keeps happening.
        delay_s = 0.0 if attempts < 3 else self._backoff.delay_s(attempts)
        return Settled(
            study_uid=job.study_uid,
            truth=True,
            acked=result.acked,
            attempts=attempts,
            next_unix=now + delay_s,
            anew=isinstance(result, Anew),
        )

    def _disagree(self, job: Job, result: Disagreement, now: float) -> Settled:
        """A comparison mends it, unless the destination is at fault: then it must not go round for ever."""
        times = self._disagreed.pop(job.study_uid, 0) + 1
        self._disagreed[job.study_uid] = times
        if len(self._disagreed) > MOST_DISAGREEING:
            del self._disagreed[next(iter(self._disagreed))]
        if times <= COMPARED_FOR_ONE or result.whole:
            self._disagreement = (result.why, max(times, self._disagreement[1]))
        else:
            log.warning("study disagrees again after comparisons", study=job.study_uid, times=times)
        return Settled(
            study_uid=job.study_uid,
            truth=False,
            attempts=job.attempts + 1,
            next_unix=now + self._study_backoff.delay_s(times),
            parked_why=result.why,
        )

    def _tell_disagreement(self) -> None:
        (why, times), self._disagreement = self._disagreement, ("", 0)
        if why:
            self._on_disagreement(why, self._study_backoff.delay_s(times) if times > 1 else 0.0)

    def _park(
        self, job: Job, code: str, why: str, now: float, learnt: Learnt | Anew | None = None
    ) -> Settled:
        log.warning("publication needs an operator", study=job.study_uid, act=job.act.kind, code=code)
        return Settled(
            study_uid=job.study_uid,
            truth=learnt is not None,
            acked=learnt.acked if learnt is not None else None,
            attempts=job.attempts,
            next_unix=now,
            parked_code=code,
            parked_why=why,
        )
