"""S3Proxy, brought by Maven, as the object store of a node's own objects."""

from __future__ import annotations

import subprocess
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_ports
from scenario_processes import ROOT

from benchmarks.peers import child
from crosslight.runtime.object_store import opened_bucket
from node.archive.bucket import Bucket
from node.archive.config import ObjectStoreConfig
from simulations.upstreams.object_store import MAVEN_S, maven_command

KEY, SECRET, FILE = "an-access-key", "a-secret-that-is-told-to-nobody", "s3.toml"
URL = "s3://images/own"


def libraries() -> Path:
    """Of S3Proxy."""
    folder = ROOT / "build" / "s3proxy"
    built = subprocess.run(maven_command(folder), capture_output=True, text=True, timeout=MAVEN_S)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def credentials_in(folder: Path) -> None:
    """What the node is told."""
    (folder / FILE).write_text(f'access_key_id = "{KEY}"\nsecret_access_key = "{SECRET}"\n')
    (folder / FILE).chmod(0o600)


def bucket_at(folder: Path, endpoint: str) -> Bucket:
    """As the node opens it; credentials lie in ``folder``."""
    config = ObjectStoreConfig(url=URL, endpoint=endpoint, credentials_file=FILE)
    return Bucket(opened_bucket(config, folder, "archive.object_store"), URL)


@dataclass
class OwnStore:
    """The store, as whoever keeps it sees it."""

    place: Path
    libraries: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        (self.place / "store" / "images").mkdir(parents=True)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def section(self) -> dict[str, Any]:
        """[archive.object_store]."""
        return {"url": URL, "endpoint": self.endpoint, "credentials_file": FILE, "mb_per_s": 10_000.0}

    def files(self) -> list[Path]:
        """Objects in it."""
        return sorted((self.place / "store" / "images" / "own" / "objects").rglob("*.dcm"))

    def served(self) -> AbstractAsyncContextManager[int]:
        """While it answers."""
        settings = {
            "s3proxy.endpoint": self.endpoint,
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": KEY,
            "s3proxy.credential": SECRET,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.identity": "none",
            "jclouds.credential": "none",
            "jclouds.filesystem.basedir": str(self.place / "store"),
        }
        conf = self.place / "s3proxy.conf"
        conf.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        log = ROOT / "simulations" / "upstreams" / "s3proxy" / "logback.xml"
        command = [
            *("java", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={log}"),
            *("-cp", f"{self.libraries}/*", "org.gaul.s3proxy.Main", "--properties", str(conf)),
        ]
        return child(command, self.port, self.place / "s3proxy.txt")
