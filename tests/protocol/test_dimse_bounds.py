"""Who may call a node over DIMSE, and its bounds: strangers, TLS, silence, size, bytes no library sends."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from dimse_calls import pdv, store, store_command, until
from dimse_node import CT, ECHO, Node, associate, certified, node
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from crosslight.standards.dicom.upper_layer.associate import AssociateRequest, ProposedContext
from crosslight.standards.dicom.upper_layer.pdu import (
    CALLED_UNKNOWN,
    CALLING_UNKNOWN,
    CONTEXT_NAME_UNKNOWN,
    VERSION_UNKNOWN,
    Rejection,
)
from crosslight.standards.problem import ConfigError
from node.dimse.config import DimseConfig, KnownCaller


@pytest.fixture
async def ct(tmp_path: Path) -> AsyncIterator[Node]:
    async with node(tmp_path) as made:
        yield made


async def test_unknown_callers_are_refused_and_told_of(tmp_path: Path) -> None:
    callers = (KnownCaller(ae_title="CT1", addresses=("10.1.0.0/16",)), KnownCaller(ae_title="MR1"))
    noted: list[tuple[object, ...]] = []
    async with node(tmp_path, callers=callers, noted=lambda *told: noted.append(told)) as made:
        port = made.service.port
        for calling, accepted in (("CT1", False), ("NOBODY", False), ("MR1", True)):
            assoc = await asyncio.to_thread(associate, port, ECHO, calling=calling)
            # not is_rejected: one that is faster than pynetdicom's threads is a lost connection to it
            assert assoc.is_established == accepted, calling
            if accepted:
                await asyncio.to_thread(assoc.release)
        assert noted == [("dimse", "caller not configured", "127.0.0.1", name) for name in ("CT1", "NOBODY")]
        assert await made.acts() == []  # strangers write nothing of their own
        assert made.service.associations["refused"] == 2


async def test_associations_are_bounded(tmp_path: Path) -> None:
    async with node(tmp_path, max_associations=2) as made:
        contexts = ECHO
        three = [await asyncio.to_thread(associate, made.service.port, contexts) for _ in range(3)]
        assert [a.is_established for a in three] == [True, True, False]
        for assoc in three[:2]:
            await asyncio.to_thread(assoc.release)


async def test_nothing_is_left_of_a_sender_that_hangs_up(ct: Node) -> None:
    def send() -> None:
        assoc = associate(ct.service.port, CT)
        request = store_command(assoc.accepted_contexts[0].context_id)
        sock = assoc.dul.socket.socket
        sock.sendall(request)
        sock.sendall(pdv(1, 0x00, bytes(5000)))
        sock.shutdown(socket.SHUT_RDWR)
        assoc.kill()

    await asyncio.to_thread(send)
    await until(lambda: not ct.service.connected)
    assert ct.held.left_in_tmp() == []
    assert (await ct.held.archive.status()).quarantined == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBI", 4, 0, 0xFFFFFFF0),
        struct.pack(">BBI", 1, 0, 0x7FFFFFFF),
        struct.pack(">BBIIBB", 4, 0, 6, 0xFFFFFF, 1, 3),
        b"\x01",
    ],
    ids=["http", "4 GB PDU", "2 GB request", "PDV beyond its PDU", "one byte"],
)
async def test_garbage_before_an_association(ct: Node, garbage: bytes) -> None:
    def send() -> None:
        with socket.create_connection(("127.0.0.1", ct.service.port), timeout=10) as sock:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass

    await asyncio.to_thread(send)
    assert await asyncio.to_thread(store, ct.service.port, make.image(1)) == [0], "others are served on"


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">BBIIBB", 4, 0, 6, 0xFFFFFF, 1, 3),
        pdv(1, 0x03, b"\x08\0\0\0\xff\xff\xff\xff"),
        pdv(1, 0x03, struct.pack("<HHIH", 0, 0x100, 2, 1)),
        store_command(1) + store_command(1),
        store_command(1) + pdv(3, 0x02, b"in another context"),
        store_command(99) + pdv(99, 0x02, b"no such context"),
        struct.pack(">BBI", 4, 0, 0x7FFFFFFF),
        b"".join(pdv(1, 0x01, bytes(30000)) for _ in range(4)),
    ],
    ids=[
        "PDV length",
        "group 0008",
        "no UIDs",
        "command in a data set",
        "other context",
        "unknown context",
        "2 GB",
        "endless command",
    ],
)
async def test_garbage_in_an_association_is_aborted(ct: Node, garbage: bytes) -> None:
    def send() -> bool:
        assoc = associate(ct.service.port, CT)
        assoc.dul.socket.socket.sendall(garbage)
        assoc.join(10)
        return bool(assoc.is_aborted)

    assert await asyncio.to_thread(send)
    await until(lambda: not ct.service.connected)
    assert ct.held.left_in_tmp() == []


async def test_oversized_object_is_drained_and_refused(tmp_path: Path) -> None:
    async with node(tmp_path, archive={"max_object_bytes": 1 << 20}) as made:
        big = make.image(1, Rows=1024, Columns=1024, pixels=bytes(2 << 20))
        assert await asyncio.to_thread(store, made.service.port, big, make.image(2)) == [0xA701, 0]
        await made.held.settle()  # until its row is there the second one has its name there
        assert made.held.left_in_tmp() == []


async def test_silent_association_is_ended(tmp_path: Path) -> None:
    async with node(tmp_path, network_timeout_s=0.3) as made:
        await asyncio.to_thread(associate, made.service.port, ECHO)
        await until(lambda: not made.service.connected)


def _asking(**changed: Any) -> bytes:
    """A request for an association by hand."""
    contexts = (ProposedContext(1, str(Verification), (ImplicitVRLittleEndian,)),)
    return AssociateRequest(**{"called": "RTK", "calling": "CT1", "contexts": contexts, **changed}).pdu()


@pytest.mark.parametrize(
    ("changed", "rejection"),
    [
        ({"application_context": "1.2.3"}, CONTEXT_NAME_UNKNOWN),
        ({"version": 2}, VERSION_UNKNOWN),
        ({"called": "WRONG"}, CALLED_UNKNOWN),
        ({"calling": "N\u00d6BODY"}, CALLING_UNKNOWN),
    ],
)
async def test_what_is_rejected_is_told_why_and_closed(
    ct: Node, changed: dict[str, Any], rejection: Rejection
) -> None:
    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", ct.service.port), timeout=10) as line:
            line.sendall(
                _asking(**changed) + bytes(100_000)
            )  # what is unread must not take the answer with it
            answer = line.recv(10, socket.MSG_WAITALL)
            line.shutdown(socket.SHUT_WR)
            return answer + line.recv(1)

    assert await asyncio.to_thread(ask) == rejection.pdu()


async def test_a_request_that_drips_is_ended_in_time(tmp_path: Path) -> None:
    """However often a byte of it comes."""
    async with node(tmp_path, acse_timeout_s=0.5) as made:

        def drip() -> bytes:
            with socket.create_connection(("127.0.0.1", made.service.port), timeout=0.05) as line:
                for byte in _asking()[:150]:
                    try:
                        line.sendall(bytes([byte]))
                        return line.recv(1)
                    except TimeoutError:
                        continue
                    except OSError:
                        return b""
            return b"?"

        assert await asyncio.to_thread(drip) == b"", "150 bytes take 7.5 s"
        await until(lambda: not made.service.connected)


async def test_a_pdu_that_stops_halfway_is_ended(tmp_path: Path) -> None:
    async with node(tmp_path, network_timeout_s=0.3) as made:

        def send() -> bool:
            assoc = associate(made.service.port, CT)
            assoc.dul.socket.socket.sendall(store_command(1)[:-3])
            assoc.join(10)
            return bool(assoc.is_aborted)

        assert await asyncio.to_thread(send)
        await until(lambda: not made.service.connected)


async def test_tls(tmp_path: Path) -> None:
    context = await certified(tmp_path)
    async with node(tmp_path, tls_certificate="dimse.crt", tls_key="dimse.key") as made:
        stalled = socket.create_connection(("127.0.0.1", made.service.port))  # never begins its handshake
        assoc = await asyncio.to_thread(
            lambda: associate(made.service.port, ECHO, tls_args=(context, "127.0.0.1"))
        )
        assert assoc.is_established, "one that stalls does not hold up others"
        assert (await asyncio.to_thread(assoc.send_c_echo)).Status == 0
        await asyncio.to_thread(assoc.release)
        stalled.close()


def test_configuration_is_checked() -> None:
    for bad in (
        DimseConfig(ae_title="SEVENTEEN LETTERS"),
        DimseConfig(callers=(KnownCaller(ae_title="A\\B"),)),
        DimseConfig(callers=(KnownCaller(ae_title="A", addresses=("nowhere",)),)),
        DimseConfig(tls_certificate="only.crt"),
    ):
        with pytest.raises(ConfigError):
            bad.check()
    assert KnownCaller(ae_title="A", addresses=("10.0.0.0/8",)).matches("A", "::ffff:10.1.2.3")
    assert not KnownCaller(ae_title="A").matches("a", "10.0.0.1")
