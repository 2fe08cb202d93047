"""When the directory was issued: a moment that never goes back, whatever the machine's clock does.

Nodes take no directory in place of one that was issued later (:func:`node.membership.directory.check_fresh`).
A registry whose clock ran ahead and was then set right would issue directories that no node takes, and a
member that was readmitted meanwhile would stay shut out.
"""

from __future__ import annotations

from crosslight.runtime.db import Db, Tx


class DirectoryIssue:
    """The counters ``directory_issued`` and ``directory_version``, shared by all processes."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def of(self, version: int, now: int, *, anew: bool = False) -> int:
        """When the directory of ``version`` was issued (Unix seconds); now, or later, if it is a new one.

        Args:
            version: The version of the members' tables.
            now: Unix seconds, by this machine's clock.
            anew: At a service's start: its database may be an older one, whose version nodes have seen
                with other content.
        """
        if not anew:
            known, issued = await self._db.read("directory_issue", self._read)
            if known >= version:
                return issued

        def write(tx: Tx) -> int:
            known, issued = self._read(tx)  # another process may have been first
            if known >= version and not anew:
                return issued
            issued = max(now, issued + 1)
            self._set(tx, "directory_version", max(known, version))
            self._set(tx, "directory_issued", issued)
            return issued

        return await self._db.write("directory_issue", write)

    @staticmethod
    def _read(tx: Tx) -> tuple[int, int]:
        rows = tx.rows("SELECT name, value FROM membership_counter WHERE name LIKE 'directory%'")
        values = {name: int(value) for name, value in rows}
        return values.get("directory_version", 0), values.get("directory_issued", 0)

    @staticmethod
    def _set(tx: Tx, name: str, value: int) -> None:
        tx.execute("UPDATE membership_counter SET value = ? WHERE name = ?", (value, name))
