"""The rows of repositories that are no member's: SQL in named methods. Authoritative (D8)."""

from __future__ import annotations

import orjson

from crosslight.runtime.db import Db, Tx
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Conflict, TooLarge
from registry.members.store import MemberRow, MemberStore, NewMember

MAX_FOREIGN = 10_000
MAX_FOREIGN_EACH = 100  # of one subject


class ArrivedMeanwhile(Conflict):
    """Another submission made the row of this repository first: whoever asks again finds it."""


class ForeignRows:
    """Rows of foreign repositories.

    Args:
        db: Of the registry.
        store: Of members, among whom these rows are.
    """

    def __init__(self, db: Db, store: MemberStore) -> None:
        self._db, self._store = db, store

    async def foreign(self, repository_unique_id: str, by: str) -> tuple[MemberRow, int]:
        """The entry of a repository that is not a member's, made at first sight, and the version then.

        Args:
            repository_unique_id: Of the repository.
            by: The subject that describes it, or registers for it.

        Raises:
            TooLarge: when there are too many, or too many of this subject.
        """

        def write(tx: Tx) -> tuple[MemberRow, int]:
            made = self._store.by_repository_tx(tx, repository_unique_id)
            if made is None:
                made = self._insert_tx(tx, repository_unique_id, by)
            return made, self._store.version_tx(tx)

        return await self._db.write("member_foreign", write)

    async def number(self, repository_unique_id: str, by: str) -> tuple[MemberRow, int | None]:
        """The row of a repository; where there is none, what it would be, under a number kept free for it.

        Nothing is written but the count of numbers.

        Returns:
            The row, and the version if it is there, None if it is not.

        Raises:
            TooLarge: as :meth:`foreign`.
        """

        def write(tx: Tx) -> tuple[MemberRow, int | None]:
            known = self._store.by_repository_tx(tx, repository_unique_id)
            if known is not None:
                return known, self._store.version_tx(tx)
            self._room_for_tx(tx, by)
            number, _ = self._store.allocated_tx(tx)
            return self._store.unwritten(
                number, _new(repository_unique_id), _oids(repository_unique_id)
            ), None

        return await self._db.write("member_number", write)

    def arrive_tx(self, tx: Tx, row: MemberRow, by: str) -> tuple[MemberRow, int]:
        """Write what :meth:`number` gave, in the transaction of the first submission; and the version then.

        Raises:
            ArrivedMeanwhile: there is a row of this repository. TooLarge: as :meth:`foreign`.
        """
        repository = row.member.repository_unique_id
        known = self._store.by_repository_tx(tx, repository)
        if known is None:
            known = self._insert_tx(tx, repository, by, int(row.member.id))
        elif known.member.id != row.member.id:
            raise ArrivedMeanwhile("This source registered at the same time.", todo="Send it again.")
        return known, self._store.version_tx(tx)

    def _insert_tx(self, tx: Tx, repository: str, by: str, number: int | None = None) -> MemberRow:
        self._room_for_tx(tx, by)
        made = self._store.insert_tx(tx, _new(repository), "foreign", _oids(repository), number)
        tx.execute("INSERT INTO foreign_source VALUES (?, ?)", (made.member.id, by))
        return made

    @staticmethod
    def _room_for_tx(tx: Tx, by: str) -> None:
        for sql, values, limit in (
            ("SELECT count(*) FROM member WHERE status = 'foreign'", (), MAX_FOREIGN),
            ("SELECT count(*) FROM foreign_source WHERE subject = ?", (by,), MAX_FOREIGN_EACH),
        ):
            count = tx.row(sql, values)
            if count and count[0] >= limit:
                raise TooLarge("Too many foreign repositories.", why=f"Limit here: {limit}.")

    async def describe(self, member: MemberId, *, name: str, endpoints: Endpoints) -> None:
        """What a source that is no member is called, and where it answers."""
        text = orjson.dumps(endpoints.plain(), option=orjson.OPT_SORT_KEYS).decode()

        def write(tx: Tx) -> None:
            tx.execute(
                "UPDATE member SET name = ?, endpoints = ? WHERE id = ? AND status = 'foreign'",
                (name, text, member),
            )
            self._store.changed_tx(tx)

        await self._db.write("member_source", write)


def _new(repository: str) -> NewMember:
    return NewMember(code="", name=repository, secret=b"", hosts=())


def _oids(repository: str) -> tuple[str, str, str]:
    return repository, "", ""
