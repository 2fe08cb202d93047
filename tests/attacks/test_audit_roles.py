"""On PostgreSQL the registry's own role cannot change, remove or hide what is in its audit (H9)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from ports import free_ports
from whole_region import FILES, HOST, IDS

from crosslight.client.doctor import Finding
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.audit.months import FIRST, make_months, month_number
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db.postgres import PostgresDb
from registry.__main__ import main
from registry.app import RegistryApp
from registry.config import read_config
from registry.doctor import audit_found
from registry.setup import init_registry

OWNER, SERVICE, AUDIT, INDEX = "audit_owner", "crosslight_service", "roles_audit", "roles_index"


@dataclass
class Roles:
    """Two databases and two roles, as operations.md sets them up; ``administrator`` is PostgreSQL's own."""

    administrator: str
    folder: Path

    def url(self, role: str, database: str) -> str:
        return self.administrator.replace("user=crosslight", f"user={role}").replace(
            "///postgres", f"///{database}"
        )

    async def does(self, *words: str) -> Result:
        """The registry's command, in a thread: it has an event loop of its own."""
        return await asyncio.to_thread(CliRunner().invoke, main, ["--dir", str(self.folder), *words])

    def refused(self, role: str, statement: str, database: str = AUDIT) -> str:
        """Why the database refuses a statement."""
        with psycopg.connect(self.url(role, database), autocommit=True) as connection:
            with pytest.raises(psycopg.Error) as error:
                connection.execute(statement)
            return type(error.value).__name__


@pytest.fixture
def roles(postgres_dsn: str, tmp_path: Path) -> Iterator[Roles]:
    made = Roles(postgres_dsn, tmp_path / "registry")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {OWNER} LOGIN")
        connection.execute(f"CREATE ROLE {SERVICE} LOGIN")
        connection.execute(f"CREATE DATABASE {INDEX} OWNER {SERVICE} ENCODING 'UTF8' TEMPLATE template0")
        connection.execute(f"CREATE DATABASE {AUDIT} OWNER {OWNER} ENCODING 'UTF8' TEMPLATE template0")
        try:
            yield made
        finally:
            for database in (INDEX, AUDIT):
                connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
            for role in (OWNER, SERVICE):
                connection.execute(f"DROP ROLE {role}")


def configured(roles: Roles, **database: str) -> None:
    people, grpc, mllp, systems = free_ports(4)
    values: dict[str, Any] = {
        "listen": {
            "host": HOST,
            "public_host": "localhost",
            "people_port": people,
            "grpc_port": grpc,
            "mllp_port": mllp,
            "systems_port": systems,
        },
        "database": {"url": roles.url(SERVICE, INDEX), **database},
    }
    init_registry(roles.folder, FILES, IDS, values)


@pytest.fixture
def two(roles: Roles) -> Roles:
    """Configured with both roles."""
    configured(roles, audit_url=roles.url(SERVICE, AUDIT), audit_owner_url=roles.url(OWNER, AUDIT))
    return roles


async def found(roles: Roles, role: str = SERVICE) -> Finding:
    db = PostgresDb(roles.url(role, AUDIT), connections=1)
    try:
        return await audit_found(db)
    finally:
        await db.close()


async def test_the_service_says_what_is_to_be_done_before_the_owner_has_made_the_tables(two: Roles) -> None:
    early = await two.does("invite", "RTK")
    assert early.exit_code == 1
    assert "does not allow this role" in early.output
    assert "audit_owner_url" in early.output


async def test_the_service_adds_and_reads_and_can_do_nothing_else(two: Roles) -> None:
    made = await two.does("migrate")
    assert made.exit_code == 0, made.output
    assert SERVICE in made.output
    assert (await two.does("migrate")).exit_code == 0  # as often as one likes
    assert (await two.does("invite", "RTK")).exit_code == 0
    shown = await two.does("audit", "--csv")
    assert ",invite,permit," in shown.output
    assert "operate" in shown.output, "who gave the rights is audited"
    month = f"audit_act_{SystemClock().now():%Y_%m}"
    for table, column in (
        ("audit_act", "at"), ("audit_outcome", "at"), ("audit_patient_act", "act"), ("audit_said", "who"),
        ("audit_whom", "patients"), ("audit_patient_whom", "patient"),
        (month, "at"), ("audit_act_older", "at"),
        ("audit_study", "uid"), ("audit_authority", "authority"), ("audit_secret", "secret"),
        ("audit_entry", "at"), ("audit_patient", "value"), ("audit_expiry", "at"),
    ):  # fmt: skip
        for statement in (
            f"UPDATE {table} SET {column} = NULL",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"ALTER TABLE {table} OWNER TO {SERVICE}",
            f"ALTER TABLE {table} ADD COLUMN more int",
            f"CREATE RULE hidden AS ON INSERT TO {table} DO INSTEAD NOTHING",
        ):
            assert two.refused(SERVICE, statement) == "InsufficientPrivilege", statement
    own_expiry = (
        "INSERT INTO audit_expiry (at, before, acts, oldest, newest, digest) VALUES ('','9999',0,'','','')"
    )
    for statement in (
        own_expiry,
        "CREATE TABLE other (x int)",
        "DROP SCHEMA public CASCADE",
        f"SET ROLE {OWNER}",
        "SET session_replication_role = replica",
        f"ALTER TABLE audit_act DETACH PARTITION {month}",
        "SELECT setval('audit_act_seq', 1)",
    ):
        assert two.refused(SERVICE, statement) == "InsufficientPrivilege", statement
    with psycopg.connect(two.url(SERVICE, AUDIT), autocommit=True) as connection:
        connection.execute(f"GRANT DELETE ON audit_act TO {SERVICE}")  # a warning, and nothing granted
    assert two.refused(SERVICE, "DELETE FROM audit_act") == "InsufficientPrivilege"
    assert (await found(two)).result == "ok"
    assert (await found(two, OWNER)).result == "warn"
    for statement in (
        "TRUNCATE audit_act",
        f"TRUNCATE {month}",
        "DELETE FROM audit_act",
        f"DELETE FROM {month}",
    ):
        assert two.refused(OWNER, statement) == "RaiseException", "the owner's mistakes are refused too"


async def test_the_service_has_the_next_months_made_and_reads_them(two: Roles) -> None:
    assert (await two.does("migrate")).exit_code == 0
    months = "SELECT relid::regclass::text FROM pg_partition_tree('audit_act') WHERE level = 1 ORDER BY 1"
    owner, service = (PostgresDb(two.url(role, AUDIT), connections=1) for role in (OWNER, SERVICE))
    try:
        made = await service.read("months", lambda tx: tx.rows(months))
        coming = made[-3][0]
        assert [row[0] for row in made[-2:]] == ["audit_act_older", "audit_act_rest"]
        for part in (coming, coming.replace("act", "outcome")):
            await owner.write("gone", lambda tx, part=part: tx.execute(f"DROP TABLE {part}"))  # type: ignore[misc]  # bound
        await make_months(service)
        assert await service.read("months", lambda tx: tx.rows(months)) == made
        assert await service.read("readable", lambda tx: tx.rows(f"SELECT * FROM {coming}")) == []
    finally:
        await owner.close()
        await service.close()


async def test_a_temporary_table_of_the_service_is_not_taken_for_the_audit(two: Roles) -> None:
    """What makes months does it as the owner: names are the owner's."""
    assert (await two.does("migrate")).exit_code == 0
    with psycopg.connect(two.url(OWNER, AUDIT), autocommit=True) as connection:
        (coming,) = connection.execute(
            "SELECT max(relid::regclass::text) FROM pg_partition_tree('audit_act')"
            " WHERE relid::regclass::text ~ '[0-9]$'"
        ).fetchone() or ("",)
        connection.execute(f"DROP TABLE {coming}")
    with psycopg.connect(two.url(SERVICE, AUDIT), autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE audit_act (seq bigint) PARTITION BY RANGE (seq)")
        assert connection.execute("SELECT audit_make_months()").fetchone() == (1,)
        parent = (
            f"SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'public.{coming}'::regclass"
        )
        assert connection.execute(parent).fetchone() == ("public.audit_act",)


async def test_a_registry_serves_and_is_backed_up_and_restored_with_two_roles(
    two: Roles, tmp_path: Path
) -> None:
    assert (await two.does("migrate")).exit_code == 0
    app = RegistryApp(two.folder, read_config(two.folder))
    await app.start()
    try:
        _, details = await app.ready()
        assert details["audit"] == "ok"
    finally:
        await app.stop()
    copied = await two.does("backup", str(tmp_path / "copy"))
    assert copied.exit_code == 0, copied.output
    with psycopg.connect(two.administrator, autocommit=True) as connection:
        for database, owner in ((INDEX, SERVICE), (AUDIT, OWNER)):
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {database} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0")
    back = Roles(two.administrator, tmp_path / "back")
    restored = await back.does("restore", str(tmp_path / "copy"))
    assert restored.exit_code == 0, restored.output
    assert ",restore,permit," in (await back.does("audit", "--csv")).output
    assert back.refused(SERVICE, "DELETE FROM audit_act") == "InsufficientPrivilege"


async def test_the_owner_removes_what_is_over_and_that_is_audited(two: Roles) -> None:
    assert (await two.does("migrate")).exit_code == 0
    assert (await two.does("invite", "RTK")).exit_code == 0
    owner = PostgresDb(two.url(OWNER, AUDIT), connections=1)
    columns, at = "correlation, said, body, studies", 978307200000  # 2001-01-01
    number = month_number(at) + 1
    part = "CREATE TABLE audit_act_2001_01 PARTITION OF audit_act FOR VALUES FROM ({}) TO ({})"
    await owner.write("part", lambda tx: tx.execute(part.format(number - 1, month_number(at) + FIRST)))
    for when, seq in (
        (at, number),
        (at - 1, month_number(at - 1) + 2),
    ):  # the second is of a month without a part
        copied = f"SELECT {seq}, {when}, {columns} FROM audit_act LIMIT 1"
        old = f"INSERT INTO audit_act (seq, at, {columns}) {copied}"
        await owner.write("old", lambda tx, old=old: tx.execute(old))  # type: ignore[misc]  # bound
    assert (
        "2 acts would be removed"
        in (await two.does("audit", "expire", "--before", "2010-01-01", "--dry-run")).output
    )
    done = await two.does("--as", "Jo", "audit", "expire", "--before", "2010-01-01")
    assert "2 acts removed, from 2000-12-31" in done.output
    assert await owner.read("gone", lambda tx: tx.rows("SELECT to_regclass('audit_act_2001_01')")) == [
        (None,)
    ]
    await owner.close()
    early = await two.does("audit", "expire", "--before", f"{SystemClock().now().year - 1}-01-01")
    assert early.exit_code == 1
    assert "audit.keep_years" in early.output
    db = PostgresDb(two.url(SERVICE, AUDIT), connections=1)
    (act,) = [act for act in await AuditLog(db, SystemClock()).search() if act.action == "expire"]
    await db.close()
    assert (act.who.name, act.text) == ("command line: Jo", "ok 2 acts, 2 rows")


async def test_one_role_still_starts_and_is_said_to_be_unprotected(roles: Roles) -> None:
    configured(roles, audit_url=roles.url(SERVICE, INDEX))
    app = RegistryApp(roles.folder, read_config(roles.folder))
    await app.start()
    try:
        ready, details = await app.ready()
        assert (ready, details["audit"]) == (True, "not protected: this service could change it")
    finally:
        await app.stop()
    refused = await roles.does("migrate")
    assert refused.exit_code == 1
    assert "database.audit_owner_url" in refused.output


async def test_a_registry_of_one_role_is_given_an_owner_as_the_guide_says(roles: Roles) -> None:
    """With the very statements of operations.md."""
    configured(roles, audit_url=roles.url(SERVICE, INDEX))
    assert (await roles.does("invite", "RTK")).exit_code == 0
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    (statements,) = re.findall(r"```sql\n(ALTER DATABASE.*?)```", guide, re.DOTALL)
    statements = re.sub(r"\bcrosslight\b", SERVICE, statements.replace("crosslight_audit", OWNER))
    statements = statements.replace(f"DATABASE {SERVICE}", f"DATABASE {INDEX}")
    administrator = roles.administrator.replace("///postgres", f"///{INDEX}")
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(statements)
    text = (roles.folder / "registry.toml").read_text("utf-8")
    owner = f'audit_owner_url = "{roles.url(OWNER, INDEX)}"'
    (roles.folder / "registry.toml").write_text(
        re.sub(r"^# audit_owner_url = .*$", owner, text, flags=re.MULTILINE), "utf-8"
    )
    migrated = await roles.does("migrate")
    assert migrated.exit_code == 0, migrated.output
    assert (await roles.does("invite", "RXC")).exit_code == 0
    shown = (await roles.does("audit", "--csv")).output
    assert shown.count(",invite,permit,") == 2
    for statement in ("DELETE FROM audit_act", "DROP TABLE audit_act", "TRUNCATE audit_expiry"):
        assert roles.refused(SERVICE, statement, INDEX) == "InsufficientPrivilege", statement
    db = PostgresDb(roles.url(SERVICE, INDEX), connections=1)
    try:
        assert (await audit_found(db)).result == "ok"
    finally:
        await db.close()
