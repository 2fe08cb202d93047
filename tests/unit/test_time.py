"""Time (D22): the text is kept, UTC is an interval derived from it; midnight, both clock changes, and every
zone there is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from registry_samples import member, patient, published, study

from crosslight.standards.dicom.record.kos import zone_offset
from crosslight.standards.dicom.record.record import study_time
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.fhir.times import DateValue, parse_date, started
from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime, utc_interval
from crosslight.standards.xds.mapping import study_times
from registry.ask.filter import matches, window
from registry.ask.question import StudyFilter
from registry.identity.model import RecordKey
from registry.index.model import Holding
from registry.index.rows import started_of

LONDON = "Europe/London"
ZONES = sorted(
    zone
    for zone in available_timezones()
    if "/" in zone and not zone.startswith(("Etc/", "posix/", "right/"))
)
PROPERTY = settings(max_examples=200, deadline=None)

moments = st.datetimes(datetime(1990, 1, 1), datetime(2045, 12, 31))
near_changes = st.sampled_from(
    [
        datetime(2025, 3, 30, 0, 59, 59),
        datetime(2025, 3, 30, 1),
        datetime(2025, 3, 30, 1, 30),
        datetime(2025, 3, 30, 2),
        datetime(2025, 10, 26, 0, 59, 59),
        datetime(2025, 10, 26, 1),
        datetime(2025, 10, 26, 1, 59, 59),
        datetime(2025, 10, 26, 2),
        datetime(2025, 7, 1),
        datetime(2025, 6, 30, 23, 59, 59),
        datetime(2024, 12, 31, 23, 59, 59),
        datetime(2024, 2, 29, 12),
    ]
)
locals_ = st.one_of(moments, near_changes)


def _offset(quarters: int) -> str:
    return f"{'-' if quarters < 0 else '+'}{abs(quarters) // 4:02d}{abs(quarters) % 4 * 15:02d}"


offsets = st.integers(-12 * 4, 14 * 4).map(_offset)
known = st.sampled_from([LONDON, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
zones = st.one_of(known, st.sampled_from(ZONES), offsets)
precisions = st.sampled_from(["", "%H", "%H%M", "%H%M%S"])
WIDTHS = {
    "": timedelta(days=1),
    "%H": timedelta(hours=1),
    "%H%M": timedelta(minutes=1),
    "%H%M%S": timedelta(seconds=1),
}


def local_of(moment: datetime, zone: str) -> datetime:
    """``moment`` (UTC) on a clock of ``zone``, naive."""
    if zone[:1] in "+-":
        size = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
        return (moment + (size if zone[0] == "+" else -size)).replace(tzinfo=None)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def at(date: str, time: str = "", zone: str = LONDON) -> StudyTime:
    """A study's time, its zone from the tag where it is an offset."""
    return StudyTime(date=date, time=time, zone=zone, zone_source="tag" if zone[:1] in ("+", "-") else "site")


def holding(time: StudyTime) -> Holding:
    """A holding that began then."""
    home = member("RTK", 3)
    record = changed(study(patient(home), 1, modality="CT"), time=time)
    return Holding(
        member=home.id,
        record_key=RecordKey(1),
        publication=published(home, record, 1),
        state="approved",
        digest="",
        revision=1,
        fhir_id="f",
        updated=datetime(2026, 1, 1, tzinfo=UTC),
    )


# --- the interval -------------------------------------------------------------------------------------------


@PROPERTY
@given(moment=moments, zone=zones, precision=precisions)
def test_every_moment_lies_in_the_interval_of_its_own_text(
    moment: datetime, zone: str, precision: str
) -> None:
    instant = moment.replace(tzinfo=UTC)
    local = local_of(instant, zone)
    interval = utc_interval(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone)
    assert interval is not None
    low, high = interval
    assert low <= instant < high
    assert high - low <= WIDTHS[precision] + timedelta(hours=24), (
        "a change of clock, in Samoa's case of the day, and no more"
    )


@PROPERTY
@given(local=locals_, zone=offsets, precision=precisions)
def test_with_an_offset_the_interval_is_as_wide_as_the_text_is_precise(
    local: datetime, zone: str, precision: str
) -> None:
    interval = utc_interval(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone)
    assert interval is not None
    assert interval[1] - interval[0] == WIDTHS[precision]
    assert interval == utc_interval(f"{local:%Y.%m.%d}", local.strftime(precision) if precision else "", zone)


@pytest.mark.parametrize(
    ("date", "time", "low", "high"),
    [
        # summer: still yesterday in UTC
        ("20250701", "003000", "2025-06-30T23:30:00", "2025-06-30T23:30:01"),
        ("20250101", "003000", "2025-01-01T00:30:00", "2025-01-01T00:30:01"),
        ("20250330", "", "2025-03-30T00:00:00", "2025-03-30T23:00:00"),  # 23 hours
        ("20251026", "", "2025-10-25T23:00:00", "2025-10-27T00:00:00"),  # 25 hours
        ("20251026", "013000", "2025-10-26T00:30:00", "2025-10-26T01:30:01"),  # half past one, twice
        # half past one, never: both readings
        ("20250330", "013000", "2025-03-30T00:30:00", "2025-03-30T01:30:01"),
        ("20251026", "01", "2025-10-26T00:00:00", "2025-10-26T02:00:00"),
        ("20241231", "2359", "2024-12-31T23:59:00", "2025-01-01T00:00:00"),
    ],
)
def test_london(date: str, time: str, low: str, high: str) -> None:
    expected = tuple(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (low, high))
    assert at(date, time).interval() == expected
    assert at(date, time, "+0000").interval() == utc_interval(date, time, "")


@pytest.mark.parametrize("text", ["", " ", "2025", "20250230", "unknown", "20251301", "２０２５０７０１"])
def test_undated_or_unreadable_has_no_interval(text: str) -> None:
    time = at(text, "101112")
    assert time.interval() is None
    assert study_times.service_times(time) == ("", "")
    assert "started" not in started(time)
    assert started(time)["_started"]["extension"][0]["valueCode"] == "unknown"


def test_the_tag_comes_before_the_site_and_the_site_before_nothing() -> None:
    def row(**by_tag: str) -> dict[str, Any]:
        return {tag[1:]: {"Value": [value]} for tag, value in by_tag.items()}

    dated = {"x00080020": "20250701", "x00080030": "003000"}
    site, nowhere = RecordRules(site_zone=LONDON), RecordRules()
    found = [
        study_time(row(**dated, x00080201="+0530"), "00080020", "00080030", site),
        study_time(row(**dated), "00080020", "00080030", site),
        study_time(row(**dated), "00080020", "00080030", nowhere),
        study_time(row(**dated, x00080201="BST"), "00080020", "00080030", site),
    ]
    assert [(t.zone, t.zone_source) for t in found] == [
        ("+0530", "tag"),
        (LONDON, "site"),
        ("", "none"),
        (LONDON, "site"),
    ]
    assert {(t.date, t.time) for t in found} == {("20250701", "003000")}, "the text is never changed"


# --- FHIR ---------------------------------------------------------------------------------------------------


@PROPERTY
@given(local=locals_, zone=zones, precision=precisions)
def test_fhir_keeps_the_local_reading_and_means_the_same_moment(
    local: datetime, zone: str, precision: str
) -> None:
    time = at(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone)
    interval, said = time.interval(), started(time)["started"]
    assert interval is not None
    assert said.startswith(f"{local:%Y-%m-%d}")
    if "T" in said:
        assert said[11:16] == f"{local:%H:%M}"
        assert interval[0] <= datetime.fromisoformat(said) < interval[1]
    else:
        assert precision in ("", "%H")  # FHIR has no hours without minutes


@pytest.mark.parametrize(
    ("time", "hits", "misses"),
    [
        (
            at("20250701", "003000"),
            ["2025-07-01", "2025-07", "2025", "2025-06-30T23:30:00Z", "2025-07-01T00:30:00+01:00"],
            ["2025-06-30", "2025-06", "2025-07-01T00:30:00Z"],
        ),
        (at("20250701", "003000", "+0000"), ["2025-07-01", "2025-07-01T01:30"], ["2025-06-30"]),
        (
            at("20250630", "233000", "+0000"),
            ["2025-07-01", "2025-07", "2025-07-01T00:30"],
            ["2025-06-30", "2025-06"],
        ),
        (at("20250330"), ["2025-03-30", "2025-03"], ["2025-03-29", "2025-03-31"]),
        (at("20251026"), ["2025-10-26"], ["2025-10-25", "2025-10-27"]),
        (
            at("20251026", "0130"),
            ["2025-10-26", "2025-10-26T01:30"],
            ["2025-10-26T00:30", "2025-10-26T02:30"],
        ),
        (at("20250101"), ["2025", "2025-01", "2025-01-01"], ["2024", "2024-12"]),
        (at("", "101112"), ["2025", "1999-01-01", "2025-06-30T23:30:00Z"], []),
    ],
)
def test_partial_dates_of_a_search_are_days_of_the_region(
    time: StudyTime, hits: list[str], misses: list[str]
) -> None:
    for text in hits:
        assert parse_date(text, LONDON, "started").matches(time.interval()), text
        assert (
            not parse_date(f"ne{text}", LONDON, "started").matches(time.interval()) or time.interval() is None
        )
    for text in misses:
        assert not parse_date(text, LONDON, "started").matches(time.interval()), text


def _search(prefix: str, moment: datetime, form: str, offset: str) -> DateValue:
    text = moment.strftime(form) + (offset if "T" in form else "")
    return parse_date(prefix + text, LONDON, "started")


@PROPERTY
@given(
    local=locals_,
    zone=zones,
    precision=precisions,
    other=locals_,
    offset=st.sampled_from(["", "Z", "+05:30", "-08:00"]),
    prefix=st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]),
    form=st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    same=st.booleans(),
)
def test_the_index_never_narrows_away_what_a_fhir_date_matches(
    local: datetime,
    zone: str,
    precision: str,
    other: datetime,
    offset: str,
    prefix: str,
    form: str,
    same: bool,
) -> None:
    held = holding(at(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone))
    value = _search(prefix, local if same else other, form, offset)
    assume(value.matches(held.record.time.interval()))
    narrow = StudyFilter(started=value.bounds())
    assert _kept(narrow, held)


def _kept(narrow: StudyFilter, held: Holding) -> bool:
    """Whether both SQL's window and the exact filter keep a holding."""
    found = window(narrow, "newest", 10, lambda _: None)
    assert found is not None
    low, high, when = found.low, found.high, started_of(held.record.time)
    inside = (low is None or when >= low) and (high is None or when <= high)
    return inside and narrowed(narrow, held)


def narrowed(narrow: StudyFilter, held: Holding) -> bool:
    return matches(narrow, held, lambda _: "RTK")


# --- QIDO ---------------------------------------------------------------------------------------------------


@PROPERTY
@given(local=locals_, zone=zones, precision=precisions, before=st.integers(0, 3), after=st.integers(0, 3))
def test_qido_matches_the_text_whatever_the_zone(
    local: datetime, zone: str, precision: str, before: int, after: int
) -> None:
    held = holding(at(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone))
    low, high = local - timedelta(days=before), local + timedelta(days=after)
    for text in (f"{local:%Y%m%d}", f"{low:%Y%m%d}-{high:%Y%m%d}", f"{low:%Y%m%d}-", f"-{high:%Y%m%d}"):
        query = QidoQuery.parse("study", [("StudyDate", text)])
        assert _kept(StudyFilter(study_date=query.interval("StudyDate")), held), text
    later, earlier = local + timedelta(days=1), local - timedelta(days=1)
    for text in (f"{later:%Y%m%d}", f"{later:%Y%m%d}-", f"-{earlier:%Y%m%d}"):
        query = QidoQuery.parse("study", [("StudyDate", text)])
        assert not narrowed(StudyFilter(study_date=query.interval("StudyDate")), held), text


@pytest.mark.parametrize("date", ["", "unknown", "20250230"])
def test_undated_studies_are_never_narrowed_away(date: str) -> None:
    held = holding(at(date))
    query = QidoQuery.parse("study", [("StudyDate", "20240101-20240131")])
    assert narrowed(StudyFilter(study_date=query.interval("StudyDate")), held)
    assert narrowed(StudyFilter(started=parse_date("2024-01", LONDON, "started").bounds()), held)


# --- XDS and the manifest -----------------------------------------------------------------------------------


@PROPERTY
@given(
    local=locals_,
    zone=zones,
    precision=precisions,
    region=st.sampled_from([LONDON, "America/New_York", "Asia/Kolkata"]),
)
def test_service_times_and_back_keep_the_interval(
    local: datetime, zone: str, precision: str, region: str
) -> None:
    time = at(f"{local:%Y%m%d}", local.strftime(precision) if precision else "", zone)
    interval, (start, stop) = time.interval(), study_times.service_times(time)
    assert interval is not None
    assert (start, stop) == (
        f"{interval[0]:%Y%m%d%H%M%S}",
        f"{interval[1] - timedelta(seconds=1):%Y%m%d%H%M%S}",
    )
    back = study_times.study_time(start, stop, region).interval()
    assert back is not None
    assert back[0] <= interval[0] < back[1]


@PROPERTY
@given(local=locals_, zone=zones)
def test_the_manifest_declares_the_offset_of_that_day(local: datetime, zone: str) -> None:
    time = at(f"{local:%Y%m%d}", f"{local:%H%M%S}", zone)
    offset, interval = zone_offset(time), time.interval()
    assert interval is not None
    declared = StudyTime(date=time.date, time=time.time, zone=offset, zone_source="tag").interval()
    assert declared is not None
    assert interval[0] <= declared[0] < interval[1]
