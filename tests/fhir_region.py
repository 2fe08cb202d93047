"""A region as its FHIR face shows it, over HTTP: one person at three members, another at one; who asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from member_room import MemberRoom, member_room
from registry_samples import nhs, patient, study
from room_faces import room_faces

from crosslight.runtime.audit import Audited
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.membership import Endpoints
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord, StudyTime

NUMBER = nhs(1)
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
QUERY = {"patient.identifier": f"{SYSTEM}|{NUMBER}"}
HOLDERS = ("RA2", "RPC", "RTK")


@dataclass
class FhirRegion:
    """One person at three members with seven studies, another person at one."""

    room: MemberRoom
    base: str
    http: aiohttp.ClientSession
    held: list[tuple[str, StudyRecord]] = field(default_factory=list)  # of the person: by whom
    versions: int = 0

    async def get(self, path: str, status: int = 200, **kwargs: Any) -> Any:
        async with self.http.get(f"{self.base}/fhir/{path}", **kwargs) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body) if body else None

    async def publish(self, code: str, record: StudyRecord) -> None:
        """One study more, or one version more of it; then every member is heard of."""
        self.versions += 1
        assert await self.room.publish(code, record, self.versions) == "accepted"
        self.room.said()

    async def acts(self) -> list[Audited]:
        """What was asked here, oldest first."""
        await self.room.audit.settle()
        return [act for act in reversed(await self.room.audit.search()) if act.face == "fhir"]

    async def id_of(self, study_uid: str) -> str:
        """A study's id, as a search gives it."""
        found = resources(await self.get("ImagingStudy", params={"identifier": study_uid}))
        return str(found[0]["id"])


async def fill(region: FhirRegion) -> None:
    room = region.room
    for member in room.members.all():
        host = f"https://{member.code.lower()}.example"
        endpoints = Endpoints(
            base=host, systems=f"{host}:8443", dicomweb=f"{host}:8443/dicomweb", aet=member.code
        )
        await room.reached_at(member.code, endpoints)
    for n in range(7):
        code = HOLDERS[n % 3]
        record = study(
            patient(room.member(code), f"H{1 + n % 3}", number=NUMBER), n, modality="CT" if n % 2 else "MR"
        )
        record = changed(record, time=StudyTime(date=f"2024070{n + 1}", time="120000", zone="Europe/London"))
        region.held.append((code, record))
        await region.publish(code, record)
    await region.publish("RXC", study(patient(room.member("RXC"), "X1", family="Zed"), 99, modality="CT"))


def principal(request: web.Request) -> Principal:
    who = request.headers.get("Authorization", "")
    if who == "porter":
        return Principal(subject="p", roles=frozenset({"porter"}))
    return replace(OPEN, subject=who, organisation=who if who in HOLDERS else "")


@asynccontextmanager
async def fhir_region(folder: Path) -> AsyncIterator[FhirRegion]:
    async with (
        member_room(folder) as room,
        room_faces(room, principal) as there,
        aiohttp.ClientSession() as http,
    ):
        made = FhirRegion(room, there.base, http)
        await fill(made)
        yield made


def resources(bundle: dict[str, Any], mode: str = "match") -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle.get("entry", []) if e["search"]["mode"] == mode]


def issues(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    (outcome,) = resources(bundle, "outcome")
    found: list[dict[str, Any]] = outcome["issue"]
    return found
