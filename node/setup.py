"""What the ``init`` and ``join`` commands do: make a node's folder and its configuration file, and let it into a region."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Any

from crosslight.runtime.config import commented
from crosslight.runtime.files import Files
from crosslight.standards.problem import ConfigError
from node.config import FILE, NodeConfig, read_config
from node.region.join import join
from node.region.state import RegionState

TITLE = "Crosslight node. Every key is explained; those that are commented out have the value shown."

UNIT = """\
[Unit]
Description=Crosslight node
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={python} -m node --dir {folder} serve
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


def init_node(folder: Path, files: Files, values: dict[str, Any] | None = None) -> Path:
    """Make ``folder`` with a commented ``node.toml``; the file's path.

    Raises:
        ConfigError: if there is one already.
    """
    path = folder / FILE
    if path.exists():
        raise ConfigError(f"{path} is there already.", todo="Edit it, or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    files.write_atomic(path, commented(NodeConfig, values or {}, TITLE).encode(), mode=0o600)
    return path


def write_unit(folder: Path, files: Files) -> Path:
    """A systemd unit for this folder, to be copied to where systemd looks; the service runs as the folder's owner."""
    path = folder / "crosslight-node.service"
    user = pwd.getpwuid(folder.stat().st_uid).pw_name
    text = UNIT.format(python=sys.executable, folder=folder.resolve(), user=user)
    files.write_atomic(path, text.encode())
    return path


async def join_region(folder: Path, invitation: str, files: Files) -> RegionState:
    """Join the region that invited this node; what it was given lies in ``folder/region``."""
    if not (folder / FILE).exists():
        raise ConfigError(f"There is no node in {folder}.", todo="Run: crosslight-node init DIR")
    if read_config(folder).publish.kind == "xds":
        raise ConfigError(
            "This node publishes to a registry that is joined by nobody.", why='publish.kind = "xds".', where="publish.kind",
            todo="Serve, or set publish.kind to crosslight.",
        )  # fmt: skip
    return await join(invitation, folder / "region", files)
