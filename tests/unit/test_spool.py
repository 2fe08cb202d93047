"""Re-encoding into a spool whose disk is full says that, and not that the object is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from crosslight.runtime.children.wire import Lent
from crosslight.standards.problem import OutOfSpace
from node.holdings import Local
from node.serve.bounded_child import lend, reading_workers, transcode_object


async def test_a_full_disk_is_not_the_objects_fault() -> None:
    source = get_testdata_file("MR_small_RLE.dcm")
    assert isinstance(source, str)
    size = Path(source).stat().st_size
    local = Local(source, 0, size)
    workers = reading_workers()
    try:
        with pytest.raises(OutOfSpace):
            await workers.run_bounded(
                transcode_object, lend(local), True, Lent("/dev/full", write=True), 1 << 20
            )
    finally:
        await workers.close()
