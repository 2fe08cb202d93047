"""A trust is suspended by the region's operator, cut off everywhere, and readmitted."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from crosslight.client.http import HttpClient, read, trusting
from crosslight.client.xds import XdsClient
from crosslight.standards.problem import CrosslightError, PeerError
from node.membership.state import BUNDLE, IDENTITY, REGION
from simulations.drills.clinic import Clinic
from simulations.drills.scene import Scene
from simulations.drills.site_loss import judge_refusal
from simulations.images import StudyPlan
from simulations.layout import HOST

CUT_WITHIN_S, BACK_WITHIN_S = 5.0, 90.0
ANSWER_S = 10.0
SUSPENDED = "This member is suspended"

ABOUT = (
    "The region's operator suspends one trust (crosslight-registry suspend), as when its machine may "
    "be in wrong hands. Its certificate is then shown to every other trust and to the registry, and "
    "connections that were open before are watched: all must be dead within five seconds. Then it is "
    "readmitted."
)


class Held:
    """A connection with the member's certificate that was let in, and is kept open."""

    def __init__(self, where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.where, self._reader, self._writer = where, reader, writer

    @classmethod
    async def open(cls, where: str, port: int, tls: ssl.SSLContext | None) -> Held:
        """Ask once, and read the answer's head.

        Raises:
            PeerError: when it is not let in.
        """
        reader, writer = await asyncio.open_connection(HOST, port, ssl=tls, server_hostname=HOST)
        writer.write(f"GET /dicomweb/studies?limit=1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_S):
            head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            raise PeerError(f"{where} answers otherwise than in HTTP.")
        return cls(where, reader, writer)

    async def ended(self, within_s: float) -> float | None:
        """After how many seconds it was cut; None where it lives on."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                while await self._reader.read(1 << 16):
                    pass
        except TimeoutError:
            return None
        except (OSError, ssl.SSLError):
            pass
        finally:
            self._writer.transport.abort()
        return time.monotonic() - began


class Thief:
    """Whoever holds the member's key and certificate, and calls all others with them."""

    def __init__(self, scene: Scene) -> None:
        region, self._scene = scene.region, scene
        folder = region.node_folder(scene.lost) / REGION
        self._bundle, self._identity = folder / BUNDLE, folder / IDENTITY
        self.gates = {code: region.ports(code).systems for code in scene.others()}
        self.gates["registry"] = region.port_base + 3

    def _tls(self) -> ssl.SSLContext | None:
        return trusting(self._bundle, self._identity, self._identity)

    async def hold(self) -> list[Held]:
        """A connection to each of the others, and to the registry."""
        return [await Held.open(where, port, self._tls()) for where, port in self.gates.items()]

    async def let_in(self) -> list[str]:
        """Where a new connection is not told that the member is suspended."""
        there = []
        async with HttpClient(self._tls()) as client:
            for where, port in self.gates.items():
                url = f"https://{HOST}:{port}/dicomweb/studies?limit=1"
                async with client.request("GET", url) as response:
                    if SUSPENDED not in (await read(response)).decode("utf-8", "replace"):
                        there.append(where)
        return there

    async def asks(self) -> bool:
        """Whether the registry answers its ITI-18 otherwise than that it is suspended."""
        async with XdsClient(tls=self._tls()) as client:
            try:
                await client.find_documents(self._scene.region.xds_registry_url(), self._scene.stranger())
            except CrosslightError as error:
                return "suspended" not in f"{error}"
        return True


async def play(scene: Scene) -> None:
    """The drill."""
    region, record, lost = scene.region, scene.record, scene.lost
    here, near = scene.plan(0, lost, "CT", 0, 4), scene.plan(0, scene.others()[0], "CT", 1, 4)
    for plan in (here, near):
        await scene.send(plan)
    await record.within(
        "Two studies of a patient were listed in the region", lambda: scene.listed(here, near), 60
    )
    thief = Thief(scene)
    async with Clinic(scene, 0, near) as clinic:
        held = await thief.hold()
        record.did(
            f"{len(held)} connections were opened with the certificate of {scene.name(lost)}, and kept."
        )
        try:
            shown, later = await _suspended(scene, clinic, thief, held, here)
        finally:
            ended = time.monotonic()
            await region.registry_command("readmit", lost)
        back = time.monotonic()
        record.did("The operator readmitted it.")
        await _back(scene, here, later, back)
    clinic.judge()
    clinic.judge_said(lost, shown, ended)


async def _suspended(
    scene: Scene, clinic: Clinic, thief: Thief, held: list[Held], here: StudyPlan
) -> tuple[float, StudyPlan]:
    region, record, lost = scene.region, scene.record, scene.lost
    ends = [asyncio.create_task(one.ended(120)) for one in held]
    await region.registry_command("suspend", lost, "--reason", "a drill")
    said = time.monotonic()
    record.did(f"The operator suspended {scene.name(lost)}.")

    async def closed() -> bool:
        return not await thief.let_in() and not await thief.asks()

    async def shown() -> bool:
        return "suspended" in await scene.said_of(lost)

    refused = "Its certificate was refused at every other trust and at the registry"
    await asyncio.gather(
        record.within(refused, closed, CUT_WITHIN_S, since=said),
        record.within("Answers said that it is suspended", shown, CUT_WITHIN_S, since=said),
        _all_cut(scene, held, ends, said),
    )
    shown_at = time.monotonic()
    await judge_refusal(scene, here, "suspended")
    answer = await scene.find(0)
    record.judge("What is known of it stayed listed", here.uid in answer.study_uids)
    later = scene.plan(1, lost, "CT", 2, 2)
    await scene.send(later)
    record.did("It went on taking its own images in: two more.")
    await clinic.more()
    async with region.fhir("integrator") as client:
        known = await client.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{later.uid}")
    record.judge("Nothing new of it came into the region's index", not known.matches)
    return shown_at, later


async def _all_cut(
    scene: Scene, held: list[Held], ends: list[asyncio.Task[float | None]], said: float
) -> None:
    """Put down whether the connections that were open are dead in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.1, said + CUT_WITHIN_S - time.monotonic())):
            await asyncio.gather(*(asyncio.shield(end) for end in ends))
    alive = [one.where for one, end in zip(held, ends, strict=True) if not end.done()]
    for end in ends:
        end.cancel()
    await asyncio.gather(*ends, return_exceptions=True)
    scene.record.judge(
        "Its connections that were open before were cut within five seconds",
        not alive,
        f"{len(held)} connections" + (f"; alive at {', '.join(alive)}" if alive else ""),
    )


async def _back(scene: Scene, here: StudyPlan, later: StudyPlan, since: float) -> None:
    async def within(what: str, check: Callable[[], Awaitable[bool]]) -> None:
        await scene.record.within(what, check, BACK_WITHIN_S, since=since)

    await within("It was well in the region by itself", lambda: scene.nobody_named(scene.lost))
    await within("What it took in meanwhile was listed", lambda: scene.listed(later))
    await within("Its studies opened again, to the last byte", lambda: scene.opens(here))
