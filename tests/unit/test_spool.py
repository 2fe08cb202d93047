"""Re-encoding into a spool whose disk is full says that, and not that the object is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from crosslight.runtime.workers import Workers
from crosslight.standards.problem import OutOfSpace
from node.serve.bounded import transcode_file


async def test_a_full_disk_is_not_the_objects_fault() -> None:
    source = get_testdata_file("MR_small_RLE.dcm")
    assert source is not None
    workers = Workers()
    try:
        with pytest.raises(OutOfSpace):
            await workers.run_bounded(transcode_file, Path(source), Path("/dev/full"), 1 << 20)
    finally:
        await workers.close()
