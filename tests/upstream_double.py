"""An archive that speaks only DIMSE, with any quirk asked for: pynetdicom's SCP over data sets in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.dimse.contexts import TRANSFER_SYNTAXES

CT = "1.2.840.10008.5.1.4.1.1.2"
_KEY = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass
class Double:
    """What it holds, and how it errs."""

    objects: list[Dataset] = field(default_factory=list)
    empty: list[Dataset] = field(default_factory=list)  # studies without images
    port: int = 0
    syntax: str = ExplicitVRLittleEndian
    counts: bool = True  # it tells how many images a study has
    tells_syntax: bool = True
    without: tuple[str, ...] = ()  # attributes that its answers lack
    answered_as: dict[str, str] = field(default_factory=dict)  # attributes that its answers have instead
    new_uids: bool = False
    early_final: bool = False
    move_to: tuple[str, int] = ("127.0.0.1", 0)
    asked: list[Dataset] = field(default_factory=list)  # identifiers of each C-FIND
    waits_after: int = 0  # so many answers to a C-FIND, then it waits to be told to stop
    cancelled: int = 0
    n_associations: int = 0
    n_retrieved: int = 0
    late: threading.Timer | None = None

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked: Dataset = event.identifier
        self.asked.append(asked)
        level = asked.QueryRetrieveLevel
        rows: dict[str, Dataset] = {}
        for one in self._matching(asked, level):
            rows.setdefault(str(one[_KEY[level]].value), one)
        for n, one in enumerate(rows.values()):
            told = event.is_cancelled  # it says so once
            give_up_s = time.monotonic() + 20
            while self.waits_after and n == self.waits_after and not told and time.monotonic() < give_up_s:
                time.sleep(0.01)
                told = event.is_cancelled
            if told:
                self.cancelled += 1
                yield 0xFE00, None
                return
            yield 0xFF00, self._row(one, asked, level)

    def _matching(self, asked: Dataset, level: str) -> list[Dataset]:
        held = [*self.objects, *(self.empty if level == "STUDY" else ())]
        for name in _KEY.values():
            if wanted := str(asked.get(name, "") or ""):
                held = [one for one in held if one.get(name) == wanted]
        for name in ("StudyDate", "StudyTime"):
            if wanted := str(asked.get(name, "") or ""):
                first, _, last = wanted.partition("-")
                held = [one for one in held if first <= str(one.get(name) or "") <= (last or first)]
        if patient := str(asked.get("PatientID", "") or ""):
            begun = patient.rstrip("*")
            held = [
                one
                for one in held
                if (str(one.PatientID).startswith(begun) if "*" in patient else one.PatientID == patient)
            ]
        return held

    def _row(self, one: Dataset, asked: Dataset, level: str) -> Dataset:
        row = Dataset()
        row.QueryRetrieveLevel = level
        for element in asked:
            if element.keyword in one and element.keyword not in self.without:
                row[element.tag] = deepcopy(one[element.tag])
        if "SpecificCharacterSet" in one and "SpecificCharacterSet" not in self.without:
            row.SpecificCharacterSet = one.SpecificCharacterSet
        elif "SpecificCharacterSet" in row:
            del row.SpecificCharacterSet
        study = [held for held in self.objects if held.StudyInstanceUID == one.StudyInstanceUID]
        if level == "STUDY" and self.counts:
            row.NumberOfStudyRelatedInstances = len(study)
        if level == "IMAGE" and self.tells_syntax:
            row.AvailableTransferSyntaxUID = self.syntax
        for name, value in self.answered_as.items():
            if name in asked:
                setattr(row, name, value)
        return row

    def _wanted(self, event: Any) -> list[Dataset]:
        self.n_retrieved += 1
        wanted = []
        for one in self.objects:
            if one.SOPInstanceUID == event.identifier.get("SOPInstanceUID"):
                given = deepcopy(one)
                given.file_meta.TransferSyntaxUID = self.syntax
                if self.new_uids:
                    given.SOPInstanceUID, given.SeriesInstanceUID = generate_uid(), generate_uid()
                wanted.append(given)
        return wanted

    def get(self, event: Any) -> Iterator[Any]:
        wanted = self._wanted(event)
        yield len(wanted)
        for one in wanted:
            yield 0xFF00, one

    def move(self, event: Any) -> Iterator[Any]:
        wanted = self._wanted(event)
        if self.early_final:
            self.late = threading.Timer(0.3, self._send, (wanted,))
            self.late.start()
            yield (*self.move_to, {"contexts": _CONTEXTS})
            yield 0
            return
        yield (*self.move_to, {"ae_title": "RTK", "contexts": _CONTEXTS})
        yield len(wanted)
        for one in wanted:
            yield 0xFF00, one

    def _send(self, wanted: list[Dataset]) -> None:
        ae = AE("DOUBLE")
        ae.add_requested_context(CT, self.syntax)
        assoc = ae.associate(*self.move_to, ae_title="RTK")
        for one in wanted:
            assoc.send_c_store(one)
        assoc.release()


_CONTEXTS = [build_context(CT, list(TRANSFER_SYNTAXES)[:8])]


@contextmanager
def serving(double: Double, port: int = 0) -> Iterator[Double]:
    """The archive, while the block lasts."""
    ae = AE("DOUBLE")
    for model in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    ):
        ae.add_supported_context(model)
    ae.add_supported_context(CT, double.syntax, scu_role=True, scp_role=True)

    def accepted(event: Any) -> None:
        double.n_associations += 1

    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[
            (evt.EVT_C_FIND, double.find),
            (evt.EVT_C_GET, double.get),
            (evt.EVT_C_MOVE, double.move),
            (evt.EVT_ACCEPTED, accepted),
        ],
    )
    double.port = server.server_address[1]
    try:
        yield double
    finally:
        if double.late is not None:
            double.late.join()
        server.shutdown()
