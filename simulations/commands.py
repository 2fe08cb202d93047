"""Commands of the two services, as whoever operates them types them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from crosslight.standards.problem import OurError

WITHIN_S = 120


async def run_command(module: str, folder: Path, *arguments: str) -> str:
    """Run ``crosslight-node`` or ``crosslight-registry`` on its folder; its output.

    Raises:
        OurError: when it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--dir", str(folder), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    text = output.decode("utf-8", "replace")
    if process.returncode != 0:
        raise OurError(f"crosslight-{module} {arguments[0]} failed in {folder.name}.", why=text[-600:])
    return text
