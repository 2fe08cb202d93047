"""Waits until a process of the demo answers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

from crosslight.client.http import HttpClient, read, trusting
from crosslight.standards.problem import CrosslightError, OurError
from simulations.supervisor import Supervisor

START_TIMEOUT_S = 90

Health = Literal["ready", "live"]


async def healthy(
    supervisor: Supervisor, name: str, base: str, ca: Path | None, until: Health = "ready"
) -> None:
    """Wait until the child ``name`` says at ``base`` that it is ``until``.

    Raises:
        OurError: when it has ended, or does not in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        supervisor.check_alive(name)
        try:
            async with (
                HttpClient(trusting(ca)) as client,
                client.request("GET", f"{base}/health/{until}") as response,
            ):
                if response.status == 200:
                    return
                last = (await read(response)).decode("utf-8", "replace")[:200]
        except CrosslightError as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise OurError(f"{name} was not {until} within {START_TIMEOUT_S} s.", why=last)
        await asyncio.sleep(0.2)
