"""Tables [[sources.folder]] and [[sources.object_store]]."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.object_store import check_bucket
from crosslight.standards.problem import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSource:
    """What a folder and an object store have in common."""

    name: str = setting(help="What it is called here; not to be changed later.", example="VNA")
    look_every_s: float = setting(
        300.0, "It is listed so often, in seconds, from one beginning to the next.", low=0.1, high=604800
    )
    listed_per_s: int = setting(5000, "Most files that are listed in a second.", low=1)
    read_per_s: float = setting(
        50.0, "Most files of which the header is read in a second, so that storage is not loaded.", low=0.01
    )
    reads_at_once: int = setting(4, "Most files that are read at the same time.", low=1, high=64)
    settle_s: float = setting(
        5.0, "A file that was changed in the last so many seconds is not read yet.", low=0.0, high=86400
    )
    max_header_bytes: int = setting(
        64 << 20, "Most bytes that are read of one file to know what it is.", low=1 << 16, high=1 << 30
    )
    empty_is_true: bool = setting(
        False, "Whether an empty listing means that all was deleted; else it is taken for trouble."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource(FilesSource):
    """One folder of Part 10 files, of any depth."""

    path: str = setting(help="The folder; it is only read.", example="/mnt/vna")
    inodes: bool = setting(
        True,
        "Whether inode numbers say that a file is the same. false for shares that number anew at each mount.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreSource(FilesSource):
    """One prefix of a bucket that answers the S3 API."""

    url: str = setting(help="s3://bucket or s3://bucket/prefix.", example="s3://images/vna")
    endpoint: str = setting("", "Its address. Empty: the region's own.", example="https://s3.trust.example")
    region: str = setting("us-east-1", "Its region; stores of one's own mostly do not mind.")
    credentials_file: str = setting(
        "",
        "TOML file in the node's folder, mode 0600, with access_key_id and secret_access_key. Empty: the"
        " environment's (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
    )
    anonymous: bool = setting(False, "Whether it is asked without credentials.")
    tls_ca: str = setting("", "PEM file of the authorities of its certificate. Empty: those of the machine.")


def check_files(folders: tuple[FolderSource, ...], stores: tuple[ObjectStoreSource, ...]) -> None:
    """Refuse what cannot be used.

    Raises:
        ConfigError: naming the key.
    """
    for folder in folders:
        if not folder.path.startswith("/"):
            raise ConfigError("The whole path of a folder is wanted.", where="sources.folder.path")
    for store in stores:
        check_bucket(store, "sources.object_store")
