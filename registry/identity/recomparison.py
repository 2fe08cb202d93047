"""Looking at every record again after an upgrade, or when the region changed its rules.

The rules are what counts as a placeholder, and whose numbers are national ones.

Headers are compared, and records linked, by rules of which the tables keep only the outcome. So the rules are
kept beside it, and where they are others now everything is compared anew: records that have several headers
before anything is answered, for which part a study is of is found by its header; the rest while the registry
serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.region import Region
from registry.identity.compare import Comparison
from registry.identity.config import IdentityRules
from registry.identity.header import Placeholders, header_of
from registry.identity.model import RecordKey
from registry.identity.relink import relink
from registry.identity.rows import load_by, marks, to_micros
from registry.identity.store import IdentityStore

VERSION = 1  # of how headers are compared (header.py, parts.py, linking.py)
TOGETHER = 100  # records in one transaction
_DONE, _AT = "rules", "review"  # rows of identity_meta
_DIVIDED, _ALL = "headers > 1", "1 = 1"
log = get_logger("identity")


def rules_text(rules: IdentityRules, region: Region) -> str:
    """The rules by which headers are compared and records linked."""
    rules_in_force = {
        "version": VERSION,
        "birth_dates": sorted(rules.placeholders.birth_dates),
        "names": sorted(rules.placeholders.names),
        "nationals": list(region.nationals),
        "test_numbers": region.allow_test_numbers,
    }
    return orjson.dumps(rules_in_force).decode()


@dataclass(frozen=True, slots=True)
class Review:
    """Compares and links anew what came by other rules.

    Args:
        db, store: The tables.
        region: Whose numbers count.
        clock: For the history.
    """

    db: Db
    store: IdentityStore
    region: Region
    clock: Clock

    async def begin(self) -> bool:
        """Compare records that have several headers, before anything is answered.

        Whether the rest has to follow.
        """
        rules = rules_text(self.store.rules, self.region)
        before = await self.db.read("identity_rules", lambda tx: _meta(tx, _DONE))
        if before == rules:
            return False
        if (
            await self.db.read("identity_any", lambda tx: tx.row("SELECT 1 FROM patient_record LIMIT 1"))
            is None
        ):
            await self.db.write("identity_rules", lambda tx: _put(tx, _DONE, rules))
            return False
        old = _placeholders(before)
        await self._each(_DIVIDED, lambda tx, keys: self._look(tx, keys, old))
        return True

    async def rest(self) -> None:
        """Compare and link everything; goes on where it stopped."""
        rules = rules_text(self.store.rules, self.region)
        text = await self.db.read("identity_review", lambda tx: _meta(tx, _AT))
        last_key, _, rules_then = text.partition(" ")

        def look(tx: Tx, keys: Sequence[int]) -> None:
            self._look(tx, keys, None)
            _put(tx, _AT, f"{keys[-1]} {rules}")

        compared = await self._each(_ALL, look, after=int(last_key) if rules_then == rules else 0)

        def done(tx: Tx) -> None:
            tx.execute("DELETE FROM identity_meta WHERE name = ?", (_AT,))
            _put(tx, _DONE, rules)

        await self.db.write("identity_rules", done)
        log.info("patient records were compared anew", count=compared)

    async def _each(self, where: str, look: Callable[[Tx, Sequence[int]], None], after: int = 0) -> int:
        """Calls ``look`` in transactions of few records, in the order of their keys; how many there were."""
        sql = (
            f"SELECT record_key FROM patient_record WHERE part = 0 AND {where} AND record_key > ? ORDER BY"
            " record_key LIMIT ?"
        )

        def look_at_next(tx: Tx) -> list[int]:
            keys = [int(row[0]) for row in tx.rows(sql, (after, TOGETHER))]
            if keys:
                look(tx, keys)
            return keys

        looked_at = 0
        while keys := await self.db.write("identity_review", look_at_next):
            after, looked_at = keys[-1], looked_at + len(keys)
        return looked_at

    def _look(self, tx: Tx, keys: Sequence[int], old: Placeholders | None) -> None:
        at = to_micros(self.clock.now())
        if old is not None:
            self._name_anew(tx, keys, old)
        Comparison(self.store, tx, at, "review").run(keys)
        records = load_by(tx, "record_key", keys)
        numbers = {number for s in records for number in s.record.national}
        relink(
            tx,
            self.store,
            {int(s.record.key) for s in records if s.record.national},
            numbers,
            at=at,
            who="review",
            why="review",
        )

    def _name_anew(self, tx: Tx, keys: Sequence[int], old: Placeholders) -> None:
        """Headers are found by what they say.

        Under other rules the same header has another key: rows are moved to it, so that decisions stay.
        """
        known: dict[int, dict[int, tuple[Any, ...]]] = {}
        sql = (
            "SELECT record_key, header_key, part_key, seq FROM record_header WHERE record_key IN"
            f" ({marks(keys)})"
        )
        sql += " ORDER BY seq DESC"  # of two that are one now, the first one stays
        for record, *row in tx.rows(sql, keys):
            known.setdefault(record, {})[row[0]] = tuple(row)
        for record, seen in self.store.headers_of(tx, [RecordKey(key) for key in known]).items():
            names = {
                header_of(patient, self.store.claims(patient, frozenset()), old).key: (
                    self.store.header(patient).key
                )
                for patient, _ in seen
            }
            rows = {names.get(header, header): row for header, row in known[record].items()}
            if rows.keys() != known[record].keys():
                tx.execute("DELETE FROM record_header WHERE record_key = ?", (record,))
                columns = ("record_key", "header_key", "part_key", "seq")
                tx.insert_many(
                    "record_header",
                    columns,
                    [(record, header, *row[1:]) for header, row in sorted(rows.items())],
                )


def _meta(tx: Tx, name: str) -> str:
    row = tx.row("SELECT value FROM identity_meta WHERE name = ?", (name,))
    return str(row[0]) if row is not None else ""


def _put(tx: Tx, name: str, value: str) -> None:
    sql = (
        "INSERT INTO identity_meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value ="
        " excluded.value"
    )
    tx.execute(sql, (name, value))


def _placeholders(text: str) -> Placeholders | None:
    rules = orjson.loads(text) if text else {}
    return Placeholders(frozenset(rules["birth_dates"]), frozenset(rules["names"])) if rules else None
