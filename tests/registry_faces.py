"""A registry over a real database, and its FHIR and region QIDO faces over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from callers import caller
from registry_room import make_room
from registry_samples import MemoryDirectory, nhs, patient, published, study
from room_faces import room_faces

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import MemberId, Version
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord
from registry.ask.ask import Ask
from registry.intake.accept import Acceptor
from registry.intake.submission import Act, Publish, Submission
from registry.members.model import Member, Presence

NUMBER, OTHER = nhs(1), nhs(2)
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
WHO = {"patient.identifier": f"{SYSTEM}|{NUMBER}"}


@dataclass
class RegistryFaces:
    directory: MemoryDirectory
    acceptor: Acceptor
    ask: Ask
    audit: AuditLog
    base: str
    http: aiohttp.ClientSession
    n: int = 0

    async def accept(self, home: Member, *acts: Act) -> None:
        await self.acceptor.accept(
            Submission(member=home, caller=caller(), acts=acts, road="grpc", strict=False)
        )

    async def publish(self, home: Member, record: StudyRecord, *, replaces: int | None = None) -> int:
        self.n += 1
        publication = published(home, record, self.n, replaces=replaces)
        await self.accept(
            home, Publish(publication=publication, digest=record.digest(), patient=record.patient)
        )
        return self.n

    def version(self) -> Version:
        """The member's next."""
        self.n += 1
        return Version(1, self.n)

    async def get(self, path: str, status: int = 200, **kwargs: Any) -> Any:
        async with self.http.get(f"{self.base}/{path}", **kwargs) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body) if body else None

    async def studies(self, **params: str) -> list[dict[str, Any]]:
        bundle = await self.get("fhir/ImagingStudy", params={**WHO, **params})
        return [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]

    async def uids(self, **params: str) -> set[str]:
        return {s["identifier"][0]["value"].removeprefix("urn:oid:") for s in await self.studies(**params)}


@asynccontextmanager
async def registry_faces(database: Db) -> AsyncIterator[RegistryFaces]:
    room = await make_room(database, clock=SystemClock())
    for member in room.directory.all():
        room.directory.presences[member.id] = Presence(member=member.id, reachable=True)

    def principal(request: Any) -> Principal:
        organisation = request.headers.get("Authorization", "")
        return replace(OPEN, subject=f"dr at {organisation}", organisation=organisation)

    async with room_faces(room, principal) as there, aiohttp.ClientSession() as http:
        yield RegistryFaces(room.directory, room.acceptor, room.ask, room.audit, there.base, http)


def at(
    registry: RegistryFaces,
    number: int,
    seed: int,
    *,
    modality: str = "CT",
    who: str = NUMBER,
    **changes: Any,
) -> tuple[Member, StudyRecord]:
    home = registry.directory.members[MemberId(number)]
    record = study(patient(home, f"H{number}", number=who), seed, modality=modality, instances=2)
    return home, changed(record, **changes)
