"""Readings of PostgreSQL that are one statement, without a thread: see ``foretold.py``."""

from __future__ import annotations

import asyncio
import time

import psycopg
from psycopg_pool import AsyncConnectionPool

from crosslight.runtime.db.foretold import ForetoldTx, NotForetold
from crosslight.runtime.db.pg_columns import register
from crosslight.runtime.db.pg_statements import DIALECT, statement_of
from crosslight.runtime.db.seam import NEAR_ROWS, WIDE_S, Budget, Foretold, Row, Tx, note_slow, translated

OPEN_S = 15  # for a free connection, as of the other pool
MAX_PREPARED = 100  # statements of a connection: a few for each kind of question


class PgLoopReads:
    """Connections of the event loop, each for one statement at a time.

    A statement by itself sees one state of the database, so it is in no transaction of ours, and needs no
    other round trip. They can only read, and a statement that takes too long is ended there.

    Args:
        dsn, schema: As of PostgresDb.
        connections: How many at most. They are opened when the first is asked for.
    """

    def __init__(self, dsn: str, connections: int, schema: str) -> None:
        async def configure(connection: psycopg.AsyncConnection[Row]) -> None:
            register(connection)
            connection.prepare_threshold, connection.prepared_max = 0, MAX_PREPARED
            await connection.set_autocommit(True)
            if schema:
                await connection.execute(f'SET search_path TO "{schema}"')
            await connection.execute("SET default_transaction_read_only = on")
            await connection.execute(f"SET statement_timeout = '{WIDE_S}s'")
            # the plan of a large statement takes longer than what it finds, and depends on no parameter
            await connection.execute("SET plan_cache_mode = force_generic_plan")

        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=connections,
            configure=configure,
            open=False,
            timeout=OPEN_S,
            num_workers=1,
        )
        self._opening = asyncio.Lock()
        self._open = False

    async def foretold(self, name: str, foretold: Foretold) -> Tx:
        """A transaction that knows what was foretold, and nothing else.

        Raises:
            StorageError: the database could not do it now, or took longer than :data:`WIDE_S`.
        """
        statement, began = statement_of(foretold.sql(DIALECT)), time.monotonic()
        try:
            await self._opened()
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statement.sql, statement.params(foretold.params), binary=True
                )
                rows = await cursor.fetchall()
        except psycopg.DataError:  # as the plain reading will say
            raise NotForetold from None
        except psycopg.OperationalError as error:
            raise translated(error, psycopg.OperationalError) from error
        finally:
            note_slow(name, began)
        return ForetoldTx(DIALECT, foretold.answers(rows), Budget(NEAR_ROWS).spend).tx

    async def _opened(self) -> None:
        if not self._open:
            async with self._opening:
                if not self._open:
                    await self._pool.open()
                    self._open = True

    async def close(self) -> None:
        """Close the connections; those that are waited for are given up."""
        await self._pool.close()
