"""Every quick writer writes what the plain one does, byte for byte, on every face and on both databases.

Plain is: each statement made by itself (ADR 0048), rows decoded anew, entries by the ordinary ebRIM writer,
rows of QIDO-RS and FHIR resources of which nothing is shared or kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from acted_region import ActedRegion, Asking, asked, differing, forget
from registry_room import Room, make_room

from crosslight.runtime.db import Db
from crosslight.standards.fhir.facts import HoldingFacts
from crosslight.standards.fhir.imaging_study import StudyWriter
from crosslight.standards.fhir.wire import Rendered
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim_write import render_object
from registry.ask import ask
from registry.ask.kept_readings import KeptReadings
from registry.dicomweb import face as dicomweb
from registry.dicomweb.rows import SharedRows, study_row
from registry.fhir import study_pages
from registry.index.decoded_rows import DecodedRows

SEEDS = (1, 2, 3)


class Unshared(StudyWriter):
    """A writer of FHIR that makes everything anew for each study."""

    def write(self, holding: HoldingFacts) -> Rendered:
        return StudyWriter(self.region, self._systems).write(holding)


@contextmanager
def plain_writers(room: Room) -> Iterator[None]:
    """Everything is written by the plain writers, and nothing was kept before."""
    read = room.index.read
    kept, read.decoded = read.decoded, DecodedRows(0)
    forget()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(adhoc, "write_object", render_object)
        patched.setattr(
            dicomweb,
            "study_row",
            lambda listed, root, shared: study_row(listed, root, SharedRows(shared._reachable)),
        )
        patched.setattr(study_pages, "StudyWriter", Unshared)
        patched.setattr(room.ask, "readings", KeptReadings(0))
        patched.setattr(ask, "foretold", lambda *_: None)
        yield
    read.decoded = kept


async def _alike(asking: Asking, caller: str, what: str) -> dict[str, bytes]:
    first = await asking.everything(caller)
    again = await asking.everything(caller)
    with plain_writers(asking.room):
        plain = await asking.everything(caller)
    for name, body in plain.items():
        assert not differing(first[name], body), f"{what}, {caller}, {name}"
        assert not differing(again[name], body), f"{what}, {caller}, {name}: asked again"
    return plain


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_region_is_written_alike(database: Db, seed: int) -> None:
    room = await make_room(database)
    region = ActedRegion(room, seed)
    await region.filled(26)
    async with asked(room) as asking:
        said = await _alike(asking, "open", f"seed {seed}")
        await _alike(asking, "identity", f"seed {seed}")
    found = b"".join(said.values())
    marks = (b'"ImagingStudy"', b"<rim:ExtrinsicObject", b'"0020000D"', b"data-study-uid", b"valueBoolean")
    assert all(mark in found for mark in marks), "there is something of every kind"
