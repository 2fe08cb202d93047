"""A node beside an object store that it has never seen: S3Proxy over a folder, written to by its own API."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import dicom_objects as make
import obstore
import pytest
from beside_files import BesideFiles, beside_files, object_store, until
from obstore.store import S3Store
from ports import free_ports
from scenario_processes import ROOT

from benchmarks.peers import child
from crosslight.standards.problem import ConfigError, Unavailable
from simulations.upstreams.object_store import MAVEN_S, maven_command

pytestmark = pytest.mark.timeout(1200)  # Maven may have everything to fetch

KEY, SECRET = "an-access-key", "a-secret-that-is-told-to-nobody"
STUDIES = 12
EACH = 5


class Bucket:
    """The store, as whoever keeps it sees it."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self.port = free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._folder, self._libraries = folder, libraries
        (folder / "images").mkdir(parents=True)
        self._settings = folder.parent / "s3proxy.conf"
        settings = {
            "s3proxy.endpoint": self.endpoint,
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": KEY,
            "s3proxy.credential": SECRET,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.identity": "none",
            "jclouds.credential": "none",
            "jclouds.filesystem.basedir": str(folder),
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.store = S3Store(
            "images",
            prefix="vna",
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=KEY,
            secret_access_key=SECRET,
            disable_bulk_delete=True,
            client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
        )

    def served(self) -> AbstractAsyncContextManager[int]:
        """While it answers."""
        config = ROOT / "simulations" / "upstreams" / "s3proxy" / "logback.xml"
        command = [
            *("java", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={config}"),
            *("-cp", f"{self._libraries}/*", "org.gaul.s3proxy.Main", "--properties", str(self._settings)),
        ]
        return child(command, self.port, self._folder.parent / "s3proxy.txt")

    async def put(self, key: str, data: bytes) -> None:
        await obstore.put_async(self.store, key, data)

    async def delete(self, key: str) -> None:
        await obstore.delete_async(self.store, key)


@pytest.fixture(scope="session")
def s3proxy() -> Path:
    """Its libraries, brought by Maven."""
    libraries = ROOT / "build" / "s3proxy"
    built = subprocess.run(maven_command(libraries), capture_output=True, text=True, timeout=MAVEN_S)
    assert built.returncode == 0, built.stdout + built.stderr
    return libraries


@pytest.fixture
def bucket(tmp_path: Path, s3proxy: Path) -> Bucket:
    node = tmp_path / "node"
    node.mkdir()
    (node / "s3.toml").write_text(f'access_key_id = "{KEY}"\nsecret_access_key = "{SECRET}"\n')
    (node / "s3.toml").chmod(0o600)
    return Bucket(tmp_path / "store", s3proxy)


def study(number: int) -> str:
    return f"1.2.826.0.1.3680043.10.2.{number}"


def key(number: int, instance: int) -> str:
    return f"{number % 3}/st-{number}/{instance}"


async def filled(bucket: Bucket) -> list[str]:
    """Studies in the bucket; their instances."""
    for number in range(1, STUDIES + 1):
        for instance in range(1, EACH + 1):
            made = make.image(instance, study=study(number), PatientID=f"L{number}")
            await bucket.put(key(number, instance), make.part10(made))
    await bucket.put("readme.txt", b"no image")
    return sorted(f"{study(n)}.1.{i}" for n in range(1, STUDIES + 1) for i in range(1, EACH + 1))


async def test_a_node_that_is_killed_in_mid_backfill_goes_on(tmp_path: Path, bucket: Bucket) -> None:
    async with bucket.served():
        wanted = await filled(bucket)
        for at_least in (1, 25):
            await _killed_when(tmp_path / "node", bucket, at_least)
        gone = wanted.index(f"{study(3)}.1.2")
        await bucket.delete(key(3, 2))
        del wanted[gone]
        async with beside_files(tmp_path / "node", object_store(bucket.endpoint)) as node:
            await until(node.counts, {"HELD": len(wanted), "OTHER": 1})
            await until(node.behind, False)
            assert await node.uids() == wanted
            for number in (1, STUDIES):
                given = await node.given(await node.stored(study(number), f"{study(number)}.1.{EACH}"))
                stored = await obstore.get_async(bucket.store, key(number, EACH))
                assert given == bytes(await stored.bytes_async())


async def _killed_when(folder: Path, bucket: Bucket, at_least: int) -> None:
    """Run a node until it knows so many instances, and kill it."""
    command = [sys.executable, str(Path(__file__).parents[1] / "beside_files_child.py")]
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(  # noqa: ASYNC220 - starting is quick
        [*command, str(folder), bucket.endpoint, "10"],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests}/.."},
    )
    try:
        async with asyncio.timeout(120):
            while True:
                assert process.poll() is None, "the node ended"
                if await _known(folder) >= at_least:
                    break
                await asyncio.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert await _known(folder) < STUDIES * EACH, "it was not in the middle of it"


async def _known(folder: Path) -> int:
    import sqlite3
    from contextlib import closing

    found = list(folder.glob("node.sqlite"))
    if not found:
        return 0
    try:
        with closing(sqlite3.connect(f"file:{found[0]}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM source_file WHERE state = 1").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


async def test_a_store_that_is_away_in_mid_backfill_is_said_and_nothing_is_forgotten(
    tmp_path: Path, bucket: Bucket
) -> None:
    config = object_store(bucket.endpoint, read_per_s=10.0)
    async with bucket.served():
        wanted = await filled(bucket)
        node_beside = beside_files(tmp_path / "node", config)
        node = await node_beside.__aenter__()
        await until(lambda: _at_least(node, 10), True)
    try:
        await until(lambda: _silent(node), True)
        known = await node.uids()
        assert 10 <= len(known) < len(wanted)
        assert await node.behind()
        stored = await node.stored(known[0].rpartition(".1.")[0], known[0])
        with pytest.raises(Unavailable):
            await node.given(stored)
        async with bucket.served():
            await until(node.counts, {"HELD": len(wanted), "OTHER": 1}, 120)
            await until(node.behind, False)
            assert await node.uids() == wanted
    finally:
        await node_beside.__aexit__(None, None, None)


async def _at_least(node: BesideFiles, count: int) -> bool:
    return len(await node.uids()) >= count


async def _silent(node: BesideFiles) -> bool:
    return "object store does not answer" in (await node.figures()).walk.trouble


async def test_an_object_that_is_put_again_is_read_anew(tmp_path: Path, bucket: Bucket) -> None:
    async with bucket.served():
        await bucket.put("a/1", make.part10(make.image(1)))
        await bucket.put("a/2", make.part10(make.image(2)))
        async with beside_files(tmp_path / "node", object_store(bucket.endpoint)) as node:
            both = [f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"]
            await until(node.uids, both)
            await until(node.behind, False)
            stored = await node.stored(make.STUDY, both[0])
            assert len(await node.given(stored)) > 0
            await bucket.delete("a/1")
            await bucket.put("a/1", make.part10(make.image(1, PatientName="Miller^Anne")))
            await until(lambda: node.uids(PatientName="Miller^Anne"), both[:1])
            await until(node.behind, False)
            assert b"Miller^Anne" in await node.given(await node.stored(make.STUDY, both[0]))
            await bucket.delete("a/1")
            await until(node.uids, both[1:])
            await bucket.put("a/1", make.part10(make.image(1)))
            await until(node.uids, both)


async def test_what_changed_since_is_refused_by_its_etag(tmp_path: Path, bucket: Bucket) -> None:
    async with bucket.served():
        await bucket.put("a/1", make.part10(make.image(1)))
        config = object_store(bucket.endpoint, look_every_s=3600.0)
        async with beside_files(tmp_path / "node", config) as node:
            await until(node.counts, {"HELD": 1})
            stored = await node.stored(make.STUDY, f"{make.STUDY}.1.1")
            await bucket.put("a/1", make.part10(make.image(1, PatientName="Miller^Anne")))
            with pytest.raises(Unavailable, match="changed since"):
                await node.given(stored)
            await until(lambda: node.uids(PatientName="Miller^Anne"), [f"{make.STUDY}.1.1"])


async def test_credentials_are_told_to_nobody(
    tmp_path: Path, bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "another-secret-that-is-told-to-nobody"
    file = tmp_path / "node" / "s3.toml"
    file.write_text(f'access_key_id = "{KEY}"\nsecret_access_key = "{wrong}"\n')
    async with bucket.served(), beside_files(tmp_path / "node", object_store(bucket.endpoint)) as node:
        await until(lambda: _refused(node), True)
        assert wrong not in repr(await node.figures())
    assert wrong not in "".join(capfd.readouterr())
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="Others may read"):
        async with beside_files(tmp_path / "node", object_store(bucket.endpoint)):
            pass


async def _refused(node: BesideFiles) -> bool:
    return "does not take the credentials" in (await node.figures()).walk.trouble
