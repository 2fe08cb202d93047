"""Databases of an earlier schema are upgraded, and what they hold is found by every name."""

from __future__ import annotations

from typing import Any

import pg
from registry_room import make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Tx
from crosslight.runtime.postgres import PostgresDb
from crosslight.runtime.schema import SchemaVersion, migrate
from registry.ask.question import ByObject
from registry.index.rows import HOLDING_COLUMNS, NAME_COLUMNS
from registry.index.schema import PACKAGE

_TABLES = ("registry_meta", "patient_text", "locator", "member_feed")


async def test_rows_whose_names_were_all_locators(postgres_dsn: str) -> None:
    """Delta 0002 on PostgreSQL: what lay in locator before is still found there, and moves into the row with its next version."""
    for name in ("upgrade_from", "upgrade_to"):
        pg.create_schema(postgres_dsn, name)
    source = PostgresDb(postgres_dsn, connections=2, schema="upgrade_from")
    room = await make_room(source)
    record = study(patient(room.member("RA2"), number=nhs(1)), 1)
    await room.publish("RA2", record, 1)
    (held,) = await room.holdings("RA2")
    columns = ", ".join(HOLDING_COLUMNS)

    def taken(tx: Tx) -> list[Any]:
        return tx.rows(f"SELECT {columns}, {', '.join(NAME_COLUMNS)} FROM holding")

    (row,) = await source.read("taken", taken)
    target = PostgresDb(postgres_dsn, connections=2, schema="upgrade_to")
    await migrate(target, PACKAGE, SchemaVersion("index", schema=1, compat=1))

    def lay(tx: Tx) -> None:
        for table in _TABLES:
            tx.execute(f"DELETE FROM {table}")
            tx.execute(f"INSERT INTO {table} SELECT * FROM upgrade_from.{table}")
        tx.insert_many("holding", HOLDING_COLUMNS, [row[:12]])
        tx.insert_many("locator", ("hash", "record_key"), [(name, row[0]) for name in row[12:]])

    await target.write("lay", lay)
    upgraded = await make_room(target)
    await target.write("patients", lambda tx: tx.execute("INSERT INTO patient_record SELECT * FROM upgrade_from.patient_record"))
    await target.write("claims", lambda tx: tx.execute("INSERT INTO national_claim SELECT * FROM upgrade_from.national_claim"))
    await target.write("held", lambda tx: tx.execute("INSERT INTO national_number SELECT * FROM upgrade_from.national_number"))
    questions = (
        ByObject(fhir_ids=(held.fhir_id,)),
        ByObject(entry_uuids=(held.publication.entry_uuid,)),
        ByObject(accessions=record.accessions[:1]),
        ByObject(study_uids=(record.study_uid,)),
    )
    for question in questions:
        assert [h.study_uid for h in (await upgraded.asked(question)).holdings] == [record.study_uid], question
    assert await upgraded.publish("RA2", record, 1) == "already"
    for db in (source, target):
        await db.close()
    for name in ("upgrade_from", "upgrade_to"):
        pg.drop_schema(postgres_dsn, name)
