"""Storage commitment by pynetdicom: on the caller's association, and after it was released."""

from __future__ import annotations

import asyncio
import queue
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import file_of
from dimse_node import Node, associate, node
from ports import free_ports
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from node.dimse.config import KnownCaller, KnownDestination
from node.dimse.services.commitment import (
    ALL_COMMITTED,
    ANOTHER_CLASS,
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    NOT_AUTHORISED,
    NOT_HERE,
    PUSH_MODEL_INSTANCE,
    SOME_FAILED,
)

MODALITY, READER = KnownCaller(ae_title="CT1"), KnownCaller(ae_title="WS1", may=("find",))
Reports = queue.SimpleQueue[tuple[int, Dataset]]


def asked(**classes: str) -> Dataset:
    """A request about ``_`` + the last number of an instance, by SOP class."""
    made = Dataset()
    made.TransactionUID = generate_uid()
    made.ReferencedSOPSequence = []
    for name, sop_class in classes.items():
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = f"{make.STUDY}.1.{name.removeprefix('n')}"
        made.ReferencedSOPSequence.append(item)
    return made


def collecting(reports: Reports) -> list[Any]:
    def reported(event: Any) -> tuple[int, None]:
        reports.put((event.request.EventTypeID, event.event_information))
        return 0, None

    return [(evt.EVT_N_EVENT_REPORT, reported)]


def ask(
    made: Node,
    about: Dataset,
    reports: Reports,
    *,
    title: str = "CT1",
    action: int = 1,
    instance: str = PUSH_MODEL_INSTANCE,
    stay: bool = True,
) -> int:
    """The status of the N-ACTION; with ``stay`` after the report has come on the same association."""
    contexts = [(StorageCommitmentPushModel, [str(ImplicitVRLittleEndian)])]
    assoc = associate(made.service.port, contexts, calling=title, evt_handlers=collecting(reports))
    status, _ = assoc.send_n_action(about, action, StorageCommitmentPushModel, instance)
    if stay and status.Status == 0:
        kept = reports.get(timeout=10)
        reports.put(kept)
    assoc.release()
    return int(status.Status)


async def test_what_is_kept_is_committed_on_the_same_association(tmp_path: Path) -> None:
    reports: Reports = queue.SimpleQueue()
    async with node(tmp_path, callers=(MODALITY,)) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        about = asked(n1=make.CT, n2=make.CT)
        assert await asyncio.to_thread(ask, made, about, reports) == 0
        kind, told = reports.get(timeout=0)
        assert (kind, told.TransactionUID) == (ALL_COMMITTED, about.TransactionUID)
        assert [item.ReferencedSOPInstanceUID for item in told.ReferencedSOPSequence] == [
            f"{make.STUDY}.1.1",
            f"{make.STUDY}.1.2",
        ]
        assert "FailedSOPSequence" not in told


async def test_what_is_not_here_or_of_another_class_fails_by_name(tmp_path: Path) -> None:
    reports: Reports = queue.SimpleQueue()
    async with node(tmp_path, callers=(MODALITY,)) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        about = asked(n1=make.CT, n2=make.SR, n3=make.CT)
        assert await asyncio.to_thread(ask, made, about, reports) == 0
        kind, told = reports.get(timeout=0)
        assert kind == SOME_FAILED
        failed = {item.ReferencedSOPInstanceUID: item.FailureReason for item in told.FailedSOPSequence}
        assert failed == {f"{make.STUDY}.1.2": ANOTHER_CLASS, f"{make.STUDY}.1.3": NOT_HERE}
        assert len(told.ReferencedSOPSequence) == 1


async def test_what_is_damaged_is_not_committed(tmp_path: Path) -> None:
    reports: Reports = queue.SimpleQueue()
    async with node(tmp_path, callers=(MODALITY,)) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        (found,) = await made.held.archive.objects(make.STUDY, sop_uid=f"{make.STUDY}.1.2")
        (await file_of(made.held.archive, found)).unlink()
        assert len((await made.held.archive.verify()).faults) == 1
        assert await asyncio.to_thread(ask, made, asked(n1=make.CT, n2=make.CT), reports) == 0
        kind, told = reports.get(timeout=0)
        assert kind == SOME_FAILED
        failed = {item.ReferencedSOPInstanceUID: item.FailureReason for item in told.FailedSOPSequence}
        assert failed == {f"{make.STUDY}.1.2": NOT_HERE}


# the caller's own thread may fall while it aborts with our report half read: that it goes so is the test
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_caller_that_has_gone_is_told_where_it_listens(tmp_path: Path) -> None:
    (port,), reports = free_ports(1), queue.SimpleQueue[tuple[int, Dataset]]()
    ae = AE("CT1")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=collecting(reports))
    there = KnownDestination(ae_title="CT1", host="127.0.0.1", port=port)
    try:
        async with node(tmp_path, callers=(MODALITY,), destinations=(there,)) as made:
            assert (await made.held.put(make.image(1))).status == 0
            about = asked(n1=make.CT)

            def leave() -> None:
                contexts = [(StorageCommitmentPushModel, [str(ImplicitVRLittleEndian)])]
                assoc = associate(made.service.port, contexts, calling="CT1", evt_handlers=[])
                assoc.send_n_action(about, 1, StorageCommitmentPushModel, PUSH_MODEL_INSTANCE)
                assoc.abort()

            await asyncio.to_thread(leave)
            told: list[tuple[int, Dataset]] = []
            while not any(one[1].TransactionUID == about.TransactionUID for one in told):
                told.append(await asyncio.to_thread(reports.get, True, 20))
            assert told[-1][0] == ALL_COMMITTED
    finally:
        server.shutdown()


async def test_what_is_no_request_for_commitment_is_refused(tmp_path: Path) -> None:
    async with node(tmp_path, callers=(MODALITY, READER)) as made:
        reports: Reports = queue.SimpleQueue()
        empty = Dataset()
        empty.TransactionUID = generate_uid()
        for about, more, status in (
            (asked(n1=make.CT), {"action": 2}, NO_SUCH_ACTION),
            (asked(n1=make.CT), {"instance": "1.2.3"}, NO_SUCH_INSTANCE),
            (asked(n1=make.CT), {"title": "WS1"}, NOT_AUTHORISED),
            (empty, {}, INVALID_ARGUMENT),
        ):
            assert await asyncio.to_thread(lambda: ask(made, about, reports, **more)) == status  # noqa: B023 - awaited here
