"""serviceStartTime and serviceStopTime from a study's text times, and back (D22).

DTM is UTC (ITI TF-3 Table 4.2.3.1.7-2).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from crosslight.standards.study import StudyTime

_SECOND, _LEAST = timedelta(seconds=1), timedelta(microseconds=1)
_LENGTHS = frozenset({4, 6, 8, 10, 12, 14})
_FIRST = "00000101000000"  # what a DTM leaves out


def _dtm(moment: datetime) -> str:
    date = f"{moment.year:04d}{moment.month:02d}{moment.day:02d}"
    return f"{date}{moment.hour:02d}{moment.minute:02d}{moment.second:02d}"


def service_times(time: StudyTime) -> tuple[str, str]:
    """(start, stop) to the second: the first and the last second that the text may mean.

    ('', '') for undated.
    """
    interval = time.interval()
    if interval is None:
        return "", ""
    low, high = interval
    start = _dtm(low)
    return start, start if high - low == _SECOND and not low.microsecond else _dtm(high - _LEAST)


@lru_cache(maxsize=1024)
def parse_dtm(text: str) -> datetime | None:
    """The first moment of a DTM of any precision; None where it is none."""
    if len(text) not in _LENGTHS or not text.isascii() or not text.isdecimal():
        return None
    whole = text + _FIRST[len(text) :]
    year, (month, day, hour, minute, second) = (
        int(whole[:4]),
        [int(whole[at : at + 2]) for at in range(4, 14, 2)],
    )
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def study_time(start: str, stop: str, zone: str) -> StudyTime:
    """The text that a study began with, as far as an entry tells.

    Local to ``zone`` (IANA), as precise as start and stop say.

    The study's own text and zone come with enrichment (D17).
    """
    low = parse_dtm(start)
    if low is None:
        return StudyTime()
    high = (parse_dtm(stop) or low) + _SECOND if len(stop) == 14 else None
    if not zone:
        local, local_high, told = low, high, ("+0000", "tag")
    else:
        info = ZoneInfo(zone)
        local, local_high, told = (
            low.astimezone(info),
            high.astimezone(info) if high else None,
            (zone, "site"),
        )
    date = f"{local.year:04d}{local:%m%d}"
    midnight = (local.hour, local.minute, local.second) == (0, 0, 0)
    if len(start) < 10:  # a UTC day: its own date, never the local one before it
        return StudyTime(date=f"{low.year:04d}{low:%m%d}", zone="+0000", zone_source="tag")
    if (
        midnight
        and local_high is not None
        and local_high.replace(tzinfo=None) - local.replace(tzinfo=None) == timedelta(days=1)
    ):
        text = ""
    elif high is not None and high - low == timedelta(hours=1) and (local.minute, local.second) == (0, 0):
        text = f"{local:%H}"
    elif high is not None and high - low == timedelta(minutes=1) and local.second == 0:
        text = f"{local:%H%M}"
    else:
        text = f"{local:%H%M%S}"
    return StudyTime(date=date, time=text, zone=told[0], zone_source="tag" if told[1] == "tag" else "site")
