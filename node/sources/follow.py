"""Keeps the node's rows right about one source: newest days often, then month by month back, then for ever.

What the source is said to have (``notices.py``) is looked into before the rest.

A study is looked into when the source says something else of it than before, or after a long while. One that
a window no longer lists is asked for by its UID before it is forgotten. Until every window was compared once,
or while the source does not answer, the node does not say that it knows all of it (``behind``).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Wake
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.problem import CrosslightError, Malformed, TooLarge
from node.hours import hours_of
from node.sources.config import AnySource
from node.sources.store import Looked, Notice, SourceStore, Window
from node.sources.upstream import Listed, Upstream

log = get_logger("sources")

UNDATED: Final = "undated"
NEWEST: Final = "newest"
_DAY_S: Final = 86400.0
_AGAIN_S: Final = (
    2.0  # until a study is looked for again that its notification came before; doubled each time
)
_MOST_TRIES: Final = 7


class Differing(Protocol):
    """What became of descriptions (:class:`node.archive.elsewhere.Described`)."""

    @property
    def new(self) -> int:
        """Instances that were not known."""
        ...

    @property
    def changed(self) -> int:
        """Instances that were known otherwise."""
        ...


class Describing(Protocol):
    """Where the rows are (:class:`node.archive.elsewhere.ObjectsElsewhere`)."""

    async def describe(self, headers: list[Header], source: str) -> Differing:
        """Take in descriptions."""
        ...

    async def known(self, study_uid: str, source: str) -> set[str]:
        """SOP Instance UIDs of a study that the source has described."""
        ...

    async def forget(self, study_uid: str, sop_uids: list[str], source: str) -> int:
        """The source has them no longer."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Days that are compared together; '' and '' for studies without a date."""

    name: str
    first: str
    last: str


class Follower:
    """Follows one source until it is cancelled.

    Args:
        config: The source's.
        archive: Asks it.
        rows: Where what it has is written down.
        store: How far it is.
        clock: Time.
    """

    def __init__(
        self,
        config: AnySource,
        archive: Upstream,
        rows: Describing,
        store: SourceStore,
        clock: Clock,
    ) -> None:
        self._config, self._archive, self._rows, self._store, self._clock = (
            config,
            archive,
            rows,
            store,
            clock,
        )
        self._busy = hours_of(config.busy_hours, "sources.busy_hours")
        self._unread: set[str] = set()  # studies that could not be read when they were looked into last
        self._wake = Wake(clock)
        self._heard = True  # there may be notices; those of before the start too
        self.behind = True

    def hear(self) -> None:
        """A study was told of: it is looked into before whatever else is to be looked into."""
        self._heard = True
        self._wake.set()

    async def run(self) -> None:
        """Look, for ever; what fails is tried again."""
        while True:
            await self._tried(self._look_once())
            until_s = self._clock.monotonic_s() + self._config.look_every_s
            while (left_s := until_s - self._clock.monotonic_s()) > 0:
                due_unix = await self._store.next_notice(self._config.name)
                if due_unix is not None and due_unix <= self._now():
                    if not await self._tried(self._heed()):
                        await self._clock.sleep(left_s)
                    continue
                if due_unix is not None:
                    left_s = min(left_s, due_unix - self._now())
                await self._wake.wait(left_s)

    async def _tried(self, looking: Coroutine[Any, Any, None]) -> bool:
        """Whether the source answered; how it is is written down."""
        trouble = ""
        try:
            await looking
        except CrosslightError as error:
            self.behind = True
            log.warning("a source does not answer", source=self._config.name, reason=error.what)
            trouble = f"{error.what} {error.why}".strip()
        await self._store.answers(self._config.name, trouble, self._now())
        return not trouble

    async def _heed(self) -> None:
        """Look into the studies that were told of."""
        self._heard = False
        self._wake.clear()
        while told := await self._store.notices(self._config.name, self._now()):
            for notice in told:
                await self._heed_one(notice)

    async def _heed_one(self, notice: Notice) -> None:
        """The archive's own answer counts, whatever was told."""
        name, study_uid = self._config.name, notice.study_uid
        there = await self._archive.study(study_uid)
        if there is not None and (not there.study_date or there.study_date >= self._config.earliest):
            await self._look_into(there)
        elif there is None and await self._store.of(name, study_uid) is not None:
            await self._forget(study_uid)
        elif there is None and notice.tries < _MOST_TRIES:
            await self._store.not_yet(name, notice, self._now() + _AGAIN_S * 2.0**notice.tries)
            await self._clock.sleep(60.0 / self._studies_per_minute)
            return
        else:
            log.info("a source has not what was told of it", source=name, study_uid=study_uid)
        await self._store.heeded(name, notice)

    async def _look_once(self) -> None:
        """The newest days, and of the other windows the one that was compared longest ago."""
        today = self._clock.now().date()
        await self._compare(self._newest(today))
        compared = await self._store.windows(self._config.name)
        until_s = self._clock.monotonic_s() + self._config.look_every_s
        spans = sorted(
            self._spans(today),
            key=lambda span: compared[span.name].looked_unix if span.name in compared else 0.0,
        )
        for span in spans:
            pause_s = self._config.compare_every_h * 3600
            fresh = span.name in compared and self._now() - compared[span.name].looked_unix < pause_s
            if fresh or self._clock.monotonic_s() >= until_s:
                break
            await self._compare(span)
        compared = await self._store.windows(self._config.name)
        self.behind = bool(self._unread) or any(span.name not in compared for span in spans)

    def _newest(self, today: date) -> Span:
        first = today - timedelta(days=self._config.newest_days)
        return Span(NEWEST, _day(first), _day(today + timedelta(days=1)))

    def _spans(self, today: date) -> Iterator[Span]:
        return spans_of(self._config, today)

    async def _compare(self, span: Span) -> None:
        """Hold what the source lists against what is known, and repair the difference."""
        name, repaired = self._config.name, 0
        known = {study.study_uid: study for study in await self._store.between(name, span.first, span.last)}
        listed: set[str] = set()
        async for study in self._archive.studies(span.first, span.last):
            if span.name == UNDATED and study.study_date:
                continue
            if study.study_uid in listed:  # the list moved while it was read
                continue
            listed.add(study.study_uid)
            before = known.get(study.study_uid) or await self._store.of(name, study.study_uid)
            if self._is_due(study, before):
                repaired += await self._look_into(study)
            if self._heard:
                await self._heed()
        for study_uid in known.keys() - listed:
            there = await self._archive.study(study_uid)
            if there is None:
                await self._forget(study_uid)
                repaired += 1
            else:
                repaired += await self._look_into(there)
        window = Window(name=span.name, n_studies=len(listed), n_repaired=repaired, looked_unix=self._now())
        await self._store.compared(name, window)
        if repaired:
            log.info("source compared", source=name, window=span.name, studies=len(listed), repaired=repaired)

    def _is_due(self, study: Listed, before: Looked | None) -> bool:
        if before is None or before.digest != study.digest or before.study_date != study.study_date:
            return True
        return self._now() - before.looked_unix > self._config.again_after_days * _DAY_S

    async def _look_into(self, study: Listed) -> bool:
        """Whether it differed from what is known. One that cannot be read holds up no other."""
        try:
            differs = await self._described(study)
        except (Malformed, TooLarge) as error:
            log.warning(
                "a study of a source cannot be read",
                source=self._config.name,
                study_uid=study.study_uid,
                reason=error.what,
            )
            self._unread.add(study.study_uid)
            differs = False
        else:
            self._unread.discard(study.study_uid)
        await self._clock.sleep(60.0 / self._studies_per_minute)
        return differs

    @property
    def _studies_per_minute(self) -> int:
        """Most studies to be looked into in a minute of this hour."""
        busy = self._busy is not None and self._busy.hold(self._clock.now())
        return self._config.busy_studies_per_minute if busy else self._config.studies_per_minute

    async def _described(self, study: Listed) -> bool:
        """Describe the instances of a study, and forget those that are gone."""
        name = self._config.name
        before, seen = await self._rows.known(study.study_uid, name), set[str]()
        differs = False
        async for headers in self._archive.instances(study.study_uid):
            described = await self._rows.describe(headers, name)
            differs |= bool(described.new or described.changed)
            seen.update(header.sop_uid for header in headers)
        if gone := sorted(before - seen):
            await self._rows.forget(study.study_uid, gone, name)
            differs = True
        await self._store.looked(
            name,
            Looked(
                study_uid=study.study_uid,
                study_date=study.study_date,
                digest=study.digest,
                n_instances=len(seen),
                looked_unix=self._now(),
            ),
        )
        return differs

    async def _forget(self, study_uid: str) -> None:
        name = self._config.name
        known = sorted(await self._rows.known(study_uid, name))
        await self._rows.forget(study_uid, known, name)
        await self._store.gone(name, study_uid)
        self._unread.discard(study_uid)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def spans_of(config: AnySource, today: date) -> Iterator[Span]:
    """Months from this one back to the earliest, then what has no date."""
    month = today.replace(day=1)
    while _day(month) >= config.earliest[:6] + "01":
        yield Span(f"{month:%Y%m}", _day(month), f"{month:%Y%m}31")
        month = (month - timedelta(days=1)).replace(day=1)
    yield Span(UNDATED, "", "")


def _day(moment: date | datetime) -> str:
    return f"{moment:%Y%m%d}"
