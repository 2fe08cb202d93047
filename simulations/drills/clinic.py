"""People at the other trusts who go on working through a drill: they search, open, and note each answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from crosslight.standards.problem import CrosslightError
from simulations.drills.scene import Scene
from simulations.images import StudyPlan
from simulations.world import fhir_studies

EVERY_S = 1.0
SLOWEST_S = 5.0  # longer than that nobody waits for a list; it takes a few hundredths on an idle machine


@dataclass(frozen=True, slots=True)
class Visit:
    """One search and one opening."""

    at: float  # time.monotonic() when it was asked
    found: frozenset[str]
    warnings: tuple[str, ...]
    find_s: float
    open_s: float
    problem: str  # '' = both went well


class Clinic:
    """Searches for a person, and opens a study of a trust that is well, again and again.

    Use as an async context manager.

    Args:
        person: Searched for; all of this person's studies that were sent before are expected.
        opening: What is opened.
    """

    def __init__(self, scene: Scene, person: int, opening: StudyPlan) -> None:
        self._scene, self._person, self._opening = scene, person, opening
        self._wanted = {p.uid for p in scene.sent if p.patient == scene.people[person]}
        self._task: asyncio.Task[None] | None = None
        self.visits: list[Visit] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            self.visits.append(await self._visit())
            await asyncio.sleep(EVERY_S)

    async def _visit(self) -> Visit:
        at = time.monotonic()
        found, warnings, problem, find_s = frozenset[str](), tuple[str, ...](), "", 0.0
        try:
            answer = await fhir_studies(self._scene.region, self._scene.who(self._person))
            find_s = time.monotonic() - at
            found, warnings = frozenset(answer.study_uids), answer.warnings
            if not await self._scene.opens(self._opening):
                problem = "other bytes than were sent"
        except CrosslightError as error:
            problem = f"{error.what} {error.why}"[:300]
        return Visit(at, found, warnings, find_s, time.monotonic() - at - find_s, problem)

    async def more(self, visits: int = 3) -> None:
        """Wait until they came so many times more."""
        target = len(self.visits) + visits
        while len(self.visits) < target:
            await asyncio.sleep(0.1)

    def judge(self) -> None:
        """Put down how those people fared."""
        record, visits = self._scene.record, self.visits
        troubles = [v.problem for v in visits if v.problem]
        slowest = max((v.find_s for v in visits), default=0.0)
        opened = max((v.open_s for v in visits), default=0.0)
        record.judge(
            "People at the other trusts went on finding and opening all the while",
            bool(visits) and not troubles and slowest < SLOWEST_S,
            f"{len(visits)} times; slowest list {slowest:.1f} s, slowest study {opened:.1f} s"
            + (f"; {len(troubles)} went wrong, first: {troubles[0]}" if troubles else ""),
        )
        short = [v for v in visits if not v.problem and not self._wanted <= v.found]
        record.judge(
            "No list left out a study that was acknowledged before", not short, f"{len(visits)} lists"
        )

    def judge_said(self, code: str, begun: float, ended: float) -> None:
        """Put down whether each answer between two moments said that a member's part is not whole."""
        asked = [v for v in self.visits if begun < v.at and v.at + v.find_s < ended and not v.problem]
        silent = [v for v in asked if not any(f"({code})" in w for w in v.warnings)]
        self._scene.record.judge(
            "No answer called itself complete meanwhile",
            bool(asked) and not silent,
            f"{len(asked)} answers, {len(silent)} of them without a word about {code}",
        )
