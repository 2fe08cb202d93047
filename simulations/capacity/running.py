"""A region that runs, and what it is asked beside a forecast."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import orjson

from crosslight.runtime.tls import client_context
from crosslight.standards.problem import ConfigError, Unavailable
from simulations.capacity.queues import Seconds

LIST, PICTURE = "a patient's list", "a first image"
_TIMEOUT_S: Final = 60.0  # of one question, before the comparison gives up
_MOST_BYTES: Final = 64 << 20  # of one answer

#: Asks once; how long it took, seconds.
Asker = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request needs."""

    url: str
    query: Mapping[str, str]
    accept: str


class RunningRegion:
    """What a region that runs is asked, by the file that ``crosslight demo --json`` writes.

    Args:
        endpoints: The file's content.
        session: To ask with.

    Raises:
        ConfigError: if the file is not such a one, or names nobody with images.
    """

    def __init__(self, endpoints: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._session, self._numbers = session, itertools.count(1)
        try:
            registry = endpoints["registry"]
            self._fhir, self._dicomweb = str(registry["fhir"]), str(registry["dicomweb"])
            seen = [p for p in endpoints["patients"] if not p["disputed"] and p["studies"]]
            self._numbers_of = [p["identifiers"][0] for p in seen if p["identifiers"]]
            self._studies = [str(study["study_uid"]) for p in seen for study in p["studies"]]
        except (KeyError, TypeError, IndexError):
            raise ConfigError("This is no file of crosslight demo --json.", where="--compare") from None
        if not self._studies or not self._numbers_of:
            raise ConfigError(
                "The region has no patient with a national number and images.",
                todo="Compare with a demo of a region that has national numbers.",
                where="--compare",
            )

    async def questions(self) -> dict[str, Asker]:
        """Each by its name.

        Raises:
            Unavailable: if the region does not answer as it should.
        """
        lists = [
            Asked(
                f"{self._fhir}/ImagingStudy",
                {"patient.identifier": f"{n['system']}|{n['value']}"},
                "application/fhir+json",
            )
            for n in self._numbers_of
        ]
        pictures = [p for uid in self._studies if (p := await self._picture(uid)) is not None]
        if not pictures:
            raise Unavailable("No study of the region has a picture.")
        return {LIST: self._asker(lists), PICTURE: self._asker(pictures)}

    async def _picture(self, study_uid: str) -> Asked | None:
        """The first image of a study as a picture; None for a study without pixels."""
        study = f"{self._dicomweb}/studies/{study_uid}"
        told = orjson.loads(await self._get(Asked(f"{study}/metadata", {}, "application/dicom+json")))
        for instance in told:
            if "00280010" in instance:  # Rows
                series, sop = (instance[tag]["Value"][0] for tag in ("0020000E", "00080018"))
                return Asked(f"{study}/series/{series}/instances/{sop}/rendered", {}, "image/jpeg")
        return None

    def _asker(self, places: Sequence[Asked]) -> Asker:
        async def ask() -> float:
            number = next(self._numbers)
            place = places[number % len(places)]
            if place.accept == "image/jpeg":  # each another window, so that no cache answers
                query = {"window": f"{1 + number % 4000},400,linear"}
                place = Asked(place.url, query, place.accept)
            begin = time.perf_counter()
            await self._get(place)
            return time.perf_counter() - begin

        return ask

    async def _get(self, asked: Asked) -> bytes:
        try:
            async with self._session.get(
                asked.url, params=asked.query, headers={"Accept": asked.accept}
            ) as answer:
                body = await answer.content.read(_MOST_BYTES)
                if answer.status != 200:
                    raise Unavailable(f"The region answered {answer.status}.", where=asked.url)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = type(error).__name__
            raise Unavailable("The region does not answer.", why=why, where=asked.url) from None
        return body


@asynccontextmanager
async def running(endpoints: dict[str, Any]) -> AsyncIterator[RunningRegion]:
    """A region that runs, with the credentials that its file names."""
    token = (endpoints.get("tokens") or {}).get("clinician")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    tls: ssl.SSLContext | bool = True
    if authority := (endpoints.get("tls") or {}).get("ca"):
        tls = client_context(ca=Path(authority))
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        yield RunningRegion(endpoints, session)


async def ask_at(ask: Asker, at: Seconds) -> Seconds:
    """Ask at these moments, whatever is still unanswered; how long each took."""
    begin = time.perf_counter()

    async def one(moment: float) -> float:
        await asyncio.sleep(max(0.0, moment - (time.perf_counter() - begin)))
        return await ask()

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one(moment)) for moment in at.tolist()]
    return np.array([task.result() for task in asked])


async def between_answers(ask: Asker, count: int, clients: int) -> Seconds:
    """The times between two answers when so many clients ask one question after the other without a pause."""
    left, ended = [None] * count, list[float]()
    begin = time.perf_counter()

    async def client() -> None:
        while left:
            left.pop()
            await ask()
            ended.append(time.perf_counter() - begin)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return np.diff([0.0, *ended])
