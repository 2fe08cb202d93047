"""What a registry keeps, in bytes."""

from __future__ import annotations

import psycopg

from benchmarks.registry_servers import Server
from crosslight.runtime.db import Tx, open_db
from registry.index.sizes import sizes

_AUDIT = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
    " WHERE relkind = 'r' AND relname LIKE 'audit\\_%'"
)


async def index_bytes(server: Server) -> dict[str, float]:
    """Bytes per study by what they are for; `each_patient` is of one member's record of a patient."""
    if server.url.startswith("postgres"):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    db = open_db(server.url, base=server.folder)
    try:
        found = await db.read("sizes", sizes)
        records = await db.read("patients", _records)
    finally:
        await db.close()
    return {**found, "each_patient": found["patients"] * found["studies"] / max(1, records)}


def _records(tx: Tx) -> int:
    row = tx.row("SELECT count(*) FROM patient_record")
    assert row is not None
    return int(row[0])


def audit_bytes(dsn: str) -> int:
    """What the audit holds on PostgreSQL, indexes included."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(_AUDIT).fetchone()
        return int(row[0]) if row else 0
