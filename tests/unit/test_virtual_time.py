"""A registry and three nodes in one process, on virtual time: the seams are all that a service asks of the
world.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError
from node_serving import ct, part10
from pydicom.dataset import Dataset

from crosslight.standards.ids import NHS_NUMBER_OID
from simulations.virtual.loop import NothingWillHappenError, OutsideError, VirtualLoop, run_virtually
from simulations.virtual.network import Network
from simulations.virtual.region import REGISTRY, VirtualRegion, until, virtual_region
from simulations.virtual.trace import Trace

CODES = ("RTK", "RA2", "RYR")
NUMBER, STUDY = "9990000018", "1.2.1"
NHS_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
SIDE = 256  # pixels; a body that is long enough to be cut


def image(number: int, **more: Any) -> bytes:
    """One image of the study, of a patient with a national number."""
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = NUMBER, "TEXT"
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = NHS_NUMBER_OID, "ISO"
    other.IssuerOfPatientIDQualifiersSequence = [issuer]
    sop = f"{STUDY}.1.{number}"
    return part10(
        ct(STUDY, f"{STUDY}.1", sop, side=SIDE, number=number, OtherPatientIDsSequence=[other], **more)
    )


async def found(region: VirtualRegion) -> list[str]:
    """Study UIDs of the patient, as FHIR answers."""
    bundle = await region.json("fhir/ImagingStudy", params={"patient.identifier": f"{NHS_SYSTEM}|{NUMBER}"})
    studies = [entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "match"]
    return [study["identifier"][0]["value"] for study in studies]


async def cut_and_mended(folder: Path, seed: int) -> None:
    """A study comes to RTK while its line breaks within a message of the feed; later it breaks within an
    image.
    """
    async with virtual_region(folder, CODES, seed) as region:
        network = region.network
        network.cut("RTK", REGISTRY, after_bytes=400)
        await region.store("RTK", image(1), image(2))
        await until(lambda: _is_cut(region))
        assert await found(region) == []
        await asyncio.sleep(30)
        network.mend("RTK", REGISTRY)

        async def arrived() -> bool:
            return await found(region) == [f"urn:oid:{STUDY}"]

        await until(arrived)
        await until(lambda: _linked(region))  # the feed may be there before the link is
        whole = await wado(region)
        network.cut("RTK", REGISTRY, after_bytes=len(whole) // 2)
        with pytest.raises(ClientError):
            await wado(region)
        network.mend("RTK", REGISTRY)
        await until(lambda: _linked(region))
        assert len(await wado(region)) == len(whole)


async def wado(region: VirtualRegion) -> bytes:
    """The study's objects, through the gateway."""
    status, body = await region.get(f"dicomweb/studies/{STUDY}")
    assert status == 200, body
    return body


async def _is_cut(region: VirtualRegion) -> bool:
    return region.network.line("RTK", REGISTRY).cut


async def _linked(region: VirtualRegion) -> bool:
    members = region.registry.members
    return all(members.presence(m.id).reachable for m in members.all())


def story(folder: Path, seed: int) -> list[str]:
    """The trace of one run: what happened when, and the digest of every piece of bytes that arrived."""
    trace = Trace()
    run_virtually(lambda loop: Network(loop, trace), lambda: cut_and_mended(folder, seed))
    return trace.lines


def test_a_study_reaches_fhir_over_a_line_that_was_cut_and_equal_seeds_send_equal_bytes(
    tmp_path: Path,
) -> None:
    """Keys, certificates, tokens and the signed directory included."""
    first, second, other = (story(tmp_path / name, seed) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    arrived = [line for line in first if ": gets " in line]
    assert len(arrived) > 100
    assert first == second
    assert first != other


def virtually(main: Any) -> Any:
    """``main`` on a loop of its own."""
    return run_virtually(lambda loop: Network(loop, Trace()), main)


def test_a_day_of_waiting_is_over_at_once() -> None:
    async def day() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert virtually(day) == pytest.approx(86_400)


def test_who_waits_for_nothing_is_told_so() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappenError):
        virtually(forever)


def test_threads_and_sockets_are_no_way_out() -> None:
    async def thread() -> None:
        await asyncio.to_thread(str)

    async def other_thread() -> None:
        loop, caught = asyncio.get_running_loop(), list[BaseException]()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(str)
            except OutsideError as error:
                caught.append(error)

        one = threading.Thread(target=call)
        one.start()
        one.join()
        raise caught[0]

    async def connection() -> None:
        with socket.socket() as sock:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 1))

    for way, error in (
        (thread, OutsideError),
        (other_thread, OutsideError),
        (connection, NotImplementedError),
    ):
        with pytest.raises(error):
            virtually(way)


def test_a_slow_reader_holds_back_the_writer_and_a_cut_line_ends_both() -> None:
    async def main() -> tuple[bool, int, str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        network, got = loop.network, bytearray()
        network.owns("there", 1)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(10)
            try:
                while data := await reader.read(1 << 16):
                    got.extend(data)
            finally:
                writer.close()

        await asyncio.start_server(serve, "127.0.0.1", 1)
        network.cut("", "there", after_bytes=1_500_000)
        _, writer = await asyncio.open_connection("127.0.0.1", 1)
        began = loop.time()
        try:
            for _ in range(200):
                writer.write(bytes(10_000))
                await writer.drain()
        except ConnectionError as error:
            await asyncio.sleep(1)
            return loop.time() - began > 10, len(got), type(error).__name__
        raise AssertionError("the line was not cut")

    held, arrived, error = virtually(main)
    assert held
    assert arrived <= 1_500_000
    assert error == "ConnectionResetError"
