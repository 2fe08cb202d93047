"""The forecast beside a region that runs: the same questions at the same rate, predicted and measured.

First each question is asked quietly, one at a time: that is its service time there. Then a Poisson stream
asks at parts of what one process bears; what people would have waited stands beside what the queue predicts.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from crosslight.runtime.tls import client_context
from crosslight.standards.problem import Unavailable
from simulations.capacity.queues import WorkTime, arrivals, waits

QUIET: Final = 60  # questions, one after the other
ASKED: Final = 400  # questions of one stream
LOADS: Final = (0.3, 0.6)  # of what one process bears
_TIMEOUT_S: Final = 60.0  # of one question, before the comparison gives up


#: Asks a question by a running number; how long it took, seconds.
Asker = Callable[[int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Compared:
    """One question at one load; all in seconds."""

    question: str
    load: float
    rate: float  # asked each second
    measured_p50_s: float
    measured_p95_s: float
    predicted_p50_s: float
    predicted_p95_s: float

    @property
    def error(self) -> float:
        """Of the 95th percentile: predicted over measured, less one."""
        return self.predicted_p95_s / self.measured_p95_s - 1


class RunningRegion:
    """What a region that runs is asked, by the file that ``crosslight demo --json`` writes.

    Args:
        endpoints: The file's content.
        session: To ask with.
    """

    def __init__(self, endpoints: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._session = session
        registry = endpoints["registry"]
        seen = [
            patient for patient in endpoints["patients"] if not patient["disputed"] and patient["studies"]
        ]
        numbers = [
            (p["identifiers"][0]["system"], p["identifiers"][0]["value"]) for p in seen if p["identifiers"]
        ]
        self._finds = [
            (f"{registry['fhir']}/ImagingStudy", {"patient.identifier": f"{system}|{value}"})
            for system, value in numbers
        ]
        self._opens: list[tuple[str, dict[str, str]]] = [
            (f"{registry['dicomweb']}/studies/{study['study_uid']}/metadata", {})
            for patient in seen
            for study in patient["studies"]
        ]

    def questions(self) -> dict[str, Asker]:
        """Each by its name, as a function of a running number."""
        return {"list": self._asker(self._finds), "opening": self._asker(self._opens)}

    def _asker(self, places: Sequence[tuple[str, dict[str, str]]]) -> Asker:
        async def ask(number: int) -> float:
            url, query = places[number % len(places)]
            begin = time.perf_counter()
            async with self._session.get(url, params=query) as answer:
                await answer.read()
                if answer.status != 200:
                    raise Unavailable(f"The region answered {answer.status}.", where=url)
            return time.perf_counter() - begin

        return ask


@asynccontextmanager
async def running(endpoints: dict[str, Any]) -> AsyncIterator[RunningRegion]:
    """A region that runs, with the credentials that its file names."""
    token = endpoints["tokens"].get("clinician")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    tls: ssl.SSLContext | bool = True
    if endpoints["tls"].get("ca"):
        tls = client_context(ca=Path(endpoints["tls"]["ca"]))
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        yield RunningRegion(endpoints, session)


async def compare(region: RunningRegion, seed: int, say: Callable[[str], None]) -> list[Compared]:
    """Ask, and predict.

    Raises:
        Unavailable: if the region does not answer as it should.
    """
    compared = []
    try:
        for name, ask in region.questions().items():
            say(f"{name}: quiet")
            await ask(0)  # connections and caches are those of a region that runs
            quiet = np.array([await ask(number) for number in range(QUIET)])
            service = WorkTime(float(quiet.mean()), float(quiet.std() / quiet.mean()))
            for load in LOADS:
                say(f"{name}: at {load:.0%} of what one process bears")
                compared.append(await _at(name, ask, service, load, seed))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The region does not answer.", why=type(error).__name__) from None
    return compared


async def _at(name: str, ask: Asker, service: WorkTime, load: float, seed: int) -> Compared:
    random = np.random.default_rng(seed)
    rate = load / service.mean_s
    at = arrivals(random, rate, ASKED)
    begin = time.perf_counter()

    async def one(number: int) -> float:
        await asyncio.sleep(max(0.0, at[number] - (time.perf_counter() - begin)))
        return await ask(number)

    taken = np.array(await asyncio.gather(*(one(number) for number in range(ASKED))))
    work = service.draw(random, ASKED * 50)
    played = waits(arrivals(random, rate, ASKED * 50), work, 1) + work
    return Compared(
        name,
        load,
        rate,
        *(float(np.quantile(taken, part)) for part in (0.5, 0.95)),
        *(float(np.quantile(played, part)) for part in (0.5, 0.95)),
    )


def errors(compared: Sequence[Compared]) -> dict[str, float]:
    """As kept beside the service times: by question and load."""
    return {
        f"{comparison.question} at {comparison.load:.0%} load": comparison.error for comparison in compared
    }
