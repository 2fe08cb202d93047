"""A process that moves an archive to another disk, for a test to kill: ``python move_child.py FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from archive_fixture import held


async def _main(folder: Path) -> None:
    async with held(folder, move_mb_per_s=0.2) as here:
        print("begun", flush=True)
        await here.archive.mover.step()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
