"""What DICOM callers send to a node: objects by pynetdicom's SCU, and PDUs by hand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import dicom_objects as make
import pydicom
from dimse_node import associate
from pydicom.uid import ExplicitVRLittleEndian


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Waits for what other threads do; ``TimeoutError`` after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other threads' doing
            await asyncio.sleep(0.01)


def store(port: int, *datasets: Any, syntax: str = ExplicitVRLittleEndian) -> list[int]:
    """The statuses of C-STORE of each, on one association."""
    assoc = associate(
        port, [(str(d.SOPClassUID), [syntax]) for d in {str(d.SOPClassUID): d for d in datasets}.values()]
    )
    assert assoc.is_established
    statuses = []
    for dataset in datasets:
        with_meta(dataset).file_meta.TransferSyntaxUID = syntax
        statuses.append(int(assoc.send_c_store(dataset).Status))
    assoc.release()
    return statuses


def with_meta(dataset: Any) -> Any:
    """The data set, with the file meta that pynetdicom sends by."""
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def store_command(context: int, command_field: int = 1) -> bytes:
    """A PDU with the command set of a C-STORE-RQ (PS3.7 9.3.1.1), or of another field."""
    elements = struct.pack("<HHI", 0, 2, 26) + make.uid(make.CT + "\0")[:26].ljust(26, b"\0")
    elements += struct.pack("<HHIH", 0, 0x100, 2, command_field) + struct.pack("<HHIH", 0, 0x110, 2, 7)
    elements += struct.pack("<HHIH", 0, 0x700, 2, 0) + struct.pack("<HHIH", 0, 0x800, 2, 1)
    elements += struct.pack("<HHI", 0, 0x1000, 8) + b"1.2.3.4\0"
    return pdv(context, 0x03, struct.pack("<HHII", 0, 0, 4, len(elements)) + elements)


def pdv(context: int, header: int, data: bytes) -> bytes:
    """A P-DATA-TF PDU of one fragment (PS3.8 9.3.5)."""
    return struct.pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, context, header) + data
