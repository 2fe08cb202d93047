"""Reading studies again after a rule changed.

Whose patient numbers are whose is decided each time a record is made, not at ingest. Objects are not touched.
A study whose record comes out otherwise than it was published is marked as changed, and published as any
other change is (D14); one that was moved to another patient is deleted there and inserted here by the
registry (D2).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.problem import CrosslightError
from crosslight.standards.records import changed
from crosslight.standards.study import Patient
from node.holdings import Holdings
from node.publish.store import PublishStore

log = get_logger("reread")

PAGE = 100
PAUSE_S = 0.05  # between pages: what arrives and what is asked for goes first
AGAIN_S = 30.0  # after a page that failed


@dataclass(slots=True)
class Figures:
    """Whose numbers the patients of some studies have."""

    nationals: tuple[str, ...]
    studies: int = 0
    national: int = 0  # studies whose patient has a national number
    numbers: Counter[str] = field(default_factory=Counter)  # by kind: own, outside, none
    issuers: Counter[str] = field(default_factory=Counter)  # of outside numbers, as the objects name them

    def add(self, patient: Patient) -> None:
        """Count one study."""
        self.studies += 1
        self.national += any(
            number.authority in self.nationals for number in (patient.local, *patient.others)
        )
        kind, original = number_of(patient)
        self.numbers[kind] += 1
        if original is not None:
            self.issuers[original.namespace or original.authority] += 1

    @property
    def percent(self) -> int:
        """Studies with a national number, of all; a whole number that is 0 or 100 only where it is so."""
        if not self.studies:
            return 0
        share = round(100 * self.national / self.studies)
        return min(max(share, 1 if self.national else 0), 100 if self.national == self.studies else 99)


@dataclass(slots=True)
class ReadAgain:
    """What reading again found."""

    now: Figures
    before: Figures  # of those that were published
    changed: int = 0  # to be published anew
    new: int = 0  # not published yet
    unknown: list[str] = field(default_factory=list)  # studies that are not here


def rules_key(rules: RecordRules) -> str:
    """What tells one set of rules from another."""
    return hashlib.sha256(orjson.dumps(asdict(rules), option=orjson.OPT_SORT_KEYS)).hexdigest()


async def read_again(
    holdings: Holdings,
    store: PublishStore,
    nationals: tuple[str, ...],
    studies: AsyncIterator[str] | Iterable[str],
    *,
    dry_run: bool,
    progress: Callable[[int], None] | None = None,
) -> ReadAgain:
    """Read ``studies`` under the rules of now, and have those published whose record changed.

    Args:
        holdings: Where studies come from.
        store: What was published of them.
        nationals: OIDs of the national authorities, for the figures.
        studies: UIDs, each read once.
        dry_run: Count only: nothing is published.
        progress: Told after each study how many have been read.
    """
    report = ReadAgain(Figures(nationals), Figures(nationals))
    done = 0
    async for study_uid in _each(studies):
        record = await holdings.record(study_uid)
        done += 1
        if record is None:
            report.unknown.append(study_uid)
            continue
        report.now.add(record.patient)
        row, _ = await store.look(study_uid)
        if row is None or row.state != "live":
            report.new += 1
        else:
            revision = await store.revision(row.version)
            if revision is not None and revision.record is not None:
                report.before.add(revision.record.patient)
            if changed(record, progress=row.progress).digest() != row.digest:
                report.changed += 1
                if not dry_run:
                    await holdings.touch([study_uid])
        if progress is not None:
            progress(done)
    return report


async def _each(studies: AsyncIterator[str] | Iterable[str]) -> AsyncIterator[str]:
    if isinstance(studies, AsyncIterator):
        async for study_uid in studies:
            yield study_uid
    else:
        for study_uid in studies:
            yield study_uid


async def all_studies(holdings: Holdings) -> AsyncIterator[str]:
    """Every study with something visible."""
    after = ""
    while page := await holdings.study_uids(after, PAGE):
        for study_uid in page:
            yield study_uid
        after = page[-1]


class Rereader:
    """Reads all studies again in the background when the rules have changed.

    It goes on where it was after a restart.

    Args:
        holdings: Where studies come from.
        store: Remembers rules and place.
        rules: Asked at each beginning.
        clock: Time.
        on_begin: Called when it begins: what was refused may be accepted now.
    """

    def __init__(
        self,
        holdings: Holdings,
        store: PublishStore,
        rules: Callable[[], RecordRules],
        clock: Clock,
        on_begin: Callable[[], Awaitable[object]],
    ) -> None:
        self._holdings = holdings
        self._store = store
        self._rules = rules
        self._clock = clock
        self._on_begin = on_begin
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.done = asyncio.Event()  # nothing is left to be read

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; it goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def look(self) -> None:
        """The rules may have changed."""
        self.done.clear()
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                while await self._page():
                    await self._clock.sleep(PAUSE_S)
            except CrosslightError as error:
                log.warning("reading again waits", reason=error.what)
                await self._clock.sleep(AGAIN_S)
                continue
            except Exception:
                log.exception("reading again waits")
                await self._clock.sleep(AGAIN_S)
                continue
            self.done.set()
            await self._changed.wait()

    async def _page(self) -> bool:
        """Read one page; False when all is read under the rules of now."""
        key = rules_key(self._rules())
        state = await self._store.reread()
        if state is None or state.rules != key:
            log.info("the rules changed: all studies are read again")
            await self._store.save_reread(key, "", done=False)
            await self._on_begin()
            return True
        if state.done:
            return False
        page = await self._holdings.study_uids(state.after, PAGE)
        differing = [study_uid for study_uid in page if await self._differs(study_uid)]
        if differing:
            await self._holdings.touch(differing)
            log.info("read again", count=len(differing))
        if rules_key(self._rules()) == key:
            await self._store.save_reread(key, page[-1] if page else state.after, done=len(page) < PAGE)
        return True

    async def _differs(self, study_uid: str) -> bool:
        row, _ = await self._store.look(study_uid)
        if row is None or row.state != "live":
            return False
        record = await self._holdings.record(study_uid)
        return record is not None and changed(record, progress=row.progress).digest() != row.digest
