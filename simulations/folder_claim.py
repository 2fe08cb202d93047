"""What a demo must have to itself: its folder, and its ports.

Two demos over each other would tell untrue things.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from simulations.layout import HOST
from simulations.world import StoryError

WAIT_S = 10.0  # for the children of a demo that has just been killed


class FolderClaim:
    """A lock on a folder, for as long as this process lives."""

    def __init__(self) -> None:
        self._held: int | None = None

    def claim(self, path: Path) -> None:
        """Take ``path``; again after it was made anew.

        Raises:
            StoryError: when another demo has it.
        """
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise StoryError(
                f"Another demo runs on {path}.", todo="End it first, or give another --data."
            ) from None
        if self._held is not None:
            os.close(self._held)
        self._held = handle


async def free(ports: Iterable[int]) -> None:
    """Wait until nobody listens on ``ports``.

    Raises:
        StoryError: naming the first that stays taken.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_S
    for port in ports:
        while _taken(port):
            if loop.time() > deadline:
                raise StoryError(
                    f"Something else listens on {HOST}:{port}.",
                    todo="End it (another demo?), or give another --port-base.",
                )
            await asyncio.sleep(0.2)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        # as the services do: a port that only lingers is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False
