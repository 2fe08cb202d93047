"""What open pages were told last, kept for seconds or until a change may concern it (ADR 0031).

An open page asks every other second whether what it shows is still so. Of most patients nothing changes
meanwhile, and the change feed says so: then no row is read. What is kept is bounded and short-lived, so that
a page is never long behind, whatever the feed does not tell of.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from crosslight.runtime.clock import Clock
from crosslight.standards.ids import Identifier, MemberId, hash8
from registry.identity.model import PersonKey, RecordKey
from registry.index.model import Change

KEPT_S = 10.0  # longest that anything is believed unread
MOST = 4000  # pages
REMEMBERED = 64  # readings of the feed, for looks under way


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found; a change of any of these records, persons or studies, whoever's, is news."""

    version: str
    doubts: frozenset[MemberId]
    patients: tuple[Identifier, ...]
    records: frozenset[RecordKey]
    persons: frozenset[PersonKey]
    studies: frozenset[int]  # hashes of UIDs: one that is another patient's too is in conflict (D1)


@dataclass(frozen=True, slots=True)
class _Told:
    """Whom one reading of the feed concerned."""

    n: int
    records: frozenset[RecordKey]
    persons: frozenset[PersonKey]
    studies: frozenset[int]

    def concerns(self, looked: Looked) -> bool:
        return not (
            self.records.isdisjoint(looked.records)
            and self.persons.isdisjoint(looked.persons)
            and self.studies.isdisjoint(looked.studies)
        )


class Glances:
    """Keeps looks; nothing before it follows the feed, which begins with a call of :meth:`forget`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Looked]] = OrderedDict()
        self._told: deque[_Told] = deque(maxlen=REMEMBERED)
        self._n = 0  # readings so far
        self._follows = False

    def get(self, key: Hashable) -> Looked | None:
        """What was found last, if it is still so."""
        until_s, looked = self._kept.get(key, (0.0, None))
        return looked if until_s > self._clock.monotonic_s() else None

    def begin(self) -> int:
        """A look begins; its ticket for :meth:`keep`."""
        return self._n

    def keep(self, key: Hashable, looked: Looked, ticket: int) -> None:
        """Keep what a look found, unless something that concerns it was told while it was under way."""
        if not looked.persons:
            return  # nobody's change would tell of an id that comes back
        since = [told for told in self._told if told.n > ticket]
        if not self._follows or len(since) < self._n - ticket or any(told.concerns(looked) for told in since):
            return
        self._kept[key] = (self._clock.monotonic_s() + KEPT_S, looked)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def changed(self, changes: Sequence[Change]) -> None:
        """Forget the looks that these changes concern."""
        self._n += 1
        told = _Told(
            self._n,
            frozenset(key for c in changes for key in (c.record_key, c.former_key) if key is not None),
            frozenset(c.person for c in changes if c.person is not None),
            frozenset(hash8(c.study_uid) for c in changes if c.study_uid),
        )
        self._told.append(told)
        for key in [key for key, (_, looked) in self._kept.items() if told.concerns(looked)]:
            del self._kept[key]

    def forget(self) -> None:
        """Forget every look: some changes may have been missed."""
        self._n += REMEMBERED + 1  # looks under way are not kept
        self._kept.clear()
        self._follows = True
