"""How a node stands: a member of a region, or alone before a registry that is not ours (D18)."""

from __future__ import annotations

from pathlib import Path

from crosslight.runtime.files import Files
from node.config import NodeConfig
from node.region.alone import Alone
from node.region.state import FACTS, RegionState

REGION = "region"  # the folder that joining makes

Standing = RegionState | Alone


def standing(folder: Path, config: NodeConfig, files: Files) -> Standing:
    """Who the node in ``folder`` is.

    Raises:
        ConfigError: if it has not joined, or ``[publish.xds]`` lacks something.
    """
    if config.publish.kind == "xds":
        return Alone(folder, config.publish.xds, config.archive, open_mode=config.listen.open)
    return RegionState(folder / REGION, files)


def has_standing(folder: Path, config: NodeConfig) -> bool:
    """Whether the node has joined, or need not."""
    return config.publish.kind == "xds" or (folder / REGION / FACTS).exists()
