"""Followers of folders and object stores, made from the configuration."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.seams import Seams
from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.problem import ConfigError
from node.sources.files.config import FilesSource, FolderSource, ObjectStoreSource
from node.sources.files.folder import FolderFiles
from node.sources.files.follow import FileFollower
from node.sources.files.heads import HeadReader
from node.sources.files.listing import FileStore
from node.sources.files.object_store import ObjectStoreFiles, bucket
from node.sources.files.rows import FileRows
from node.sources.files.taking import DescribingFiles, FileTaker

_KEYS = ("access_key_id", "secret_access_key", "session_token")


async def make_follower(
    source: FilesSource, folder: Path, db: EmbeddedDb, index: DescribingFiles, seams: Seams
) -> FileFollower:
    """Who follows a source; ``folder`` is the node's.

    Raises:
        ConfigError: what the configuration names cannot be used.
    """
    files = _files(source, folder, seams)
    rows = FileRows(db, source.name)
    await rows.open()
    heads = HeadReader(files, seams.workers, LIMITS, source.max_header_bytes)
    taker = FileTaker(source.name, files, heads, index, rows, seams.clock, source.reads_at_once)
    return FileFollower(source, files, rows, index, taker, seams.clock)


def _files(source: FilesSource, folder: Path, seams: Seams) -> FileStore:
    if isinstance(source, FolderSource):
        return FolderFiles(folder / source.path, seams.workers, inodes=source.inodes)
    if not isinstance(source, ObjectStoreSource):
        raise ConfigError(f"There is no such kind of source: {source.name}.")
    options = {"region": source.region, **_credentials(source, folder)}
    if source.endpoint:
        options["endpoint"] = source.endpoint
    if source.anonymous:
        options["skip_signature"] = "true"
    try:
        authorities = (folder / source.tls_ca).read_bytes() if source.tls_ca else b""
        return ObjectStoreFiles(bucket(source.url, options, authorities))
    except OSError as error:
        raise ConfigError(
            "The authorities of an object store cannot be read.",
            why=error.strerror or "",
            where=source.tls_ca,
        ) from None
    except Exception:  # noqa: BLE001 - the library has several; their text may hold what was configured
        raise ConfigError(
            f"The object store {source.name} cannot be set up.", where="sources.object_store"
        ) from None


def _credentials(source: ObjectStoreSource, folder: Path) -> dict[str, str]:
    """Key and secret of the file; {} where the environment has them (AWS_ACCESS_KEY_ID and its like)."""
    if not source.credentials_file:
        return {}
    where = "sources.object_store.credentials_file"
    path = folder / source.credentials_file
    try:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise ConfigError(
                "Others may read the file of an object store's credentials.",
                todo=f"chmod 600 {path}",
                where=where,
            )
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            "The credentials of an object store cannot be read.", why=error.strerror or "", where=where
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError("The file of credentials is not TOML.", where=where) from None
    if unknown := found.keys() - set(_KEYS):
        known = ", ".join(_KEYS)
        raise ConfigError(
            f"The file of credentials has {len(unknown)} unknown keys.",
            todo=f"Known here: {known}.",
            where=where,
        )
    return {name: str(value) for name, value in found.items()}
