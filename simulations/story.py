"""The story that the demo plays, and holds against the truth at every step.

Each step is a coroutine that raises ``StoryError`` when the region does not do what it promises. It acts only
as people and systems outside would: DIMSE, DICOMweb, FHIR, XDS, the page, commands, and pulling the plug.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crosslight.client.dicomweb import dataset_bytes
from crosslight.client.fhir import FhirAnswer
from crosslight.standards.ids import Identifier
from simulations.dicomfile import part10, save
from simulations.images import StudyPlan, make_study, rejection_note
from simulations.plan import Chapter
from simulations.world import (
    Say,
    World,
    complete,
    expect,
    expected_studies,
    fhir_studies,
    national_id,
    page_answer,
    qido_studies,
    send,
    stow,
    until,
    xds_studies,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number, what it shows, and the play."""

    number: int
    title: str
    play: Callable[[World, Chapter, Say], Awaitable[None]]


def images(count: int, plan: StudyPlan) -> str:
    """As a line of the story says it."""
    return f"{count} {plan.modality} image{'s' if count > 1 else ''}"


async def step_1(world: World, chapter: Chapter, say: Say) -> None:
    """Every trust received images over real C-STORE associations, and one over STOW-RS."""
    by_stow = chapter.travelled[2]
    stored: dict[str, int] = {}
    for plan in chapter.opening:
        count = await (
            stow(world, plan) if plan is by_stow else send(world, plan, disputed=plan is chapter.doubled)
        )
        stored[plan.code] = stored.get(plan.code, 0) + count
        say(f"{plan.code}: {images(count, plan)} by {'STOW-RS' if plan is by_stow else 'C-STORE'}")
    if chapter.number == 1:
        expect(set(stored) == set(world.topology.codes), "Not every member received images.", sorted(stored))
    took = await until("all studies discoverable", lambda: complete(world, chapter.opening), within_s=120)
    say(
        f"{sum(stored.values())} objects at {len(stored)} members; all complete in the index {took:.1f} s"
        " later"
    )


async def step_2(world: World, chapter: Chapter, say: Say) -> None:
    """One patient, three trusts, three local numbers: the same three studies through every face.

    A double is kept apart.
    """
    who, wanted = national_id(world, chapter), expected_studies(world, chapter)
    say(
        f"asked for {len(wanted)} studies of one patient by"
        f" {'the national number' if who.authority else 'a local number'}"
    )
    answer = await fhir_studies(world, who)
    faces = {
        "FHIR": set(answer.study_uids),
        "ITI-18": await xds_studies(world, who),
        "QIDO-RS": set(await qido_studies(world, who)),
        "the page": (await page_answer(world, chapter)).study_uids,
    }
    for face, study_uids in faces.items():
        expect(
            study_uids == wanted,
            f"{face} gives other studies.",
            f"{len(study_uids)} found, {len(study_uids & wanted)} of {len(wanted)} right",
        )
        say(f"{face}: the same {len(study_uids)}")
    if chapter.traveller.national:
        await _double_is_apart(world, chapter, answer, say)


async def _double_is_apart(world: World, chapter: Chapter, answer: FhirAnswer, say: Say) -> None:
    code = chapter.doubled.code
    expect(
        chapter.doubled.uid not in answer.study_uids, "The disputed record's study is among the patient's."
    )
    expect(
        any(code in w for w in answer.warnings),
        "FHIR does not say where the disputed record is.",
        answer.warnings,
    )
    page = await page_answer(world, chapter)
    expect(
        code in page.notices or chapter.doubled.institution in page.notices,
        "The page does not show the dispute.",
    )
    local = Identifier(chapter.double.local_ids[code], "", code)
    async with world.fhir("integrator") as client:
        own = await client.search("ImagingStudy", patient_dot_identifier=local.value)
    expect(
        chapter.doubled.uid in own.study_uids, "The disputed record is not found under its own local number."
    )
    say(f"a record at {code} with that number and another date of birth is kept apart and shown as disputed")


async def step_3(world: World, chapter: Chapter, say: Say) -> None:
    """A clinician at a fourth trust opens a CT that the first holds.

    Byte for byte, and stored nowhere on the way.
    """
    plan = chapter.travelled[0]
    sent = {
        str(ds.SOPInstanceUID): hashlib.sha256(dataset_bytes(part10(ds))).hexdigest()
        for ds in await asyncio.to_thread(lambda: list(make_study(plan)))
    }
    received: set[str] = set()
    probe = b""
    async with world.region_dicomweb() as client:
        async for data in client.instances(f"studies/{plan.uid}"):
            body = dataset_bytes(data)
            received.add(hashlib.sha256(body).hexdigest())
            probe = probe or body[-4096:-2048]
    expect(
        received == set(sent.values()),
        "The data sets differ from what was sent.",
        f"{len(received & set(sent.values()))} of {len(sent)} equal",
    )
    say(f"{len(received)} CT slices from {plan.code}, each equal byte for byte to what was sent")
    touched = await asyncio.to_thread(holders_of, world.folders_but(plan.code), probe)
    expect(not touched, "Image bytes were kept on the way.", touched)
    say("no folder of the registry or of another member holds a byte of them")


def holders_of(folders: Sequence[Path], probe: bytes) -> list[str]:
    """Names of files below ``folders`` that hold ``probe``."""
    names = []
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file() and probe in path.read_bytes():
                    names.append(path.name)
            except OSError:
                continue  # removed while we looked
    return names


async def step_4(world: World, chapter: Chapter, say: Say) -> None:
    """A node is killed: answers go on, say who is missing and since when.

    It comes back and catches up by itself.
    """
    code = chapter.travelled[1].code
    who, wanted = national_id(world, chapter), expected_studies(world, chapter)
    world.kill(code)
    say(f"{code}: pulled the plug")

    async def shown() -> bool:
        asked = time.monotonic()
        answer = await fhir_studies(world, who)
        expect(time.monotonic() - asked < 3, "The search did not answer at once.")
        return unreachable(answer, code)

    took = await until(f"{code} shown as unreachable", shown, within_s=8 + 2)
    answer = await fhir_studies(world, who)
    expect(set(answer.study_uids) == wanted, "Studies went missing with the node.")
    since = next(w for w in answer.warnings if code in w)
    expect("since" in since.lower(), "It does not say since when.", since)
    if chapter.traveller.national:
        marks = await qido_studies(world, who)
        expect(
            marks[chapter.travelled[1].uid] != "ONLINE",
            "QIDO-RS calls the killed node's study ONLINE.",
            marks,
        )
    say(f"after {took:.1f} s every answer says: {since}")
    await _change_while_away(world, chapter, code, say)
    await world.start(code)
    took = await until(f"{code} caught up", lambda: _caught_up(world, chapter), within_s=90)
    say(
        f"{code} is back; new, corrected and deleted studies were right everywhere {took:.1f} s later, with"
        " no one doing anything"
    )


async def _change_while_away(world: World, chapter: Chapter, code: str, say: Say) -> None:
    folder = world.scratch / f"away-{chapter.number}"
    new = await asyncio.to_thread(lambda: list(make_study(chapter.while_away)))
    save(folder / "new", new)
    wrong = await asyncio.to_thread(lambda: list(make_study(chapter.to_correct)))
    note = rejection_note(
        chapter.to_correct,
        list(wrong[-1:]),
        code="113037",
        meaning="Rejected for Patient Safety Reasons",
        seed=901,
    )
    save(folder / "corrected", [note])
    await world.node_command(code, "import", str(folder / "new"), str(folder / "corrected"))
    await world.node_command(code, "delete", chapter.to_delete.uid, "--reason", "imaged in error")
    world.ledger.add(world.topology, chapter.while_away, len(new))
    world.ledger.set_instances(chapter.to_correct.uid, len(wrong) - 1)
    world.ledger.remove(chapter.to_delete.uid)
    say(f"while {code} was away: one study imported, one image rejected, one study deleted")


async def _caught_up(world: World, chapter: Chapter) -> bool:
    if not await complete(world, [chapter.while_away, chapter.to_correct]):
        return False
    async with world.fhir("integrator") as client:
        gone = await client.search(
            "ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{chapter.to_delete.uid}"
        )
    if gone.matches:
        return False
    who, wanted = national_id(world, chapter), expected_studies(world, chapter)
    code = chapter.travelled[1].code
    answer = await fhir_studies(world, who)
    return not unreachable(answer, code) and set(answer.study_uids) == wanted == await xds_studies(world, who)


def unreachable(answer: FhirAnswer, code: str) -> bool:
    """Whether an answer says that a member cannot be reached."""
    return any(code in w and "unreachable" in w.lower() for w in answer.warnings)


async def step_5(world: World, chapter: Chapter, say: Say) -> None:
    """The registry is killed and restarted while images keep arriving.

    Nothing is lost, everything becomes discoverable.
    """
    world.kill_registry()
    say("the registry: pulled the plug")
    for plan in chapter.while_registry_down:
        count = await send(world, plan)
        say(f"{plan.code}: {images(count, plan)} arrived meanwhile")
    await world.start_registry()
    took = await until(
        "all discoverable after the restart",
        lambda: complete(world, chapter.while_registry_down),
        within_s=90,
    )
    who, wanted = national_id(world, chapter), expected_studies(world, chapter)
    expect(
        set((await fhir_studies(world, who)).study_uids) == wanted,
        "The patient's list is not right after the restart.",
    )
    expect(await complete(world, chapter.travelled), "Studies were lost with the registry.")
    say(f"everything discoverable {took:.1f} s after the registry was back")


STEPS = (
    Step(1, "Images arrive at every trust", step_1),
    Step(2, "One patient, three trusts, the same answer everywhere", step_2),
    Step(3, "Opened from the trust that holds it, byte for byte", step_3),
    Step(4, "A node goes down, and catches up by itself", step_4),
    Step(5, "The registry goes down, and nothing is lost", step_5),
)
