"""A service that sends objects on the caller's own association, as C-GET will; only these tests know it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pytest
from archive_fixture import file_of
from dimse_node import associate, node, run
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
)

from node.dimse.association import Request
from node.dimse.command import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_GET_RQ,
    C_STORE_RQ,
    FIELD,
    SUCCESS,
)
from node.dimse.contexts import TRANSFER_SYNTAXES
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.holdings import StoredObject

PRIORITY, REMAINING, COMPLETED, FAILED, WARNED = 0x0700, 0x1020, 0x1021, 0x1022, 0x1023
STUDY_ROOT_GET = str(StudyRootQueryRetrieveInformationModelGet)


class Giving:
    """A C-GET that sends files of the archive on the caller's own association."""

    fields, beside = (C_GET_RQ,), True
    sop_classes = (
        SupportedClass(STUDY_ROOT_GET, (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))),
        SupportedClass(str(CTImageStorage), TRANSFER_SYNTAXES, asks=True),
    )

    def __init__(self, objects: Sequence[tuple[StoredObject, Path]], block: int = 7000) -> None:
        self._objects, self._block = objects, block
        self.statuses: list[int] = []

    def begin(self, request: Request) -> Exchange:
        return Gathered(lambda _: self._answer(request), 1 << 16)

    def _answer(self, request: Request) -> None:
        contexts = request.association.contexts.values()
        context = next(c for c in contexts if c.sop_class_uid == CTImageStorage and c.we_may_ask)
        for found, path in self._objects:
            sop_uid = found.ref.sop_uid
            values = {
                FIELD: C_STORE_RQ,
                AFFECTED_CLASS: str(CTImageStorage),
                AFFECTED_INSTANCE: sop_uid,
                PRIORITY: 2,
            }
            self.statuses.append(
                request.association.ask(context.id, values, self._blocks(found, path)).command.status
            )
        done = self.statuses.count(SUCCESS)
        request.answer(SUCCESS, more={COMPLETED: done, FAILED: len(self.statuses) - done, WARNED: 0})

    def _blocks(self, found: StoredObject, path: Path) -> Iterator[bytes]:
        assert found.size is not None
        with path.open("rb") as file:
            file.seek(found.size - found.ref.size_bytes)  # past the file meta
            while block := file.read(self._block):
                yield block


@pytest.mark.parametrize("longest", [4096, 16384])
async def test_dcmtk_gets_on_its_own_association_what_was_stored_byte_for_byte(
    tmp_path: Path, longest: int
) -> None:
    sent = [make.part10(make.image(n, Rows=64, Columns=64, pixels=bytes([n]) * 8192)) for n in range(1, 6)]
    async with node(tmp_path / "kept") as made:
        for data in sent:
            assert (await made.held.put(data)).status == 0
        giving = Giving(
            [
                (one, await file_of(made.held.archive, one))
                for one in await made.held.archive.objects(make.STUDY)
            ]
        )
    out = tmp_path / "out"
    out.mkdir()
    async with node(tmp_path / "kept", more=[giving]) as made:
        status = await run(
            "getscu",
            "-aet",
            "CT1",
            "-aec",
            "RTK",
            "-pdu",
            str(longest),
            "-S",
            "+B",
            "-od",
            str(out),
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            f"StudyInstanceUID={make.STUDY}",
            "127.0.0.1",
            str(made.service.port),
        )
    assert (status, giving.statuses) == (0, [0] * 5)
    got = {
        pydicom.dcmread(path).SOPInstanceUID: make.data_set_of(path.read_bytes()) for path in out.iterdir()
    }
    assert got == {pydicom.dcmread(BytesIO(data)).SOPInstanceUID: make.data_set_of(data) for data in sent}


async def test_pynetdicom_gets_too_and_a_role_that_was_not_agreed_is_not_taken(tmp_path: Path) -> None:
    async with node(tmp_path / "kept") as made:
        assert (await made.held.put(make.image(1))).status == 0
        giving = Giving(
            [
                (one, await file_of(made.held.archive, one))
                for one in await made.held.archive.objects(make.STUDY)
            ]
        )
    async with node(tmp_path / "kept", more=[giving]) as made:
        got: list[bytes] = []

        def ask(*roles: Any) -> list[int]:
            def stored(event: Any) -> int:
                got.append(event.request.DataSet.getvalue())
                return 0

            contexts = [
                (STUDY_ROOT_GET, [str(ImplicitVRLittleEndian)]),
                (CTImageStorage, [ExplicitVRLittleEndian]),
            ]
            handlers = [(evt.EVT_C_STORE, stored)]
            assoc = associate(made.service.port, contexts, ext_neg=list(roles), evt_handlers=handlers)
            wanted = Dataset()
            wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", make.STUDY
            statuses = [
                int(s.Status) if "Status" in s else -1 for s, _ in assoc.send_c_get(wanted, STUDY_ROOT_GET)
            ]
            assoc.abort()
            return statuses

        assert await asyncio.to_thread(ask, build_role(CTImageStorage, scp_role=True)) == [0]
        assert got == [make.data_set_of(make.part10(make.image(1)))]
        assert await asyncio.to_thread(ask) == [-1], "the service found no context to ask in: aborted"
        assert len(got) == 1
