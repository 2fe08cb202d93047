"""Publication of one node to one registry (D8, D10, D14-D16).

Revisions, outbox, reconciliation, and what the link is told. Knows no wire: the road and the comparison are
given. ``build.py`` puts the parts together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress

from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.waiting import Backoff, Wake
from crosslight.standards.concern import Concern
from crosslight.standards.problem import CrosslightError
from node.holdings import Holdings
from node.membership.model import EpochGrant, HelloFacts
from node.publish.config import PublishConfig
from node.publish.model import Acked, Parked, PublishStatus
from node.publish.outbox import Outbox, Retry
from node.publish.outbox_store import OutboxStore
from node.publish.revise import Origin, Reviser
from node.publish.road import Destination
from node.publish.schedule import Pace, Schedule
from node.publish.store import MAX_N, PublishStore
from node.publish.unlisted_studies import Unlisted

log = get_logger("publish")

COMPARE_PAGE = 1_000


class Publisher:
    """Everything between the archive's marks and the registry's index.

    Args:
        store: Revisions.
        outbox_store: The destination's rows, in the same database.
        holdings: Where studies come from.
        seams: Time, jitter, and threads for building manifests.
        config: ``[publish]``.
        origin: Who publishes.
        destination: To whom.
    """

    def __init__(
        self,
        store: PublishStore,
        outbox_store: OutboxStore,
        holdings: Holdings,
        seams: Seams,
        config: PublishConfig,
        origin: Origin,
        destination: Destination,
    ) -> None:
        clock = seams.clock
        self.store = store
        self._rows = outbox_store
        self._clock = clock
        self._config = config
        self._destination = destination
        pace = Pace(first_s=config.first_s, quiet_s=config.quiet_s, growing_s=config.growing_s)
        retry = Retry(
            first_s=config.retry_first_s,
            longest_s=config.retry_max_s,
            study_longest_s=config.study_retry_max_s,
            park_after=config.park_after,
        )
        self.outbox = Outbox(
            outbox_store,
            destination.road,
            clock,
            seams.draw,
            retry,
            on_disagreement=self._disagreement,
            on_anew=self._look_for_forced,
        )
        self.reviser = Reviser(
            store,
            holdings,
            seams,
            Schedule(pace),
            origin,
            on_revision=self.outbox.wake,
            on_used_up=self._used_up,
        )
        self._unlisted = Unlisted(
            outbox_store, holdings, self.reviser.pending, lambda: origin.identity().secret
        )
        self._compare_wake = Wake(clock)
        self._backoff = Backoff(config.retry_first_s, config.retry_max_s, seams.draw)
        self._welcomed = not destination.granted
        self._tasks: list[asyncio.Task[None]] = []
        self._owed: set[asyncio.Task[None]] = set()

    # --- life -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Create or upgrade the tables, and find out whether a comparison is owed."""
        await self.store.open()
        await self._rows.open()
        node = await self.store.node()
        if not self._destination.granted and node.epoch == 0:
            await self.store.take_epoch(1)
        if self._destination.granted:
            self.outbox.hold("epoch", "the registry has not been heard yet")
        if (await self._rows.destination()).reconcile:
            self.outbox.hold("reconcile", "a comparison with the registry is owed")
            self._compare_wake.set()

    def start(self) -> None:
        """Begin to work."""
        self.reviser.start()
        loops = (self.reviser.run(), self.outbox.run(), self._reconcile_loop())
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def close(self) -> None:
        """Stop; what was in flight is settled after the next start."""
        for task in (*self._tasks, *self._owed):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        for close in self._destination.closers:
            await close()

    # --- the link (node.membership) -------------------------------------------------------------------------

    async def hello(self) -> HelloFacts:
        """What is remembered, for Hello (D10). A database whose numbers are used up takes another name."""
        node = await self.store.node()
        destination = await self._rows.destination()
        state_id = await self.store.rename() if node.next_n > MAX_N else node.state_id
        return HelloFacts(
            epoch=node.epoch,
            acked_n=destination.acked_n if destination.acked_epoch == node.epoch else 0,
            made_n=max(0, node.next_n - 1),
            incarnation=destination.incarnation,
            state_id=state_id,
        )

    async def on_welcome(self, grant: EpochGrant) -> None:
        """The registry says under which epoch to publish, and whether to compare first."""
        new_epoch = await self.store.take_epoch(grant.epoch)
        if grant.reconcile:
            await self.on_reconcile("the registry asks for it at the beginning")
        else:
            if new_epoch:
                # nothing sent under an older epoch is under way any more, so there is nothing to settle
                await self._rows.learnt({}, all_compared=True)
                self.outbox.release("reconcile")  # the one that a restored database owed too
            await self._rows.set_incarnation(grant.incarnation)
        if new_epoch:
            self._look_for_forced()
        self._welcomed = True
        self._compare_wake.set()
        self.outbox.release("epoch")

    async def on_reconcile(self, why: str) -> None:
        """Compare and send again what differs, before anything new (D8, D10)."""
        self.outbox.hold("reconcile", "comparing with the registry")
        await self._rows.owe_reconciliation(why)
        self._compare_wake.set()

    def link_up(self) -> None:
        """The registry can be reached again."""
        self.outbox.wake(link_up=True)

    def suspend(self, reason: str) -> None:
        """The region has suspended this node: nothing is sent."""
        self.outbox.hold("suspended", reason)

    def resume(self) -> None:
        """The suspension is over."""
        self.outbox.release("suspended")

    def hold(self, reason: str, why: str) -> None:
        """Send nothing while ``why`` says something; '' lets it go on."""
        if why:
            self.outbox.hold(reason, why)
        else:
            self.outbox.release(reason)

    # --- comparing ------------------------------------------------------------------------------------------

    def _disagreement(self, why: str, wait_s: float) -> None:
        self.outbox.hold("reconcile", why)
        self._run_beside(self._disagree(why, wait_s))

    async def _disagree(self, why: str, wait_s: float) -> None:
        if wait_s:  # it disagreed after the last comparison too
            log.warning("registry disagrees again", reason=why, delay_s=round(wait_s, 1))
            await self._clock.sleep(wait_s)
        await self.on_reconcile(why)
        self._destination.hello_again()

    def _used_up(self) -> None:
        """Get another epoch: from the registry, or the next of our own (D9, D18).

        The registry grants one when it is greeted by a database of another name.
        """
        if self._destination.granted:
            self._destination.hello_again()
        else:
            self._run_beside(self._next_epoch())

    async def _next_epoch(self) -> None:
        node = await self.store.node()
        if node.next_n > MAX_N:
            await self.store.take_epoch(node.epoch + 1)
        self._look_for_forced()

    def _run_beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)

    def _look_for_forced(self) -> None:
        self.reviser.look_for_forced()

    async def _reconcile_loop(self) -> None:
        attempt = 0
        while True:
            wait_s: float | None = None
            try:
                if self._welcomed and (await self._rows.destination()).reconcile:
                    await self.reconcile()
                attempt = 0
            except Exception as error:
                if isinstance(error, CrosslightError):
                    log.info("comparison waits", reason=error.what, attempt=attempt)
                else:
                    log.exception("comparison waits", attempt=attempt)
                wait_s = self._backoff.delay_s(attempt)
                attempt += 1
            await self._compare_wake.wait(wait_s)

    async def reconcile(self) -> int:
        """Compare now; how many studies differed. They are made anew and sent as the outbox goes on."""
        async with self.outbox.quiet:
            differing = await self._destination.comparer.compare(self._pages())
            await self._rows.learnt(differing, all_compared=True)
            if self._destination.comparer.incarnation:
                await self._rows.set_incarnation(self._destination.comparer.incarnation)
        log.info("compared with the registry", count=len(differing))
        self._look_for_forced()
        self.outbox.release("reconcile")
        return len(differing)

    async def _pages(self) -> AsyncIterator[list[tuple[str, Acked]]]:
        after = ""
        while True:
            page = await self._rows.held_after(after, COMPARE_PAGE)
            if page:
                yield page
            if len(page) < COMPARE_PAGE:
                return
            after = page[-1][0]

    # --- for serve, the command line and heartbeats ---------------------------------------------------------

    async def manifest(self, document_uid: str) -> bytes | None:
        """The bytes of a manifest that can be asked for (ITI-43)."""
        return await self.store.manifest(document_uid)

    async def study_of(self, document_uid: str) -> str | None:
        """The study that a manifest lists."""
        return await self.store.study_of(document_uid)

    async def status(self) -> PublishStatus:
        """For heartbeats and ``status``."""
        await self.reviser.catch_up()  # what was answered as stored is listed, or waits: never neither (D19)
        node = await self.store.node()
        destination = await self._rows.destination()
        waiting, parked, indexed_from = await self._rows.counts(self.reviser.pending())
        filling = destination.filling
        if filling and waiting == 0 and self.reviser.settled and not destination.reconcile and node.epoch:
            await self._rows.filled()
            filling = False
        return PublishStatus(
            epoch=node.epoch,
            acked_n=destination.acked_n if destination.acked_epoch == node.epoch else 0,
            waiting=waiting,
            parked=parked,
            filling=filling,
            indexed_from=indexed_from,
            census=self._rows.census,
            held_up=self.outbox.held_up,
        )

    async def concern(self, status: PublishStatus) -> Concern:
        """Whom the studies concern that are not listed (D19), beside ``status``."""
        return await self._unlisted.concern(untold=status.filling or not self.reviser.settled)

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Studies whose publication needs an operator."""
        return await self._rows.parked(limit)

    async def unpark(self, study_uid: str = "") -> int:
        """Try parked studies again, one or all (''); how many there were."""
        count = await self._rows.unpark(study_uid)
        self.outbox.wake()
        return count
