"""A demo region with everything on (TLS, sign-in, processes of their own), small, without its story: for
tests in a browser.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import barcode
from ports import free_base
from pydicom.dataset import FileDataset

from crosslight.client.dicomweb import DicomwebClient
from simulations.accounts import Account
from simulations.dicomfile import part10
from simulations.images import StudyPlan, make_study
from simulations.people import SyntheticPatient, make_patients
from simulations.region import DemoRegion
from simulations.topology import MemberPlan, Topology, read_topology

T = TypeVar("T")
MEMBERS = 4
FILLED_S = 280.0  # longest on a busy machine; some twenty seconds on an idle one


@dataclass
class Secured:
    """The region, whose loop runs in a thread, and what is in it."""

    region: DemoRegion
    loop: asyncio.AbstractEventLoop
    patient: SyntheticPatient
    double: SyntheticPatient
    plans: tuple[StudyPlan, ...]
    numbered: StudyPlan  # of a third person; its slices say in their pixels which they are

    @property
    def base(self) -> str:
        """The registry's people listener."""
        return self.region.base

    def account(self, role: str, organisation: str = "") -> Account:
        """A sign-in."""
        found = (a for a in self.region.accounts if a.role == role and organisation in ("", a.organisation))
        return next(found)

    def run(self, work: Coroutine[Any, Any, T], within_s: float = 90.0) -> T:
        """Do something in the region's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within_s)

    def kill(self, code: str) -> None:
        """Pull a node's plug."""
        self.run(self._kill(code))

    async def _kill(self, code: str) -> None:
        self.region.kill(code)


def _plans(topology: Topology, who: SyntheticPatient, double: SyntheticPatient) -> tuple[StudyPlan, ...]:
    now = datetime.now().replace(microsecond=0, second=0)

    def plan(
        patient: SyntheticPatient, place: MemberPlan, modality: str, text: str, part: str, days: int, n: int
    ) -> StudyPlan:
        return StudyPlan(
            patient=patient,
            code=place.code,
            institution=place.name,
            modality=modality,
            when=now - timedelta(days=days),
            seed=days,
            description=text,
            body_part=part,
            instances=n,
            national_authority=topology.national.authority,
            size=128 if modality in ("CT", "MR") else 0,
            compressed=modality == "CR",
        )

    rtk, rxc, rpc, ra2 = topology.members
    return (
        plan(who, rtk, "CT", "CT Thorax <contrast> & more", "CHEST", 3, 12),
        plan(who, rxc, "MR", "MRI Brain", "HEAD", 400, 4),
        plan(who, rpc, "CR", "XR Chest", "CHEST", 40, 0),
        plan(double, ra2, "CR", "XR Hand", "HAND", 9, 0),
    )


def _numbered(topology: Topology, who: SyntheticPatient) -> StudyPlan:
    place = topology.members[0]
    return StudyPlan(
        patient=who,
        code=place.code,
        institution=place.name,
        modality="CT",
        when=datetime(2026, 1, 5, 9, 30),
        seed=77,
        description="CT Numbered",
        body_part="CHEST",
        instances=60,
        national_authority=topology.national.authority,
        size=256,
    )


def _stamped(plan: StudyPlan) -> Iterator[FileDataset]:
    for ds in make_study(plan):
        barcode.stamp_slice(ds, 1, int(ds.InstanceNumber))
        yield ds


async def _fill(region: DemoRegion, plans: tuple[StudyPlan, ...], numbered: StudyPlan) -> None:
    await region.make(lambda _: None)
    await region.start_all(lambda _: None)
    *own, double = plans
    await asyncio.gather(*(_store(region.node_dicomweb(p.code), make_study(p)) for p in own))
    await _store(region.node_dicomweb(numbered.code), _stamped(numbered))
    await _listed(region, plans[0], 3, "")  # who claims the number first holds it
    await _store(region.node_dicomweb(double.code), make_study(double))
    await _listed(region, plans[0], 3, "claims this number")


async def _listed(region: DemoRegion, plan: StudyPlan, count: int, warned: str) -> None:
    number = f"{region.topology.national.system}|{plan.patient.national}"
    async with asyncio.timeout(FILLED_S / 3):
        while True:
            async with region.fhir("integrator") as client:
                found = await client.search("ImagingStudy", patient_dot_identifier=number)
            complete = [s for s in found.matches if s["status"] == "available" and "numberOfSeries" in s]
            if len(complete) == count and (not warned or any(warned in said for said in found.warnings)):
                return
            await asyncio.sleep(0.3)


async def _store(client: DicomwebClient, objects: Iterator[FileDataset]) -> None:
    async with client:
        await client.store([part10(ds) for ds in objects])


async def _end(region: DemoRegion) -> None:
    """At once: nothing of it is looked at any more."""
    for name in ("registry", *region.topology.codes):
        with suppress(KeyError):
            region.kill(name)
    await region.stop()


@contextmanager
def secured_region(folder: Path) -> Iterator[Secured]:
    """A registry and four nodes, three studies of one person, and a fourth record that claims the number."""
    whole = read_topology()
    topology = replace(whole, members=whole.members[:MEMBERS])
    who, other, third = make_patients(3, topology.codes, seed=7, national=True)
    double = replace(
        other, family=who.family, national=who.national, birth_date=who.birth_date + timedelta(days=4000)
    )
    region = DemoRegion(topology=topology, data=folder, port_base=free_base(MEMBERS + 1), restart_after_s=0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    secured = Secured(region, loop, who, double, _plans(topology, who, double), _numbered(topology, third))
    try:
        secured.run(_fill(region, secured.plans, secured.numbered), FILLED_S)
        yield secured
    finally:
        secured.run(_end(region))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
