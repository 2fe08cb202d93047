"""A node's link as a process of its own: ``python members_node.py FOLDER``; for tests that stop and kill
processes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from members_region import FILES, TestNode

from node.membership.state import RegionState


async def main() -> None:
    node = TestNode(RegionState(Path(sys.argv[1]), FILES), heartbeat_s=2.0)
    node.link.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
