"""The archive: what is stored, refused, in conflict, deleted, rejected, and what is seen of it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import dicom_large
import dicom_objects as make
import orjson
import pytest
from archive_fixture import OWN, Held, data_set_at, file_of, held
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crosslight.standards.dicom.file import header
from crosslight.standards.dicom.record.record import unidentified
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.problem import OutOfSpace, TooLarge
from node.holdings import Received
from node.serve.bounded_child import is_plain, layout_object, lend


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path) as made:
        yield made


async def test_stored_byte_for_byte_under_the_digest_of_its_data_set(here: Held) -> None:
    changes: list[str] = []
    here.archive.on_change(changes.append)
    file = make.part10(make.image(1))
    result = await here.put(file)
    assert (result.state, result.status) == ("stored", 0)
    (found,) = await here.archive.objects(make.STUDY)
    path = await file_of(here.archive, found)
    assert path.read_bytes() == file
    data_set = make.data_set_of(file)
    assert await data_set_at(here.archive, found) == data_set
    assert found.ref.sha256 == hashlib.sha256(data_set).hexdigest() == path.stem
    assert path.parent.name == found.ref.sha256[:2]
    assert file[found.pixel_offset : found.pixel_offset + found.pixel_length] == make.image(1).PixelData
    assert found.ref == result.ref
    assert changes == [make.STUDY]
    assert here.left_in_tmp() == []


async def test_repeat_is_success_without_change(here: Held) -> None:
    await here.put(make.image(1))
    before = await here.archive.mark(make.STUDY)
    again = await here.put(make.image(1))
    assert (again.state, again.status) == ("duplicate", 0)
    assert await here.archive.mark(make.STUDY) == before
    assert (await here.archive.status()).quarantined == 0


async def test_other_bytes_under_the_same_uid_are_a_conflict(here: Held) -> None:
    await here.put(make.image(1))
    other = await here.put(make.image(1, StudyDescription="Changed"))
    recoded = await here.put(make.image(1), ImplicitVRLittleEndian)
    assert {(r.state, r.status) for r in (other, recoded)} == {("conflict", 0xC111)}
    entries = await here.archive.quarantine.entries()
    assert [(e.reason, e.sop_uid, e.study_uid) for e in entries] == [
        ("conflict", f"{make.STUDY}.1.1", make.STUDY)
    ] * 2
    assert all(e.path.exists() for e in entries)
    assert len(here.object_files()) == 1, "the first is kept"
    record = await here.archive.record(make.STUDY)
    assert record is not None
    assert record.description == "CT Thorax"


async def test_whose_the_studies_and_the_refused_objects_are(here: Held) -> None:
    """Every header counts: one that disagrees with the rest of its study too; what was never read may be
    anybody's.
    """
    await here.put(make.image(1, PatientID="A1"))
    await here.put(make.image(2, PatientID="B2"))
    await here.put(make.image(3, PatientID=""))
    found = {(i.authority, i.value) for i in await here.archive.concerned([make.STUDY, "1.2.3"])}
    assert {(OWN, "A1"), (OWN, "B2"), (OWN, unidentified(make.STUDY))} <= found
    assert await here.archive.concerned([]) == set()
    assert await here.archive.refused(10) == (set(), False)
    await here.put(make.image(1, PatientID="C3"))  # a conflict, whose header is known
    await here.put(b"")
    refused, unread = await here.archive.refused(10)
    assert (OWN, "C3") in {(i.authority, i.value) for i in refused}
    assert not unread, "an empty file is nobody's"
    await here.put(make.part10(make.image(4))[:-20])
    assert (await here.archive.refused(10))[1]
    assert (await here.archive.refused(1))[1], "more than were looked at"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is no DICOM" * 50, "not-dicom"),
        (b"", "not-dicom"),
        (make.part10(make.image(1))[:-20], "truncated"),
        (make.raw_part10(make.IDENTITY.replace(b"1.2.3.4", b"../../x"), instance="../../x"), "uid"),
    ],
    ids=["text", "empty", "cut", "path"],
)
async def test_refused_into_quarantine_with_the_reason(here: Held, data: bytes, reason: str) -> None:
    result = await here.put(data)
    assert (result.state, result.status) == ("refused", 0xC000)
    entry = await here.archive.quarantine.entry(result.quarantine_id)
    assert (entry.reason, entry.path.read_bytes()) == (reason, data)
    assert entry.detail
    status = await here.archive.status()
    assert (status.instances, status.quarantined) == (0, 1)
    assert here.left_in_tmp() == []
    assert not any(path.name == "x" for path in here.folder.rglob("*")), "no name from an object in a path"


TAILS = [b"\0", bytes(512), b"\r\n", make.SEQUENCE_END, b"\xfe\xff\x0d\xe0\0\0\0\0"]


@pytest.mark.parametrize("tail", TAILS, ids=["NUL", "512 NUL", "line end", "sequence end", "item end"])
async def test_padding_is_kept_and_none_of_the_object(here: Held, tail: bytes) -> None:
    file = make.part10(make.image(1))
    first = await here.put(file + tail)
    again = await here.put(file)
    more = await here.put(file + tail + bytes(3))
    assert [r.state for r in (first, again, more)] == [
        "stored",
        "duplicate",
        "duplicate",
    ], "padding is never a conflict"
    (found,) = await here.archive.objects(make.STUDY)
    assert (await file_of(here.archive, found)).read_bytes() == file + tail, "kept byte for byte"
    assert (found.size, found.ref.sha256) == (len(file), hashlib.sha256(make.data_set_of(file)).hexdigest())
    assert await here.archive.noted() == [(make.STUDY, ("padding",))]
    assert (await here.archive.verify()).ok
    assert (await here.put(file + b"\1" * 8)).state == "refused", "what is no padding is not passed over"


async def test_padding_that_comes_with_a_bare_data_set(here: Held) -> None:
    """As C-STORE brings it: hashed on its way in."""
    data_set = make.data_set_of(make.part10(make.image(1)))
    received = Received(
        road="dimse",
        peer="test",
        sop_class_uid=make.CT,
        sop_instance_uid=f"{make.STUDY}.1.1",
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
    )
    states = []
    for sent in (data_set + bytes(2), data_set):
        staged = here.archive.stage(received)
        staged.write(sent)
        result = await here.archive.ingest_async(staged, received)
        states.append((result.state, result.ref.size_bytes if result.ref else 0))
    assert states == [("stored", len(data_set)), ("duplicate", len(data_set))]


async def test_a_padded_object_that_no_row_names_is_taken_in_again(here: Held) -> None:
    await here.put(make.part10(make.image(1)) + bytes(6))
    (found,) = await here.archive.objects(make.STUDY)
    for table in ("instance", "metadata"):
        await here.db.write("forget", lambda tx, table=table: tx.execute(f"DELETE FROM {table}"))
    reconciled = await here.archive.reconcile()
    assert (reconciled.adopted, reconciled.removed) == (1, 0)
    assert await here.archive.objects(make.STUDY) != []
    path = await file_of(here.archive, found)
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert (await here.archive.verify()).damaged == (f"{make.STUDY}.1.1",)


async def test_what_the_reader_tolerated_is_noted_with_its_study(here: Held) -> None:
    await here.put(make.image(1))
    assert await here.archive.noted() == []
    twice = make.element(0x00090010, "LO", b"TEST") * 2
    await here.put(make.raw_part10(make.IDENTITY + twice, instance="9.9"))
    await here.put(
        make.raw_part10(
            make.IDENTITY.replace(b"1.2.3.4\0", b"1.2.3.5\0") + make.element(0x00100020, "LO", b"X\\1 "),
            instance="1.2.3.5",
        )
    )
    assert await here.archive.noted() == [("1.2.3", ("doubled", "meta", "patient-id"))]
    assert await here.archive.note_counts() == [("doubled", 1), ("meta", 1), ("patient-id", 1)]
    assert await here.archive.noted("1.2.3") == [], "a page begins after a study"
    await here.archive.delete("1.2.3", "test")
    assert await here.archive.noted() == [], "what is in the bin concerns nobody"


async def test_several_patient_ids_are_found_as_sent_and_not_by_the_first(here: Held) -> None:
    await here.put(make.image(1, PatientID="X\\1"))
    for asked, found in (("X", 0), ("X\\1", 1)):
        rows = await here.archive.search("study", QidoQuery.parse("study", [("PatientID", asked)]))
        assert len(rows) == found, asked
    record = await here.archive.record(make.STUDY)
    assert record is not None
    assert record.patient.local.value.startswith("NOID-")


async def test_large_sequences_are_given_and_not_searched(here: Held) -> None:
    assert (await here.put(dicom_large.segmentation(1_500))).state == "stored"
    (whole,) = await here.archive.metadata(await here.archive.objects(dicom_large.STUDY))
    (small,) = await here.archive.metadata(await here.archive.objects(dicom_large.STUDY), large=False)
    assert len(orjson.loads(whole)["52009230"]["Value"]) == 1_500
    assert (
        orjson.loads(small).items()
        == {k: v for k, v in orjson.loads(whole).items() if k != "52009230"}.items()
    )
    (row,) = await here.archive.search("instance", QidoQuery.parse("instance", [("includefield", "all")]))
    assert row["00280008"]["Value"] == [1_500]
    assert "52009230" not in row
    await here.archive.delete(dicom_large.STUDY, "test")
    here.clock.ahead = timedelta(days=31)
    assert await here.archive.purge() == 1
    left = await here.db.read(
        "left", lambda tx: tx.rows("SELECT COUNT(*) FROM large_metadata UNION SELECT COUNT(*) FROM metadata")
    )
    assert left == [(0,)]


@pytest.mark.parametrize("measured", [True, False])
async def test_frames_of_a_large_object_are_found_whether_its_sequences_say_their_length(
    here: Held, measured: bool
) -> None:
    data = dicom_large.slide(2_000, measured=measured)
    assert (await here.put(data)).state == "stored"
    (found,) = await here.archive.objects(dicom_large.STUDY)
    assert found.unmeasured == (not measured)
    layout = layout_object(lend(await here.archive.open_object(found)), is_plain(found))
    assert layout.frames == 2_000
    for frame in (1, 2_000):
        ((at, length),) = layout.spans_of(frame)
        assert data[at : at + length] == b"\xff\xd8\xff\xd9"


async def test_what_was_announced_must_be_what_came(here: Held) -> None:
    wrong_class = await here.put(make.image(1), sop_class_uid=make.SR)
    wrong_instance = await here.put(make.image(1), sop_instance_uid="1.2.3")
    assert {r.status for r in (wrong_class, wrong_instance)} == {0xA900}


async def test_quarantine_is_bounded_in_size_and_days(tmp_path: Path) -> None:
    async with held(tmp_path, quarantine_max_bytes=3000, quarantine_days=10) as here:
        for n in range(5):
            await here.put(bytes([n]) * 1000)
        assert (await here.archive.status()).quarantined == 3
        assert len(list((tmp_path / "archive" / "quarantine").iterdir())) == 3
        here.clock.ahead = timedelta(days=11)
        await here.archive.tidy()
        assert (await here.archive.status()).quarantined == 0
        assert list((tmp_path / "archive" / "quarantine").iterdir()) == []


async def test_below_the_reserve_it_refuses_and_recovers_by_itself(here: Held) -> None:
    here.files.free = 100
    with pytest.raises(OutOfSpace):
        here.archive.stage()
    assert not (await here.archive.status()).accepting
    here.files.free = 1 << 40
    staged = here.archive.stage()
    staged.write(make.part10(make.image(1)))
    here.files.free = 100
    result = await here.archive.ingest_async(staged, Received(road="stow", peer="test"))
    assert (result.state, result.status) == ("full", 0xA700)
    assert here.left_in_tmp() == []
    here.files.free = 1 << 40
    assert (await here.put(make.image(1))).state == "stored"


async def test_a_disk_that_fills_while_an_object_becomes_durable(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(here.files, "sync", full)
        result = await here.put(make.image(1))
    assert (result.state, result.status) == ("full", 0xA700)
    assert await here.archive.record(make.STUDY) is None
    assert here.left_in_tmp() == []
    assert (await here.put(make.image(1))).state == "stored", (
        "over the file without a row that the failure left"
    )
    assert (await here.archive.verify()).ok


async def test_what_our_reader_cannot_read_is_read_by_pydicom_in_a_child(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(parsed: object) -> None:
        raise KeyError("a mistake of ours")

    expected = await here.put(make.image(1, study="1.2.5"))
    with monkeypatch.context() as patched:
        patched.setattr(header, "read", broken)
        result = await here.put(make.image(1))
    assert (expected.state, result.state) == ("stored", "stored")
    (row,) = [
        orjson.loads(one) for one in await here.archive.metadata(await here.archive.objects(make.STUDY))
    ]
    assert row["00100010"]["Value"] == [{"Alphabetic": "Miller^Ann"}]


async def test_closed_before_it_is_handed_over(here: Held) -> None:
    staged = here.archive.stage()
    staged.write(make.part10(make.image(1)))
    staged.close()
    staged.close()
    assert (await here.archive.ingest_async(staged, Received(road="stow", peer="test"))).state == "stored"
    gone = here.archive.stage()
    gone.write(b"x")
    gone.close()
    gone.discard()
    gone.discard()
    await here.settle()
    assert here.left_in_tmp() == []


async def test_objects_over_the_bound(tmp_path: Path) -> None:
    async with held(tmp_path, max_object_bytes=1 << 20) as here:
        staged = here.archive.stage()
        for _ in range(16):
            staged.write(bytes(1 << 16))
        with pytest.raises(TooLarge):
            staged.write(b"!")
        staged.discard()
        assert here.left_in_tmp() == []


async def test_bare_data_set_gets_its_file_meta(here: Held) -> None:
    data_set = make.data_set_of(make.part10(make.image(4), str(ExplicitVRBigEndian)))
    received = Received(
        road="dimse",
        peer="CT@10.0.0.1",
        sop_class_uid=make.CT,
        sop_instance_uid=f"{make.STUDY}.1.4",
        transfer_syntax_uid=str(ExplicitVRBigEndian),
    )
    staged = here.archive.stage(received)
    staged.write(data_set)
    result = await here.archive.ingest_async(staged, received)
    assert result.state == "stored"
    (found,) = await here.archive.objects(make.STUDY)
    assert await data_set_at(here.archive, found) == data_set
    assert found.ref.sha256 == hashlib.sha256(data_set).hexdigest()


async def test_change_marks(here: Held) -> None:
    await here.put(make.image(1))
    await here.put(make.image(1, study="1.2.9"))
    await here.put(make.image(2))
    marks = await here.archive.marks()
    assert [(m.study_uid, m.change) for m in marks] == [("1.2.9", 1), (make.STUDY, 2)]
    assert await here.archive.marks(after_serial=marks[0].serial) == marks[1:]
    assert marks[1].first_change_unix < marks[1].last_change_unix


async def test_record_counts_and_metadata_follow_the_instances(here: Held) -> None:
    for n in (2, 1, 3):
        await here.put(make.image(n, series="1" if n < 3 else "2"))
    record = await here.archive.record(make.STUDY)
    assert record is not None
    assert [(s.series_uid, s.n_instances) for s in record.series] == [
        (f"{make.STUDY}.1", 2),
        (f"{make.STUDY}.2", 1),
    ]
    assert (record.patient.local.value, record.patient.local.authority) == ("L001", OWN)
    assert [i.value for i in here.archive.patients(make.STUDY, {})] == ["L001"]
    rows = [
        orjson.loads(row)
        for row in await here.archive.metadata(await here.archive.objects(make.STUDY, f"{make.STUDY}.1"))
    ]
    assert [row["00200013"]["Value"] for row in rows] == [[1], [2]], "in the order of their numbers"
    assert all("7FE00010" not in row for row in rows)
    assert await here.archive.record("1.2.3") is None
