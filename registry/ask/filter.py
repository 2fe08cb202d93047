"""StudyFilter against a holding, and as the window that the index narrows a population by. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from crosslight.standards.dicom.web.matching import wildcard_matches
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.names import search_key
from registry.ask.question import StudyFilter
from registry.index.model import Holding
from registry.index.population_window import Window
from registry.index.rows import from_ms, modality_bits, to_ms, to_s

_DAY_S = 86400
CodeOf = Callable[[MemberId], str]


def matches(narrow: StudyFilter, holding: Holding, code_of: CodeOf) -> bool:
    """Whether every given part of the filter holds. Studies without a date match any date (D22)."""
    record = holding.record
    return (
        (not narrow.study_uids or record.study_uid in narrow.study_uids)
        and (not narrow.modalities or bool(set(narrow.modalities) & set(record.modalities)))
        and (not narrow.members or code_of(holding.member) in narrow.members)
        and (not narrow.progress or record.progress in narrow.progress)
        and _changed(narrow, holding)
        and _accession(narrow, holding)
        and _dated(narrow, holding)
        and _described(narrow, holding)
    )


def same_accession(asked: Identifier, own: Identifier) -> bool:
    """Whether ``own`` is the number asked for.

    Of the issuer asked for, known by OID or else by its name; of any where none was.
    """
    if asked.value != own.value:
        return False
    if asked.authority:
        return asked.authority == own.authority
    return not asked.namespace or asked.namespace.casefold() == own.namespace.casefold()


def _accession(narrow: StudyFilter, holding: Holding) -> bool:
    return not narrow.accessions or any(
        same_accession(asked, own) for asked in narrow.accessions for own in holding.record.accessions
    )


def _dated(narrow: StudyFilter, holding: Holding) -> bool:
    time = holding.record.time
    if narrow.study_date is not None:
        day = time.date.replace(".", "").replace("-", "").strip()
        low, high = narrow.study_date
        if ((low and day < low) or (high and day > high)) and time.interval() is not None:
            return False
    if narrow.started is not None:
        interval, (after, before) = time.interval(), narrow.started
        if interval is not None and (
            (after is not None and interval[1] <= after) or (before is not None and interval[0] >= before)
        ):
            return False
    return True


def _changed(narrow: StudyFilter, holding: Holding) -> bool:
    if narrow.updated is None:
        return True
    (low, high), at = narrow.updated, to_ms(holding.updated)  # rows are told apart to the millisecond
    return (low is None or at >= to_ms(low)) and (high is None or from_ms(at) < high)


def _described(narrow: StudyFilter, holding: Holding) -> bool:
    """``*`` any characters, ``?`` any one (PS3.4 C.2.2.2.4). Linear in the text, whatever is asked for."""
    description = holding.record.description
    return not narrow.descriptions or any(_may_fit(pattern, description) for pattern in narrow.descriptions)


def _may_fit(pattern: str, text: str) -> bool:
    """Whether any face's own rule could find ``text`` by ``pattern``.

    Case, diacritics, blanks and punctuation do not count.
    """
    if wildcard_matches(pattern.casefold(), text.casefold()):
        return True
    keys = (search_key(piece) for piece in re.split(r"[*?]+", pattern))
    return wildcard_matches("*".join(keys), search_key(text))


def window(
    narrow: StudyFilter,
    order: Literal["started", "updated"],
    limit: int,
    id_of: Callable[[str], MemberId | None],
    ascending: bool = False,
) -> Window | None:
    """What SQL can narrow by, never less than what matches; None where nothing can match (no such member)."""
    bounds = Window(
        order=order, ascending=ascending, limit=limit, modalities=modality_bits(narrow.modalities)
    )
    if narrow.members:
        ids = tuple(member for code in narrow.members if (member := id_of(code)) is not None)
        if not ids:
            return None
        bounds = replace(bounds, members=ids)
    if narrow.updated is not None:
        since, before = (to_ms(at) if at is not None else None for at in narrow.updated)
        bounds = replace(bounds, updated_low=since, updated_high=before)
    low, high = _bounds(narrow)
    return replace(bounds, low=low, high=high)


def _bounds(narrow: StudyFilter) -> tuple[int | None, int | None]:
    """Bounds of the start in Unix seconds, wide enough for any zone and for a whole day's uncertainty."""
    lows, highs = [], []
    if narrow.started is not None:
        after, before = narrow.started
        lows += [to_s(after) - _DAY_S - 7200] if after is not None else []
        highs += [to_s(before)] if before is not None else []
    if narrow.study_date is not None:
        for text, bounds, margin in (
            (narrow.study_date[0], lows, -_DAY_S),
            (narrow.study_date[1], highs, 2 * _DAY_S),
        ):
            day = _day(text)
            bounds += [to_s(day) + margin] if day is not None else []
    return max(lows, default=None), min(highs, default=None)


def _day(text: str) -> datetime | None:
    try:
        return datetime(int(text[:4]), int(text[4:6]), int(text[6:8]), tzinfo=UTC)
    except ValueError:
        return None
