"""Many rows in one statement: whatever stands in them, both engines hold the same."""

from __future__ import annotations

import pytest

from crosslight.runtime.db import Db, Row, Tx

_ROWS: list[Row] = [
    (1, "plain", b"\x00\xff", 7),
    (-(1 << 63), "", b"", None),
    ((1 << 63) - 1, 'Zoë "\\{},NULL', b"NULL", 0),
    (0, "中\n文", bytes(range(256)), -5),
]
_NAMES = ("key", "words", "body", "spare")


def _make(tx: Tx) -> None:
    blob = "BLOB" if tx.dialect.name == "sqlite" else "BYTEA"
    tx.execute(
        f"CREATE TABLE thing (key BIGINT PRIMARY KEY, words TEXT NOT NULL, body {blob} NOT NULL, spare"
        " INTEGER)"
    )


def _rows(tx: Tx) -> list[Row]:
    return [
        (a, b, bytes(c), d)
        for a, b, c, d in tx.rows("SELECT key, words, body, spare FROM thing ORDER BY key")
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
async def test_rows_come_back_as_they_were(database: Db, count: int) -> None:
    await database.write("make", _make)
    await database.write("insert", lambda tx: tx.insert_many("thing", _NAMES, _ROWS[:count]))
    assert await database.read("rows", _rows) == sorted(_ROWS[:count])


async def test_a_column_of_nulls_and_a_conflict(database: Db) -> None:
    await database.write("make", _make)
    bare = [(n, str(n), b"", None) for n in range(3)]
    again = [(n, "new", b"", n) for n in range(5)]
    tail = "ON CONFLICT (key) DO UPDATE SET words = excluded.words"
    await database.write("insert", lambda tx: tx.insert_many("thing", _NAMES, bare))
    await database.write("again", lambda tx: tx.insert_many("thing", _NAMES, again, tail))
    assert await database.read("rows", _rows) == [(n, "new", b"", None if n < 3 else n) for n in range(5)]


async def test_lists_of_any_length_between_other_parameters(database: Db) -> None:
    await database.write("make", _make)
    await database.write("insert", lambda tx: tx.insert_many("thing", _NAMES, _ROWS))
    sql = "SELECT key FROM thing WHERE key > ? AND words IN ({}) AND key IN ({}) AND key < ? ORDER BY key"

    def ask(tx: Tx) -> list[list[int]]:
        found = []
        for words, keys in (
            (["plain"], [1]),
            (["plain", "", "Q?"], [0, 1, -(1 << 63)]),
            (["plain"] * 600, list(range(600))),
        ):
            text = sql.format(",".join("?" * len(words)), ",".join("?" * len(keys)))
            found.append([row[0] for row in tx.rows(text, (-(1 << 63), *words, *keys, 5))])
        return found

    assert await database.read("ask", ask) == [[1], [1], [1]]


async def test_many_rows_are_set_by_their_keys_and_a_rising_column_never_falls(database: Db) -> None:
    await database.write("make", _make)
    rows = [(1, "a", b"", 5), (2, "b", b"", None), (3, "c", b"", 9)]
    await database.write("insert", lambda tx: tx.insert_many("thing", _NAMES, rows))
    wanted = [(1, 7), (2, 7), (3, 7), (4, 7)]
    await database.write(
        "up", lambda tx: tx.update_many("thing", ("key",), ("spare",), wanted, rising="spare")
    )
    assert [(row[0], row[3]) for row in await database.read("rows", _rows)] == [(1, 7), (2, 7), (3, 9)]
    await database.write(
        "set", lambda tx: tx.update_many("thing", ("key",), ("words", "spare"), [(3, "d", 1)])
    )
    assert (await database.read("rows", _rows))[2] == (3, "d", b"", 1)


async def test_tables_and_indexes_have_a_size(database: Db) -> None:
    await database.write("make", _make)
    await database.write("index", lambda tx: tx.execute("CREATE INDEX thing_words ON thing (words)"))
    await database.write("insert", lambda tx: tx.insert_many("thing", _NAMES, _ROWS))
    rows, indexes = await database.read("size", lambda tx: tx.table_bytes("thing"))
    assert rows > 0
    assert (
        0
        < await database.read("size", lambda tx: tx.index_bytes(("thing_words", "thing_nothing")))
        <= indexes
    )
