"""What the ``init`` command does: make a registry's folder and its configuration file."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Any

from crosslight.runtime.clock import Ids
from crosslight.runtime.config import commented
from crosslight.runtime.files import Files
from crosslight.standards.ids import uid_from_uuid
from crosslight.standards.problem import ConfigError
from registry.config import FILE, RegistryConfig

TITLE = "Crosslight registry. Every key is explained; those that are commented out have the value shown."

UNIT = """\
[Unit]
Description=Crosslight registry
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
ExecStart={python} -m registry --dir {folder} serve
Restart=always
RestartSec=2
User={user}
UMask=0077
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
ReadWritePaths={folder}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def init_registry(folder: Path, files: Files, ids: Ids, values: dict[str, Any] | None = None) -> Path:
    """Make ``folder`` with a commented ``registry.toml``; the file's path. OIDs that were not given are made (PS3.5 B.2).

    Raises:
        ConfigError: if there is one already.
    """
    path = folder / FILE
    if path.exists():
        raise ConfigError(f"{path} is there already.", todo="Edit it, or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    values = dict(values or {})
    region = dict(values.get("region", {}))
    root = uid_from_uuid(ids.uuid4())
    region.setdefault("name", "A Crosslight region")
    region.setdefault("home_community_id", f"{root}.1")
    region.setdefault("authority", f"{root}.2")
    values["region"] = region
    files.write_atomic(path, commented(RegistryConfig, values, TITLE).encode(), mode=0o600)
    return path


def write_unit(folder: Path, files: Files) -> Path:
    """A systemd unit for this folder, to be copied to where systemd looks; the service runs as the folder's owner."""
    path = folder / "crosslight-registry.service"
    user = pwd.getpwuid(folder.stat().st_uid).pw_name
    text = UNIT.format(python=sys.executable, folder=folder.resolve(), user=user)
    files.write_atomic(path, text.encode())
    return path
