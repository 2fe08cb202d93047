"""A stretch of all holdings in the order of when they began or were changed (D20).

A page of a population reads one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from crosslight.standards.ids import MemberId
from registry.index.rows import DAY_S, DEPRECATED, UNDATED, marks

_LEAST = -(1 << 62)
Place = tuple[int, int, int, int]  # in a window's order: order value, record key, study hash, member


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A page of holdings over all patients, newest first or ``ascending``.

    It is what SQL narrows by before the exact filter runs.
    """

    order: Literal["started", "updated"] = "started"
    ascending: bool = False
    members: tuple[MemberId, ...] = ()
    modalities: int = 0  # bits; 0 = any
    low: int | None = None  # of ``started``, Unix seconds
    high: int | None = None
    updated_low: int | None = None  # Unix milliseconds
    updated_high: int | None = None
    undated: bool = False  # only studies without a date
    after: Place | None = None
    until: Place | None = None  # the last row that is looked at
    limit: int = 100


def _columns(w: Window) -> tuple[str, str, int]:
    """The column of a window's order, its bucket, and what the bucket is divided by."""
    return (
        ("started", "h.started / 86400", DAY_S)
        if w.order == "started"
        else ("updated", "h.updated / 1000", 1000)
    )


def order_by(w: Window) -> str:
    """ORDER BY of a window; ties by key."""
    column, bucket, _ = _columns(w)
    way = "ASC" if w.ascending else "DESC"
    return ", ".join(
        f"{name} {way}" for name in (bucket, f"h.{column}", "h.record_key", "h.study_hash", "h.member_id")
    )


def stretch(w: Window) -> tuple[list[str], list[Any]]:
    """Conditions by which a window is one stretch of its order's index: one bound of the bucket at each end.

    SQLite takes any one of several bounds at an end, the widest as well; and without a bound it may read and
    sort the whole table rather than walk the index.
    """
    column, bucket, by = _columns(w)
    low, high = (w.low, w.high) if w.order == "started" else (w.updated_low, w.updated_high)
    where, params = list[str](), list[Any]()
    for value, sign in ((low, ">="), (high, "<=")):
        if value is not None:
            where.append(f"h.{column} {sign} ?")
            params.append(value)
    if w.undated:
        where.append("h.started = ?")
        params.append(UNDATED)
        low = high = UNDATED
    lows = [_LEAST if low is None else _divided(low, by)]
    highs = [] if high is None else [_divided(high, by)]
    beyond, within = (">", "<=") if w.ascending else ("<", ">=")
    for place, sign in ((w.after, beyond), (w.until, within)):
        if place is not None:
            where.append(f"(h.{column}, h.record_key, h.study_hash, h.member_id) {sign} (?, ?, ?, ?)")
            params += place
            (lows if sign.startswith(">") else highs).append(_divided(place[0], by))
    where.append(f"{bucket} >= ?")
    params.append(max(lows))
    if highs:
        where.append(f"{bucket} <= ?")
        params.append(min(highs))
    return where, params


def narrowed(w: Window, *dates: Literal["started", "updated"]) -> tuple[list[str], list[Any]]:
    """What else a window's holdings must be.

    Approved, of its members and modalities, within its bounds of ``dates``.
    """
    where, params = [f"h.flags & {DEPRECATED} = 0"], list[Any]()
    if w.members:
        where.append(f"h.member_id IN ({marks(w.members)})")
        params += [int(m) for m in w.members]
    if w.modalities:
        where.append("h.modalities & ? <> 0")
        params.append(w.modalities)
    bounds = {"started": (w.low, w.high), "updated": (w.updated_low, w.updated_high)}
    for date in dates:
        or_undated = f" OR h.started = {UNDATED}" if date == "started" else ""  # which match any date (D22)
        for value, sign in zip(bounds[date], (">=", "<="), strict=True):
            if value is not None:
                where.append(f"(h.{date} {sign} ?{or_undated})")
                params.append(value)
    return where, params


def _divided(value: int, by: int) -> int:
    """SQL's integer division, which rounds towards zero."""
    return -(-value // by) if value < 0 else value // by
