"""MemberFeeds: how far each member's feed has come, and its census: the table ``member_feed`` (D10)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from crosslight.runtime.db import Tx
from crosslight.standards.census import EMPTY
from crosslight.standards.ids import MemberId, Version
from registry.index.rows import chunks, marks, version_int


class FeedRow(NamedTuple):
    """A row of ``member_feed``, locked by this transaction."""

    cursor: int  # the newest version that was accepted (D10)
    studies: int  # census (D19)
    census: bytes
    changes: int  # the number of the last change in the member's stream (ADR 0031)


class MemberFeeds:
    """The feeds that one transaction has locked.

    ``rows``: as they were when they were locked. ``cursors``: the newest version of each, with this
    transaction's.
    """

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.rows: dict[MemberId, FeedRow] = {}
        self.cursors: dict[MemberId, int] = {}

    def lock(self, members: Iterable[MemberId]) -> None:
        """Make other writers of these members wait; first of all in a transaction."""
        wanted = sorted({int(member) for member in members})
        suffix = f" ORDER BY member_id{self._tx.dialect.for_update}"
        for batch in chunks(wanted):
            columns = "member_id, cursor_version, studies, census, changes"
            sql = f"SELECT {columns} FROM member_feed WHERE member_id IN ({marks(batch)}){suffix}"
            stored = {row[0]: row for row in self._tx.rows(sql, batch)}
            missing = [(member, -1, 0, EMPTY) for member in batch if member not in stored]
            if missing:
                names = ("member_id", "cursor_version", "studies", "census")
                self._tx.insert_many("member_feed", names, missing, "ON CONFLICT DO NOTHING")
                stored = {row[0]: row for row in self._tx.rows(sql, batch)}
            for member in batch:
                _, cursor, studies, census, changes = stored[member]
                self.rows[MemberId(member)] = FeedRow(cursor, studies, bytes(census), changes)
                self.cursors[MemberId(member)] = cursor

    def reached(self, member: MemberId, version: Version | None) -> None:
        """An act of this version was accepted: the cursor moves."""
        self.cursors[member] = max(self.cursors[member], version_int(version))
