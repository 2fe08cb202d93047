"""What the ``init`` command does: make a registry's folder and its configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crosslight.runtime.clock import Ids
from crosslight.runtime.command import make_folder
from crosslight.runtime.files import Files
from crosslight.standards.ids import uid_from_uuid
from registry.config import FILE, RegistryConfig


def init_registry(folder: Path, files: Files, ids: Ids, values: dict[str, Any] | None = None) -> Path:
    """Make ``folder`` with a commented ``registry.toml``; the file's path.

    OIDs that were not given are made (PS3.5 B.2).

    Raises:
        ConfigError: if there is one already.
    """
    values = dict(values or {})
    region = dict(values.get("region", {}))
    root = uid_from_uuid(ids.uuid4())
    region.setdefault("name", "A Crosslight region")
    region.setdefault("home_community_id", f"{root}.1")
    region.setdefault("authority", f"{root}.2")
    values["region"] = region
    return make_folder(folder, FILE, RegistryConfig, values, files)
