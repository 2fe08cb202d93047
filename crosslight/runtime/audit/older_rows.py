"""Rows of releases before 0.3: ``audit_entry`` has an act and its outcome as two rows, each with all it says.

They are read as long as they are kept; nothing is added to them.
"""

from __future__ import annotations

import orjson

from crosslight.runtime.audit.rows import Audited
from crosslight.runtime.db import Row
from crosslight.standards.access import Principal

OLDER = (
    "SELECT a.seq, a.correlation, a.at, a.face, a.action, a.who, a.decision, a.rule, a.peer, a.query,"
    " a.patients, a.studies, (SELECT max(e.outcome) FROM audit_entry e WHERE e.correlation = a.correlation"
    " AND e.kind = 'outcome' AND e.seq > a.seq AND (e.act = a.seq OR (e.act IS NULL AND e.face = a.face AND"
    " e.action = a.action))) FROM audit_entry a"
)


def older(row: Row) -> Audited:
    """A row of :data:`OLDER`."""
    return Audited(
        seq=int(row[0]),
        correlation=row[1],
        at=row[2],
        face=row[3],
        action=row[4],
        who=Principal.described(orjson.loads(row[5])),
        decision=row[6],
        rule=row[7],
        peer=row[8],
        query=orjson.loads(row[9]) if row[9] else {},
        patients=tuple(orjson.loads(row[10])),
        studies=tuple(orjson.loads(row[11])),
        text=row[12] or "",
    )
