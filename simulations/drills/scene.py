"""What a drill plays on: the region, its people, what was acknowledged, and the record."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from pydicom.dataset import FileDataset

from crosslight.client.dicomweb import DICOM_MULTIPART, DicomwebClient, dataset_bytes
from crosslight.client.fhir import FhirAnswer
from crosslight.client.http import read
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError
from node import commands as node_commands
from simulations.dicomfile import part10
from simulations.drills.record import Record
from simulations.images import StudyPlan, make_study
from simulations.people import make_patients
from simulations.plan import plan_study
from simulations.region import DemoRegion
from simulations.world import fhir_studies

PEOPLE = 4
REASON = "made for a drill"


@dataclass
class Scene:
    """One drill's own people and studies in a region that may hold more.

    Attributes:
        number: No other drill in this region has it: people and studies are made from it.
        files: Study UID -> SHA-256 of each data set that was acknowledged.
        sent: What was acknowledged and is not deleted, with the trust that has it.
    """

    region: DemoRegion
    record: Record
    number: int
    files: dict[str, set[str]] = field(default_factory=dict)
    sent: list[StudyPlan] = field(default_factory=list)

    def __post_init__(self) -> None:
        codes, national = self.region.topology.codes, bool(self.region.topology.national.authority)
        self.people = make_patients(PEOPLE, codes, seed=self.number, national=national)
        self.today = datetime.now().replace(microsecond=0)

    # --- who and what ---------------------------------------------------------------------------------------

    @property
    def lost(self) -> str:
        """The member that the drill is about: the second."""
        return self.region.topology.codes[1]

    def name(self, code: str) -> str:
        """As people know a member."""
        return f"{self.region.plan_of(code).name} ({code})"

    def others(self) -> list[str]:
        """All members but the one that it is about."""
        return [code for code in self.region.topology.codes if code != self.lost]

    def plan(self, person: int, code: str, modality: str, nth: int = 0, images: int = 0) -> StudyPlan:
        """A study of today."""
        topology = self.region.topology
        return plan_study(
            topology,
            self.region.authorities,
            self.people[person],
            topology.codes.index(code),
            modality,
            self.today - timedelta(minutes=10 * (nth + 1)),
            self.number * 100 + nth,
            0,
            images,
        )

    def who(self, person: int, code: str = "") -> Identifier:
        """What a person is searched by: the national number, or else the number of the trust ``code``."""
        someone, national = self.people[person], self.region.topology.national.authority
        if someone.national:
            return Identifier(someone.national, national)
        code = code or self.lost
        return Identifier(someone.local_ids[code], "", code)

    def stranger(self) -> Identifier:
        """The number of somebody who was never imaged in this region."""
        return self.who(PEOPLE - 1)

    # --- sending and looking --------------------------------------------------------------------------------

    async def send(self, plan: StudyPlan) -> list[FileDataset]:
        """C-STORE a study at its trust; what was acknowledged is remembered."""
        datasets = await asyncio.to_thread(lambda: list(make_study(plan)))
        await asyncio.to_thread(self.region.dimse(plan.code).store, datasets)
        self.acknowledged(plan, datasets)
        return datasets

    def acknowledged(self, plan: StudyPlan, datasets: list[FileDataset]) -> None:
        """These were answered with success, so they must never be lost."""
        digests = {hashlib.sha256(dataset_bytes(part10(ds))).hexdigest() for ds in datasets}
        self.files.setdefault(plan.uid, set()).update(digests)
        if plan not in self.sent:
            self.sent.append(plan)

    async def find(self, person: int, code: str = "") -> FhirAnswer:
        """What a clinician is answered for a person."""
        return await fhir_studies(self.region, self.who(person, code))

    async def listed(self, *plans: StudyPlan) -> bool:
        """Whether every study is found with all its images."""
        async with self.region.fhir("integrator") as client:
            for plan in plans:
                found = await client.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{plan.uid}")
                wanted = len(self.files[plan.uid])
                if not found.matches or found.matches[0].get("numberOfInstances") != wanted:
                    return False
        return True

    async def said_of(self, code: str) -> str:
        """What answers say against the member ``code``; '' where nothing."""
        async with self.region.fhir("integrator") as client:
            answer = await client.search("Organization")
        return " ".join(warning for warning in answer.warnings if f"({code})" in warning)

    async def nobody_named(self, code: str) -> bool:
        """Whether an answer says nothing against the member ``code``."""
        return not await self.said_of(code)

    async def opens(self, plan: StudyPlan) -> bool:
        """Whether a clinician gets a study through the region, each data set as it was sent."""
        got = set()
        async with self.region.region_dicomweb() as client:
            async for data in client.instances(f"studies/{plan.uid}"):
                got.add(hashlib.sha256(dataset_bytes(data)).hexdigest())
        return got == self.files[plan.uid]

    async def refusal(self, plan: StudyPlan) -> tuple[str, float]:
        """What a clinician is told who opens a study that cannot be opened, and after how many seconds.

        '' where it opens.
        """
        async with self.region.region_dicomweb() as client:
            return await refused(client, f"studies/{plan.uid}", DICOM_MULTIPART)

    # --- afterwards -----------------------------------------------------------------------------------------

    async def clear(self) -> None:
        """Delete the drill's studies, so that a region that goes on is as it was found."""
        for plan in self.sent:
            with suppress(CrosslightError):
                await node_commands.delete(self.region.node_folder(plan.code), plan.uid, REASON)


async def refused(client: DicomwebClient, path: str, accept: str) -> tuple[str, float]:
    """The words in which ``path`` is not given, '' where it is; and after how many seconds."""
    began, said = time.monotonic(), ""
    try:
        async with client.request("GET", f"{client.base}/{path}", headers={"Accept": accept}) as response:
            if response.status >= 400:
                problem = orjson.loads(await read(response))
                said = f"HTTP {response.status}: {problem['title']} {problem.get('detail', '')}".strip()
    except (CrosslightError, ValueError, KeyError) as error:
        said = f"{type(error).__name__}: {error}"
    return said, time.monotonic() - began
