"""The story of a region beside archives of others.

Nothing is copied to the nodes, and what whoever keeps an archive does in it becomes right in the region.
"""

from __future__ import annotations

import asyncio
import hashlib

from crosslight.client.dicomweb import dataset_bytes
from crosslight.standards.fhir.terms import EXT_CUSTODIAN
from simulations.dicomfile import part10
from simulations.images import StudyPlan, make_study
from simulations.plan import Chapter, Followed
from simulations.story import STEPS, Step, holders_of, images, unreachable
from simulations.tokens import COLLEAGUE
from simulations.upstreams.upstreams import Upstreams
from simulations.world import (
    Say,
    World,
    complete,
    expect,
    expected_studies,
    fhir_studies,
    load,
    national_id,
    until,
)

RETRIEVE_URL = "00081190"


def _upstreams(world: World) -> Upstreams:
    if world.upstreams is None:
        raise RuntimeError("this story needs archives of others")
    return world.upstreams


async def step_1(world: World, chapter: Chapter, say: Say) -> None:
    """Every archive receives images in its own way; the nodes find them there."""
    stored, ways = 0, dict[str, tuple[int, str]]()
    for plan in chapter.opening:
        count, where = await load(world, plan, disputed=plan is chapter.doubled)
        stored += count
        before, _ = ways.get(key := f"{plan.code} {where}", (0, ""))
        ways[key] = (before + count, where)
    for key, (count, _) in ways.items():
        say(f"{key}: {count} objects")
    took = await until("all studies discoverable", lambda: complete(world, chapter.opening), within_s=120)
    wrong = [p.uid for p in chapter.travelled if await _holder(world, p) != p.code]
    expect(not wrong, "Studies are shown at another holder.", wrong)
    say(f"{stored} objects in {len(_upstreams(world).keys)} archives; all in the index {took:.1f} s later")


async def _holder(world: World, plan: StudyPlan) -> str:
    """Code of the member that the region names as the holder of a study."""
    async with world.fhir("integrator") as client:
        uid = f"urn:dicom:uid|urn:oid:{plan.uid}"
        answer = await client.search("ImagingStudy", identifier=uid)
    codes = [
        extension["valueReference"]["identifier"]["value"]
        for study in answer.matches
        for extension in study.get("extension", [])
        if extension["url"] == EXT_CUSTODIAN
    ]
    return " and ".join(codes) or "nobody"


async def step_3(world: World, chapter: Chapter, say: Say) -> None:
    """A study of each archive is opened by a clinician of another trust, and kept nowhere on the way."""
    upstreams = _upstreams(world)
    first = world.topology.codes[3]  # the first clinician's
    for plan in chapter.travelled:
        sent = await _digests(plan)
        role = COLLEAGUE if plan.code == first else "clinician"
        received, probe = dict[str, None](), b""
        async with world.region_dicomweb(role) as client:
            async for data in client.instances(f"studies/{plan.uid}"):
                body = dataset_bytes(data)
                received[hashlib.sha256(body).hexdigest()] = None
                probe = probe or _probe(body)
        same = len(received.keys() & sent)
        upstream = upstreams.of(plan)
        label = upstream.label if upstream is not None else "its own archive"
        expect(
            received.keys() == sent,
            f"The data sets from {plan.code} ({label}) differ from what was stored.",
            f"{same} of {len(sent)} equal, {len(received)} received",
        )
        folders = world.folders_but(plan.code)
        if upstream is not None and upstream.passes_at_once:
            folders.append(upstream.place.node_folder)
        touched = await asyncio.to_thread(holders_of, folders, probe) if probe else []
        expect(not touched, "Image bytes were kept on the way.", touched)
        say(f"{plan.code}, {label}: {images(len(sent), plan)}, each equal byte for byte")


def _probe(body: bytes) -> bytes:
    """A part of an object that nothing else is likely to hold; empty where all of it is plain."""
    pieces = (body[start : start + 512] for start in range(len(body) // 2, len(body) - 512, 512))
    return next((piece for piece in pieces if len(set(piece)) >= 64), b"")


async def _digests(plan: StudyPlan) -> set[str]:
    """SHA-256 of the data sets of a study as it was stored."""

    def made() -> set[str]:
        return {hashlib.sha256(dataset_bytes(part10(ds))).hexdigest() for ds in make_study(plan)}

    return await asyncio.to_thread(made)


async def step_4(world: World, chapter: Chapter, say: Say) -> None:
    """In each archive a study is added, one loses an image, one is deleted; one node is down meanwhile."""
    away = chapter.followed[1]
    code = away.added.code
    world.kill(code)
    say(f"{code}: pulled the plug")
    for one in chapter.followed:
        await _change(world, one)
        label = _upstreams(world).all[one.key].label
        say(f"{one.added.code}, {label}: a study added, one image and one study gone")
    there = [one for one in chapter.followed if one is not away]
    took = await until("the others are right", lambda: _right(world, there), within_s=120)
    say(f"right in the region {took:.1f} s later")
    answer = await fhir_studies(world, national_id(world, chapter))
    expect(unreachable(answer, code), f"Nobody says that {code} is away.", answer.warnings)
    await world.start(code)
    took = await until(f"{code} caught up", lambda: _all_right(world, chapter, code), within_s=120)
    say(f"{code} is back, and has found what was done in its archive {took:.1f} s later")


async def _change(world: World, one: Followed) -> None:
    await load(world, one.added)
    upstream = _upstreams(world).all[one.key]
    for plan, kept in ((one.corrected, 2), (one.deleted, 0)):
        datasets = await asyncio.to_thread(list, make_study(plan))
        await upstream.remove(plan.uid, [str(ds.SOPInstanceUID) for ds in datasets[kept:]])
    world.ledger.set_instances(one.corrected.uid, 2)
    world.ledger.remove(one.deleted.uid)


async def _right(world: World, changed: list[Followed]) -> bool:
    if not await complete(world, [p for one in changed for p in (one.added, one.corrected)]):
        return False
    async with world.fhir("integrator") as client:
        for one in changed:
            uid = f"urn:dicom:uid|urn:oid:{one.deleted.uid}"
            if (await client.search("ImagingStudy", identifier=uid)).matches:
                return False
    return True


async def _all_right(world: World, chapter: Chapter, code: str) -> bool:
    answer = await fhir_studies(world, national_id(world, chapter))
    whole = set(answer.study_uids) == expected_studies(world, chapter) and not unreachable(answer, code)
    return whole and await _right(world, list(chapter.followed))


FOREIGN_STEPS = (
    Step(1, "Images are in seven archives of six kinds", step_1),
    Step(2, "One patient, seven archives, the same answer everywhere", STEPS[1].play),
    Step(3, "Opened from each archive, byte for byte", step_3),
    Step(4, "Added, changed and deleted where it lies, and right in the region", step_4),
    STEPS[4],
)
