"""Studies are read again when a rule changes: by itself, where it was after a stop, and only what comes out
otherwise moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import OWN, Held, held
from publish_fakes import IDENTITY, SeededIds
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crosslight.runtime.seams import system_seams
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from node.publish import reread
from node.publish.reread import Rereader, all_studies, read_again
from node.publish.revise import Origin, Retrieval, Reviser
from node.publish.schedule import Pace, Schedule
from node.publish.store import PublishStore

UNTOLD = RecordRules(authority=OWN, namespace="RTK", nationals=(NHS_NUMBER_OID,), allow_test_numbers=True)
TOLD = RecordRules(
    authority=OWN,
    namespace="RTK",
    nationals=(NHS_NUMBER_OID,),
    allow_test_numbers=True,
    issuers={"NHSNO": NHS_NUMBER_OID},
)
NUMBER = "9990000018"


def _study(number: int, *, mapped: bool) -> Dataset:
    ds = make.image(1, study=f"1.2.77.{number}", PatientID=f"L{number}")
    if mapped:
        other = Dataset()
        other.PatientID, other.TypeOfPatientID, other.IssuerOfPatientID = NUMBER, "TEXT", "NHSNO"
        ds.OtherPatientIDsSequence = Sequence([other])
    return ds


class Published:
    """An archive and its revisions."""

    def __init__(self, node: Held) -> None:
        self.archive = node.archive
        self.store = PublishStore(node.db, SeededIds(), ["region"])
        self.reviser = Reviser(
            self.store,
            node.archive,
            system_seams(clock=node.clock, workers=node.workers),
            Schedule(Pace(first_s=0.0, quiet_s=0.0, growing_s=60.0)),
            Origin(identity=lambda: IDENTITY, retrieval=Retrieval(ae_title="RTK")),
            on_revision=lambda: None,
        )

    async def revised(self) -> None:
        """Make every revision that is due."""
        await self.archive.study_uids(limit=1)  # the rows of all that was taken in are there
        self.reviser._unseen = ""
        await self.reviser._refill()
        await self.reviser.revise_due()

    async def settled(self) -> list[int]:
        """The versions of the four studies, once nothing more of them is due."""
        versions = [-1]
        while versions != (now := [await self.version(n) for n in range(4)]):
            versions = now
            await self.revised()
        return now

    async def version(self, number: int) -> int:
        row, _ = await self.store.look(f"1.2.77.{number}")
        return row.version.n if row else 0


@asynccontextmanager
async def published(folder: Path) -> AsyncIterator[Published]:
    """Four studies, two with a national number under an issuer's name that nobody has mapped; all
    published."""
    async with held(folder) as node:
        node.archive.rules = UNTOLD
        for number in range(4):
            await node.put(_study(number, mapped=number < 2))
        one = Published(node)
        await one.store.open()
        await one.store.take_epoch(1)
        await one.settled()
        yield one


async def test_a_dry_run_says_what_would_be_found_and_changes_nothing(tmp_path: Path) -> None:
    async with published(tmp_path) as one:
        one.archive.rules = TOLD
        before = await one.archive.marks()
        first = await one.settled()
        found = await read_again(
            one.archive, one.store, TOLD.nationals, all_studies(one.archive), dry_run=True
        )
        assert (found.now.percent, found.before.percent, found.changed, found.new) == (50, 0, 2, 0)
        assert await one.archive.marks() == before
        named = await read_again(
            one.archive, one.store, TOLD.nationals, ["1.2.77.0", "1.2.99"], dry_run=False
        )
        assert (named.now.percent, named.changed, named.unknown) == (100, 1, ["1.2.99"])
        versions = await one.settled()
        assert versions[1:] == first[1:], "that one alone was published anew"
        assert versions[0] > max(first)
        row, _ = await one.store.look("1.2.77.0")
        assert row is not None
        revision = await one.store.revision(row.version)
        assert revision is not None
        assert revision.record is not None
        assert Identifier(NUMBER, NHS_NUMBER_OID) in revision.record.patient.others


async def test_changed_rules_are_noticed_and_only_what_differs_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reread, "PAGE", 1)  # so that a stop falls between pages
    async with published(tmp_path) as one:
        began: list[str] = []

        async def begin() -> None:
            began.append("")

        async def read(*, until_done: bool = True) -> None:
            rereader = Rereader(one.archive, one.store, lambda: one.archive.rules, one.archive._clock, begin)
            rereader.start()
            if until_done:
                await asyncio.wait_for(rereader.done.wait(), 20)
            await rereader.stop()

        await read()
        assert len(began) == 1, "the first time under any rules"
        first = await one.settled()
        await read()
        assert await one.settled() == first
        assert len(began) == 1, "the same rules: nothing to do"

        one.archive.rules = TOLD
        # begins
        assert await Rereader(one.archive, one.store, lambda: TOLD, one.archive._clock, begin)._page()
        # the first study
        assert await Rereader(one.archive, one.store, lambda: TOLD, one.archive._clock, begin)._page()
        state = await one.store.reread()
        assert state is not None
        assert (state.after, state.done) == ("1.2.77.0", False)
        await read()  # goes on there
        assert len(began) == 2
        versions = await one.settled()
        assert versions[2:] == first[2:], "what came out the same was left alone"
        assert min(versions[:2]) > max(first)


async def test_studies_with_a_number_that_is_none_are_published_and_told(tmp_path: Path) -> None:
    async with held(tmp_path) as node:
        node.archive.rules = TOLD
        made = Published(node)
        await made.store.open()
        await made.store.take_epoch(1)
        for number, text in ((1, NUMBER), (2, NUMBER[:9]), (3, NUMBER[:9] + "0")):
            ds = _study(number, mapped=True)
            ds.OtherPatientIDsSequence[0].PatientID = text
            await node.put(ds)
        await made.revised()
        assert await made.store.unread_numbers(10) == (2, ["1.2.77.2", "1.2.77.3"])
        assert await made.store.unread_numbers(1) == (2, ["1.2.77.2"])
        assert all([await made.version(number) for number in (1, 2, 3)])


async def test_what_was_acknowledged_is_listed_or_waits(tmp_path: Path) -> None:
    """However late its row: whoever is told that nothing waits may say "no imaging" (D19)."""
    async with held(tmp_path) as node:
        node.archive.rules = TOLD
        made = Published(node)
        made.reviser.start()
        await node.put(_study(1, mapped=True))
        await made.reviser.catch_up()
        assert made.reviser.pending() == ["1.2.77.1"]
