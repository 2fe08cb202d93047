"""When a study may go, by the rules of ``[[archive.retention]]``: pure, with nothing read or written.

A study goes only where a rule names it, and every rule that names it lets it: of two, the longer one counts.
What cannot be reckoned, for want of a date, never goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from node.archive.config import RetentionRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """What the rules look at. Times are Unix; dates are as in the study, '' where there is none."""

    study_uid: str
    study_date: str
    birth_date: str
    modalities: tuple[str, ...]
    instances: int
    size_bytes: int
    stored_unix: float  # when its last object came in
    opened_unix: float  # when it was opened last, as far as that is known; else when that began to be noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The rule that decides, and the first day on which the study may go; None: never, for want of a date.

    It goes only once all of ``keepers``, AE titles, have committed to keep it.
    """

    rule: RetentionRule
    until: date | None
    keepers: tuple[str, ...] = ()

    def is_due(self, today: date) -> bool:
        """Whether it may go now."""
        return self.until is not None and self.until <= today


def verdict(rules: Sequence[RetentionRule], study: Ageing) -> Verdict | None:
    """What the rules say of a study; None where none names it: then it is kept for good."""
    naming = [rule for rule in rules if _names(rule, study)]
    keepers = tuple(dict.fromkeys(rule.committed_to for rule in naming if rule.committed_to))
    verdicts = [Verdict(rule=rule, until=_until(rule, study), keepers=keepers) for rule in naming]
    return max(verdicts, key=lambda judged: judged.until or date.max) if verdicts else None


def _names(rule: RetentionRule, study: Ageing) -> bool:
    return not rule.modalities or not set(rule.modalities).isdisjoint(study.modalities)


def _until(rule: RetentionRule, study: Ageing) -> date | None:
    begins = _begins(rule, study)
    if begins is None:
        return None
    ends = [_later(begins, rule.keep_years)]
    if rule.until_age_years:
        born = _day(study.birth_date)
        if born is None:
            return None
        ends.append(_later(born, rule.until_age_years))
    return max(ends)


def _begins(rule: RetentionRule, study: Ageing) -> date | None:
    stored = datetime.fromtimestamp(study.stored_unix, UTC).date()
    if rule.counted_from == "stored":
        return stored
    if rule.counted_from == "opened":
        return max(stored, datetime.fromtimestamp(study.opened_unix, UTC).date())
    return _day(study.study_date)


def _day(text: str) -> date | None:
    """A DA; None for what is none (PS3.5 6.2)."""
    if len(text) != 8 or not text.isascii() or not text.isdecimal():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _later(day: date, years: int) -> date:
    """The same day some years later, or the one after 28 February."""
    if day.year + years > date.max.year:
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)
