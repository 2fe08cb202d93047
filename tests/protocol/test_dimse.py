"""DIMSE over real associations: pynetdicom's SCU, DCMTK's storescu and echoscu, and bytes that no library
would send.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pydicom.data
import pytest
from archive_fixture import data_set_at
from dimse_node import CT, ECHO, Node, associate, node, run
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import CTImageStorage, Verification

from crosslight.standards.problem import ConfigError
from node.dimse.command import Command, response
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.listener import DimseListener
from node.dimse.pdata import fragments_of


@pytest.fixture
async def ct(tmp_path: Path) -> AsyncIterator[Node]:
    async with node(tmp_path) as made:
        yield made


async def _until(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other threads' doing
            await asyncio.sleep(0.01)


async def _settled(made: Node, acts: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while len(found := [a for a in await made.acts() if a.text]) < acts:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


def _store(port: int, *datasets: Any, syntax: str = ExplicitVRLittleEndian) -> list[int]:
    assoc = associate(
        port, [(str(d.SOPClassUID), [syntax]) for d in {str(d.SOPClassUID): d for d in datasets}.values()]
    )
    assert assoc.is_established
    statuses = []
    for dataset in datasets:
        _with_meta(dataset).file_meta.TransferSyntaxUID = syntax
        statuses.append(int(assoc.send_c_store(dataset).Status))
    assoc.release()
    return statuses


async def test_dcmtk_echo(ct: Node) -> None:
    port = str(ct.service.port)
    assert await run("echoscu", "-aet", "CT1", "-aec", "RTK", "127.0.0.1", port) == 0
    assert await run("echoscu", "-aet", "CT1", "-aec", "WRONG", "127.0.0.1", port) != 0
    assert await run("echoscu", "-aet", "OTHER", "-aec", "RTK", "127.0.0.1", port) != 0


async def test_an_association_for_each_object_waits_for_no_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what a thread waits when idle beyond the caller's own patience, whatever stands in for "nothing to
    do" is seen.
    """
    monkeypatch.setattr("node.dimse.sockets.IDLE_S", 3600.0)

    def caller(port: int) -> list[tuple[bytes, bytes]]:
        ends = []
        for n in range(1, 6):
            assoc = associate(port, CT)
            assert assoc.is_established
            assert assoc.send_c_store(_with_meta(make.image(n))).Status == 0
            assoc.dul.kill_dul()  # by hand from here: this caller waits for the node to close
            assoc.dul.join()
            with socket.socket(fileno=os.dup(assoc.dul.socket.socket.fileno())) as line:
                line.settimeout(10)
                line.sendall(bytes.fromhex("05000000000400000000"))  # A-RELEASE-RQ (PS3.8 9.3.6)
                ends.append((line.recv(10, socket.MSG_WAITALL), line.recv(1)))  # A-RELEASE-RP, and the end
            assoc.abort()
        return ends

    async with node(tmp_path) as made:
        ends = await asyncio.to_thread(caller, made.service.port)
        assert ends == [(bytes.fromhex("06000000000400000000"), b"")] * 5
        assert len(await made.held.archive.objects(make.STUDY)) == 5


def _with_meta(dataset: Any) -> Any:
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


async def test_dcmtk_storescu_is_kept_byte_for_byte(ct: Node, tmp_path: Path) -> None:
    files = []
    for n in range(1, 21):
        files.append(tmp_path / f"{n}.dcm")
        files[-1].write_bytes(make.part10(make.image(n, Rows=64, Columns=64, pixels=bytes([n]) * 8192)))
    code = await run(
        "storescu", "-aet", "CT1", "-aec", "RTK", "127.0.0.1", str(ct.service.port), *map(str, files)
    )
    assert code == 0
    kept = {o.ref.sop_uid: o for o in await ct.held.archive.objects(make.STUDY)}
    assert len(kept) == 20
    for n, file in enumerate(files, 1):
        found = kept[f"{make.STUDY}.1.{n}"]
        assert await data_set_at(ct.held.archive, found) == make.data_set_of(file.read_bytes())
    (act,) = await _settled(ct, 1)
    assert (act.face, act.action, act.decision, act.text) == ("dimse", "store", "permit", "ok 20 stored")
    assert (act.studies, act.peer, act.who.evidence) == ((make.STUDY,), "127.0.0.1", "dimse")
    assert [p.split("|")[1] for p in act.patients] == ["L001"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
async def test_native_transfer_syntaxes(ct: Node, syntax: str) -> None:
    assert await asyncio.to_thread(lambda: _store(ct.service.port, make.image(1), syntax=str(syntax))) == [0]
    (found,) = await ct.held.archive.objects(make.STUDY)
    assert found.ref.transfer_syntax_uid == syntax


async def test_compressed_transfer_syntaxes(ct: Node) -> None:
    stored = 0
    for name in (
        "JPEG2000.dcm",
        "MR_small_RLE.dcm",
        "JPEG-lossy.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ):
        dataset = pydicom.dcmread(str(pydicom.data.get_testdata_file(name)))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        dataset.SOPInstanceUID = f"1.2.826.0.1.{stored}"  # some of pydicom's share theirs

        def send(dataset: Any = dataset, syntax: str = syntax) -> list[int]:
            return _store(ct.service.port, dataset, syntax=syntax)

        assert await asyncio.to_thread(send) == [0], name
        (found,) = await ct.held.archive.objects(
            str(dataset.StudyInstanceUID), sop_uid=str(dataset.SOPInstanceUID)
        )
        assert found.ref.transfer_syntax_uid == syntax
        stored += 1
    assert ct.service.objects == {"stored": stored}


async def test_every_storage_class_and_syntax_is_offered(ct: Node) -> None:
    contexts = [
        (CTImageStorage, [JPEG2000Lossless]),
        ("1.2.840.10008.5.1.4.1.1.6", [ExplicitVRLittleEndian]),
        (Verification, [ImplicitVRLittleEndian]),
    ]
    assoc = await asyncio.to_thread(lambda: associate(ct.service.port, contexts))
    assert len(assoc.accepted_contexts) == 3, "retired classes too"
    assert assoc.acceptor.maximum_length == 131072
    await asyncio.to_thread(assoc.release)


async def test_statuses(ct: Node) -> None:
    port = ct.service.port
    assert await asyncio.to_thread(_store, port, make.image(1), make.image(1)) == [
        0,
        0,
    ], "a duplicate is success"
    assert await asyncio.to_thread(_store, port, make.image(1, StudyID="other")) == [0xC111]
    short = make.image(2, pixels=bytes(100))
    assert await asyncio.to_thread(_store, port, short) == [0xC000]
    ct.held.files.free = 0
    assert await asyncio.to_thread(_store, port, make.image(3)) == [0xA700]
    ct.held.files.free = 1 << 40
    assert await asyncio.to_thread(_store, port, make.image(3)) == [0], "it recovers by itself"
    assert {e.reason for e in await ct.held.archive.quarantine.entries()} == {"conflict", "pixel-data"}
    outcomes = [a.text for a in await _settled(ct, 4)]
    assert outcomes == [
        "ok 1 stored, 1 duplicate",
        "refused 0 stored, 1 refused",
        "refused 0 stored, 1 refused",
        "ok 1 stored",
    ]


async def test_class_that_is_not_the_contexts_and_data_that_is_not_the_class(ct: Node) -> None:
    def send() -> int:
        assoc = associate(ct.service.port, CT)
        dataset = make.image(1)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        raw = make.data_set_of(make.part10(make.image(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")))
        status = _raw_store(assoc, raw, CTImageStorage, f"{make.STUDY}.1.1")
        assoc.release()
        return status

    assert await asyncio.to_thread(send) == 0xA900


def _raw_store(assoc: Any, raw: bytes, sop_class: str, instance: str) -> int:
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, sop_class, instance
    request.Priority, request.DataSet = 2, BytesIO(raw)
    assoc._reactor_checkpoint.clear()
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return int(answer.Status)


async def test_unknown_callers_are_refused_and_told_of(tmp_path: Path) -> None:
    callers = (KnownCaller(ae_title="CT1", addresses=("10.1.0.0/16",)), KnownCaller(ae_title="MR1"))
    noted: list[tuple[object, ...]] = []
    async with node(tmp_path, callers=callers, noted=lambda *told: noted.append(told)) as made:
        port = made.service.port
        for calling, accepted in (("CT1", False), ("NOBODY", False), ("MR1", True)):
            assoc = await asyncio.to_thread(associate, port, ECHO, calling=calling)
            assert (assoc.is_established, assoc.is_rejected) == (accepted, not accepted), calling
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
        request = _command(assoc.accepted_contexts[0].context_id)
        sock = assoc.dul.socket.socket
        sock.sendall(request)
        sock.sendall(_pdv(1, 0x00, bytes(5000)))
        sock.shutdown(socket.SHUT_RDWR)
        assoc.kill()

    await asyncio.to_thread(send)
    await _until(lambda: not ct.service._server.active_associations)  # type: ignore[union-attr]
    assert ct.held.left_in_tmp() == []
    assert (await ct.held.archive.status()).quarantined == 0


def _command(context: int, command_field: int = 1) -> bytes:
    elements = struct.pack("<HHI", 0, 2, 26) + make.uid(make.CT + "\0")[:26].ljust(26, b"\0")
    elements += struct.pack("<HHIH", 0, 0x100, 2, command_field) + struct.pack("<HHIH", 0, 0x110, 2, 7)
    elements += struct.pack("<HHIH", 0, 0x700, 2, 0) + struct.pack("<HHIH", 0, 0x800, 2, 1)
    elements += struct.pack("<HHI", 0, 0x1000, 8) + b"1.2.3.4\0"
    return _pdv(context, 0x03, struct.pack("<HHII", 0, 0, 4, len(elements)) + elements)


def _pdv(context: int, header: int, data: bytes) -> bytes:
    return struct.pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, context, header) + data


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
    assert await asyncio.to_thread(_store, ct.service.port, make.image(1)) == [0], "others are served on"


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">BBIIBB", 4, 0, 6, 0xFFFFFF, 1, 3),
        _pdv(1, 0x03, b"\x08\0\0\0\xff\xff\xff\xff"),
        _pdv(1, 0x03, struct.pack("<HHIH", 0, 0x100, 2, 1)),
        _command(1) + _command(1),
        _command(1) + _pdv(3, 0x02, b"in another context"),
        _command(99) + _pdv(99, 0x02, b"no such context"),
        struct.pack(">BBI", 4, 0, 0x7FFFFFFF),
        b"".join(_pdv(1, 0x01, bytes(30000)) for _ in range(4)),
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
    await _until(lambda: not ct.service._server.active_associations)  # type: ignore[union-attr]
    assert ct.held.left_in_tmp() == []


async def test_oversized_object_is_drained_and_refused(tmp_path: Path) -> None:
    async with node(tmp_path, archive={"max_object_bytes": 1 << 20}) as made:
        big = make.image(1, Rows=1024, Columns=1024, pixels=bytes(2 << 20))
        assert await asyncio.to_thread(_store, made.service.port, big, make.image(2)) == [0xA701, 0]
        assert made.held.left_in_tmp() == []


async def test_silent_association_is_ended(tmp_path: Path) -> None:
    async with node(tmp_path, network_timeout_s=0.3) as made:
        await asyncio.to_thread(associate, made.service.port, ECHO)
        await _until(lambda: not made.service._server.active_associations)  # type: ignore[union-attr]


async def test_stop_ends_every_thread_and_frees_the_port(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with node(tmp_path) as made:
        port = made.service.port
        assoc = await asyncio.to_thread(associate, port, ECHO)
        with pytest.raises(ConfigError, match="taken by another program"):
            async with node(tmp_path / "second", port=port):
                pass
        await made.service.stop()
        await _until(lambda: not assoc.is_established)
        assert made.service.port == 0
        await made.service.start()
        await made.service.stop()
    ours = {t for t in threading.enumerate() if t not in before} - {assoc, assoc.dul}
    await _until(lambda: not [t.name for t in ours if t.is_alive() and "asyncio" not in t.name])


async def test_many_nodes_in_one_process(tmp_path: Path) -> None:
    async with node(tmp_path / "a", "RTK") as one, node(tmp_path / "b", "RXC") as two:
        assert await asyncio.to_thread(_store, one.service.port, make.image(1)) == [0]
        assert await run("echoscu", "-aet", "CT1", "-aec", "RTK", "127.0.0.1", str(two.service.port)) != 0
        assert await run("echoscu", "-aet", "CT1", "-aec", "RXC", "127.0.0.1", str(two.service.port)) == 0
        assert (one.service.objects, two.service.objects) == ({"stored": 1}, {})


async def test_four_senders_at_once(ct: Node) -> None:
    batches = [[make.image(n, series=str(s)) for n in range(1, 26)] for s in range(4)]
    results = await asyncio.gather(*(asyncio.to_thread(_store, ct.service.port, *batch) for batch in batches))
    assert results == [[0] * 25] * 4
    record = await ct.held.archive.record(make.STUDY)
    assert record is not None
    assert (record.n_series, record.n_instances) == (4, 100)


async def test_an_object_that_overtakes_the_end_of_the_negotiation_is_answered(
    ct: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may send as soon as it has the acceptance; the association's own thread may still be at
    it."""
    accepted = DimseListener._accepted

    def slowly(service: DimseListener, event: Any) -> None:
        threading.Event().wait(0.5)
        accepted(service, event)

    monkeypatch.setattr(DimseListener, "_accepted", slowly)
    ct.service._server.own_handlers = [  # type: ignore[union-attr]
        (event, ct.service._accepted if bound.__name__ == "_accepted" else bound)
        for event, bound in ct.service._server.own_handlers  # type: ignore[union-attr]
    ]
    assert await asyncio.to_thread(_store, ct.service.port, make.image(1), make.image(2)) == [0, 0]


async def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "dimse.key", tmp_path / "dimse.crt"
    assert (
        await run(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        )
        == 0
    )
    async with node(tmp_path, tls_certificate="dimse.crt", tls_key="dimse.key") as made:
        context = ssl.create_default_context(cafile=str(certificate))
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


def test_command_sets_both_ways() -> None:
    (one,) = fragments_of(_command(5))
    assert (one[0], one[1][0]) == (5, 3)
    request = Command.parse(bytes(one[1][1:]))
    assert (request.message_id, request.sop_class_uid, request.sop_instance_uid) == (7, make.CT, "1.2.3.4")
    answer = Command.parse(response(request, 0xA700, "The archive's disk is nearly full."))
    assert (answer.field, answer.status, answer.responded_to, answer.has_data_set) == (
        0x8001,
        0xA700,
        7,
        False,
    )
    assert (answer.sop_class_uid, answer.sop_instance_uid) == (make.CT, "1.2.3.4")
    assert answer.elements[0x0902] == b"The archive's disk is nearly full."
