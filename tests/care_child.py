"""A process that reads an archive's objects again, for a test to kill: ``python care_child.py FOLDER``.

It prints the row that it has come to after each page.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from archive_fixture import held

from node.archive.config import CareConfig


async def _main(folder: Path) -> None:
    async with held(folder, care=CareConfig(mb_per_s=1000)) as here:
        while await here.archive.care.step():
            print((await here.archive.care.state()).last_id, flush=True)
            await asyncio.sleep(0.05)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
