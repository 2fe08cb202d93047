"""The archive of a node: search, the bin, rejection notes and manifests, care."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import dicom_objects as make
import pytest
from archive_fixture import Held, file_of, held
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crosslight.runtime.backup_files import Vault
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.problem import NotFound
from node.archive import backup
from node.archive.config import ArchiveConfig
from node.archive.import_preview import preview_paths
from node.holdings import Received


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path) as made:
        yield made


# --- search -------------------------------------------------------------------------------------------------


async def _found(here: Held, level: str, **params: str) -> list[str]:
    uid = {"study": "0020000D", "series": "0020000E", "instance": "00080018"}[level]
    query = QidoQuery.parse(level, params.items())  # type: ignore[arg-type]
    return [row[uid]["Value"][0] for row in await here.archive.search(level, query)]  # type: ignore[arg-type]


async def test_search_by_every_key(here: Held) -> None:
    await here.put(make.image(1))
    await here.put(make.image(2, series="2", Modality="SR"))
    await here.put(
        make.image(
            1,
            study="1.2.9",
            PatientName="Müller^Jörg=山田",
            SpecificCharacterSet="ISO_IR 192",
            PatientID="L002",
            AccessionNumber="A9",
            StudyDate="20260402",
            StudyDescription="CT Head",
        )
    )
    a, b = make.STUDY, "1.2.9"
    for params, expected in [
        ({}, [b, a]),
        ({"PatientID": "L001"}, [a]),
        ({"PatientID": "L00*"}, [b, a]),
        ({"AccessionNumber": "A9"}, [b]),
        ({"StudyDate": "20260401-"}, [b]),
        ({"StudyDate": "20260301"}, [a]),
        ({"StudyDate": "-20260331"}, [a]),
        ({"PatientName": "MILLER^ANN"}, [a]),
        ({"PatientName": "mül*"}, [b]),
        ({"PatientName": "*jörg*"}, [b]),
        ({"PatientName": "山*"}, [b]),
        ({"StudyInstanceUID": f"{a},{b}"}, [b, a]),
        ({"StudyDescription": "CT H*"}, [b]),
        ({"ModalitiesInStudy": "SR"}, [a]),
        ({"ModalitiesInStudy": "CT"}, [b, a]),
        ({"PatientID": "nobody"}, []),
        ({"limit": "1"}, [b]),
        ({"limit": "1", "offset": "1"}, [a]),
        ({"PatientName": "*", "limit": "1", "offset": "1"}, [a]),
        ({"PatientName": "m*", "StudyDescription": "*T*", "limit": "1", "offset": "1"}, [a]),
        ({"PatientBirthDate": "19700102"}, [b, a]),
    ]:
        assert await _found(here, "study", **params) == expected, params
    assert await _found(here, "series", Modality="SR") == [f"{a}.2"]
    assert await _found(here, "series", SeriesInstanceUID=f"{b}.1") == [f"{b}.1"]
    assert await _found(here, "instance", StudyInstanceUID=a) == [f"{a}.1.1", f"{a}.2.2"]
    assert await _found(here, "instance", SOPInstanceUID=f"{a}.2.2", SOPClassUID=make.CT) == [f"{a}.2.2"]
    assert await _found(here, "instance", InstanceNumber="2") == [f"{a}.2.2"]


async def test_search_rows_have_counts_and_modalities(here: Held) -> None:
    await here.put(make.image(1))
    await here.put(make.image(2, series="2", Modality="SR"))
    await here.put(make.image(3))
    (row,) = await here.archive.search("study", QidoQuery.parse("study", []))
    assert (row["00201206"]["Value"], row["00201208"]["Value"], row["00080061"]["Value"]) == (
        [2],
        [3],
        ["CT", "SR"],
    )
    one, two = await here.archive.search("series", QidoQuery.parse("series", []))
    assert (one["00201209"]["Value"], two["00201209"]["Value"]) == ([2], [1])
    instances = await here.archive.search("instance", QidoQuery.parse("instance", []))
    assert [r["00280010"]["Value"] for r in instances] == [[8]] * 3


# --- bin ----------------------------------------------------------------------------------------------------


async def test_delete_restore_and_purge(here: Held) -> None:
    await here.put(make.image(1))
    await here.put(make.image(2))
    assert await here.archive.delete(make.STUDY, "wrong patient") == 2
    assert await here.archive.record(make.STUDY) is None
    assert await here.archive.objects(make.STUDY) == []
    assert await here.archive.metadata(await here.archive.objects(make.STUDY)) == []
    assert await _found(here, "study") == []
    assert (await here.archive.mark(make.STUDY)).change == 3  # type: ignore[union-attr]
    (entry,) = await here.archive.bin()
    assert (entry.study_uid, entry.reason, entry.instances) == (make.STUDY, "wrong patient", 2)
    assert await here.archive.restore(make.STUDY) == 2
    assert len(await here.archive.objects(make.STUDY)) == 2
    assert await here.archive.bin() == []
    await here.archive.delete(make.STUDY, "again")
    assert await here.archive.purge() == 0, "not yet"
    here.clock.ahead = timedelta(days=31)
    assert await here.archive.purge() == 2
    assert here.object_files() == []
    with pytest.raises(NotFound):
        await here.archive.restore(make.STUDY)
    with pytest.raises(NotFound):
        await here.archive.delete(make.STUDY, "nothing here")
    assert (await here.put(make.image(1))).state == "stored", "it may come back"


async def test_a_deleted_study_comes_back_when_it_is_sent_again(here: Held) -> None:
    await here.put(make.image(1))
    await here.put(make.image(2))
    await here.archive.delete(make.STUDY, "test")
    assert (await here.put(make.image(1))).state == "stored"
    assert (await here.put(make.image(2, StudyDescription="Corrected"))).state == "stored", (
        "the deleted bytes are no conflict"
    )
    assert len(await here.archive.objects(make.STUDY)) == 2
    assert await here.archive.restore(make.STUDY) == 0, "what is here now stays"
    here.clock.ahead = timedelta(days=31)
    await here.archive.purge()
    assert len(here.object_files()) == 2, "files of live instances outlive the purge"
    assert (await here.archive.verify()).ok


# --- rejection notes and manifests --------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["113001", "113037", "113038", "113039"])
async def test_rejected_instances_are_hidden_from_every_read(here: Held, code: str) -> None:
    bad, good = make.image(1), make.image(2)
    await here.put(bad)
    await here.put(good)
    before = (await here.archive.mark(make.STUDY)).change  # type: ignore[union-attr]
    assert (await here.put(make.note(code, [bad]))).state == "stored"
    assert (await here.archive.mark(make.STUDY)).change == before + 1  # type: ignore[union-attr]
    record = await here.archive.record(make.STUDY)
    assert record is not None
    assert (record.n_instances, record.modalities) == (1, ("CT",)), "the note itself is no content"
    assert [o.ref.sop_uid for o in await here.archive.objects(make.STUDY)] == [good.SOPInstanceUID]
    assert await here.archive.objects(make.STUDY, sop_uid=bad.SOPInstanceUID) == []
    assert len(await here.archive.metadata(await here.archive.objects(make.STUDY))) == 1
    assert await _found(here, "instance") == [good.SOPInstanceUID]
    status = await here.archive.status()
    assert (status.instances, status.hidden, status.notes) == (1, 1, 1)
    again = await here.put(bad)
    visible = len(await here.archive.objects(make.STUDY))
    assert (again.status, visible) == ((0, 2) if code == "113039" else (0, 1)), (
        "only expired retention is lifted by a new receipt"
    )


async def test_note_before_its_instance_and_a_study_rejected_whole(here: Held) -> None:
    late = make.image(1)
    await here.put(make.note("113039", [late]))
    await here.put(late)
    assert await here.archive.record(make.STUDY) is None
    assert (await here.archive.status()).hidden == 1
    await here.put(late)
    assert len(await here.archive.objects(make.STUDY)) == 1


@pytest.mark.parametrize(
    "codes", [("113039", "113037"), ("113037", "113039"), ("113039", "113001", "113039")]
)
async def test_expired_retention_lifts_no_other_rejection(here: Held, codes: tuple[str, ...]) -> None:
    bad = make.image(1)
    await here.put(bad)
    for code in codes:
        await here.put(make.note(code, [bad]))
    await here.put(bad)
    assert await here.archive.objects(make.STUDY) == []


async def test_rejected_stays_rejected_through_the_bin(here: Held) -> None:
    bad, good = make.image(1), make.image(2)
    await here.put(bad)
    await here.put(good)
    await here.put(make.note("113037", [bad]))
    await here.archive.delete(make.STUDY, "test")
    await here.archive.restore(make.STUDY)
    assert [o.ref.sop_uid for o in await here.archive.objects(make.STUDY)] == [good.SOPInstanceUID]
    await here.archive.delete(make.STUDY, "test")
    await here.put(bad)
    assert await here.archive.objects(make.STUDY) == []


async def test_returning_manifest_is_kept_but_no_content(here: Held) -> None:
    await here.put(make.image(1))
    before = await here.archive.mark(make.STUDY)
    assert (await here.put(make.note("113030", [make.image(1)]))).state == "stored"
    assert await here.archive.mark(make.STUDY) == before, "it makes no revision"
    record = await here.archive.record(make.STUDY)
    assert record is not None
    assert (record.n_instances, record.modalities) == (1, ("CT",))
    assert len(await here.archive.objects(make.STUDY)) == 1
    alone = make.note("113030", [make.image(1)], study="1.2.77")
    await here.put(alone)
    assert await here.archive.record("1.2.77") is None
    other = make.note("113000", [make.image(1)], number=2)
    await here.put(other)
    assert len(await here.archive.objects(make.STUDY)) == 2, "any other key object is content"


# --- care ---------------------------------------------------------------------------------------------------


async def test_verify_finds_what_is_damaged_or_gone(here: Held) -> None:
    for n in (1, 2, 3):
        await here.put(make.image(n))
    assert (await here.archive.verify()).ok
    objects = {o.ref.sop_uid: await file_of(here.archive, o) for o in await here.archive.objects(make.STUDY)}
    damaged, missing = objects[f"{make.STUDY}.1.1"], objects[f"{make.STUDY}.1.2"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    missing.unlink()
    seen: list[tuple[int, int]] = []
    report = await here.archive.verify(lambda done, total: seen.append((done, total)))
    assert (report.checked, report.damaged, report.missing) == (
        3,
        (f"{make.STUDY}.1.1",),
        (f"{make.STUDY}.1.2",),
    )
    assert not report.ok
    assert seen[-1] == (3, 3)


async def test_reconcile_takes_in_whole_files_and_removes_broken_ones(here: Held) -> None:
    file = make.part10(make.image(1))
    digest = hashlib.sha256(make.data_set_of(file)).digest()
    whole, broken = here.archive.layout.object(digest), here.archive.layout.object(bytes(32))
    for path, data in ((whole, file), (broken, file[:-5])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = await here.archive.reconcile()
    assert (found.adopted, found.removed) == (1, 1)
    assert [await file_of(here.archive, o) for o in await here.archive.objects(make.STUDY)] == [whole]
    assert whole.read_bytes() == file
    assert here.object_files() == [whole]
    assert here.left_in_tmp() == []
    again = await here.archive.reconcile()
    assert (again.adopted, again.removed) == (0, 0)


async def test_unfinished_files_of_a_dead_process_are_swept_at_start(tmp_path: Path) -> None:
    dead = tmp_path / "archive" / "tmp" / "dead"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "half").write_bytes(b"half an object")
    async with held(tmp_path) as here:
        assert not dead.exists()
        async with held(tmp_path / "other"):
            pass
        second = Held(tmp_path)
        await second.archive.open()
        staged = here.archive.stage()
        staged.write(make.part10(make.image(1)))
        third = Held(tmp_path)
        await third.archive.open()
        assert (await here.archive.ingest_async(staged, Received(road="stow", peer="t"))).state == "stored", (
            "not swept: alive"
        )
        for one in (third, second):
            await one.archive.close()
            await one.db.close()
            await one.workers.close()


async def test_import_is_recursive_resumable_and_skips_what_is_no_dicom(here: Held, tmp_path: Path) -> None:
    pile = tmp_path / "pile"
    (pile / "a" / "b").mkdir(parents=True)
    (pile / "a" / "one").write_bytes(make.part10(make.image(1)))
    (pile / "a" / "b" / "two.dcm").write_bytes(make.part10(make.image(2)))
    (pile / "a" / "copy.dcm").write_bytes(make.part10(make.image(1)))
    (pile / "DICOMDIR").write_bytes(make.part10(make.image(9)))
    (pile / "readme.txt").write_text("hello" * 100)
    (pile / "cut.dcm").write_bytes(make.part10(make.image(3))[:-9])
    (pile / "no_preamble.dcm").write_bytes(make.part10(make.image(5))[132:])
    seen: list[int] = []
    report = await here.archive.import_paths([pile], lambda r: seen.append(r.files))
    assert (report.files, report.stored, report.duplicates, report.refused, report.skipped) == (7, 3, 1, 1, 2)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    again = await here.archive.import_paths([pile])
    assert (again.stored, again.duplicates, again.known) == (0, 0, 4), "known by path, size and time"
    assert (again.refused, again.skipped) == (1, 2), "what was left behind is tried and named again"
    here.files.free = 0
    (pile / "four").write_bytes(make.part10(make.image(4)))
    assert (await here.archive.import_paths([pile])).full
    here.files.free = 1 << 40
    assert (await here.archive.import_paths([pile])).stored == 1


async def test_import_names_what_it_left_behind(here: Held, tmp_path: Path) -> None:
    pile = tmp_path / "pile"
    pile.mkdir()
    explicit, implicit, big = (
        make.data_set_of(make.part10(make.image(n), syntax))
        for n, syntax in ((1, ExplicitVRLittleEndian), (2, ImplicitVRLittleEndian), (3, ExplicitVRBigEndian))
    )
    kinds = {
        "AUTORUN.INF": b"[autorun]",
        "DICOMDIR": make.part10(make.image(9)),
        "big": big,
        "broken.dcm": b"not at all",
        "cut": make.part10(make.image(3))[:-9],
        "explicit": explicit,
        "implicit": implicit,
        "whole": make.part10(make.image(4)),
        "unfit": b"\x08\0\x05\0" + b"\xff" * 300,
        "uidless": explicit.replace(make.CT.encode(), b"x" * len(make.CT)),
    }
    for name, data in kinds.items():
        (pile / name).write_bytes(data)
    before = preview_paths([pile], ArchiveConfig().limits())
    assert (before.objects, before.other, len(before.refused)) == (3, 2, 5)
    report = await here.archive.import_paths([pile])
    assert (report.stored, report.refused, report.unread, report.skipped) == (3, 2, 3, 2)
    assert not report.complete
    told = {Path(path).name: what for path, what in report.remarks}
    assert set(told) == set(kinds) - {"whole"}
    assert "Explicit VR Little Endian" in told["explicit"]
    assert "Implicit VR Little Endian" in told["implicit"]
    assert "Big Endian" in told["big"]
    assert told["cut"].startswith("refused: ")
    assert told["AUTORUN.INF"] == "no DICOM"
    assert await here.archive.noted() == [(make.STUDY, ("no-meta",))]
    for name in ("big", "broken.dcm", "cut", "unfit", "uidless"):
        (pile / name).unlink()
    again = await here.archive.import_paths([pile])
    assert (again.known, again.skipped, again.complete) == (3, 2, True)


async def test_backup_and_restore(here: Held, tmp_path: Path) -> None:
    await here.put(make.image(1))
    first = await here.archive.backup(tmp_path / "backup")
    assert (first.objects, first.copied) == (1, 1)
    await here.put(make.image(2))
    second = await here.archive.backup(tmp_path / "backup")
    assert (second.objects, second.copied) == (2, 1), "only what is new"
    target = tmp_path / "new"
    report = backup.restore(
        tmp_path / "backup", target / "node.sqlite", target / "archive", Vault(here.files)
    )
    assert report.copied == 2
    async with held(target) as restored:
        assert await restored.archive.record(make.STUDY) == await here.archive.record(make.STUDY)
        assert (await restored.archive.verify()).ok


async def test_an_older_database_over_newer_objects_loses_nothing(here: Held, tmp_path: Path) -> None:
    await here.put(make.image(1))
    await here.archive.backup(tmp_path / "backup")
    await here.put(make.image(2))
    target = tmp_path / "new"
    (target / "archive").mkdir(parents=True)
    (here.folder / "archive" / "objects").rename(target / "archive" / "objects")
    backup.restore(tmp_path / "backup", target / "node.sqlite", target / "archive", Vault(here.files))
    async with held(target):
        pass  # it takes them in by itself before it closes
    async with held(target) as restored:
        assert (target / "archive" / "closed-cleanly").exists() is False
        assert len(await restored.archive.objects(make.STUDY)) == 2


async def test_the_same_object_from_many_at_once(here: Held) -> None:
    results = await asyncio.gather(
        *(here.put(make.image(1)) for _ in range(12)), *(here.put(make.image(2)) for _ in range(12))
    )
    assert sorted(r.state for r in results) == ["duplicate"] * 22 + ["stored"] * 2
    others = await asyncio.gather(*(here.put(make.image(1, StudyID=str(n % 2))) for n in range(8)))
    assert {r.state for r in others} == {"conflict"}
    assert len(here.object_files()) == 2
    assert here.left_in_tmp() == []
