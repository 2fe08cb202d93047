"""The running region as the demo's story meets it.

Its clients, a patient asked for through every face, and studies sent in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

from crosslight.client.dicomweb import DicomwebClient, value
from crosslight.client.dimse import DimseClient
from crosslight.client.fhir import FhirAnswer, FhirClient
from crosslight.client.xds import XdsClient
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError
from simulations.dicomfile import part10
from simulations.endpoints import ListedStudies
from simulations.images import StudyPlan, make_study
from simulations.loading import Loading
from simulations.page import PageAnswer, PageClient
from simulations.plan import Chapter
from simulations.topology import Topology
from simulations.upstreams.upstreams import Upstreams

STUDY_UID, AVAILABILITY = "0020000D", "00080056"


class StoryError(CrosslightError):
    """The region did not do what it promises."""


class World(Protocol):
    """The running region as the story sees it."""

    topology: Topology
    ledger: ListedStudies
    authorities: dict[str, str]
    loading: Loading
    upstreams: Upstreams | None

    @property
    def scratch(self) -> Path: ...

    def dimse(self, code: str) -> DimseClient: ...
    def node_dicomweb(self, code: str, role: str = "integrator") -> DicomwebClient: ...
    def region_dicomweb(self, role: str = "clinician") -> DicomwebClient: ...
    def fhir(self, role: str = "clinician") -> FhirClient: ...
    def xds(self) -> XdsClient: ...
    def xds_registry_url(self) -> str: ...
    def page(self, organisation: str) -> PageClient: ...
    def folders_but(self, code: str) -> list[Path]: ...
    def kill(self, code: str) -> None: ...
    async def start(self, code: str) -> None: ...
    def kill_registry(self) -> None: ...
    async def start_registry(self) -> None: ...
    async def node_command(self, code: str, *arguments: str) -> str: ...


Say = Callable[[str], None]


def expect(condition: bool, what: str, why: object = "") -> None:
    """Raise unless ``condition``."""
    if not condition:
        raise StoryError(what, why=str(why))


async def until(what: str, check: Callable[[], Awaitable[bool]], *, within_s: float) -> float:
    """Wait for ``check``; the seconds it took.

    Raises:
        StoryError: when it did not come true in time, with the last problem met.
    """
    started, last = time.monotonic(), ""
    while True:
        try:
            if await check():
                return time.monotonic() - started
        except CrosslightError as error:
            last = str(error)
        if time.monotonic() - started > within_s:
            raise StoryError(f"Not within {within_s:.0f} s: {what}.", why=last)
        await asyncio.sleep(0.25)


# --- asking through every face ------------------------------------------------------------------------------


def national_id(world: World, chapter: Chapter) -> Identifier:
    """What the traveller is searched by: the national number, or else the first trust's own."""
    if chapter.traveller.national:
        return Identifier(chapter.traveller.national, world.topology.national.authority)
    code = world.topology.codes[0]
    return Identifier(chapter.traveller.local_ids[code], "", code)


def expected_studies(world: World, chapter: Chapter) -> set[str]:
    """The traveller's studies that a search by :func:`national_id` must give."""
    mine = {p.uid for p in chapter.later if p.patient == chapter.traveller and p.uid in world.ledger.studies}
    if chapter.traveller.national:
        return mine
    return {uid for uid in mine if world.ledger.studies[uid]["node"] == world.topology.codes[0]}


async def fhir_studies(world: World, who: Identifier, role: str = "clinician") -> FhirAnswer:
    """ImagingStudy by patient identifier."""
    system = world.topology.national.system if who.authority else ""
    token = f"{system}|{who.value}" if system else who.value
    async with world.fhir(role) as client:
        return await client.search("ImagingStudy", patient_dot_identifier=token)


async def qido_studies(world: World, who: Identifier) -> dict[str, str]:
    """Study UID -> availability, through the region's QIDO-RS."""
    async with world.region_dicomweb() as client:
        rows, _ = await client.search("studies", PatientID=who.value)
    return {value(row, STUDY_UID): value(row, AVAILABILITY) for row in rows}


async def xds_studies(world: World, who: Identifier) -> set[str]:
    """Study UIDs through ITI-18 FindDocuments."""
    authority = who.authority or world_authority(world, who)
    async with world.xds() as client:
        answer = await client.find_documents(world.xds_registry_url(), Identifier(who.value, authority))
    return {e.study_uid for e in answer.entries}


def world_authority(world: World, who: Identifier) -> str:
    """The OID of a trust's own numbers, from the plans that carried it."""
    return world.authorities.get(who.namespace, "")


async def complete(world: World, plans: Iterable[StudyPlan]) -> bool:
    """Whether every study is discoverable with all its instances."""
    async with world.fhir("integrator") as client:
        for plan in plans:
            uid = f"urn:dicom:uid|urn:oid:{plan.uid}"
            answer = await client.search("ImagingStudy", identifier=uid)
            if not answer.matches:  # one of disputed identity is found under its own number
                local = plan.patient.local_ids[plan.code]
                answer = await client.search("ImagingStudy", patient_dot_identifier=local, identifier=uid)
            if not answer.matches:
                return False
            study = answer.matches[0]
            wanted = world.ledger.studies[plan.uid]["instances"]
            if study.get("numberOfInstances") != wanted or study.get("status") != "available":
                return False
    return True


async def page_answer(world: World, chapter: Chapter) -> PageAnswer:
    """The clinician's page, signed in at the fourth member."""
    async with world.page(world.topology.codes[3]) as page:
        who = national_id(world, chapter)
        return await page.find(who.value, chapter.traveller)


# --- loading ------------------------------------------------------------------------------------------------


async def send(world: World, plan: StudyPlan, *, disputed: bool = False) -> int:
    """Make a study and store it at its trust, by C-STORE; the number of objects."""
    count, _ = await load(world, plan, disputed=disputed)
    return count


async def load(world: World, plan: StudyPlan, *, disputed: bool = False) -> tuple[int, str]:
    """As :func:`send`, and where it went."""
    datasets = await asyncio.to_thread(lambda: list(make_study(plan)))
    where = await world.loading.put(plan, datasets)
    world.ledger.add(world.topology, plan, len(datasets), disputed=disputed)
    return len(datasets), where


async def stow(world: World, plan: StudyPlan) -> int:
    """Make a study and store it by STOW-RS; the number of objects."""
    files = await asyncio.to_thread(lambda: [part10(ds) for ds in make_study(plan)])
    async with world.node_dicomweb(plan.code) as client:
        answer = await client.store(files)
    stored = len(answer.get("00081199", {}).get("Value", ()))
    expect(stored == len(files), f"STOW-RS stored {stored} of {len(files)} objects.")
    world.ledger.add(world.topology, plan, len(files))
    return len(files)
