"""What the machine refuses is said in one sentence that names the thing and what to do; the program's faults
keep a stack.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import sqlite3
import ssl
from pathlib import Path

import orjson
import pytest
from aiohttp import ServerDisconnectedError
from click.testing import CliRunner

from crosslight.runtime.command import Commands
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.log import get_logger, setup_logging
from crosslight.runtime.machine_errors import cannot_listen, connection_trouble, sentence
from crosslight.standards.problem import ConfigError, StorageError, kind_as_sentence, kind_in_words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not be used by this user"),
        (errno.EPERM, "may not be used by this user"),
        (errno.ENOENT, "is not there"),
        (errno.ENOTDIR, "is no folder"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "the disk failed"),
        (errno.EMFILE, "too many files"),
        (errno.ELOOP, "cannot be used"),
    ],
)
def test_files(number: int, words: str) -> None:
    said = sentence(OSError(number, os.strerror(number), "/srv/node/node.toml"))
    assert said is not None
    assert said.startswith("/srv/node/node.toml ")
    assert words in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EADDRINUSE, "x"), "Port 9380 (listen.people_port) is taken by another program."),
        (
            RuntimeError("Failed to bind to address"),
            "Port 9380 (listen.people_port) is taken by another program.",
        ),
        (OSError(errno.EACCES, "x"), "may not be opened by this user"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "10.9.9.9 is no address of this machine"),
        (OSError(errno.EAFNOSUPPORT, "unknown family"), "cannot be opened at 10.9.9.9. unknown family"),
    ],
)
def test_ports(error: BaseException, words: str) -> None:
    made = cannot_listen(error, "10.9.9.9", 9380, "listen.people_port")
    assert isinstance(made, ConfigError)
    assert words in str(made)
    assert made.where == "listen.people_port"


def _certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "message"
    return error


class _Wrapped(Exception):
    def __init__(self, inner: OSError) -> None:
        self.os_error = inner


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(), "nothing listens there"),
        (TimeoutError(), "no answer came in time"),
        (socket.gaierror(-2, "x"), "its name is not known here"),
        (_Wrapped(ConnectionRefusedError()), "nothing listens there"),
        (ServerDisconnectedError(), "it closed the connection"),
        (ConnectionResetError(), "it closed the connection"),
        (OSError(errno.EHOSTUNREACH, "x"), "there is no way there"),
        (ssl.SSLError(1, "x"), "TLS failed"),
        (_certificate(62), "for other names"),
        (_certificate(10), "has ended"),
        (_certificate(20), "of no authority"),
        (_certificate(99), "not trusted (message)"),
        (ValueError("patient data"), ""),
    ],
)
def test_connections(error: BaseException, words: str) -> None:
    said = connection_trouble(error)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ExpiredTokenError", "expired token"),
        ("BadSignatureError", "bad signature"),
        ("ValueError", ""),
        ("KeyError", ""),
        ("MemberUnreachable", "member unreachable"),
        ("TLSError", "tls"),
        ("XMLSyntaxError", "xml syntax"),
        ("Exception", ""),
        ("DecodeError", ""),
    ],
)
def test_kinds_in_words(name: str, words: str) -> None:
    assert kind_in_words(name) == words
    error = type(name, (Exception,), {})()
    assert kind_as_sentence(error) == (f"{words.capitalize()}." if words else "")


def test_what_is_no_trouble_of_the_machine_keeps_its_stack() -> None:
    for error in (ValueError("x"), KeyError("x"), AssertionError()):
        assert sentence(error) is None
    caused = ValueError("x")
    caused.__cause__ = OSError(errno.ENOSPC, "x", "/srv")
    assert "disk is full" in (sentence(caused) or "")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"this is no database, whatever it is called " * 100)
    with pytest.raises(StorageError, match="is damaged") as found:
        SqliteDb(path)
    assert str(path) in str(found.value)


async def test_a_database_that_broke_while_it_was_open(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    db = SqliteDb(path)
    await db.write("t", lambda tx: tx.script("CREATE TABLE a (b TEXT UNIQUE)"))
    with pytest.raises(sqlite3.IntegrityError):  # a fault of the program stays what it is
        await db.write("t", lambda tx: tx.executemany("INSERT INTO a VALUES (?)", [("x",), ("x",)]))
    await db.write(
        "t", lambda tx: tx.executemany("INSERT INTO a VALUES (?)", [(f"{n}" * 300,) for n in range(200)])
    )
    await db.close()
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    for rest in tmp_path.glob("node.db-*"):
        rest.unlink()
    again = SqliteDb(path)
    try:
        with pytest.raises(StorageError, match="is damaged"):
            await again.read("t", lambda tx: tx.rows("SELECT b FROM a"))
    finally:
        await again.close()


def test_commands_end_in_words() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/x")

    def broken() -> None:
        raise ZeroDivisionError("secret")

    group = Commands("g")
    group.command("full")(full)
    group.command("broken")(broken)
    done = CliRunner().invoke(group, ["full"])
    assert done.exit_code == 1
    assert (
        done.output.strip() == "Error: /srv/x cannot be written: the disk is full. Make room and try again."
    )
    done = CliRunner().invoke(group, ["broken"])
    assert done.exit_code == 1
    assert re.match(
        r"Error: This is a fault of Crosslight: ZeroDivisionError at test_trouble.py:\d+\.", done.output
    )
    assert "secret" not in done.output, "an error's own text may hold data"
    traced = CliRunner(env={"CROSSLIGHT_TRACE": "1"}).invoke(group, ["broken"])
    assert isinstance(traced.exception, ZeroDivisionError)


def test_log_lines_have_a_zone_and_the_number_of_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    try:
        setup_logging(level="info", json=True)
        get_logger("link").warning("the clock differs from the registry's", skew_ms=3500, surname="Doe")
        line = orjson.loads(capsys.readouterr().err.splitlines()[-1])
        assert line["time"].endswith("Z")
        assert (line["skew_ms"], line["surname"]) == (3500, "<str>")
        setup_logging(level="info", json=False)
        get_logger("link").warning("again", skew_ms=1)
        assert capsys.readouterr().err.split()[0][8] in "+-"
    finally:
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)
