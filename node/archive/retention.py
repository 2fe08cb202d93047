"""What may go by the rules of ``[[archive.retention]]``: looked for among all studies, and put into the bin.

The bin keeps it for ``bin_days`` more, and the index follows at once. Whatever is under a hold stays, and so
does a study of which an object lies in another archive, or one that a rule's ``committed_to`` has not
committed to keep whole.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final

from crosslight.runtime.db import Row, Tx
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import ConfigError, Conflict, StorageError
from node.archive.config import RetentionRule
from node.archive.holds import Holds
from node.archive.maintenance import Maintenance
from node.archive.retention_rules import Ageing, Verdict, verdict
from node.archive.store import Storage

log = get_logger("archive")
PAGE: Final = 200
_STUDY = (
    "SELECT study_uid, study_date, birth_date, modalities, n_instances, size_bytes,"
    " (SELECT MAX(received_unix) FROM instance i WHERE i.study_uid = study.study_uid AND i.binned = 0),"
    " MAX((SELECT opened_since_unix FROM care), COALESCE((SELECT opened_unix FROM study_opened o WHERE"
    " o.study_uid = study.study_uid), 0)) FROM study"
)
_OBJECTS = "SELECT sop_uid, received_unix FROM instance WHERE study_uid = ? AND binned = 0"
_ELSEWHERE = "SELECT 1 FROM instance WHERE study_uid = ? AND binned = 0 AND sha256 = x'' LIMIT 1"

#: When each instance of a study was asked about to which an AE title has committed, by its UID.
Committed = Callable[[Tx, str, str], Mapping[str, float]]


def _nobody_has(tx: Tx, study_uid: str, ae_title: str) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DueStudy:
    """A study that may go."""

    study: Ageing
    rule: RetentionRule
    until: date

    @property
    def reason(self) -> str:
        """As the bin and the audit have it."""
        return f"retention rule {self.rule.name}: kept until {self.until}"


@dataclass(slots=True)
class StudyTally:
    """Studies, what is in them, and the first day on which one of them might have gone."""

    studies: int = 0
    instances: int = 0
    size_bytes: int = 0
    first: date | None = None

    def add(self, study: Ageing, until: date | None = None) -> None:
        """One more."""
        self.studies += 1
        self.instances += study.instances
        self.size_bytes += study.size_bytes
        self.first = min(self.first or date.max, until) if until is not None else self.first


@dataclass(slots=True)
class Survey:
    """What the rules say of what is held."""

    due: dict[str, StudyTally] = field(default_factory=dict)  # by the rule's name
    held: StudyTally = field(default_factory=StudyTally)  # due, and under a hold
    elsewhere: StudyTally = field(default_factory=StudyTally)  # due, and not all of it lies here
    uncommitted: StudyTally = field(default_factory=StudyTally)  # due, and not committed to elsewhere
    undated: StudyTally = field(
        default_factory=StudyTally
    )  # named by a rule, and without the date that it counts from
    kept: StudyTally = field(default_factory=StudyTally)  # named by a rule, and not due
    unnamed: StudyTally = field(default_factory=StudyTally)  # no rule names them


class Retention:
    """The rules, at work on one archive.

    Args:
        storage: Where it rests.
        maintenance: What deletes.
        holds: What is kept all the same.
        workers: Threads, for deleting.
        settled: Waits for the rows of what came in a moment ago.
        rules: Of the configuration.

    Raises:
        ConfigError: two rules have one name.
    """

    def __init__(
        self,
        storage: Storage,
        maintenance: Maintenance,
        holds: Holds,
        workers: Workers,
        settled: Callable[[], Awaitable[None]],
        rules: Sequence[RetentionRule],
    ) -> None:
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names) or not all(names):
            raise ConfigError(
                "Each retention rule needs a name of its own.",
                why=f"They are: {', '.join(names)}.",
                where="archive.retention.name",
            )
        self._db, self._clock, self._workers = storage.db, storage.clock, workers
        self._maintenance, self._holds, self.rules = maintenance, holds, tuple(rules)
        self._settled = settled
        self.committed: Committed = _nobody_has  # the application says who has
        self._opened: dict[str, float] = {}
        self._lock = threading.Lock()

    def opened(self, study_uid: str) -> None:
        """An object of a study is being given out."""
        with self._lock:
            self._opened[study_uid] = self._clock.now().timestamp()

    async def note_opened(self) -> None:
        """Write down which studies were opened."""
        with self._lock:
            opened, self._opened = self._opened, {}
        if opened:
            await self._db.write(
                "studies_opened",
                lambda tx: tx.executemany(
                    "INSERT INTO study_opened (study_uid, opened_unix) VALUES (?, ?) ON CONFLICT (study_uid)"
                    " DO UPDATE SET opened_unix = MAX(opened_unix, excluded.opened_unix)",
                    opened.items(),
                ),
            )

    async def close(self) -> None:
        """As :meth:`note_opened`; where that fails, whatever else there is to finish goes on."""
        try:
            await self.note_opened()
        except StorageError as error:
            log.warning("when studies were opened last is not noted", reason=error.what)

    async def due(self, survey: Survey | None = None) -> AsyncIterator[DueStudy]:
        """The studies that may go now, in the order of their UIDs; ``survey`` is told of all others too."""
        await self._settled()
        await self.note_opened()
        survey, after = survey or Survey(), ""
        survey.due = {rule.name: StudyTally() for rule in self.rules}
        while self.rules:
            page, after = await self._db.read("retention", partial(self._page_tx, survey, after))
            for due in page:
                yield due
            if not after:
                break

    async def delete(self, due: DueStudy) -> int:
        """Put a study into the bin, if it may still go then; how many instances went.

        Raises:
            Conflict: it may not: it is held, or has changed.
            NotFound: it is not here any more.
        """
        await self.note_opened()
        return await self._workers.run(
            self._maintenance.delete, due.study.study_uid, due.reason, check=self._check(due.study.study_uid)
        )

    def _check(self, study_uid: str) -> Callable[[Tx], None]:
        def check(tx: Tx) -> None:
            row = tx.row(f"{_STUDY} WHERE study_uid = ?", (study_uid,))
            judged = verdict(self.rules, _ageing(row)) if row is not None else None
            if (
                judged is None
                or not judged.is_due(self._today)
                or tx.row(_ELSEWHERE, (study_uid,))
                or not self._kept_by_tx(tx, study_uid, judged.keepers)
            ):
                raise Conflict("This study may not go any more: it has changed.", where="StudyInstanceUID")

        return check

    @property
    def _today(self) -> date:
        return self._clock.now().date()

    def _page_tx(self, survey: Survey, after: str, tx: Tx) -> tuple[list[DueStudy], str]:
        rows = tx.rows(f"{_STUDY} WHERE study_uid > ? ORDER BY study_uid LIMIT ?", (after, PAGE))
        page = []
        for row in rows:
            study = _ageing(row)
            due = self._judged_tx(tx, study, verdict(self.rules, study), survey)
            page += [due] if due is not None else []
        return page, str(rows[-1][0]) if len(rows) == PAGE else ""

    def _judged_tx(self, tx: Tx, study: Ageing, judged: Verdict | None, survey: Survey) -> DueStudy | None:
        if judged is None:
            survey.unnamed.add(study)
        elif judged.until is None:
            survey.undated.add(study)
        elif not judged.is_due(self._today):
            survey.kept.add(study, judged.until)
        elif self._holds.of_tx(tx, study.study_uid):
            survey.held.add(study, judged.until)
        elif tx.row(_ELSEWHERE, (study.study_uid,)):
            survey.elsewhere.add(study, judged.until)
        elif not self._kept_by_tx(tx, study.study_uid, judged.keepers):
            survey.uncommitted.add(study, judged.until)
        else:
            survey.due[judged.rule.name].add(study, judged.until)
            return DueStudy(study=study, rule=judged.rule, until=judged.until)
        return None

    def _kept_by_tx(self, tx: Tx, study_uid: str, keepers: Sequence[str]) -> bool:
        """Whether all of these have committed to each object of a study since it came in.

        Those too that a rejection hides: with the study they would be gone.
        """
        if not keepers:
            return True
        objects = tx.rows(_OBJECTS, (study_uid,))
        for keeper in keepers:
            asked = self.committed(tx, study_uid, keeper)
            if not all(asked.get(sop_uid, 0.0) >= received for sop_uid, received in objects):
                return False
        return True


def _ageing(row: Row) -> Ageing:
    return Ageing(
        study_uid=row[0],
        study_date=row[1],
        birth_date=row[2],
        modalities=tuple(part for part in row[3].split("\\") if part),
        instances=row[4],
        size_bytes=row[5],
        stored_unix=row[6] or 0.0,
        opened_unix=row[7],
    )
