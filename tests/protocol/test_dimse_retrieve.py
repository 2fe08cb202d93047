"""C-MOVE and C-GET of a node, by DCMTK and pynetdicom, to DCMTK's and pynetdicom's receivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pytest
from dimse_calls import until
from dimse_node import Node, associate, node, run
from ports import free_ports
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.dimse.command import CANCELLED, PENDING, SUCCESS
from node.dimse.config import KnownCaller, KnownDestination
from node.dimse.services.find import NOT_AUTHORISED, WRONG_IDENTIFIER
from node.dimse.services.move import DESTINATION_UNKNOWN
from node.dimse.services.retrieving import NONE_SENT, SOME_FAILED

MOVE, GET = (
    str(StudyRootQueryRetrieveInformationModelMove),
    str(StudyRootQueryRetrieveInformationModelGet),
)


SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


@asynccontextmanager
async def serving(folder: Path, port: int, **settings: Any) -> AsyncIterator[Node]:
    """A node with a workstation, WS1, at ``port``."""
    workstation = KnownCaller(ae_title="WS1", may=("find", "open"), **settings)
    callers = (workstation, KnownCaller(ae_title="CT1"))
    destinations = (
        KnownDestination(ae_title="WS1", host="127.0.0.1", port=port),
        KnownDestination(ae_title="WS2", host="127.0.0.1", port=port),
    )
    async with node(folder, callers=callers, destinations=destinations, network_timeout_s=20.0) as made:
        yield made


@contextmanager
def receiver(port: int, syntaxes: list[str], *, status: int = SUCCESS) -> Iterator[list[tuple[str, bytes]]]:
    """What pynetdicom's receiver got: transfer syntax and data set."""
    got: list[tuple[str, bytes]] = []

    def stored(event: Any) -> int:
        got.append((str(event.context.transfer_syntax), event.request.DataSet.getvalue()))
        return status

    ae = AE("WS1")
    for sop_class in (CTImageStorage, SECONDARY):
        ae.add_supported_context(sop_class, syntaxes)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, stored)])
    try:
        yield got
    finally:
        server.shutdown()


def move(made: Node, to: str = "WS1", title: str = "WS1", **keys: Any) -> list[Any]:
    """Each response's status data set, and at the last one's ``uids`` what failed."""
    assoc = associate(made.service.port, [(MOVE, [str(ImplicitVRLittleEndian)])], calling=title)
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", make.STUDY
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    answers = list(assoc.send_c_move(wanted, to, MOVE))
    assoc.release()
    return [(status, found) for status, found in answers]


async def test_dcmtk_moves_to_itself_byte_for_byte(tmp_path: Path) -> None:
    sent = [make.part10(make.image(n, Rows=64, Columns=64, pixels=bytes([n]) * 8192)) for n in range(1, 6)]
    port, out = free_ports(1)[0], tmp_path / "out"
    out.mkdir()
    async with serving(tmp_path / "kept", port) as made:
        for data in sent:
            assert (await made.held.put(data)).status == 0
        command = ["movescu", "-S", "+P", str(port), "+B", "-aet", "WS1", "-aec", "RTK"]
        command += ["-aem", "WS1", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={make.STUDY}"]
        assert await run(*command, "127.0.0.1", str(made.service.port), cwd=out) == 0
        await made.audit.settle()
        (act,) = [act for act in await made.acts() if act.action == "retrieve"]
        assert (act.who.name, act.text, act.query["to"]) == ("WS1", "ok 5 instances, 5 in all", "WS1")
        assert list(act.studies) == [make.STUDY]
    got = {
        pydicom.dcmread(path).SOPInstanceUID: make.data_set_of(path.read_bytes()) for path in out.iterdir()
    }
    assert got == {pydicom.dcmread(BytesIO(data)).SOPInstanceUID: make.data_set_of(data) for data in sent}


@pytest.mark.parametrize("longest", [4096, 16384, 131072])
async def test_dcmtk_gets_byte_for_byte(tmp_path: Path, longest: int) -> None:
    sent = [make.part10(make.image(n, Rows=64, Columns=64, pixels=bytes([n]) * 8192)) for n in range(1, 6)]
    out = tmp_path / "out"
    out.mkdir()
    async with serving(tmp_path / "kept", free_ports(1)[0]) as made:
        for data in sent:
            assert (await made.held.put(data)).status == 0
        command = ["getscu", "-S", "-pdu", str(longest), "+B", "-od", str(out), "-aet", "WS1", "-aec", "RTK"]
        command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={make.STUDY}"]
        assert await run(*command, "127.0.0.1", str(made.service.port)) == 0
    got = {
        pydicom.dcmread(path).SOPInstanceUID: make.data_set_of(path.read_bytes()) for path in out.iterdir()
    }
    assert got == {pydicom.dcmread(BytesIO(data)).SOPInstanceUID: make.data_set_of(data) for data in sent}


async def test_what_is_compressed_goes_as_it_is_where_that_is_taken_and_else_decoded(tmp_path: Path) -> None:
    path = get_testdata_file("JPEG2000.dcm")
    assert path
    original = pydicom.dcmread(str(path))
    study, own = str(original.StudyInstanceUID), str(original.file_meta.TransferSyntaxUID)
    port = free_ports(1)[0]
    async with serving(tmp_path / "kept", port) as made:
        assert (await made.held.put(Path(str(path)).read_bytes())).status == 0
        for taken in (own, str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)):
            with receiver(port, [taken]) as got:
                answers = await asyncio.to_thread(move, made, StudyInstanceUID=study)
            ((syntax, data),) = got
            assert (int(answers[-1][0].Status), syntax) == (SUCCESS, taken)
            if taken == own:
                assert data == make.data_set_of(Path(str(path)).read_bytes())
            else:
                found = make.parsed(data, taken)
                assert found.SOPInstanceUID == original.SOPInstanceUID
                assert len(found.PixelData) == original.Rows * original.Columns * 2


async def test_a_series_an_image_and_a_patient_are_moved(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    async with serving(tmp_path / "kept", port) as made:
        for series in ("1", "2"):
            for number in (1, 2):
                assert (await made.held.put(make.image(number, series=series))).status == 0
        wants: list[tuple[dict[str, Any], int]] = [
            ({"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": f"{make.STUDY}.1"}, 2),
            (
                {
                    "QueryRetrieveLevel": "SERIES",
                    "SeriesInstanceUID": f"{make.STUDY}.1",
                    "StudyInstanceUID": "",
                },
                2,
            ),
            ({"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": f"{make.STUDY}.2.1"}, 1),
            (
                {
                    "QueryRetrieveLevel": "IMAGE",
                    "SOPInstanceUID": f"{make.STUDY}.2.1",
                    "StudyInstanceUID": "",
                },
                1,
            ),
            ({"PatientID": "L001", "StudyInstanceUID": make.STUDY}, 4),
            ({"PatientID": "L00*"}, 0),
            ({"StudyInstanceUID": "1.2.3"}, 0),
        ]
        for keys, n_sent in wants:
            with receiver(port, [str(ExplicitVRLittleEndian)]) as got:
                answers = await asyncio.to_thread(move, made, **keys)
            assert (int(answers[-1][0].Status), len(got)) == (SUCCESS, n_sent), keys


async def test_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path / "kept", free_ports(1)[0]) as made:
        assert (await made.held.put(make.image(1))).status == 0
        asked: list[tuple[str, str, dict[str, Any], int]] = [
            ("NOWHERE", "WS1", {}, DESTINATION_UNKNOWN),
            ("WS2", "WS1", {}, NOT_AUTHORISED),
            ("WS1", "CT1", {}, NOT_AUTHORISED),
            ("WS1", "WS1", {"QueryRetrieveLevel": "PATIENT"}, WRONG_IDENTIFIER),
            ("WS1", "WS1", {"StudyInstanceUID": "1.2.*"}, WRONG_IDENTIFIER),
            ("WS1", "WS1", {}, NONE_SENT),
        ]
        for to, title, keys, status in asked:
            answers = await asyncio.to_thread(move, made, to, title, **keys)
            assert int(answers[-1][0].Status) == status, (to, title, keys)
        assert list(answers[-1][1].FailedSOPInstanceUIDList or ()) or answers[-1][1].FailedSOPInstanceUIDList


async def test_what_the_other_end_refuses_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    async with serving(tmp_path / "kept", port) as made:
        assert (await made.held.put(make.image(1))).status == 0
        sr = make.image(2, series="9", SOPClassUID=make.SR, Modality="SR")
        assert (await made.held.put(sr)).status == 0
        with receiver(port, [str(ExplicitVRLittleEndian)]) as got:
            answers = await asyncio.to_thread(move, made)
        status, failed = answers[-1]
        assert (int(status.Status), len(got)) == (SOME_FAILED, 1)
        counts = (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations)
        assert counts == (1, 1)
        assert failed.FailedSOPInstanceUIDList == f"{make.STUDY}.9.2"


async def test_a_lost_association_is_made_again_and_nothing_is_left_out(tmp_path: Path) -> None:
    """The receiver ends every association after two objects, without an answer to the second."""
    port = free_ports(1)[0]
    got: list[str] = []
    counted = threading.local()

    def stored(event: Any) -> int:
        counted.n = getattr(counted, "n", 0) + 1
        if counted.n == 2:
            event.assoc.abort()
            return 0
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    ae = AE("WS1")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian])
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, stored)])
    try:
        async with serving(tmp_path / "kept", port) as made:
            for number in range(1, 5):
                assert (await made.held.put(make.image(number))).status == 0
            answers = await asyncio.to_thread(move, made)
    finally:
        server.shutdown()
    assert int(answers[-1][0].Status) == SUCCESS
    assert sorted(set(got)) == [f"{make.STUDY}.1.{n}" for n in range(1, 5)]


async def test_a_move_is_cancelled_between_objects_and_says_how_far_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.dimse.services.retrieving.TELL_EVERY_S", 0.0)
    port, n_objects = free_ports(1)[0], 30
    async with serving(tmp_path / "kept", port) as made:
        for number in range(n_objects):
            assert (await made.held.put(make.image(number + 1))).status == 0

        def cancel() -> list[tuple[int, int]]:
            assoc = associate(made.service.port, [(MOVE, [str(ImplicitVRLittleEndian)])], calling="WS1")
            wanted = Dataset()
            wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", make.STUDY
            told = []
            for status, _ in assoc.send_c_move(wanted, "WS1", MOVE, msg_id=7):
                if not told:
                    assoc.send_c_cancel(7, query_model=MOVE)
                    cancelled.set()
                told.append((int(status.Status), int(status.get("NumberOfRemainingSuboperations", 0))))
            assoc.release()
            return told

        cancelled = threading.Event()

        def slowly(event: Any) -> int:
            if len(got) >= 1:
                cancelled.wait(10)
            got.append(str(event.request.AffectedSOPInstanceUID))
            return 0

        got: list[str] = []
        ae = AE("WS1")
        ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian])
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, slowly)])
        try:
            told = await asyncio.to_thread(cancel)
        finally:
            server.shutdown()
        assert told[0][0] == PENDING
        assert told[-1][0] == CANCELLED
        assert told[-1][1] == n_objects - len(got) > 0


async def test_a_get_without_a_context_for_an_object_says_which(tmp_path: Path) -> None:
    async with serving(tmp_path / "kept", free_ports(1)[0]) as made:
        assert (await made.held.put(make.image(1))).status == 0
        got: list[bytes] = []

        def ask(*roles: Any) -> Any:
            def stored(event: Any) -> int:
                got.append(event.request.DataSet.getvalue())
                return 0

            contexts = [(GET, [str(ImplicitVRLittleEndian)]), (CTImageStorage, [ExplicitVRLittleEndian])]
            handlers = [(evt.EVT_C_STORE, stored)]
            assoc = associate(
                made.service.port, contexts, calling="WS1", ext_neg=list(roles), evt_handlers=handlers
            )
            wanted = Dataset()
            wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", make.STUDY
            answers = list(assoc.send_c_get(wanted, GET))
            assoc.release()
            return answers[-1]

        status, _ = await asyncio.to_thread(ask, build_role(CTImageStorage, scp_role=True))
        assert int(status.Status) == SUCCESS
        assert got == [make.data_set_of(make.part10(make.image(1)))]
        status, failed = await asyncio.to_thread(ask)
        assert int(status.Status) == NONE_SENT
        assert failed.FailedSOPInstanceUIDList == f"{make.STUDY}.1.1"


async def test_a_caller_that_may_not_store_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path / "kept", free_ports(1)[0]) as made:

        def store() -> list[int]:
            contexts = [(CTImageStorage, [str(ExplicitVRLittleEndian)])]
            assoc = associate(made.service.port, contexts, calling="WS1")
            data = make.image(1)
            data.file_meta = pydicom.dataset.FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            statuses = [int(assoc.send_c_store(data).Status) for _ in range(3)]
            assoc.release()
            return statuses

        assert await asyncio.to_thread(store) == [NOT_AUTHORISED] * 3
        assert await made.held.archive.objects(make.STUDY) == []
        await until(lambda: made.service.objects["denied"] == 3)
        acts = await made.acts()
        async with asyncio.timeout(20):
            while not acts or not acts[0].text:  # its outcome comes when the association is over
                await asyncio.sleep(0.02)
                acts = await made.acts()
        (act,) = acts
        said = (act.who.name, act.action, act.decision, act.text, act.studies)
        assert said == ("WS1", "store", "deny", "denied 0 stored, 3 refused", ())
        assert "store" in act.rule
