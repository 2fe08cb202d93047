"""A node beside an archive that speaks DIMSE, to be killed: its folder, the port, studies a minute."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from beside_dimse import beside


async def main(folder: Path, port: int, per_minute: int) -> None:
    async with beside(folder, port, "QRSCP", studies_per_minute=per_minute):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
