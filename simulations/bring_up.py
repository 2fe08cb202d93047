"""A region of processes, made or started from the state that was kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from crosslight.runtime.files import private_folder
from simulations.folder_claim import FolderClaim, free
from simulations.region import DemoRegion
from simulations.world import StoryError


async def claim_places(region: DemoRegion, folder: FolderClaim) -> bool:
    """Take the region's folder and ports; whether the region is still to be made.

    Raises:
        ConfigError: when the folder holds another region.
        StoryError: when somebody else has the folder or a port.
    """
    fresh = not region.kept()
    if region.data.exists():
        folder.claim(region.data)
    await free(region.all_ports())
    return fresh


async def bring_up(
    region: DemoRegion, folder: FolderClaim, say: Callable[[str], None], *, fresh: bool
) -> None:
    """Make the region where it is ``fresh``, and start it.

    Raises:
        StoryError: when its folder holds something else.
    """
    if fresh and region.data.exists():
        if any(region.data.iterdir()) and not (region.data / "registry").exists():
            raise StoryError(f"{region.data} is not empty and holds no demo.", todo="Give another --data.")
        shutil.rmtree(region.data)  # one that was cut off while it was made
    if fresh:
        private_folder(region.data)
        folder.claim(region.data)
        await region.make(say)
    say("Starting the processes …")
    await region.start_all(say)
