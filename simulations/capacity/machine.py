"""The machine that things are measured on: what it is, and how fast a core of it is."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Final

import orjson

_ROUNDS: Final = 7
_STUDIES: Final = 400


def described() -> str:
    """Cores and memory in words; nothing that names it."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} cores, {pages * size / 2**30:.0f} GiB, {_processor()}".rstrip(", ")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def core_s() -> float:
    """Processor seconds of a fixed piece of work, like a search's: objects, JSON, a digest.

    The least of several rounds, so that what else the machine does counts little. Two machines compare by it.
    """
    return min(_once() for _ in range(_ROUNDS))


def _once() -> float:
    begin = time.thread_time()
    rows = [
        {"uid": f"1.2.{n}", "series": [{"uid": f"1.2.{n}.{m}", "n": n * m} for m in range(4)]}
        for n in range(_STUDIES)
    ]
    hashlib.sha256(orjson.dumps(orjson.loads(orjson.dumps(rows)))).digest()
    return time.thread_time() - begin
