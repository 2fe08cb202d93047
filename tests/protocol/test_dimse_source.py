"""An archive that speaks only DIMSE as a source: its lists, its objects, and what it may not do to us."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from dimse_calls import with_meta
from dimse_node import node
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from upstream_double import Double, serving

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.dicom.web.json import text_of
from crosslight.standards.problem import Malformed, Unavailable
from crosslight.standards.study import InstanceRef
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.landing import Expected
from node.dimse.outgoing import associate, called_system
from node.holdings import Fetched, StoredObject
from node.sources.config import DimseSource
from node.sources.dimse import DimseArchive, DimseParts
from node.sources.line import KeptLine
from node.sources.passing import Passing
from node.sources.quirks import quirks_of

OTHER = "1.2.826.0.1.3680043.10.1.2"


class Learned:
    """What was learned."""

    def __init__(self) -> None:
        self.syntaxes: list[tuple[str, str, str, str]] = []

    async def learn_syntax(self, series_uid: str, said: str, real: str, source: str) -> None:
        self.syntaxes.append((series_uid, said, real, source))


@asynccontextmanager
async def asking(
    folder: Path,
    double: Double,
    *,
    expected: Expected | None = None,
    passing_bytes: int = 1 << 20,
    **settings: Any,
) -> AsyncIterator[tuple[DimseArchive, Passing, Learned]]:
    """What asks it."""
    config = DimseSource(name="PACS", ae_title="DOUBLE", host="127.0.0.1", port=double.port, **settings)
    clock, files, workers = SystemClock(), SystemFiles(), SystemWorkers()
    passing = Passing(
        folder / "passing",
        files,
        SystemIds(),
        clock.monotonic_s,
        most_bytes=passing_bytes,
        longest_s=60,
    )
    passing.open()
    learned = Learned()
    peer = called_system(DimseConfig(network_timeout_s=20), folder, config)

    def line() -> KeptLine:
        return KeptLine(lambda proposals: associate(peer, proposals, calling="RTK"), workers)

    parts = DimseParts(
        ae_title="RTK",
        expected=expected or Expected(),
        passing=passing,
        learning=learned,
        files=files,
        workers=workers,
        clock=clock,
    )
    archive = DimseArchive(config, quirks_of(config.quirks, config.issuer), line(), line(), parts)
    try:
        yield archive, passing, learned
    finally:
        await archive.close()
        await workers.close()


@contextmanager
def double_of(*objects: Any, **how: Any) -> Iterator[Double]:
    with serving(Double(objects=[with_meta(one) for one in objects], **how)) as double:
        yield double


async def listed(archive: DimseArchive, first: str = "20260301", last: str = "20260331") -> list[str]:
    return sorted([one.study_uid async for one in archive.studies(first, last)])


async def stored(archive: DimseArchive, study_uid: str = make.STUDY) -> list[StoredObject]:
    """Its objects, as the node knows them."""
    found = []
    async for headers in archive.instances(study_uid):
        for one in headers:
            ref = InstanceRef(
                study_uid=one.study_uid,
                series_uid=one.series_uid,
                sop_uid=one.sop_uid,
                sop_class_uid=one.sop_class_uid,
                transfer_syntax_uid=one.transfer_syntax_uid,
                sha256="",
            )
            found.append(StoredObject(ref=ref, size=None))
    return found


def bytes_of(opened: Any) -> bytes:
    assert isinstance(opened, Fetched)
    return Path(opened.local.file).read_bytes()


async def test_too_many_answers_are_cancelled_and_asked_for_in_parts(tmp_path: Path) -> None:
    made = [
        make.image(1, study=f"{OTHER}.{n}", StudyDate=day, StudyTime=time)
        for n, (day, time) in enumerate(
            [("20260301", f"10{m:02}00") for m in range(12)]
            + [("20260317", f"{h:02}3000") for h in range(6)]
            + [("20260331", "235959.5")]
        )
    ]
    with double_of(*made, waits_after=5) as double:
        async with asking(tmp_path, double, most_answers=4) as (archive, _, _):
            assert await listed(archive) == sorted(str(one.StudyInstanceUID) for one in made)
            assert double.n_associations == 1, "all on one association"
            assert double.cancelled, "it was told to stop"
            asked = [str(one.get("StudyTime", "")) for one in double.asked]
            assert "100000-105959.999999" in asked, "a day that answers too many is asked by hour"
            assert await listed(archive, "20260401", "20260431") == []


async def test_instances_are_described_from_three_levels(tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎"
    one = make.image(1, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    with double_of(one, make.image(2, series="2")) as double:
        async with asking(tmp_path, double) as (archive, _, _):
            series = [headers async for headers in archive.instances(make.STUDY)]
            assert [[h.sop_uid for h in headers] for headers in series] == [
                [f"{make.STUDY}.1.1"],
                [f"{make.STUDY}.2.2"],
            ]
            (header,) = series[0]
            assert text_of(header.study, "PatientName") == name
            assert header.modality == "CT"
            assert header.transfer_syntax_uid == double.syntax
            assert (await archive.study(make.STUDY)) is not None
            assert (await archive.study(OTHER)) is None


async def test_an_object_passes_and_is_the_same_bytes_while_its_copy_is_kept(tmp_path: Path) -> None:
    one = make.image(1)
    with double_of(one) as double:
        async with asking(tmp_path, double) as (archive, passing, _):
            (wanted,) = await stored(archive)
            first = await archive.open(wanted)
            data = bytes_of(first)
            assert make.data_set_of(data) == make.data_set_of(make.part10(make.image(1)))
            double.objects[0].PatientName = "Changed^There"
            again = await archive.open(wanted)
            assert bytes_of(again) == data
            assert double.n_retrieved == 1
            assert passing.digest(("PACS", wanted.ref.sop_uid)) == hashlib.sha256(data).hexdigest()
            first.release()
            again.release()


async def test_copies_are_bounded_and_one_that_is_read_stays_until_it_is_let_go(tmp_path: Path) -> None:
    with double_of(make.image(1), make.image(2)) as double:
        async with asking(tmp_path, double, passing_bytes=1000) as (archive, _, _):
            one, two = await stored(archive)
            first, second = await archive.open(one), await archive.open(two)
            assert bytes_of(first)
            assert bytes_of(second)
            first.release()
            second.release()
            kept = list((tmp_path / "passing").iterdir())
            assert sum(path.stat().st_size for path in kept) <= 1000


async def test_a_move_to_ourselves_passes_and_does_not_enter_the_archive(tmp_path: Path) -> None:
    expected = Expected()
    sender = KnownCaller(ae_title="DOUBLE", may=())
    async with node(tmp_path / "node", callers=(sender,), expected=expected) as ours:
        with double_of(make.image(1), make.image(2), move_to=("127.0.0.1", ours.service.port)) as double:
            async with asking(tmp_path, double, retrieve="move", expected=expected) as (archive, _, _):
                one, _ = await stored(archive)
                opened = await archive.open(one)
                assert make.data_set_of(bytes_of(opened)) == make.data_set_of(make.part10(make.image(1)))
                opened.release()
        assert ours.service.objects["passed"] == 1
        assert await ours.held.archive.objects(make.STUDY) == []


async def test_what_nobody_waits_for_is_refused(tmp_path: Path) -> None:
    async with node(
        tmp_path / "node", callers=(KnownCaller(ae_title="CT1", may=()),), expected=Expected()
    ) as ours:
        import asyncio

        from dimse_calls import store

        assert await asyncio.to_thread(store, ours.service.port, make.image(1)) == [0x0124]


async def test_a_form_that_was_not_told_is_looked_at_and_one_told_wrongly_is_learned(tmp_path: Path) -> None:
    with double_of(make.image(1), syntax=ImplicitVRLittleEndian, tells_syntax=False) as double:
        async with asking(tmp_path, double) as (archive, _, learned):
            (wanted,) = await stored(archive)
            assert wanted.ref.transfer_syntax_uid == ImplicitVRLittleEndian
            opened = await archive.open(wanted)
            opened.release()
            assert double.n_retrieved == 1, "what was looked at is kept"
            assert learned.syntaxes == []
    with double_of(
        make.image(1),
        syntax=ImplicitVRLittleEndian,
        answered_as={"AvailableTransferSyntaxUID": ExplicitVRLittleEndian},
    ) as double:
        async with asking(tmp_path / "second", double) as (archive, _, learned):
            (wanted,) = await stored(archive)
            with pytest.raises(Unavailable, match="another transfer syntax"):
                await archive.open(wanted)
            assert learned.syntaxes == [
                (f"{make.STUDY}.1", ExplicitVRLittleEndian, ImplicitVRLittleEndian, "PACS")
            ]


async def test_one_that_has_gone_is_said_and_asked_anew(tmp_path: Path) -> None:
    with double_of(make.image(1)) as double:
        async with asking(tmp_path, double) as (archive, _, _):
            assert await listed(archive) == [make.STUDY]
            port = double.port
            with pytest.raises(Unavailable):
                async with asking(tmp_path / "nobody", Double(port=1)) as (nobody, _, _):
                    await listed(nobody)
    with serving(Double(objects=[with_meta(make.image(1))]), port) as double:
        async with asking(tmp_path / "again", double) as (archive, _, _):
            assert await listed(archive) == [make.STUDY]


async def test_a_class_that_is_not_told_is_looked_at_and_an_image_needs_its_uid(tmp_path: Path) -> None:
    with double_of(make.image(1), make.image(2), without=("SOPClassUID",), tells_syntax=False) as double:
        async with asking(tmp_path, double) as (archive, _, _):
            assert {one.ref.sop_class_uid for one in await stored(archive)} == {make.CT}
            assert double.n_retrieved == 1, "one object of a series is looked at"
            double.without = ("SOPInstanceUID",)
            with pytest.raises(Malformed, match="without a UID"):
                await stored(archive)


# --- quirks -------------------------------------------------------------------------------------------------


async def test_quirk_new_uids(tmp_path: Path) -> None:
    with double_of(make.image(1), new_uids=True) as double:
        async with asking(tmp_path, double) as (archive, _, _):
            (wanted,) = await stored(archive)
            with pytest.raises(Unavailable, match="does not give it"):
                await archive.open(wanted)
        async with asking(tmp_path, double, quirks=("new-uids",)) as (archive, passing, _):
            opened = await archive.open(wanted)
            data = bytes_of(opened)
            assert make.data_set_of(data) == make.data_set_of(make.part10(make.image(1)))
            assert passing.digest(("PACS", wanted.ref.sop_uid)) == hashlib.sha256(data).hexdigest()
            opened.release()


async def test_quirk_early_final_status(tmp_path: Path) -> None:
    expected = Expected()
    sender = KnownCaller(ae_title="DOUBLE", may=())
    async with node(tmp_path / "node", callers=(sender,), expected=expected) as ours:
        settings: dict[str, Any] = {"retrieve": "move", "expected": expected}
        there = ("127.0.0.1", ours.service.port)
        with double_of(make.image(1), move_to=there, early_final=True) as double:
            async with asking(tmp_path, double, **settings) as (archive, _, _):
                (wanted,) = await stored(archive)
                with pytest.raises(Unavailable, match="does not give it"):
                    await archive.open(wanted)
            async with asking(tmp_path, double, quirks=("early-final-status",), **settings) as (
                archive,
                _,
                _,
            ):
                opened = await archive.open(wanted)
                assert bytes_of(opened)
                opened.release()


@pytest.mark.parametrize(
    ("quirk", "charset", "name"),
    [("text-is-latin-1", "ISO_IR 100", "Müller^Jürgen"), ("text-is-utf-8", "ISO_IR 192", "山田^太郎")],
)
async def test_quirk_text(tmp_path: Path, quirk: str, charset: str, name: str) -> None:
    codec = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}[charset]
    said = name.encode(codec).decode("latin-1")  # pynetdicom writes what says no character set so
    made = make.image(1, PatientName=said)
    with double_of(made) as double:
        async with asking(tmp_path, double, quirks=(quirk,)) as (archive, _, _):
            (headers,) = [headers async for headers in archive.instances(make.STUDY)]
            assert text_of(headers[0].study, "PatientName") == name


async def test_quirk_over_long_values(tmp_path: Path) -> None:
    with double_of(make.image(1), answered_as={"AccessionNumber": "A" * 30}) as double:
        async with asking(tmp_path, double, quirks=("over-long-values",)) as (archive, _, _):
            (headers,) = [headers async for headers in archive.instances(make.STUDY)]
            assert text_of(headers[0].study, "AccessionNumber") == "A" * 16


async def test_quirk_empty_studies(tmp_path: Path) -> None:
    empty = make.image(1, study=OTHER)
    with double_of(make.image(1)) as double:
        double.empty.append(empty)
        for quirks, same in (((), True), (("empty-studies",), False)):
            digests = set()
            async with asking(tmp_path, double, quirks=quirks, recount_every_s=0.1) as (archive, _, _):
                assert [headers async for headers in archive.instances(OTHER)] == []
                for now in (1000.0, 2000000.0):
                    archive._parts.clock.now = lambda now=now: _moment(now)  # type: ignore[method-assign]
                    digests.add((await archive.study(OTHER)).digest)  # type: ignore[union-attr]
            assert (len(digests) == 1) is same


def _moment(unix: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix, UTC)


async def test_quirk_dates_missing(tmp_path: Path) -> None:
    made = [
        make.image(1, study=f"{OTHER}.{n}", StudyDate="", PatientID=number)
        for n, number in enumerate(("12", "121", "1234", "A7", "B1"))
    ]
    with double_of(*made) as double:
        async with asking(tmp_path, double, most_answers=2) as (archive, _, _):
            assert await listed(archive, "", "") == []
        async with asking(tmp_path, double, most_answers=2, quirks=("dates-missing",)) as (archive, _, _):
            assert await listed(archive, "", "") == sorted(str(one.StudyInstanceUID) for one in made)


async def test_quirk_issuer_missing(tmp_path: Path) -> None:
    with double_of(make.image(1)) as double:
        settings: dict[str, Any] = {"quirks": ("issuer-missing",), "issuer": "RTK"}
        async with asking(tmp_path, double, **settings) as (archive, _, _):
            (headers,) = [headers async for headers in archive.instances(make.STUDY)]
            assert text_of(headers[0].study, "IssuerOfPatientID") == "RTK"
