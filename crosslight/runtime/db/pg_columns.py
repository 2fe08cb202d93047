"""Many rows in one PostgreSQL statement.

Each column travels as one binary array, unpacked there by ``unnest``.

Only what stores need: whole numbers, text and bytes, any of them NULL. The wire form is that of
``array_send`` (PostgreSQL's ``arrayfuncs.c``): dimensions, a flag for NULLs, the element's type, then each
element behind its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_INT8, _TEXT, _BYTEA = 20, 25, 17  # pg_type.oid
_INT8S, _TEXTS, _BYTEAS = 1016, 1009, 1001


class Column:
    """The values of one column."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values


class IntColumn(Column):
    """A column of whole numbers (int8)."""


class TextColumn(Column):
    """A column of texts (text)."""


class BytesColumn(Column):
    """A column of bytes (bytea)."""


def column(values: Sequence[Any]) -> Column:
    """A column, of the kind of its first value that is not NULL."""
    first = next((value for value in values if value is not None), 0)
    if isinstance(first, str):
        return TextColumn(values)
    return IntColumn(values) if isinstance(first, int) else BytesColumn(values)


def columns(rows: Sequence[Sequence[Any]]) -> list[Column]:
    """The columns of rows."""
    return [column(values) for values in zip(*rows, strict=True)]


def _array(element: int, items: Iterable[bytes | None], count: int, nulls: bool) -> bytes:
    parts = [_HEAD.pack(1, nulls, element, count, 1)]
    for item in items:
        parts += (_LENGTH.pack(-1),) if item is None else (_LENGTH.pack(len(item)), item)
    return b"".join(parts)


class _IntDumper(Dumper):
    format = Format.BINARY
    oid = _INT8S

    def dump(self, obj: IntColumn) -> bytes:
        values, count = obj.values, len(obj.values)
        if None in values:
            items = (None if value is None else value.to_bytes(8, "big", signed=True) for value in values)
            return _array(_INT8, items, count, True)
        flat = [8] * (2 * count)
        flat[1::2] = values
        return struct.pack(f">iiIii{'iq' * count}", 1, 0, _INT8, count, 1, *flat)


class _TextDumper(Dumper):
    format = Format.BINARY
    oid = _TEXTS

    def dump(self, obj: TextColumn) -> bytes:
        items = [None if value is None else value.encode() for value in obj.values]
        return _array(_TEXT, items, len(items), None in items)


class _BytesDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEAS

    def dump(self, obj: BytesColumn) -> bytes:
        return _array(_BYTEA, obj.values, len(obj.values), None in obj.values)


def register(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Teach a connection what a column is."""
    for kind, dumper in ((IntColumn, _IntDumper), (TextColumn, _TextDumper), (BytesColumn, _BytesDumper)):
        connection.adapters.register_dumper(kind, dumper)
