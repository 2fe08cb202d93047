"""Reading what waits for an identity officer, and what was decided, from the tables of identity."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from crosslight.runtime.db import Row, Tx
from registry.identity import rows
from registry.identity.cases import RecordDecision
from registry.identity.model import RecordKey
from registry.identity.rows import Stored, chunks, from_micros, marks

_DECISIONS = (
    "SELECT d.decision_id, d.kind, d.record_key, d.other_key, d.at, d.who, d.why, d.ended_at, d.ended_who,"
    " d.ended_why, EXISTS (SELECT 1 FROM subsumed_id s WHERE s.decision_id = d.decision_id) FROM"
    " identity_decision d"
)
#: What waits, in two parts, for each has an index of its own.
_WAITS = (
    "in_doubt = 1",
    (
        "disputed = 1 AND in_doubt = 0 AND NOT EXISTS (SELECT 1 FROM identity_decision d "
        "WHERE d.record_key = patient_record.record_key AND d.kind = 'apart' AND d.ended_at IS NULL)"
    ),
)
#: Since when a record is disputed without a break.
_DISPUTED_SINCE = (
    "SELECT l.record_key, min(l.at) FROM person_link l WHERE l.disputed = 1 AND l.n > coalesce((SELECT"
    " max(z.n) FROM person_link z WHERE z.record_key = l.record_key AND z.disputed = 0), 0) AND"
    " l.record_key IN"
)


def waiting(tx: Tx) -> list[Stored]:
    """Parts in doubt, and disputed records that nobody set apart."""
    return [s for where in _WAITS for s in rows.load(tx, where, ())]


def count(tx: Tx) -> int:
    """How many :func:`waiting` has."""
    counts = (tx.row(f"SELECT count(*) FROM patient_record WHERE {where}") for where in _WAITS)
    return sum(int(row[0]) for row in counts if row is not None)


def since(tx: Tx, waits: Iterable[Stored]) -> dict[RecordKey, datetime]:
    """Since when each of these waits."""
    moments = {s.record.key: s.created for s in waits}
    for chunk in chunks(moments):
        for key, at in tx.rows(f"{_DISPUTED_SINCE} ({marks(chunk)}) GROUP BY l.record_key", chunk):
            moments[RecordKey(key)] = at
        sql = (
            "SELECT record_key, max(ended_at) FROM identity_decision WHERE ended_at IS NOT NULL AND"
            " record_key IN"
        )
        for key, at in tx.rows(f"{sql} ({marks(chunk)}) GROUP BY record_key", chunk):
            moments[RecordKey(key)] = max(at, moments[RecordKey(key)])
    return {key: from_micros(at) for key, at in moments.items()}


def decisions(tx: Tx, limit: int) -> list[RecordDecision]:
    """Decisions in force and ended, newest first."""
    return [
        _decision(row)
        for row in tx.rows(f"{_DECISIONS} ORDER BY d.at DESC, d.decision_id LIMIT {int(limit)}")
    ]


def decisions_on(tx: Tx, records: Collection[RecordKey]) -> list[RecordDecision]:
    """Decisions on these records, in force and ended, newest first."""
    by_id: dict[str, RecordDecision] = {}
    for chunk in chunks(records):
        where = f"WHERE d.record_key IN ({marks(chunk)}) OR d.other_key IN ({marks(chunk)})"
        by_id |= {row[0]: _decision(row) for row in tx.rows(f"{_DECISIONS} {where}", (*chunk, *chunk))}
    return sorted(by_id.values(), key=lambda d: (d.at, d.id), reverse=True)


def decisions_named(tx: Tx, begins: str) -> list[RecordDecision]:
    """Decisions whose id begins with these hexadecimal digits, three at most."""
    where = "WHERE d.decision_id LIKE ? ORDER BY d.decision_id LIMIT 3"
    return [_decision(row) for row in tx.rows(f"{_DECISIONS} {where}", (begins + "%",))]


def _decision(row: Row) -> RecordDecision:
    key, kind, record, other, at, who, why, ended_at, ended_who, ended_why, merge = row
    return RecordDecision(
        id=key,
        kind=kind,
        record=RecordKey(record),
        other=RecordKey(other) if other is not None else None,
        at=from_micros(at),
        who=who,
        why=why,
        ended_at=from_micros(ended_at) if ended_at is not None else None,
        ended_who=ended_who or "",
        ended_why=ended_why or "",
        merge=bool(merge) or kind == "merge",
    )
