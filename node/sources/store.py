"""How far a node is with each of its sources; SQL in named methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate

SCHEMA = SchemaVersion("sources", schema=2, compat=1)
ROOM = "node.sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A study when it was looked into last."""

    study_uid: str
    study_date: str
    digest: bytes
    n_instances: int
    looked_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Studies of one month, or of no date, and when all of them were compared."""

    name: str
    n_studies: int
    n_repaired: int
    looked_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A study of which a source was said to have something, and how often it was looked for in vain."""

    study_uid: str
    told_unix: float
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """What is known of a source."""

    name: str
    studies: int
    instances: int
    windows: tuple[Window, ...]
    trouble: str
    since_unix: float
    n_windows: int = 0  # that there are to compare

    @property
    def windows_dated(self) -> tuple[Window, ...]:
        """Windows that count for how far it is: months, and what has no date."""
        return tuple(window for window in self.windows if window.name != "newest")

    @property
    def n_differed(self) -> int:
        """Studies that differed when each window was compared last: the drift."""
        return sum(window.n_repaired for window in self.windows)


class SourceStore:
    """Rows of what was looked at.

    Args:
        db: The node's database; these tables are the sources' own.
    """

    def __init__(self, db: EmbeddedDb) -> None:
        self._db = db

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, ROOM, SCHEMA)

    async def of(self, source: str, study_uid: str) -> Looked | None:
        """A study as it was looked into last."""
        found = await self._looked(source, "study_uid = ?", (study_uid,))
        return found[0] if found else None

    async def between(self, source: str, first: str, last: str) -> list[Looked]:
        """Studies of these days, both included; first = last = '': those without a date."""
        return await self._looked(source, "study_date BETWEEN ? AND ?", (first, last))

    async def _looked(self, source: str, condition: str, values: Sequence[str]) -> list[Looked]:
        sql = (
            "SELECT study_uid, study_date, digest, n_instances, looked_unix FROM source_study WHERE"
            f" source = ? AND {condition}"
        )
        rows = await self._db.read("source_studies", lambda tx: tx.rows(sql, (source, *values)))
        return [
            Looked(study_uid=uid, study_date=day, digest=digest, n_instances=n, looked_unix=unix)
            for uid, day, digest, n, unix in rows
        ]

    async def looked(self, source: str, study: Looked) -> None:
        """A study was looked into."""
        row = (
            source,
            study.study_uid,
            study.study_date,
            study.digest,
            study.n_instances,
            study.looked_unix,
        )
        await self._run("INSERT OR REPLACE INTO source_study VALUES (?, ?, ?, ?, ?, ?)", row)

    async def gone(self, source: str, study_uid: str) -> None:
        """The source has it no longer."""
        await self._run("DELETE FROM source_study WHERE source = ? AND study_uid = ?", (source, study_uid))

    async def compared(self, source: str, window: Window) -> None:
        """All studies of a window were compared."""
        row = (source, window.name, window.n_studies, window.n_repaired, window.looked_unix)
        await self._run("INSERT OR REPLACE INTO source_window VALUES (?, ?, ?, ?, ?)", row)

    async def windows(self, source: str) -> dict[str, Window]:
        """Each window that was compared."""
        sql = "SELECT name, n_studies, n_repaired, looked_unix FROM source_window WHERE source = ?"
        rows = await self._db.read("source_windows", lambda tx: tx.rows(sql, (source,)))
        return {
            name: Window(name=name, n_studies=n, n_repaired=repaired, looked_unix=unix)
            for name, n, repaired, unix in rows
        }

    async def notice(self, source: str, study_uid: str, now_unix: float, most: int) -> bool:
        """A source is said to have something of a study; whether that is kept.

        It is not where ``most`` others wait; one that waits already is told of anew.
        """

        def write(tx: Tx) -> bool:
            row = tx.row(
                "SELECT COUNT(*) FROM source_notice WHERE source = ? AND study_uid <> ?", (source, study_uid)
            )
            if row is not None and row[0] >= most:
                return False
            tx.execute(
                "INSERT OR REPLACE INTO source_notice VALUES (?, ?, ?, ?, 0)",
                (source, study_uid, now_unix, now_unix),
            )
            return True

        return await self._db.write("source_notice", write)

    async def notices(self, source: str, now_unix: float, limit: int = 100) -> list[Notice]:
        """Studies that are to be looked into now, those that have waited longest first."""
        sql = (
            "SELECT study_uid, told_unix, tries FROM source_notice WHERE source = ? AND due_unix <= ?"
            " ORDER BY due_unix LIMIT ?"
        )
        rows = await self._db.read("source_notices", lambda tx: tx.rows(sql, (source, now_unix, limit)))
        return [Notice(study_uid=uid, told_unix=told, tries=tries) for uid, told, tries in rows]

    async def next_notice(self, source: str) -> float | None:
        """When the next of them is due; None where none waits."""
        sql = "SELECT MIN(due_unix) FROM source_notice WHERE source = ?"
        row = await self._db.read("source_notice_due", lambda tx: tx.row(sql, (source,)))
        return row[0] if row else None

    async def heeded(self, source: str, notice: Notice) -> None:
        """It was looked into, or given up; one that was told of again meanwhile stays."""
        sql = "DELETE FROM source_notice WHERE source = ? AND study_uid = ? AND told_unix = ?"
        await self._run(sql, (source, notice.study_uid, notice.told_unix))

    async def not_yet(self, source: str, notice: Notice, due_unix: float) -> None:
        """The source has nothing of it yet: again at ``due_unix``."""
        sql = (
            "UPDATE source_notice SET due_unix = ?, tries = tries + 1 WHERE source = ? AND study_uid = ? AND"
            " told_unix = ?"
        )
        await self._run(sql, (due_unix, source, notice.study_uid, notice.told_unix))

    async def answers(self, source: str, trouble: str, now_unix: float) -> None:
        """Whether the source answers now; ``trouble`` says why not."""
        sql = (
            "INSERT INTO source_state VALUES (?, ?, ?) ON CONFLICT (source) DO UPDATE SET trouble ="
            " excluded.trouble, since_unix = excluded.since_unix WHERE trouble <> excluded.trouble"
        )
        await self._run(sql, (source, trouble, now_unix))

    async def figures(self, source: str) -> SourceFigures:
        """What is known of a source."""
        windows = await self.windows(source)

        def read(tx: Tx) -> tuple[int, int, str, float]:
            counted = tx.row(
                "SELECT COUNT(*), COALESCE(SUM(n_instances), 0) FROM source_study WHERE source = ?", (source,)
            ) or (0, 0)
            state = tx.row("SELECT trouble, since_unix FROM source_state WHERE source = ?", (source,))
            return counted[0], counted[1], *(state or ("It was not asked yet.", 0.0))

        studies, instances, trouble, since_unix = await self._db.read("source_figures", read)
        return SourceFigures(
            name=source,
            studies=studies,
            instances=instances,
            windows=tuple(windows.values()),
            trouble=trouble,
            since_unix=since_unix,
        )

    async def _run(self, sql: str, values: Sequence[object]) -> None:
        await self._db.write("sources", lambda tx: tx.execute(sql, values))
