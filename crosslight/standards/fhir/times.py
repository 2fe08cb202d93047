"""Dates and times: a study's start as FHIR dateTime (D22), and date search values as UTC intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from crosslight.standards.fhir.terms import EXT_LOCAL_TIME, absent
from crosslight.standards.problem import Invalid
from crosslight.standards.study import StudyTime

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
Interval = tuple[datetime, datetime]

_DATE = re.compile(
    r"(?P<y>\d{4})(-(?P<m>\d{2})(-(?P<d>\d{2})(T(?P<H>\d{2}):(?P<M>\d{2})(:(?P<S>\d{2})(\.(?P<f>\d{1,9}))?)?"
    r"(?P<z>Z|[+ -]\d{2}:\d{2})?)?)?)?\Z",
    re.ASCII,
)
_MIN, _MAX = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def birth_date(da: str) -> str | None:
    """A DICOM date, whole or partial, as FHIR date; None when it is no date."""
    digits = da.strip()
    if not digits.isascii() or not digits.isdecimal() or len(digits) not in (4, 6, 8):
        return None
    try:
        date(int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1))
    except ValueError:
        return None
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


def safe_interval(time: StudyTime) -> Interval | None:
    """:meth:`StudyTime.interval`; None also where the zone is not known to this machine."""
    try:
        return time.interval()
    except (KeyError, ValueError, OSError):
        return None


def _offset(local: datetime, zone: str) -> timedelta | None:
    if zone[:1] in ("+", "-") and len(zone) == 5 and zone[1:].isdecimal():
        size = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
        return size if zone[0] == "+" else -size
    try:
        return local.replace(tzinfo=ZoneInfo(zone)).utcoffset() if zone else None
    except (KeyError, ValueError, OSError):
        return None


def _offset_text(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


@lru_cache(maxsize=4096)
def _day_offset(day: str, zone: str) -> str | None:
    """The offset that holds all through a day, as FHIR writes it; None where it changes, or is not known."""
    first = datetime(int(day[:4]), int(day[5:7]), int(day[8:]))
    offset = _offset(first, zone)
    last = first + timedelta(hours=23, minutes=59, seconds=59)
    if offset is None or offset != _offset(last, zone) or abs(offset) > timedelta(hours=14):
        return None
    return _offset_text(offset)


@lru_cache(maxsize=4096)
def _whole_day(date: str) -> str | None:
    """A study's date as FHIR writes it; None where it is not a whole one."""
    day = birth_date(date.replace(".", "").replace("-", ""))
    return day if day is not None and len(day) == 10 else None


def started(time: StudyTime) -> dict[str, Any]:
    """``started`` (and what must be said beside it) of a study or series.

    Not to be changed by the caller. The local reading is kept and its offset added. FHIR has no hours without
    minutes and no time without a zone (R4 2.24.0.1): what cannot be said so is given as a date, the time's
    text beside it. Undated is marked, never guessed.
    """
    clock, day = time.time, _whole_day(time.date)
    # A whole hhmmss of a day of one offset: by far the most.
    if day is not None and len(clock) == 6 and clock.isascii() and clock.isdecimal():
        hour, minute, second = clock[:2], clock[2:4], clock[4:]
        if hour <= "23" and minute <= "59" and second <= "59":
            offset = _day_offset(day, time.zone)
            if offset is not None:
                return {"started": f"{day}T{hour}:{minute}:{second}{offset}"}
    return _started_otherwise(time, day)


@lru_cache(maxsize=1024)
def _started_otherwise(time: StudyTime, day: str | None) -> dict[str, Any]:
    if day is None:
        return {"_started": absent()}
    clock = time.time.replace(":", "").strip()
    if not clock:
        return {"started": day}
    whole, _, fraction = clock.partition(".")
    try:
        local = datetime(
            int(day[:4]),
            int(day[5:7]),
            int(day[8:]),
            int(whole[:2]),
            int(whole[2:4]),
            min(int(whole[4:6] or 0), 59),
        )
    except ValueError:
        return {
            "started": day,
            "_started": {"extension": [{"url": EXT_LOCAL_TIME, "valueString": time.time}]},
        }
    offset = _offset(local, time.zone)
    if offset is None or abs(offset) > timedelta(hours=14):
        return {
            "started": day,
            "_started": {"extension": [{"url": EXT_LOCAL_TIME, "valueString": time.time}]},
        }
    digits = f".{fraction[:6]}" if fraction.isdecimal() and len(whole) == 6 else ""
    return {"started": f"{local.isoformat(timespec='seconds')}{digits}{_offset_text(offset)}"}


@dataclass(frozen=True, slots=True)
class DateValue:
    """One date of a search: its prefix and the UTC interval [low, high) that its text stands for."""

    prefix: Prefix
    low: datetime
    high: datetime
    text: str = ""  # as given, without the prefix

    def matches(self, target: Interval | None) -> bool:
        """R4 3.1.1.5.6 on two intervals.

        An undated study matches always (D22): it is never hidden by a date.
        """
        if target is None:
            return True
        low, high = target
        contained = self.low <= low and high <= self.high
        rules = {
            "eq": contained,
            "ne": not contained,
            "gt": high > self.high,
            "lt": low < self.low,
            "ge": high > self.high or contained,
            "le": low < self.low or contained,
            "sa": low >= self.high,
            "eb": high <= self.low,
            "ap": high > self.low - timedelta(days=1) and low < self.high + timedelta(days=1),
        }
        return rules[self.prefix]

    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """A UTC interval outside which nothing matches (None: open); what an index can narrow by."""
        day = timedelta(days=1)
        table: dict[str, tuple[datetime | None, datetime | None]] = {
            "eq": (self.low, self.high),
            "ne": (None, None),
            "gt": (self.high, None),
            "lt": (None, self.low),
            "ge": (self.low, None),
            "le": (None, self.high),
            "sa": (self.high, None),
            "eb": (None, self.low),
            "ap": (self.low - day, self.high + day),
        }
        return table[self.prefix]


def parse_date(raw: str, zone: str, where: str) -> DateValue:
    """A date search value; a text without zone means the region's local time, over every reading of it.

    Raises:
        Invalid: naming the parameter.
    """
    prefix, rest = (raw[:2], raw[2:]) if raw[:2] in PREFIXES else ("eq", raw)
    match = _DATE.match(rest)
    try:
        if match is None:
            raise ValueError
        low, high = _interval(match, zone)
    except (ValueError, OverflowError):
        raise Invalid(
            f"{where} is not a date.",
            why=(
                "FHIR R4 3.1.1.4.7: [prefix]YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.f]][Z|+hh:mm]."
            ),
            where=where,
            fhir_code="value",
        ) from None
    return DateValue(prefix, low, high, rest)  # type: ignore[arg-type]  # the pattern has no other prefix


def _interval(match: re.Match[str], zone: str) -> Interval:
    year, month, day = int(match["y"]), int(match["m"] or 1), int(match["d"] or 1)
    low = datetime(
        year, month, day, int(match["H"] or 0), int(match["M"] or 0), min(int(match["S"] or 0), 59)
    )
    if match["m"] is None:
        high = datetime(year + 1, 1, 1)
    elif match["d"] is None:
        high = datetime(year + month // 12, month % 12 + 1, 1)
    elif match["H"] is None:
        high = low + timedelta(days=1)
    elif match["S"] is None:
        high = low + timedelta(minutes=1)
    elif match["f"] is None:
        high = low + timedelta(seconds=1)
    else:
        low = low.replace(microsecond=int((match["f"] + "000000")[:6]))
        high = low + timedelta(microseconds=10 ** max(0, 6 - len(match["f"])))
    lows, highs = _readings(low, match["z"], zone), _readings(high, match["z"], zone)
    return max(min(lows), _MIN), min(max(highs), _MAX)


def _readings(local: datetime, offset: str | None, zone: str) -> list[datetime]:
    if not _MIN.year < local.year < _MAX.year:
        return [local.replace(tzinfo=UTC)]
    if offset == "Z":
        return [local.replace(tzinfo=UTC)]
    if offset:  # '+' of an unescaped query arrives as a blank
        size = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
        return [local.replace(tzinfo=timezone(-size if offset[0] == "-" else size)).astimezone(UTC)]
    return [local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
