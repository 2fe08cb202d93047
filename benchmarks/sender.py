"""A C-STORE sender that costs next to nothing beside the servers that it loads: its PDUs are made before."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Sequence

from benchmarks.load import BadAnswerError
from crosslight.standards.dicom.file.gate import META_SOP_CLASS, META_SOP_INSTANCE, meta_text, read_meta
from crosslight.standards.dicom.implementation import IMPLEMENTATION_CLASS_UID
from crosslight.standards.dicom.upper_layer.pdata import command_pdus, data_pdus, fragments_of
from node.dimse.command import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_STORE_RQ,
    FIELD,
    MESSAGE_ID,
    Command,
    command_set,
)

CONTEXT = 1
APPLICATION = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
EXPLICIT_LE = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED, ACCEPTED, DATA, RELEASE, RELEASED = 0x01, 0x02, 0x04, 0x05, 0x06  # PS3.8 9.3.1: PDU types
PRIORITY = 0x0700
STALL_S = 60.0


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _request(called: str) -> bytes:
    """A-ASSOCIATE-RQ for CT images in explicit little endian (PS3.8 9.3.2)."""
    context = bytes((CONTEXT, 0, 0, 0)) + _item(0x30, CT.encode()) + _item(0x40, EXPLICIT_LE.encode())
    user = _item(0x51, struct.pack(">I", 1 << 17)) + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
    titles = called.encode().ljust(16) + b"STORESCU".ljust(16)
    body = struct.pack(">HH", 1, 0) + titles + bytes(32)
    body += _item(0x10, APPLICATION.encode()) + _item(0x20, context) + _item(0x50, user)
    return struct.pack(">BBI", ASKED, 0, len(body)) + body


def _longest(accepted: bytes) -> int:
    """Maximum Length Received in the items of an A-ASSOCIATE-AC; 0 = any.

    Raises:
        BadAnswerError: our context was not accepted.
    """
    pos, longest, result = 68, 0, -1
    while pos + 4 <= len(accepted):
        kind, _, length = struct.unpack_from(">BBH", accepted, pos)
        if kind == 0x21:
            result = accepted[pos + 6]
        if kind == 0x51:
            longest = int.from_bytes(accepted[pos + 4 : pos + 8], "big")
        pos += 4 if kind == 0x50 else 4 + length  # the user information is gone into
    if result != 0:
        raise BadAnswerError(f"the presentation context was answered with {result}")
    return longest


class Sender:
    """An association that was opened, and what it sends."""

    def __init__(self, host: str, port: int, called: str) -> None:
        self._socket = socket.create_connection((host, port), STALL_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_request(called))
        kind, body = self._pdu()
        if kind != ACCEPTED:
            raise BadAnswerError(f"{called} answered the association with a PDU of type {kind:02X}H")
        self.longest = _longest(body)

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise BadAnswerError("the association was cut off")
            data += part
        return bytes(data)

    def store(self, message: bytes) -> None:
        """Send an object and wait for its answer.

        Raises:
            BadAnswerError: any other than success.
        """
        self._socket.sendall(message)
        kind, body = self._pdu()
        if kind != DATA:
            raise BadAnswerError(f"a C-STORE was answered with a PDU of type {kind:02X}H")
        ((_, fragment),) = fragments_of(bytes(6) + body)
        if status := Command.parse(bytes(fragment[1:])).status:
            raise BadAnswerError(f"a C-STORE was answered with {status:04X}H")

    def close(self) -> None:
        """Release the association and wait until the other end knows."""
        self._socket.sendall(struct.pack(">BBII", RELEASE, 0, 4, 0))
        kind, _ = self._pdu()
        self._socket.close()
        if kind != RELEASED:
            raise BadAnswerError(f"the release was answered with a PDU of type {kind:02X}H")


def message_of(file: bytes, number: int, longest: int) -> bytes:
    """A C-STORE-RQ and its data set as PDUs for a peer that takes ``longest`` bytes."""
    meta, offset = read_meta(file)
    command = {
        AFFECTED_CLASS: meta_text(meta, META_SOP_CLASS),
        AFFECTED_INSTANCE: meta_text(meta, META_SOP_INSTANCE),
        FIELD: C_STORE_RQ,
        MESSAGE_ID: number % 0xFFFF + 1,
        PRIORITY: 0,
    }
    pdus = [*command_pdus(CONTEXT, command_set(command, data_set=True), longest)]
    return b"".join((*pdus, *data_pdus(CONTEXT, (memoryview(file)[offset:],), longest)))


async def send(host: str, port: int, called: str, files: Sequence[bytes], associations: int) -> float:
    """Send all files over so many associations at once; seconds, without opening and releasing these."""
    return await asyncio.to_thread(_send, host, port, called, files, associations)


def _send(host: str, port: int, called: str, files: Sequence[bytes], associations: int) -> float:
    senders = [Sender(host, port, called) for _ in range(associations)]
    ready = [
        [message_of(file, n, sender.longest) for n, file in enumerate(files[i::associations])]
        for i, sender in enumerate(senders)
    ]
    failed: list[BaseException] = []

    def work(sender: Sender, messages: list[bytes]) -> None:
        try:
            for message in messages:
                sender.store(message)
        except (BadAnswerError, OSError) as error:
            failed.append(error)

    threads = [
        threading.Thread(target=work, args=pair, daemon=True) for pair in zip(senders, ready, strict=True)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failed:
        raise BadAnswerError(f"{called}: {failed[0]}")
    for sender in senders:
        sender.close()
    return seconds


async def send_each_alone(host: str, port: int, called: str, files: Sequence[bytes]) -> float:
    """Open an association for each file, as some modalities do; seconds for all of that."""
    return await asyncio.to_thread(_send_each_alone, host, port, called, files)


def _send_each_alone(host: str, port: int, called: str, files: Sequence[bytes]) -> float:
    first = Sender(host, port, called)
    messages = [message_of(file, 0, first.longest) for file in files]
    first.close()
    started = time.perf_counter()
    for message in messages:
        sender = Sender(host, port, called)
        sender.store(message)
        sender.close()
    return time.perf_counter() - started
