"""When a changed study is published: the timing of D14, pure, on any clock that never steps.

First within seconds of the first object, then after a time of quiet, and at least every so often while it
grows. A revision made before the quiet says ``arriving``; one made after it says ``complete``.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.standards.study import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The three intervals, in seconds."""

    first_s: float
    quiet_s: float
    growing_s: float


@dataclass(slots=True)
class _Entry:
    known: bool  # has a revision
    since: float  # first change that no revision has
    last: float  # last change
    revised: float  # when the last revision was made
    dirty: bool  # changed since; False: only waits to be called complete
    not_before: float = 0.0


class Schedule:
    """Studies that changed, each with the moment at which its next revision is due."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, study_uid: str) -> bool:
        return study_uid in self._entries

    def changed(self, study_uid: str, now: float, *, known: bool, last: float | None = None) -> None:
        """An object of the study was received, or it was deleted or restored.

        Args:
            study_uid: The study.
            now: On this schedule's clock.
            known: Whether it was published before (only asked for a study that is not scheduled yet).
            last: When it changed last, where that is not now (found again after a restart).
        """
        moment = now if last is None else last
        entry = self._entries.get(study_uid)
        if entry is None:
            self._entries[study_uid] = _Entry(
                known=known, since=moment, last=moment, revised=moment, dirty=True
            )
            return
        if not entry.dirty:
            entry.dirty, entry.since = True, moment
        entry.last = max(entry.last, moment)

    def at_once(self, study_uid: str, now: float) -> None:
        """Due now and called complete, whatever the intervals (re-sending, orders of an operator)."""
        past = now - self._pace.quiet_s
        self._entries[study_uid] = _Entry(known=True, since=past, last=past, revised=past, dirty=True)

    def know(self, study_uid: str) -> bool:
        """The study was published before; whether that is news."""
        entry = self._entries[study_uid]
        news, entry.known = not entry.known, True
        return news

    def postpone(self, study_uid: str, until: float) -> None:
        """Not before ``until``: its revision could not be made."""
        entry = self._entries.get(study_uid)
        if entry is not None:
            entry.not_before = until

    def studies(self) -> list[str]:
        """All that are scheduled."""
        return list(self._entries)

    def due_at(self, study_uid: str) -> float:
        """The moment of its next revision."""
        return max(self._entries[study_uid].not_before, self._due(self._entries[study_uid]))

    def _due(self, entry: _Entry) -> float:
        quiet = entry.last + self._pace.quiet_s
        if not entry.known:
            return min(quiet, entry.since + self._pace.first_s)
        if not entry.dirty:
            return quiet
        return min(quiet, max(entry.revised, entry.since) + self._pace.growing_s)

    def due(self, now: float) -> list[tuple[str, Progress]]:
        """Studies whose time has come, in the order of their times, each with what its revision is to say."""
        moments = sorted((self.due_at(uid), uid) for uid in self._entries)
        return [(uid, self.progress(uid, now)) for moment, uid in moments if moment <= now]

    def progress(self, study_uid: str, now: float) -> Progress:
        """What a revision made now says."""
        return "complete" if now >= self._entries[study_uid].last + self._pace.quiet_s else "arriving"

    def next_due(self) -> float | None:
        """The earliest moment at which something is due."""
        return min((self.due_at(uid) for uid in self._entries), default=None)

    def revised(self, study_uid: str, now: float, progress: Progress, *, changes_seen_until: float) -> None:
        """A revision was made, or nothing new was found.

        Changes after ``changes_seen_until`` are not in it.
        """
        entry = self._entries.get(study_uid)
        if entry is None:
            return
        entry.known, entry.revised, entry.not_before = True, now, 0.0
        entry.dirty = entry.last > changes_seen_until
        if entry.dirty:
            entry.since = entry.last
        elif progress == "complete":
            del self._entries[study_uid]
