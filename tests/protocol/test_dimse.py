"""DIMSE over real associations, by pynetdicom's SCU and DCMTK's programs: what is kept, and the answers."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pydicom.data
import pytest
from archive_fixture import data_set_at
from dimse_calls import store, store_command, until, with_meta
from dimse_node import CT, ECHO, Node, associate, node, run
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import CTImageStorage, Verification

from crosslight.standards.dicom.upper_layer.associate import AssociateRequest, ProposedContext
from crosslight.standards.dicom.upper_layer.pdata import command_pdus, fragments_of
from crosslight.standards.dicom.upper_layer.pdu import (
    ASSOCIATE_AC,
    P_DATA_TF,
    RELEASE_REQUEST,
    RELEASE_RP,
    length_of,
)
from crosslight.standards.problem import ConfigError
from node.dimse.command import (
    AFFECTED_CLASS,
    C_ECHO_RQ,
    FIELD,
    MESSAGE_ID,
    Command,
    command_set,
    response,
)


@pytest.fixture
async def ct(tmp_path: Path) -> AsyncIterator[Node]:
    async with node(tmp_path) as made:
        yield made


async def _settled(made: Node, acts: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while len(found := [a for a in await made.acts() if a.text]) < acts:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def test_dcmtk_echo(ct: Node) -> None:
    port = str(ct.service.port)
    assert await run("echoscu", "-aet", "CT1", "-aec", "RTK", "127.0.0.1", port) == 0
    assert await run("echoscu", "-aet", "CT1", "-aec", "WRONG", "127.0.0.1", port) != 0
    assert await run("echoscu", "-aet", "OTHER", "-aec", "RTK", "127.0.0.1", port) != 0


async def test_an_association_for_each_object_waits_for_no_timer(tmp_path: Path) -> None:
    """With the node's patience beyond the caller's own, whatever stands in for "nothing to do" is seen."""

    def caller(port: int) -> list[tuple[bytes, bytes]]:
        ends = []
        for n in range(1, 6):
            assoc = associate(port, CT)
            assert assoc.is_established
            assert assoc.send_c_store(with_meta(make.image(n))).Status == 0
            assoc.dul.kill_dul()  # by hand from here: this caller waits for the node to close
            assoc.dul.join()
            with socket.socket(fileno=os.dup(assoc.dul.socket.socket.fileno())) as line:
                line.settimeout(10)
                line.sendall(bytes.fromhex("05000000000400000000"))  # A-RELEASE-RQ (PS3.8 9.3.6)
                ends.append((line.recv(10, socket.MSG_WAITALL), line.recv(1)))  # A-RELEASE-RP, and the end
            assoc.abort()
        return ends

    async with node(tmp_path, acse_timeout_s=3600.0, network_timeout_s=3600.0) as made:
        ends = await asyncio.to_thread(caller, made.service.port)
        assert ends == [(bytes.fromhex("06000000000400000000"), b"")] * 5
        assert len(await made.held.archive.objects(make.STUDY)) == 5


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
    assert await asyncio.to_thread(lambda: store(ct.service.port, make.image(1), syntax=str(syntax))) == [0]
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
            return store(ct.service.port, dataset, syntax=syntax)

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
    assert await asyncio.to_thread(store, port, make.image(1), make.image(1)) == [
        0,
        0,
    ], "a duplicate is success"
    assert await asyncio.to_thread(store, port, make.image(1, StudyID="other")) == [0xC111]
    short = make.image(2, pixels=bytes(100))
    assert await asyncio.to_thread(store, port, short) == [0xC000]
    ct.held.files.free = 0
    assert await asyncio.to_thread(store, port, make.image(3)) == [0xA700]
    ct.held.files.free = 1 << 40
    assert await asyncio.to_thread(store, port, make.image(3)) == [0], "it recovers by itself"
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


async def test_stop_ends_every_thread_and_frees_the_port(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with node(tmp_path) as made:
        port = made.service.port
        assoc = await asyncio.to_thread(associate, port, ECHO)
        with pytest.raises(ConfigError, match="taken by another program"):
            async with node(tmp_path / "second", port=port):
                pass
        await made.service.stop()
        await until(lambda: not assoc.is_established)
        assert made.service.port == 0
        await made.service.start()
        await made.service.stop()
    ours = {t for t in threading.enumerate() if t not in before} - {assoc, assoc.dul}
    await until(lambda: not [t.name for t in ours if t.is_alive() and "asyncio" not in t.name])


async def test_many_nodes_in_one_process(tmp_path: Path) -> None:
    async with node(tmp_path / "a", "RTK") as one, node(tmp_path / "b", "RXC") as two:
        assert await asyncio.to_thread(store, one.service.port, make.image(1)) == [0]
        assert await run("echoscu", "-aet", "CT1", "-aec", "RTK", "127.0.0.1", str(two.service.port)) != 0
        assert await run("echoscu", "-aet", "CT1", "-aec", "RXC", "127.0.0.1", str(two.service.port)) == 0
        assert (one.service.objects, two.service.objects) == ({"stored": 1}, {})


async def test_four_senders_at_once(ct: Node) -> None:
    batches = [[make.image(n, series=str(s)) for n in range(1, 26)] for s in range(4)]
    results = await asyncio.gather(*(asyncio.to_thread(store, ct.service.port, *batch) for batch in batches))
    assert results == [[0] * 25] * 4
    record = await ct.held.archive.record(make.STUDY)
    assert record is not None
    assert (record.n_series, record.n_instances) == (4, 100)


async def test_what_is_sent_with_the_request_already_is_answered(ct: Node) -> None:
    """A caller that knows us need not wait for the acceptance: its PDUs come with the request."""
    echo = command_set({FIELD: C_ECHO_RQ, MESSAGE_ID: 7, AFFECTED_CLASS: str(Verification)}, data_set=False)
    asked = AssociateRequest(
        called="RTK",
        calling="CT1",
        contexts=(ProposedContext(1, str(Verification), (ImplicitVRLittleEndian,)),),
    )

    def send() -> list[int]:
        with socket.create_connection(("127.0.0.1", ct.service.port), timeout=10) as line:
            line.sendall(asked.pdu() + b"".join(command_pdus(1, echo, 0)) * 2 + RELEASE_REQUEST)
            kinds = []
            while head := line.recv(6, socket.MSG_WAITALL):
                line.recv(length_of(head), socket.MSG_WAITALL)
                kinds.append(head[0])
            return kinds

    assert await asyncio.to_thread(send) == [ASSOCIATE_AC, P_DATA_TF, P_DATA_TF, RELEASE_RP]


def test_command_sets_both_ways() -> None:
    (one,) = fragments_of(store_command(5))
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
