"""Hostile objects and bytes are sent to a trust, by DICOM, DICOMweb and on the bare port."""

from __future__ import annotations

import asyncio
import gzip
import struct
import time
from io import BytesIO

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from crosslight.client.http import HttpClient, read, trusting
from crosslight.standards.problem import CrosslightError
from simulations.drills.clinic import Clinic
from simulations.drills.hostile import Poison, bare_bytes, poisons
from simulations.drills.memory import Memory
from simulations.drills.scene import Scene, refused
from simulations.images import StudyPlan
from simulations.layout import CALLING_AET, HOST

A_ABORT = b"\x07"  # PS3.8 9.3.8
ANSWER_S = 30.0  # longest for the answer to anything hostile
GROWTH_BYTES = 768 << 20  # by so much the node and its children may grow; one picture alone would be 4 GB

ABOUT = (
    "Objects that are noise, cut off, endless, nested without end, packed so that they become a "
    "thousand times larger, or that claim another's identity or a picture of four gigabytes are sent "
    "to one trust by C-STORE and STOW-RS, and bytes that are no DICOM to its DICOM port. Good images "
    "arrive between them. The node must refuse or bear each one, and nobody may notice."
)


async def play(scene: Scene) -> None:
    """The drill."""
    region, record, lost = scene.region, scene.record, scene.lost
    here, near = scene.plan(0, lost, "CT", 0, 4), scene.plan(0, scene.others()[0], "CT", 1, 4)
    datasets = await scene.send(here)
    await scene.send(near)
    await record.within(
        "Two studies of a patient were listed in the region", lambda: scene.listed(here, near), 60
    )
    pid = region.supervisor.child(lost).pid
    aimed = scene.plan(1, lost, "CT", 2, 1)
    bad = await asyncio.to_thread(poisons, aimed, datasets[0])
    async with Clinic(scene, 0, near) as clinic, Memory(pid) as memory:
        await _objects(scene, bad)
        await _bare(scene)
        await _pictures(scene, bad, aimed)
        good = scene.plan(2, lost, "CT", 3, 3)
        await record.within("A good image that came right after was taken", lambda: _sent(scene, good), 30)
        await record.within("It was listed in the region", lambda: scene.listed(good), 60)
        await clinic.more(2)
    record.judge("The node's process was the same all the while", region.supervisor.child(lost).pid == pid)
    record.judge(
        "Its memory stayed within bounds",
        0 < memory.most - memory.first < GROWTH_BYTES or memory.most == memory.first > 0,
        f"{memory.first >> 20} MB before, {memory.most >> 20} MB at most, children included",
    )
    await record.within(
        "What was there before opened, each byte as it was sent", lambda: scene.opens(here), 30
    )
    clinic.judge()


async def _sent(scene: Scene, plan: StudyPlan) -> bool:
    return bool(await scene.send(plan))


# --- objects ------------------------------------------------------------------------------------------------


async def _objects(scene: Scene, bad: list[Poison]) -> None:
    """Each by C-STORE and by STOW-RS; an answer in time, whatever it is, and refused but for the picture."""
    for poison in bad:
        for way, act in (("C-STORE", _by_dimse), ("STOW-RS", _by_stow)):
            began = time.monotonic()
            taken, said = await act(scene, poison)
            took = time.monotonic() - began
            bearable = (
                "claims 65,535" in poison.what
            )  # well-formed: it may be kept, if nobody suffers from it
            scene.record.judge(
                f"{way} of {poison.what} was {'answered' if bearable else 'refused'}",
                (bearable or not taken) and took < ANSWER_S,
                f"{said}, {took:.1f} s",
            )


async def _by_dimse(scene: Scene, poison: Poison) -> tuple[bool, str]:
    port = scene.region.ports(scene.lost).dimse
    return await asyncio.to_thread(_store, port, scene.lost, poison)


def _store(port: int, called: str, poison: Poison) -> tuple[bool, str]:
    """C-STORE of bytes as they are; whether it was taken, and how it was answered."""
    entity = AE(CALLING_AET)
    entity.acse_timeout = entity.connection_timeout = 10
    entity.dimse_timeout = ANSWER_S
    entity.add_requested_context(UID(poison.sop_class), UID(poison.syntax))
    association = entity.associate(HOST, port, ae_title=called)
    if not association.is_established:
        return False, "no association under this transfer syntax"
    try:
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = poison.sop_class, poison.sop_uid
        request.DataSet = BytesIO(poison.data)
        association._reactor_checkpoint.clear()  # its own thread would take the answer
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        if answer is None:
            return False, "the association was ended"
        status = int(answer.Status)
        return status in (0x0000, 0xB000, 0xB006, 0xB007), f"status {status:04X}"
    finally:
        association.abort()


def _part10(poison: Poison) -> bytes:
    """The poison as a file, whose File Meta is as it should be (PS3.10 7.1)."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", 2, number, vr, len(value)) + value

    meta = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
    meta += element(2, b"UI", poison.sop_class.encode()) + element(3, b"UI", poison.sop_uid.encode())
    meta += element(0x10, b"UI", poison.syntax.encode()) + element(0x12, b"UI", b"2.25.1")
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + poison.data


async def _by_stow(scene: Scene, poison: Poison) -> tuple[bool, str]:
    async with scene.region.node_dicomweb(scene.lost) as client:
        try:
            answer = await client.store([_part10(poison)])
        except CrosslightError as error:
            return False, error.what
    taken = bool(answer.get("00081199", {}).get("Value"))
    return taken, "taken" if taken else "refused in the answer"


# --- bytes --------------------------------------------------------------------------------------------------


async def _bare(scene: Scene) -> None:
    """What is no DICOM, and bodies that are not what they say."""
    region, record, lost = scene.region, scene.record, scene.lost
    port = region.ports(lost).dimse
    for what, data in bare_bytes().items():
        began = time.monotonic()
        ended = await _thrown_out(port, data)
        record.judge(f"Whoever sent {what} was thrown out", ended, f"{time.monotonic() - began:.1f} s")
    token = region.node_tokens.get(lost, {}).get("integrator", "")
    bomb = await asyncio.to_thread(lambda: gzip.compress(bytes(64 << 20), 1))
    for what, headers, body in (
        ("a body that is no multipart", {"Content-Type": 'multipart/related; boundary="x"'}, b"\0" * 4096),
        (
            "a gzip body that becomes a thousand times larger",
            {"Content-Type": 'multipart/related; boundary="x"', "Content-Encoding": "gzip"},
            bomb,
        ),
    ):
        async with HttpClient(trusting(region.ca), token, read_timeout_s=ANSWER_S) as client:
            try:
                url = f"{region.node_base(lost)}/dicomweb/studies"
                async with client.request("POST", url, headers=headers, data=body) as response:
                    await read(response)
                    no, said = 400 <= response.status < 500, f"HTTP {response.status}"
            except CrosslightError as error:
                no, said = True, f"{error.what} {error.why}"
        record.judge(f"STOW-RS of {what} was refused", no, said)


async def _thrown_out(port: int, data: bytes) -> bool:
    """Whether the node aborts the association that ``data`` is not (PS3.8 9.3.8), or ends the connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        async with asyncio.timeout(ANSWER_S):
            return (await reader.read(1)) in (b"", A_ABORT)
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        writer.transport.abort()


# --- pictures -----------------------------------------------------------------------------------------------


async def _pictures(scene: Scene, bad: list[Poison], aimed: StudyPlan) -> None:
    """The vast picture is asked for, and a good one beside it."""
    region, record, lost = scene.region, scene.record, scene.lost
    vast = next(poison for poison in bad if "claims 65,535" in poison.what)
    async with region.node_dicomweb(lost, "clinician") as client:
        rows, _ = await client.search(f"studies/{aimed.uid}/instances", SOPInstanceUID=vast.sop_uid)
        if not rows:
            record.saw("The vast picture was not kept, so nobody can ask for it.")
            return
        series = str(rows[0]["0020000E"]["Value"][0])
        path = f"studies/{aimed.uid}/series/{series}/instances/{vast.sop_uid}/rendered"
        said, took = await refused(client, path, "image/jpeg")
    record.judge(
        "Whoever asks for the vast picture is refused in time",
        said.startswith("HTTP 4") and took < ANSWER_S,
        f"{took:.1f} s: {said or 'a picture'}",
    )
    if not any(plan.uid == aimed.uid for plan in scene.sent):
        scene.sent.append(aimed)  # to be deleted with the rest
