"""What the ``init`` and ``join`` commands do.

Make a node's folder and its configuration file, and let it into a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosslight.runtime.command import make_folder
from crosslight.runtime.files import Files
from crosslight.standards.problem import ConfigError
from node.config import FILE, NodeConfig, read_config

if TYPE_CHECKING:
    from crosslight.runtime.seams import Seams
    from node.membership.state import RegionState


def init_node(folder: Path, files: Files, values: dict[str, Any] | None = None) -> Path:
    """Make ``folder`` with a commented ``node.toml``; the file's path.

    Raises:
        ConfigError: if there is one already.
    """
    return make_folder(folder, FILE, NodeConfig, values or {}, files)


async def join_region(
    folder: Path, invitation: str, seams: Seams, authorities: Sequence[str] = ()
) -> RegionState:
    """Join the region that invited this node; what it was given lies in ``folder/region``.

    ``authorities`` are OIDs under which this trust issues patient numbers.
    """
    if not (folder / FILE).exists():
        raise ConfigError(f"There is no node in {folder}.", todo="Run: crosslight-node init DIR")
    config = read_config(folder)
    if config.publish.kind == "xds":
        raise ConfigError(
            "This node publishes to a registry that is joined by nobody.",
            why='publish.kind = "xds".',
            where="publish.kind",
            todo="Serve, or set publish.kind to crosslight.",
        )
    from node.membership.join import join  # with all of HTTP, which `init` need not wait for

    return await join(invitation, folder / "region", seams, authorities, config.region.proxy)
