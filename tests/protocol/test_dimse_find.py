"""C-FIND of a node by DCMTK and pynetdicom: matches, refusals, and what the audit says of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pytest
from dimse_node import Node, associate, node, run
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.audit.act import AuditEntry
from crosslight.standards.dicom.upper_layer.pdu import P_DATA_TF
from crosslight.standards.problem import StorageError
from node.dimse.command import CANCELLED, PENDING, SUCCESS
from node.dimse.config import KnownCaller
from node.dimse.on_loop import OnLoop
from node.dimse.services.find import NOT_AUTHORISED, NOT_MATCHED, OUT_OF_RESOURCES, UNABLE, WRONG_IDENTIFIER
from node.dimse.upper import UpperLayer

PATIENT_ROOT, STUDY_ROOT = (
    str(PatientRootQueryRetrieveInformationModelFind),
    str(StudyRootQueryRetrieveInformationModelFind),
)
WORKSTATION = KnownCaller(ae_title="WS1", may=("find", "export"))
READER = KnownCaller(ae_title="WS2", may=("find",))
MODALITY = KnownCaller(ae_title="CT1")
OTHER = "1.2.826.0.1.3680043.10.1.2"


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Node]:
    async with node(tmp_path, callers=(WORKSTATION, READER, MODALITY)) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        other = make.image(
            1,
            study=OTHER,
            series="7",
            SpecificCharacterSet="ISO_IR 192",
            PatientName="Müller^Jürgen",
            PatientID="L002",
            StudyDate="20250105",
            StudyTime="235900",
            StudyDescription="MR <Kopf> & mehr",
            Modality="MR",
        )
        assert (await made.held.put(other)).status == 0
        yield made


def ask(
    made: Node, title: str = "WS1", root: str = STUDY_ROOT, *, extended: bytes = b"", **keys: Any
) -> tuple[list[Dataset], list[int]]:
    """The matches of a C-FIND, and each response's status."""
    items = []
    if extended:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = root, extended
        items.append(item)
    contexts = [(root, [str(ImplicitVRLittleEndian)])]
    assoc = associate(made.service.port, contexts, calling=title, ext_neg=items)
    wanted = Dataset()
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    answers = [(int(status.Status), found) for status, found in assoc.send_c_find(wanted, root)]
    assoc.release()
    return [found for _, found in answers if found is not None], [status for status, _ in answers]


async def find(made: Node, *args: Any, **keys: Any) -> tuple[list[Dataset], list[int]]:
    return await asyncio.to_thread(ask, made, *args, **keys)


@pytest.mark.parametrize("syntax", ["-xi", "-xe"])
@pytest.mark.parametrize(("option", "level"), [("-P", "PATIENT"), ("-P", "STUDY"), ("-S", "STUDY")])
async def test_dcmtk_finds_a_patient_by_name(
    held: Node, tmp_path: Path, option: str, level: str, syntax: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    keys = ("PatientName=mill*", "PatientID", "PatientBirthDate", "PatientSex=F")
    command = ["findscu", option, syntax, "-X", "-od", str(out), "-aet", "WS1", "-aec", "RTK"]
    command += ["-k", f"QueryRetrieveLevel={level}", *(part for key in keys for part in ("-k", key))]
    assert await run(*command, "127.0.0.1", str(held.service.port)) == 0
    (found,) = (pydicom.dcmread(path, force=True) for path in out.iterdir())
    assert (str(found.PatientName), found.PatientID, found.PatientBirthDate) == (
        "Miller^Ann",
        "L001",
        "19700102",
    )
    assert (found.QueryRetrieveLevel, found.RetrieveAETitle) == (level, "RTK")


async def test_text_comes_back_as_it_was_stored(held: Node) -> None:
    found, statuses = await find(
        held, QueryRetrieveLevel="STUDY", PatientID="L002", PatientName="", StudyDescription=""
    )
    assert statuses == [PENDING, SUCCESS]
    assert str(found[0].PatientName) == "Müller^Jürgen"
    assert found[0].StudyDescription == "MR <Kopf> & mehr"


@pytest.mark.parametrize(
    ("keys", "n_found"),
    [
        ({"QueryRetrieveLevel": "STUDY", "PatientID": "L001"}, 1),
        ({"QueryRetrieveLevel": "STUDY", "PatientID": "L00?"}, 2),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": [make.STUDY, OTHER, "1.2.3"]}, 2),
        ({"QueryRetrieveLevel": "STUDY", "PatientID": "L*", "StudyDate": "20250101-20251231"}, 1),
        ({"QueryRetrieveLevel": "STUDY", "PatientID": "L*", "ModalitiesInStudy": "MR"}, 1),
        ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": make.STUDY, "Modality": "CT"}, 1),
        ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": make.STUDY, "Modality": "MR"}, 0),
        ({"QueryRetrieveLevel": "IMAGE", "SeriesInstanceUID": f"{make.STUDY}.1"}, 2),
        ({"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": make.STUDY, "InstanceNumber": "2"}, 1),
        ({"QueryRetrieveLevel": "STUDY"}, 2),
    ],
)
async def test_each_level_with_each_kind_of_key(held: Node, keys: dict[str, Any], n_found: int) -> None:
    found, statuses = await find(held, **keys)
    assert (len(found), statuses) == (n_found, [PENDING] * n_found + [SUCCESS])


async def test_a_patients_counts_are_those_of_what_is_held(held: Node) -> None:
    found, _ = await find(
        held,
        root=PATIENT_ROOT,
        QueryRetrieveLevel="PATIENT",
        PatientID="L001",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedInstances="",
    )
    assert [(one.NumberOfPatientRelatedStudies, one.NumberOfPatientRelatedInstances) for one in found] == [
        (1, 2)
    ]


async def test_date_and_time_combine_where_that_was_agreed(held: Node) -> None:
    keys = {
        "QueryRetrieveLevel": "STUDY",
        "PatientID": "L*",
        "StudyDate": "20250104-20250106",
        "StudyTime": "100000-110000",
    }
    assert len((await find(held, **keys))[0]) == 0
    assert len((await find(held, extended=b"\1\1\0\0", **keys))[0]) == 1


async def test_a_key_that_is_not_kept_is_said_not_to_be_matched(held: Node) -> None:
    found, statuses = await find(
        held, QueryRetrieveLevel="STUDY", PatientID="L001", OperatorsName="X", Modality=""
    )
    assert statuses == [NOT_MATCHED, SUCCESS]
    assert found[0].OperatorsName == ""


async def test_refusals_say_which_kind_they_are(held: Node) -> None:
    asked: list[tuple[str, dict[str, Any], int]] = [
        ("WS1", {"QueryRetrieveLevel": "PATIENT", "PatientID": "L001"}, WRONG_IDENTIFIER),
        ("WS1", {"QueryRetrieveLevel": "STUDY", "StudyDate": "yesterday"}, WRONG_IDENTIFIER),
        ("CT1", {"QueryRetrieveLevel": "STUDY", "PatientID": "L001"}, NOT_AUTHORISED),
        ("WS2", {"QueryRetrieveLevel": "STUDY", "PatientName": "M*"}, NOT_AUTHORISED),
        ("WS2", {"QueryRetrieveLevel": "STUDY", "PatientID": "L001"}, SUCCESS),
    ]
    for title, keys, status in asked:
        assert (await find(held, title, **keys))[1][-1] == status, keys
    denied = [act for act in await held.acts() if act.decision == "deny"]
    assert [(act.who.name, act.action) for act in denied] == [("CT1", "search"), ("WS2", "export")]


async def test_each_page_is_audited_before_its_first_answer(held: Node) -> None:
    await find(held, QueryRetrieveLevel="STUDY", PatientID="L001")
    (act,) = await held.acts()
    assert (act.face, act.action, list(act.studies)) == ("dimse", "search", [make.STUDY])
    assert act.query == {"level": "STUDY", "PatientID": "L001"}


async def test_what_the_audit_cannot_take_is_not_answered(
    held: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: AuditLog, entry: AuditEntry) -> int:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(AuditLog, "begin", full)
    found, statuses = await find(held, QueryRetrieveLevel="STUDY", PatientID="L001")
    assert (found, statuses) == ([], [UNABLE])


async def test_a_question_visits_the_event_loop_once_and_is_answered_at_once(
    held: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each visit is two changes of threads, and each write a packet: they cost more than the search."""
    visits, writes = list[str](), list[bytes]()
    for name in ("run", "inside"):
        monkeypatch.setattr(OnLoop, name, _noting(visits, name, getattr(OnLoop, name)))
    send = UpperLayer.send

    def sent(self: UpperLayer, data: bytes) -> None:
        writes.append(data)
        send(self, data)

    monkeypatch.setattr(UpperLayer, "send", sent)
    _, statuses = await find(held, QueryRetrieveLevel="IMAGE", StudyInstanceUID=make.STUDY)
    assert statuses == [PENDING, PENDING, SUCCESS]
    assert visits == ["inside"]
    assert [data[0] for data in writes].count(P_DATA_TF) == 1


def _noting(calls: list[str], name: str, method: Any) -> Any:
    def noting(*args: Any) -> Any:
        calls.append(name)
        return method(*args)

    return noting


async def test_more_than_the_limit_ends_as_out_of_resources(tmp_path: Path) -> None:
    async with node(tmp_path, callers=(WORKSTATION,), max_find_results=3) as made:
        for number in range(5):
            assert (await made.held.put(make.image(number + 1))).status == 0
        _, statuses = await find(made, QueryRetrieveLevel="IMAGE", StudyInstanceUID=make.STUDY)
        assert statuses == [PENDING] * 3 + [OUT_OF_RESOURCES]


async def test_pages_follow_each_other_and_nothing_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.dimse.services.find.PAGE", 2)
    async with node(tmp_path, callers=(WORKSTATION,)) as made:
        for number in range(5):
            assert (await made.held.put(make.image(number + 1))).status == 0
        found, statuses = await find(made, QueryRetrieveLevel="IMAGE", SeriesInstanceUID=f"{make.STUDY}.1")
        assert len({one.SOPInstanceUID for one in found}) == 5
        assert statuses == [PENDING] * 5 + [SUCCESS]
        assert len(await made.acts()) == 3


async def test_a_question_is_cancelled(tmp_path: Path) -> None:
    async with node(tmp_path, callers=(WORKSTATION,)) as made:
        for number in range(400):
            assert (await made.held.put(make.image(number + 1))).status == 0

        def ask_and_cancel() -> int:
            contexts = [(STUDY_ROOT, [str(ExplicitVRLittleEndian)])]
            assoc = associate(made.service.port, contexts, calling="WS1")
            wanted = Dataset()
            wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "IMAGE", make.STUDY
            last = -1
            for n, (status, _) in enumerate(assoc.send_c_find(wanted, STUDY_ROOT, msg_id=5)):
                if n == 0:
                    assoc.send_c_cancel(5, query_model=STUDY_ROOT)
                last = int(status.Status)
            assoc.release()
            return last

        assert await asyncio.to_thread(ask_and_cancel) in (CANCELLED, SUCCESS)
