"""Append-only audit, the same at registry and node: a pair of entries for each act (D20).

``begin`` commits who, why and what before the first byte of an answer leaves; ``end`` adds the outcome after the last. An act
without an outcome was cut off. Nothing is ever changed or removed: triggers in the database refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.schema import SchemaVersion, migrate
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.ids import Identifier

SCHEMA = SchemaVersion("audit", schema=2, compat=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act, before it happens."""

    principal: Principal
    face: Face
    action: Action
    decision: str  # permit | deny
    rule: str
    correlation: str
    patients: Sequence[Identifier] = ()
    studies: Sequence[str] = ()
    peer: str = ""
    query: dict[str, Any] = field(default_factory=dict)


class AuditLog:
    """The audit store of one service."""

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "crosslight.runtime.audit", SCHEMA)

    async def begin(self, entry: AuditEntry) -> None:
        """Commit the act. Raises StorageError when it cannot: no audit, no data."""
        await self._db.write("audit_begin", lambda tx: self._insert(tx, "act", entry, ""))

    def begin_sync(self, entry: AuditEntry) -> None:
        """As :meth:`begin`, from a thread (DIMSE)."""
        self._db.submit_write("audit_begin", lambda tx: self._insert(tx, "act", entry, "")).result()

    async def end(self, entry: AuditEntry, outcome: str, *, lazy: bool = False) -> None:
        """Commit the outcome of an act: ``ok``, ``denied``, ``failed: …``, with counts where they help.

        ``lazy``: where nobody waits for it, it may share the next act's commit.
        """
        await self._db.write("audit_end", lambda tx: self._insert(tx, "outcome", entry, outcome), lazy=lazy)

    def end_sync(self, entry: AuditEntry, outcome: str) -> None:
        """As :meth:`end`, from a thread."""
        self._db.submit_write("audit_end", lambda tx: self._insert(tx, "outcome", entry, outcome)).result()

    async def whole(self, entry: AuditEntry, outcome: str) -> None:
        """Commit an act and its outcome together, where the answer is held back until then. Raises as :meth:`begin`."""

        def write(tx: Tx) -> None:
            self._insert(tx, "act", entry, "")
            self._insert(tx, "outcome", entry, outcome)

        await self._db.write("audit_whole", write)

    def _insert(self, tx: Tx, kind: str, entry: AuditEntry, outcome: str) -> None:
        acts = kind == "act"
        who = orjson.dumps(entry.principal.describe()).decode()
        query = orjson.dumps(entry.query, default=str).decode() if acts and entry.query else ""
        patients = sorted({(p.value, p.authority) for p in entry.patients}) if acts else []
        names = orjson.dumps([f"{authority}|{value}" for value, authority in patients]).decode()
        studies = orjson.dumps(sorted(set(entry.studies)) if acts else []).decode()
        row = tx.row(
            "INSERT INTO audit_entry (kind, correlation, at, face, action, subject, organisation, purpose, who, decision, "
            "rule, peer, query, outcome, patients, studies) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING seq",
            (
                kind, entry.correlation, instant(self._clock.now()), entry.face, entry.action, entry.principal.subject,
                entry.principal.organisation, entry.principal.purpose, who, entry.decision, entry.rule, entry.peer, query,
                outcome, names, studies,
            ),
        )  # fmt: skip
        assert row is not None  # noqa: S101 - RETURNING always gives a row
        tx.insert_many("audit_patient", ("seq", "value", "authority"), [(int(row[0]), *p) for p in patients])

    async def search(
        self, *, patient: Identifier | None = None, study: str | None = None, correlation: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Acts, newest first, each with its outcome ('' = cut off).

        ``patient`` without authority matches the value under any. A ``study`` alone is looked for entry by entry: studies have
        no index of their own.
        """
        where, params = "a.kind = 'act'", []
        if patient is not None:
            match, values = ("p.value = ?", [patient.value])
            if patient.authority:
                match, values = (f"{match} AND p.authority = ?", [*values, str(patient.authority)])
            where += f" AND a.seq IN (SELECT p.seq FROM audit_patient p WHERE {match})"
            params += values
        if study is not None:
            where += " AND a.studies LIKE ? ESCAPE '\\'"
            params.append(f"%{_like(orjson.dumps(study).decode())}%")
        if correlation is not None:
            where += " AND a.correlation = ?"
            params.append(correlation)

        def read(tx: Tx) -> list[dict[str, Any]]:
            rows = tx.rows(
                "SELECT a.seq, a.correlation, a.at, a.face, a.action, a.who, a.decision, a.rule, a.peer, a.query, a.patients, "
                "a.studies, (SELECT max(e.outcome) FROM audit_entry e WHERE e.correlation = a.correlation AND e.face = a.face "
                "AND e.action = a.action AND e.kind = 'outcome' AND e.seq > a.seq) "
                f"FROM audit_entry a WHERE {where} ORDER BY a.seq DESC LIMIT ?",
                (*params, limit),
            )
            return [
                {
                    "seq": row[0], "correlation": row[1], "at": row[2], "face": row[3], "action": row[4],
                    "who": orjson.loads(row[5]), "decision": row[6], "rule": row[7], "peer": row[8],
                    "query": orjson.loads(row[9]) if row[9] else {}, "outcome": row[12] or "",
                    "patients": orjson.loads(row[10]), "studies": orjson.loads(row[11]),
                }
                for row in rows
            ]  # fmt: skip

        return await self._db.read("audit_search", read)


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
