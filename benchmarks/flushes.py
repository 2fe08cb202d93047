"""How often a server flushes the disk, counted by strace."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable

_CALL = re.compile(rb"\b(?:fsync|fdatasync|sync_file_range|syncfs)\(")


async def flushes_of(pid: int, count: int, work: Awaitable[object]) -> float:
    """Flushes of the process ``pid`` for each of the ``count`` objects of ``work``; nan without strace."""
    program = shutil.which("strace")
    if program is None:
        await work
        return float("nan")
    tracer = await asyncio.create_subprocess_exec(
        program,
        "-f",
        "-e",
        "trace=fsync,fdatasync,sync_file_range,syncfs",
        "-p",
        str(pid),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr is not None
    await tracer.stderr.readline()  # it is attached
    collected = asyncio.create_task(tracer.stderr.read())
    try:
        await work
    finally:
        if tracer.returncode is None:
            tracer.terminate()
        text = await collected
        await tracer.wait()
    return len(_CALL.findall(text)) / count if text else float("nan")
