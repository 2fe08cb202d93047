"""Ports on which nobody listens: below the range that the kernel gives to clients, each process of a run its
own part.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
_FIRST, _SHARE, _SHARES = 11_000, 4_000, 5
_DICE = random.SystemRandom()
_given: set[int] = set()
_claims: list[IO[str]] = []  # held open: the kernel ends a claim with its process


@cache
def _share() -> int:
    """The first port of this process's part: what stops and starts again finds its ports as it left them."""
    for nth in range(_SHARES):
        claim = (Path(tempfile.gettempdir()) / f"crosslight-test-ports-{os.getuid()}-{nth}").open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return _FIRST + _SHARE * nth
    return _FIRST + _SHARE * (os.getpid() % _SHARES)  # more runs than parts: with luck


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """``count`` ports, none of which this process was given before."""
    found: list[int] = []
    for _ in range(10_000):
        if len(found) == count:
            return found
        port = _share() + _DICE.randrange(_SHARE)
        if port not in _given and _free(port):
            _given.add(port)
            found.append(port)
    raise RuntimeError("no free ports")


def free_base(blocks: int, each: int = 4) -> int:
    """A port, divisible by ten, with the first ``each`` ports of ``blocks`` tens free: a region's
    registry and its nodes.
    """
    offsets = [10 * block + offset for block in range(blocks) for offset in range(each)]
    for _ in range(1_000):
        base = _share() + 10 * _DICE.randrange(_SHARE // 10 - blocks)
        wanted = {base + offset for offset in offsets}
        if not wanted & _given and all(_free(port) for port in wanted):
            _given.update(wanted)
            return base
    raise RuntimeError("no free ports")
