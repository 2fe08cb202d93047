"""A PostgreSQL of our own for tests: Debian's binaries, a cluster in a temporary folder, a unix socket
only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import psycopg.conninfo

MISSING = "PostgreSQL 15 is missing: apt-get install postgresql"
#: Lost data is no loss in a test; everything else as shipped.
SETTINGS = {
    "fsync": "off",
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "autovacuum": "off",
}


def binaries() -> Path:
    """Where Debian keeps the newest server's programs.

    Raises:
        RuntimeError: if there are none; a test must fail, not skip.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise RuntimeError(MISSING)
    return Path(elsewhere).resolve().parent


def _as_server() -> list[str]:
    """PostgreSQL refuses root; then its own user runs it."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise RuntimeError(MISSING) from None
    return ["runuser", "-u", "postgres", "--"]


@contextmanager
def cluster(**settings: str) -> Iterator[str]:
    """Start a cluster; the DSN of its database while it lives."""
    programs, prefix = binaries(), _as_server()
    folder = Path(tempfile.mkdtemp(prefix="crosslight-pg-"))
    if prefix:
        shutil.chown(folder, "postgres", "postgres")
    data, log = folder / "data", folder / "log"

    def run(*command: str) -> None:
        done = subprocess.run(
            [*prefix, *command], cwd="/", capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            detail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr[-2000:]} {detail}")

    try:
        run(
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "crosslight",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        options = " ".join(
            f"-c {k}={v}" for k, v in {**SETTINGS, "unix_socket_directories": str(folder), **settings}.items()
        )
        run(
            str(programs / "pg_ctl"),
            "-D",
            str(data),
            "-l",
            str(log),
            "-o",
            options,
            "-w",
            "-t",
            "60",
            "start",
        )
        try:
            yield f"postgresql:///postgres?host={folder}&user=crosslight"
        finally:
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "-t", "60", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postmaster(dsn: str) -> int:
    """The process id of the server of a :func:`cluster`."""
    return int((_folder(dsn) / "data" / "postmaster.pid").read_text().splitlines()[0])


def start_again(dsn: str) -> None:
    """Start the server of a :func:`cluster` that has been killed, as soon as its last processes are gone."""
    folder = _folder(dsn)
    command = [str(binaries() / "pg_ctl"), "-D", str(folder / "data"), "-l", str(folder / "log")]
    for _ in range(100):
        done = subprocess.run(
            [*_as_server(), *command, "-w", "-t", "60", "restart"],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"pg_ctl failed: {done.stderr[-2000:]} {(folder / 'log').read_text()[-1000:]}")


def _folder(dsn: str) -> Path:
    return Path(psycopg.conninfo.conninfo_to_dict(dsn)["host"])


def create_schema(dsn: str, name: str) -> None:
    """An empty schema for one test."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')


def drop_schema(dsn: str, name: str) -> None:
    """Remove it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')
