"""An object store that answers the S3 API: S3Proxy, brought by Maven."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from pydicom.dataset import FileDataset

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files
from crosslight.standards.problem import OurError
from simulations.dicomfile import part10
from simulations.upstreams.installed import found
from simulations.upstreams.pace import LISTED
from simulations.upstreams.upstream import HOST, ArchivePlace, Program

BUCKET, PREFIX = "images", "vna"
CREDENTIALS = "s3.toml"
MAVEN_S = 900.0  # an empty cache, on a slow line


class ObjectStore:
    """One bucket of it."""

    label = "an object store (S3)"
    tells_numbers = True
    passes_at_once = True
    needs = ("java", "mvn")

    def __init__(self, place: ArchivePlace, files: Files, ids: Ids) -> None:
        self.place, self._files, self._ids = place, files, ids
        self._port = place.ports[0]
        self._endpoint = f"http://{HOST}:{self._port}"
        self._settings = place.folder / "s3proxy.conf"
        self._libraries = place.folder / "lib"

    @property
    def address(self) -> str:
        """Bucket and endpoint."""
        return f"s3://{BUCKET}/{PREFIX} at {self._endpoint}"

    @property
    def programs(self) -> tuple[Program, ...]:
        """S3Proxy."""
        logging = resources.files("simulations").joinpath("upstreams/s3proxy/logback.xml")
        command = (
            *(found("java"), "-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={logging}"),
            *("-cp", f"{self._libraries}/*", "org.gaul.s3proxy.Main", "--properties", str(self._settings)),
        )
        return (Program(self.place.name, command, self._port),)

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """[[sources.object_store]]."""
        return "object_store", {
            "name": self.place.title,
            "url": f"s3://{BUCKET}/{PREFIX}",
            "endpoint": self._endpoint,
            "credentials_file": CREDENTIALS,
            "empty_is_true": True,
            **LISTED,
        }

    async def make(self) -> None:
        """Bring the program; make the bucket's folder and a key."""
        bucket = self.place.folder / "buckets" / BUCKET
        bucket.mkdir(parents=True)
        await bring_s3proxy(self._libraries)
        key, secret = self._ids.token_bytes(8).hex(), self._ids.token_bytes(16).hex()
        settings = {
            "s3proxy.endpoint": self._endpoint,
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": key,
            "s3proxy.credential": secret,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.identity": "none",
            "jclouds.credential": "none",
            "jclouds.filesystem.basedir": str(bucket.parent),
        }
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        self._files.write_atomic(self._settings, lines.encode())
        said = f'access_key_id = "{key}"\nsecret_access_key = "{secret}"\n'
        self._files.write_atomic(self.place.node_folder / CREDENTIALS, said.encode())

    def _store(self) -> S3Store:
        said = dict(line.split("=", 1) for line in self._settings.read_text("utf-8").splitlines())
        return S3Store(
            BUCKET,
            prefix=PREFIX,
            endpoint=self._endpoint,
            region="us-east-1",
            access_key_id=said["s3proxy.identity"],
            secret_access_key=said["s3proxy.credential"],
            disable_bulk_delete=True,
            client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
        )

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """PutObject of each."""
        store = self._store()
        for ds in datasets:
            await obstore.put_async(store, _key(ds.StudyInstanceUID, ds.SOPInstanceUID), part10(ds))

    async def remove(self, study_uid: str, sop_uids: Collection[str]) -> None:
        """DeleteObject of each."""
        store = self._store()
        for sop_uid in sop_uids:
            await obstore.delete_async(store, _key(study_uid, sop_uid))


def _key(study_uid: str, sop_uid: str) -> str:
    return f"{study_uid}/{sop_uid}"


def maven_command(libraries: Path) -> tuple[str, ...]:
    """Has Maven put S3Proxy and what it needs into ``libraries``."""
    pom = resources.files("simulations").joinpath("upstreams/s3proxy/pom.xml")
    return (found("mvn"), "-q", "-B", "-f", str(pom), f"-Dlibraries={libraries}", "package")


async def bring_s3proxy(libraries: Path) -> None:
    """Have Maven put S3Proxy and what it needs into ``libraries``.

    Raises:
        OurError: when it cannot.
    """
    process = await asyncio.create_subprocess_exec(
        *maven_command(libraries),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), MAVEN_S)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise OurError(
            "Maven could not bring S3Proxy.",
            why=output.decode("utf-8", "replace")[-600:],
            todo="It needs the network, or a Maven cache that has it.",
        )
