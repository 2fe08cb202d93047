"""A node beside an object store, to be killed: its folder, the store's endpoint, files a second."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from beside_files import beside_files, object_store


async def main(folder: Path, endpoint: str, read_per_s: float) -> None:
    async with beside_files(folder, object_store(endpoint, read_per_s=read_per_s)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
