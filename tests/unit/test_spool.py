"""Re-encoding into a spool whose disk is full says that, and not that the object is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from crosslight.runtime.workers import Workers
from crosslight.standards.problem import OutOfSpace
from crosslight.standards.study import InstanceRef
from node.archive.model import StoredObject
from node.serve.bounded import transcode_file


async def test_a_full_disk_is_not_the_objects_fault() -> None:
    source = get_testdata_file("MR_small_RLE.dcm")
    assert isinstance(source, str)
    size = Path(source).stat().st_size
    ref = InstanceRef(
        study_uid="1", series_uid="1.1", sop_uid="1.1.1", sop_class_uid="1.2", transfer_syntax_uid=RLELossless, size_bytes=size
    )
    found = StoredObject(ref=ref, file=source, dataset_offset=0, pixel_offset=0, pixel_length=0, received_unix=0.0)
    workers = Workers()
    try:
        with pytest.raises(OutOfSpace):
            await workers.run_bounded(transcode_file, found, Path("/dev/full"), 1 << 20)
    finally:
        await workers.close()
