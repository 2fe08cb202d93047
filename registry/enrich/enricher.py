"""Enrichment: a study that came over SOAP says as much as one that came over gRPC (D17).

What waits is in the index's own tables, so nothing is lost by a restart; a member that cannot be reached is
asked when it can. Here is what is done when, and that no two processes do it; ``completion.py`` does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeGuard

from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.waiting import Backoff, Wake
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import CrosslightError
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.schedule import Agenda, Waiting
from registry.index.imaging_documents import DocumentKey
from registry.index.model import Change, HoldingKey
from registry.index.store import IndexStore
from registry.members.model import Directory, Member

log = get_logger("enrich")

SCAN = 2_000  # holdings looked at in one scan of those that wait


class Enricher:
    """Completes what waits, in the background: what is due when, and in which process.

    Args:
        index: What waits, and which process is at what.
        directory: Members.
        completion: Does it.
        seams: Time, jitter, this process's name.
    """

    def __init__(
        self,
        index: IndexStore,
        directory: Directory,
        completion: Completion,
        seams: Seams,
        config: EnrichConfig,
    ) -> None:
        self._index, self._directory, self._completion = index, directory, completion
        self._clock, self._config = seams.clock, config
        self._agendas: dict[MemberId, Agenda] = {}
        self._running: dict[Waiting, asyncio.Task[None]] = {}
        self._scan_at_s = 0.0
        self._wake = Wake(seams.clock)
        self._backoff = Backoff(config.retry_first_s, config.retry_max_s, seams.draw)
        self._holder = seams.ids.uuid4().hex  # this process among those that share the index
        self._leased: set[Waiting] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.completed = 0  # for metrics
        self.failed = 0

    def changed(self, changes: Iterable[Change]) -> None:
        """What the change feed tells: some of it may know only its entry."""
        for change in changes:
            if change.waits and change.member is not None:
                self.wake(change.key or DocumentKey(change.member, change.entry_uuid))

    def wake(self, key: Waiting) -> None:
        """A holding that knows only its entry, or a document of an unknown study, was committed."""
        self._agenda(key.member).add(key).again = True
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many are known to wait."""
        return sum(len(agenda.tries) for agenda in self._agendas.values())

    def _agenda(self, member: MemberId) -> Agenda:
        return self._agendas.setdefault(member, Agenda())

    def members_changed(self) -> None:
        """A member may be reachable again: try what waits for it now."""
        for agenda in self._agendas.values():
            agenda.at_once(self._running)
        self._scan_at_s = 0.0
        self._wake.set()

    def start(self) -> None:
        """Begin, with what waited before the start."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_leases())]

    async def stop(self) -> None:
        """Stop; what is not done waits in the index, and may be taken up by another process at once."""
        tasks, leased = [*self._tasks, *self._running.values()], set(self._leased)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        with suppress(CrosslightError):
            await self._index.leases.give_back(leased, self._holder)

    # --- what next --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now_s = self._clock.monotonic_s()
            if now_s >= self._scan_at_s:
                self._scan_at_s = now_s + self._config.scan_s
                await self._scan()
            self._begin_due()
            await self._wake.wait(min(self._config.scan_s, self._next_s()))

    async def _scan(self) -> None:
        able = [m.id for m in (*self._directory.all(), *self._directory.foreign()) if self._able(m)]
        try:
            waiting: list[Waiting] = [
                *await self._index.unenriched(able, SCAN),
                *await self._index.unread_documents(able, SCAN),
            ]
        except CrosslightError as error:
            log.warning("cannot look for what waits", reason=error.what)
            return
        except Exception:
            log.exception("cannot look for what waits")
            return
        for key in waiting:
            self._agenda(key.member).add(key)
        if len(waiting) < SCAN:  # all that wait: forget what does not any more
            for member in able:
                tries = self._agenda(member).tries
                for key in tries.keys() - set(waiting) - self._running.keys():
                    if tries[key].attempts:
                        del tries[key]

    def _able(self, member: Member | None) -> TypeGuard[Member]:
        return member is not None and self._completion.can_ask(member)

    def _begin_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for member_id, agenda in self._agendas.items():
            member = self._directory.by_id(member_id)
            if not agenda.tries or not self._able(member):
                continue
            while len(self._running) < self._config.parallel and (key := agenda.take(now_s)) is not None:
                self._running[key] = asyncio.create_task(self._one(key, member))

    def _next_s(self) -> float:
        """Seconds until something may begin; something that ends wakes us anyway."""
        if len(self._running) >= self._config.parallel:
            return self._config.scan_s
        now_s = self._clock.monotonic_s()
        agendas = [a for m, a in self._agendas.items() if a.tries and self._able(self._directory.by_id(m))]
        due = [at_s for agenda in agendas if (at_s := agenda.next_s()) is not None]
        return max(0.02, min(due) - now_s) if due else self._config.scan_s

    async def _keep_leases(self) -> None:
        """Say in time that this process is still at what it is at."""
        while True:
            await self._clock.sleep(self._config.lease_s / 3)
            try:
                await self._index.leases.extend(self._leased, self._holder, self._config.lease_s)
            except Exception:
                log.exception("leases could not be extended")

    async def _one(self, key: Waiting, member: Member) -> None:
        agenda = self._agenda(key.member)
        attempt = agenda.add(key)
        attempt.again = False
        try:
            # another process is at it; the next look tells what became of it
            if not await self._leased_one(key, member):
                agenda.put(key, attempt, self._clock.monotonic_s() + self._config.scan_s)
            elif attempt.again:  # another version was accepted meanwhile: it is completed next
                agenda.put(key, attempt, self._clock.monotonic_s())
            else:
                agenda.tries.pop(key, None)
        except Exception as error:
            self.failed += 1
            attempt.attempts += 1
            delay_s = max(0.1, self._backoff.delay_s(attempt.attempts))
            agenda.put(key, attempt, self._clock.monotonic_s() + delay_s)
            if isinstance(error, CrosslightError):
                log.warning(
                    "not completed yet", study=_named(key), member=member.code, kind=type(error).__name__
                )
            else:
                log.exception("not completed", study=_named(key), member=member.code)
        finally:
            self._running.pop(key, None)
            self._wake.set()

    async def _leased_one(self, key: Waiting, member: Member) -> bool:
        """Complete it under a lease; whether no other process is at it."""
        if not await self._index.leases.take(key, self._holder, self._config.lease_s):
            return False
        self._leased.add(key)
        try:
            if isinstance(key, HoldingKey):
                await self._completion.complete(key, member)
            else:
                await self._completion.read_document(key, member)
            self.completed += 1
        finally:
            self._leased.discard(key)
            await self._index.leases.give_back([key], self._holder)
        return True


def _named(key: Waiting) -> str:
    """The study, or the entryUUID of a document whose study is not known."""
    return key.study_uid if isinstance(key, HoldingKey) else key.entry_uuid
