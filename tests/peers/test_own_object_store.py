"""A node whose objects go to a real object store (S3Proxy): killed, cut off, damaged, and read by DCMTK."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pytest
from archive_fixture import Held, held
from bucket_fixture import all_given, carried, filled, objects
from dimse_calls import until
from dimse_node import node, run
from own_bucket import FILE, SECRET, URL, OwnStore, bucket_at, credentials_in, libraries

from crosslight.standards.problem import StorageError
from node.archive.bucket import Bucket
from node.archive.config import ObjectStoreConfig
from node.dimse.config import KnownCaller

pytestmark = pytest.mark.timeout(1200)  # Maven may have everything to fetch

CHILD = Path(__file__).parents[1] / "carry_child.py"


@pytest.fixture(scope="session")
def s3proxy() -> Path:
    return libraries()


@pytest.fixture
def store(tmp_path: Path, s3proxy: Path) -> OwnStore:
    (tmp_path / "node").mkdir()
    credentials_in(tmp_path / "node")
    return OwnStore(tmp_path, s3proxy)


def settings(store: OwnStore, folder: Path) -> dict[str, Any]:
    config = ObjectStoreConfig(
        url=URL, endpoint=store.endpoint, credentials_file=FILE, keep_local_gb=0.0, mb_per_s=10_000
    )
    return {"bucket": bucket_at(folder, store.endpoint), "object_store": config, "min_free_bytes": 0}


async def carried_away(here: Held) -> None:
    await here.settle()
    here.archive.carrier._opened.clear()  # two hours have passed
    await carried(here)
    assert here.object_files() == []


def _has(store: OwnStore, count: int) -> bool:
    return len(store.files()) >= count


async def test_a_node_that_is_killed_while_it_carries_goes_on_and_loses_nothing(
    tmp_path: Path, store: OwnStore
) -> None:
    folder = tmp_path / "node"
    async with held(folder, min_free_bytes=0) as here:
        before = await filled(here, 40, Rows=64, Columns=64, pixels=bytes(64 * 64 * 2))
        await here.settle()
    async with store.served():
        for wanted in (5, 15):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CHILD), str(folder), store.endpoint, "0.03"),
                stdout=asyncio.subprocess.PIPE,
            )
            assert child.stdout is not None
            async with asyncio.timeout(120):
                assert await child.stdout.readline() == b"begun\n"
            await until(partial(_has, store, wanted), 120)
            child.send_signal(signal.SIGKILL)
            await child.wait()
        assert 15 <= len(store.files()) < 40, "it was in the middle of it"
        async with held(folder, **settings(store, folder)) as here:
            assert await all_given(here) == before
            assert (await here.archive.verify()).ok
            await carried_away(here)
            assert len(store.files()) == 40
            assert await all_given(here) == before
            assert (await here.archive.verify()).ok


async def test_a_node_that_is_killed_while_all_come_back_goes_on_and_loses_nothing(
    tmp_path: Path, store: OwnStore
) -> None:
    folder = tmp_path / "node"
    async with store.served():
        async with held(folder, **settings(store, folder)) as here:
            before = await filled(here, 30, Rows=64, Columns=64, pixels=bytes(64 * 64 * 2))
            await carried_away(here)
            await here.archive.carrier.turn(home=True)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, str(CHILD), str(folder), store.endpoint, "0.03"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        async with asyncio.timeout(120):
            assert await child.stdout.readline() == b"begun\n"
        await until(lambda: len(here.object_files()) >= 5, 120)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        assert 5 <= len(here.object_files()) < 30, "it was in the middle of it"
        async with held(folder, **settings(store, folder)) as here:
            assert await all_given(here) == before
            await carried(here)
            assert (await here.archive.verify()).ok
            assert (await here.archive.carrier.state()).objects == 0
        assert len(store.files()) == 30, "nothing is removed there"
    async with held(folder, min_free_bytes=0) as here:
        assert await all_given(here) == before


async def test_a_store_that_goes_away_and_comes_back(
    tmp_path: Path, store: OwnStore, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "node"
    async with held(folder, **settings(store, folder)) as here:
        async with store.served():
            before = await filled(here)
            await carried_away(here)
        assert (await here.put(make.image(9))).state == "stored"
        carrier = here.archive.carrier
        assert isinstance(carrier.bucket, Bucket)
        with pytest.raises(StorageError, match="which does not give it now"):
            await here.archive.open_object((await objects(here))[0])
        running = asyncio.create_task(carrier.run())
        await until(lambda: "cannot be reached" in carrier.trouble, 60)
        assert "cannot be reached" in await carrier.away()
        running.cancel()
        with pytest.raises(StorageError):
            await here.archive.verify()
        assert (await here.archive.care.state()).standing == 0
        assert (await carrier.state()).waiting == 1
        async with store.served():
            await carried(here)
            here.archive.fetcher._silent_s = 0.0  # a few seconds have passed
            now = await all_given(here)
            assert before.items() <= now.items()
            assert len(now) == 5
            assert (await here.archive.verify()).ok
    assert SECRET not in "".join(capfd.readouterr())


async def test_dcmtk_gets_byte_for_byte_and_damage_heals(tmp_path: Path, store: OwnStore) -> None:
    folder = tmp_path / "node"
    sent = [make.part10(make.image(n, Rows=64, Columns=64, pixels=bytes([n]) * 8192)) for n in range(1, 6)]
    sent.append(make.part10(make.image(6, Rows=2560, Columns=2048, pixels=bytes(2048 * 2560 * 2))))
    wanted = {f"{make.STUDY}.1.{n}": make.data_set_of(data) for n, data in enumerate(sent, 1)}
    callers = (KnownCaller(ae_title="WS1", may=("find", "open")), KnownCaller(ae_title="CT1"))
    async with store.served(), node(folder, callers=callers, archive=settings(store, folder)) as made:
        for data in sent:
            assert (await made.held.put(data)).status == 0
        await carried_away(made.held)
        assert await _gotten(made.service.port, tmp_path / "first") == wanted
        (found,) = await made.held.archive.objects(make.STUDY, sop_uid=f"{make.STUDY}.1.2")
        (path,) = [path for path in store.files() if path.stem == found.ref.sha256]
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        left = await _gotten(made.service.port, tmp_path / "second")
        assert left == {uid: data for uid, data in wanted.items() if uid != found.ref.sop_uid}
        assert (await made.held.archive.care.state()).standing == 1
        assert (await made.held.put(sent[1])).status == 0
        await carried_away(made.held)
        assert await _gotten(made.service.port, tmp_path / "third") == wanted
        assert (await made.held.archive.care.state()).standing == 0


async def _gotten(port: int, out: Path) -> dict[str, bytes]:
    """What getscu brings of the study."""
    out.mkdir()
    command = ["getscu", "-S", "+B", "-od", str(out), "-aet", "WS1", "-aec", "RTK"]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={make.STUDY}"]
    await run(*command, "127.0.0.1", str(port))
    return {
        str(pydicom.dcmread(path).SOPInstanceUID): make.data_set_of(path.read_bytes())
        for path in out.iterdir()
    }
