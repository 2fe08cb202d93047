"""Services register by command field: ones that only these tests know, beside the node's own, over real
associations.

They are what C-FIND, C-MOVE, C-GET (``test_dimse_gets.py``) and storage commitment will ask of
:mod:`node.dimse.association`: several answers with data sets, cancellation, requests on the caller's own
association, N-services.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from dimse_calls import pdv
from dimse_node import ECHO, associate, certified, node
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    Printer,
    StudyRootQueryRetrieveInformationModelFind,
)

from crosslight.standards.problem import ConfigError
from node.dimse.association import Request, by_field
from node.dimse.command import (
    C_FIND_RQ,
    CANCELLED,
    PENDING,
    SUCCESS,
)
from node.dimse.exchange import Exchange, Gathered, SupportedClass
from node.dimse.services.echo import Echo

N_GET_RQ = 0x0110
STUDY_ROOT_FIND = str(StudyRootQueryRetrieveInformationModelFind)
PRINTER = [(str(Printer), [str(ImplicitVRLittleEndian)])]


def _identifier(**values: str) -> bytes:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return encode(dataset, True, True) or b""


class Greeting:
    """An N-GET whose answer says hello."""

    fields = (N_GET_RQ,)
    sop_classes = (SupportedClass(str(Printer), (str(ImplicitVRLittleEndian),)),)

    def __init__(self, *, beside: bool = False, go: threading.Event | None = None) -> None:
        self.beside = beside
        self._go = go
        self.threads: set[str] = set()

    def begin(self, request: Request) -> Exchange:
        return Gathered(lambda _: self._answer(request), 0)

    def _answer(self, request: Request) -> None:
        self.threads.add(threading.current_thread().name)
        if self._go is not None:
            self._go.wait(10)
        request.answer(SUCCESS, data=(b for b in [_identifier(PatientID="hello")]))


class Endless:
    """A C-FIND that has always one more answer, until it is cancelled."""

    fields, beside = (C_FIND_RQ,), True
    sop_classes = (SupportedClass(STUDY_ROOT_FIND, (str(ImplicitVRLittleEndian),)),)

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.sent = 0
        self.ended = threading.Event()

    def begin(self, request: Request) -> Exchange:
        return Gathered(lambda identifier: self._answer(request, identifier), 1 << 16)

    def _answer(self, request: Request, identifier: bytes) -> None:
        self.asked.append(identifier)
        try:
            while not request.cancelled:
                request.answer(PENDING, data=[_identifier(PatientID=str(self.sent))])
                self.sent += 1
            request.answer(CANCELLED)
        finally:
            self.ended.set()


async def test_a_service_of_another_command_field_is_answered(tmp_path: Path) -> None:
    greeting = Greeting()
    async with node(tmp_path, more=[greeting]) as made:

        def ask() -> tuple[int, str]:
            assoc = associate(made.service.port, [*PRINTER, *ECHO])
            status, found = assoc.send_n_get([0x00100020], Printer, "1.2.840.10008.5.1.1.17")
            assert assoc.send_c_echo().Status == 0, "the node's own are there as before"
            assoc.release()
            return int(status.Status), str(found.PatientID)

        assert await asyncio.to_thread(ask) == (0, "hello")
        assert greeting.threads == {"dimse@127.0.0.1"}, "at once, in the thread that reads"


async def test_a_request_that_no_service_answers_gets_a_status_and_the_association_lives(
    tmp_path: Path,
) -> None:
    class Silent(Greeting):
        fields = (0x0120,)  # N-SET

    async with node(tmp_path, more=[Silent()]) as made:

        def ask() -> list[int]:
            assoc = associate(made.service.port, [*PRINTER, *ECHO])
            status, _ = assoc.send_n_get([0x00100020], Printer, "1.2.840.10008.5.1.1.17")
            return [int(status.Status), int(assoc.send_c_echo().Status)]

        assert await asyncio.to_thread(ask) == [0x0211, 0]


@pytest.mark.parametrize("tls", [False, True])
async def test_answers_end_when_the_caller_cancels(tmp_path: Path, tls: bool) -> None:
    """One thread reads while another writes, by TLS too."""
    endless, calling, files = Endless(), dict[str, Any](), dict[str, str]()
    if tls:
        calling["tls_args"] = (await certified(tmp_path), "127.0.0.1")
        files = {"tls_certificate": "dimse.crt", "tls_key": "dimse.key"}
    async with node(tmp_path, more=[endless], **files) as made:

        def ask() -> tuple[list[str], int]:
            contexts = [(STUDY_ROOT_FIND, [str(ImplicitVRLittleEndian)]), *ECHO]
            assoc = associate(made.service.port, contexts, **calling)
            wanted = Dataset()
            wanted.QueryRetrieveLevel, wanted.PatientID = "PATIENT", "*"
            first, last = [], -1
            for status, found in assoc.send_c_find(wanted, STUDY_ROOT_FIND, msg_id=5):
                if status.Status != PENDING:
                    last = int(status.Status)
                elif len(first) < 3:
                    first.append(str(found.PatientID))
                    if len(first) == 3:
                        assoc.send_c_cancel(5, query_model=STUDY_ROOT_FIND)
            assert assoc.send_c_echo().Status == 0
            assoc.release()
            return first, last

        assert await asyncio.to_thread(ask) == (["0", "1", "2"], CANCELLED)
        assert b"PATIENT" in endless.asked[0]


async def test_a_caller_that_hangs_up_ends_its_answers(tmp_path: Path) -> None:
    endless = Endless()
    async with node(tmp_path, more=[endless]) as made:

        def ask() -> None:
            contexts = [(STUDY_ROOT_FIND, [str(ImplicitVRLittleEndian)])]
            assoc = associate(made.service.port, contexts)
            wanted = Dataset()
            wanted.QueryRetrieveLevel = "PATIENT"
            next(assoc.send_c_find(wanted, STUDY_ROOT_FIND))
            assoc.abort()

        await asyncio.to_thread(ask)
        assert await asyncio.to_thread(endless.ended.wait, 10)


async def test_a_stop_ends_answers_that_nobody_reads(tmp_path: Path) -> None:
    endless = Endless()
    async with node(tmp_path, more=[endless]) as made:

        def ask() -> Any:
            contexts = [(STUDY_ROOT_FIND, [str(ImplicitVRLittleEndian)])]
            assoc = associate(made.service.port, contexts)
            assoc.dul.kill_dul()  # by hand from here
            assoc.dul.join()
            line = socket.socket(fileno=assoc.dul.socket.socket.detach())
            line.sendall(_find_request(1))
            line.recv(1, socket.MSG_PEEK)
            return line

        line = await asyncio.to_thread(ask)
        await made.service.stop()
        assert await asyncio.to_thread(endless.ended.wait, 10)
        line.close()


def _find_request(context: int) -> bytes:
    uid = STUDY_ROOT_FIND.encode()
    uid += b"\0" * (len(uid) % 2)
    elements = struct.pack("<HHI", 0, 2, len(uid)) + uid
    for number, value in ((0x100, C_FIND_RQ), (0x110, 9), (0x700, 2), (0x800, 1)):
        elements += struct.pack("<HHIH", 0, number, 2, value)
    command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    return pdv(context, 0x03, command) + pdv(context, 0x02, _identifier(QueryRetrieveLevel="PATIENT"))


async def test_what_comes_while_a_request_is_answered_waits_for_its_turn(tmp_path: Path) -> None:
    go = threading.Event()
    slow = Greeting(beside=True, go=go)
    async with node(tmp_path, more=[slow]) as made:

        def ask() -> list[int]:
            assoc = associate(made.service.port, [*PRINTER, *ECHO])
            echo = next(c.context_id for c in assoc.accepted_contexts if c.abstract_syntax != Printer)
            printer = next(c.context_id for c in assoc.accepted_contexts if c.abstract_syntax == Printer)
            assoc.dul.kill_dul()
            assoc.dul.join()
            with socket.socket(fileno=assoc.dul.socket.socket.detach()) as line:
                line.settimeout(10)
                line.sendall(
                    _bare(printer, N_GET_RQ, 3, Printer, 1) + _bare(echo, 0x0030, 2, str(ECHO[0][0]), 2)
                )
                until = threading.Event()
                while len(slow.threads) == 0:
                    until.wait(0.01)
                go.set()
                return [_responded(line) for _ in range(3)]

        assert await asyncio.to_thread(ask) == [
            1,
            -1,
            2,
        ], "the first one's command and data set, then the second one"
        assert slow.threads == {"dimse beside@127.0.0.1"}, "in the association's second thread"


def _bare(context: int, field: int, class_element: int, sop_class: str, message_id: int) -> bytes:
    uid = str(sop_class).encode()
    uid += b"\0" * (len(uid) % 2)
    elements = struct.pack("<HHI", 0, class_element, len(uid)) + uid
    for number, value in ((0x100, field), (0x110, message_id), (0x800, 0x0101)):
        elements += struct.pack("<HHIH", 0, number, 2, value)
    return pdv(context, 0x03, struct.pack("<HHII", 0, 0, 4, len(elements)) + elements)


def _responded(line: socket.socket) -> int:
    """The message id that the next PDU answers; -1 for a data set."""
    head = line.recv(6, socket.MSG_WAITALL)
    body = line.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)
    if not body[5] & 1:
        return -1
    at = body.index(struct.pack("<HHI", 0, 0x120, 2)) + 8
    return int.from_bytes(body[at : at + 2], "little")


async def test_more_requests_than_can_wait_end_the_association(tmp_path: Path) -> None:
    go = threading.Event()
    async with node(tmp_path, more=[Greeting(beside=True, go=go)]) as made:

        def ask() -> bytes:
            assoc = associate(made.service.port, PRINTER)
            assoc.dul.kill_dul()
            assoc.dul.join()
            with socket.socket(fileno=assoc.dul.socket.socket.detach()) as line:
                line.settimeout(10)
                line.sendall(b"".join(_bare(1, N_GET_RQ, 3, Printer, n) for n in range(1, 20)))
                try:
                    return line.recv(1)
                finally:
                    go.set()

        assert await asyncio.to_thread(ask) == b"\x07", "A-ABORT"


async def test_a_response_that_nobody_waits_for_ends_the_association(tmp_path: Path) -> None:
    async with node(tmp_path) as made:

        def ask() -> bool:
            assoc = associate(made.service.port, ECHO)
            assoc.dul.socket.socket.sendall(_bare(1, 0x8030, 2, str(ECHO[0][0]), 1))
            assoc.join(10)
            return bool(assoc.is_aborted)

        assert await asyncio.to_thread(ask)


@pytest.mark.parametrize("beside", [False, True])
async def test_an_association_is_not_idle_while_the_node_is_at_work(tmp_path: Path, beside: bool) -> None:
    class Slow(Greeting):
        def _answer(self, request: Request) -> None:
            assert not self.over.wait(1.0), "three times as long as a caller may be silent"
            super()._answer(request)

        over = threading.Event()

    slow = Slow(beside=beside)
    async with node(tmp_path, more=[slow], network_timeout_s=0.3) as made:

        def ask() -> int:
            assoc = associate(made.service.port, PRINTER)
            status, _ = assoc.send_n_get([0x00100020], Printer, "1.2.840.10008.5.1.1.17")
            return int(status.Status)

        assert await asyncio.to_thread(ask) == 0


def test_two_services_of_one_command_field_are_refused() -> None:
    with pytest.raises(ConfigError, match="0030H"):
        by_field([Echo(), Echo()])
