"""Databases of an earlier schema are upgraded, and what they hold is found by every name."""

from __future__ import annotations

from typing import Any

import pg
from callers import caller
from foreign_region import REPOSITORY, foreign_region, manifest
from registry_room import make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.postgres import PostgresDb
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.access import OPEN
from crosslight.standards.ids import Identifier
from registry.ask.question import ByObject, ByPatient
from registry.identity.model import PatientSelector
from registry.index.codec import Codec
from registry.index.rows import HOLDING_COLUMNS, NAME_COLUMNS, UNITED
from registry.index.store import PACKAGE

_TABLES = {
    "registry_meta": "*",
    "patient_text": "*",
    "locator": "*",
    "member_feed": "member_id, cursor_version, studies, census",
}


async def test_rows_whose_names_were_all_locators(postgres_dsn: str) -> None:
    """Delta 0002 on PostgreSQL: what lay in locator before is still found there, and moves into the row with
    its next version.
    """
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
        for table, columns in _TABLES.items():
            tx.execute(f"DELETE FROM {table}")
            tx.execute(f"INSERT INTO {table} SELECT {columns} FROM upgrade_from.{table}")
        tx.insert_many("holding", HOLDING_COLUMNS, [row[:12]])
        tx.insert_many("locator", ("hash", "record_key"), [(name, row[0]) for name in row[12:]])

    await target.write("lay", lay)
    upgraded = await make_room(target)
    await target.write(
        "patients",
        lambda tx: tx.execute("INSERT INTO patient_record SELECT * FROM upgrade_from.patient_record"),
    )
    await target.write(
        "claims",
        lambda tx: tx.execute("INSERT INTO national_claim SELECT * FROM upgrade_from.national_claim"),
    )
    await target.write(
        "held",
        lambda tx: tx.execute("INSERT INTO national_number SELECT * FROM upgrade_from.national_number"),
    )
    questions = (
        ByObject(fhir_ids=(held.fhir_id,)),
        ByObject(entry_uuids=(held.publication.entry_uuid,)),
        ByObject(accessions=record.accessions[:1]),
        ByObject(study_uids=(record.study_uid,)),
    )
    for question in questions:
        assert [h.study_uid for h in (await upgraded.asked(question)).holdings] == [record.study_uid], (
            question
        )
    assert await upgraded.publish("RA2", record, 1) == "already"
    for db in (source, target):
        await db.close()
    for name in ("upgrade_from", "upgrade_to"):
        pg.drop_schema(postgres_dsn, name)


async def test_foreign_entries_that_stood_behind_a_later_one(database: Db) -> None:
    """Delta 0003: entries of a foreign source that are Approved are shown together, and imaging documents are
    counted.
    """
    async with foreign_region(database) as region:
        await region.register(
            manifest("first", modality="CT"),
            manifest("second", modality="MR"),
            manifest("which?", references=()),
        )
        shown = await region.studies()
        answered = {one.entry_uuid: one for one in await region.answered()}
    await database.write("as before", _as_before)
    who = ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(7), NHS),)))
    async with foreign_region(database) as region:
        await region.xds.foreign(REPOSITORY)  # known to the directory, as before
        (study_now,) = await region.studies()
        assert {m["code"] for m in study_now["modality"]} == {"CT", "MR"}
        assert study_now["id"] == shown[0]["id"]
        assert {one.entry_uuid: one for one in await region.answered()} == answered, (
            "ITI-18 answers what it did"
        )
        asked = region.xds.ask.question(caller(OPEN, "c", "test"), face="fhir", action="search", question=who)
        async with asked as answer:
            assert answer.unread == 1
        revision = study_now["meta"]["versionId"]
    async with foreign_region(database) as region:
        await region.xds.foreign(REPOSITORY)
        (again,) = await region.studies()
        assert again["meta"]["versionId"] == revision, "once"


def _as_before(tx: Tx) -> None:
    """What release 0.1 would have left: no table of imaging documents, and rows that show their newest entry
    only.
    """
    codec = Codec()
    for table in ("entry_owner", "imaging_document", "index_change", "person_stream", "enrich_lease"):
        tx.execute(f"DROP TABLE {table}")
    tx.execute("ALTER TABLE member_feed DROP COLUMN changes")
    tx.execute("DROP INDEX enrich_pending_turn")
    tx.execute("DROP INDEX IF EXISTS holding_member")
    tx.execute("DELETE FROM registry_meta WHERE name = 'entries_united'")
    tx.execute("UPDATE schema_version SET schema = 2, compat = 2 WHERE component = 'index'")
    ((flags, extra),) = tx.rows("SELECT flags, extra FROM holding")
    kept = {name: value for name, value in codec.decode_plain(bytes(extra)).items() if name != "u"}
    assert flags & UNITED
    tx.execute("UPDATE holding SET flags = ?, extra = ?", (flags & ~UNITED, codec.encode_plain(kept)))
