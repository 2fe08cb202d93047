"""The region of a demo that runs in another process: the same hands, by signals, orders and its files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from crosslight.standards.problem import ConfigError, OurError
from simulations.orders import NONE, Order, Orders
from simulations.region import DemoRegion
from simulations.supervisor import Child, Supervisor
from simulations.topology import Topology

GONE_S = 10.0  # for a process that was killed
KNOWN_S = 90.0  # until the demo says where the process is that it started again


class OthersChildren(Supervisor):
    """The children of a demo in another process, which starts and watches them.

    Args:
        endpoints: The file that it keeps true.
    """

    def __init__(self, endpoints: Path, orders: Orders) -> None:
        async def nothing() -> None:
            pass

        super().__init__(restart_after_s=0, on_change=nothing, orders=orders)
        self._endpoints, self._given = endpoints, orders
        self._killed: dict[str, int] = {}

    def child(self, name: str) -> Child:
        """The child as the demo knows it."""
        return _Known(name, "", (), self._endpoints, known_pid=self._pid(name))

    def _pid(self, name: str) -> int:
        """Its process.

        Raises:
            OurError: when the demo does not say of a new one after the last was killed.
        """
        deadline = time.monotonic() + KNOWN_S
        while True:
            content = read_endpoints(self._endpoints)
            pid = next(
                (
                    n["pid"]
                    for n in (content["registry"] | {"code": "registry"}, *content["nodes"])
                    if n["code"] == name
                ),
                0,
            )
            if pid and pid != self._killed.get(name):
                return int(pid)
            if time.monotonic() > deadline:
                raise OurError(f"The demo has not started {name} again.", todo="Is it still running?")
            time.sleep(0.1)

    def start(self, name: str) -> None:
        """Let the demo start it."""
        order = self._given.of(name)
        self._given.give(name, Order(clock_ahead_s=order.clock_ahead_s))

    def kill(self, name: str, *, hold: bool = True) -> None:
        """SIGKILL; with ``hold`` the demo leaves it down until :meth:`start`."""
        if hold and self._given.of(name).down:
            return
        pid = self._pid(name)
        if hold:
            self._given.give(name, Order(down=True))
        os.kill(pid, signal.SIGKILL)
        self._killed[name] = pid
        deadline = time.monotonic() + GONE_S
        while lives(pid):
            if time.monotonic() > deadline:
                raise OurError(f"{name} does not end when it is killed.")
            time.sleep(0.02)

    def check_alive(self, name: str) -> None:
        """The demo sees to that."""

    async def stop(self) -> None:
        """Take back what was ordered."""
        for name in self._killed:
            self._given.give(name, NONE)


class _Known(Child):
    def __init__(self, *args: Any, known_pid: int) -> None:
        super().__init__(*args)
        self._known = known_pid

    @property
    def pid(self) -> int:
        """Process id."""
        return self._known


def lives(pid: int) -> bool:
    """Whether a process still holds its files and ports; its first thread may have ended before others."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def read_endpoints(path: Path) -> dict[str, Any]:
    """What ``crosslight demo --json`` wrote.

    Raises:
        ConfigError: when it is something else.
    """
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        if content["nodes"] and content["registry"]["data"] and content["registry"]["base"]:
            return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not what `crosslight demo --json` writes.", why=type(error).__name__
        ) from None
    raise ConfigError(f"{path} names no region.")


async def attached(endpoints: Path, topology: Topology) -> DemoRegion:
    """The region that a running demo's endpoints file names.

    Raises:
        ConfigError: when it is open, another one than ``topology`` describes, or not on this machine.
    """
    content = read_endpoints(endpoints)
    if content["open"]:
        raise ConfigError("Drills need TLS and sign-in.", todo="Start the demo without --open.")
    region = DemoRegion(
        topology=topology,
        data=Path(content["registry"]["data"]).parent,
        port_base=int(urlsplit(content["registry"]["base"]).port or 0),
    )
    if not region.kept():
        raise ConfigError(f"There is no demo in {region.data}.", todo="Drills act on this machine.")
    region.supervisor = OthersChildren(endpoints, region.orders)
    region.accounts = region.kept_accounts()
    await region.meet()
    return region
