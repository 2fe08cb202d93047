"""A place behind a firewall that lets nothing in: a network namespace whose kernel keeps it so."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

OUTSIDE, INSIDE = "10.213.77.1", "10.213.77.2"
# what was asked for from inside may come back in; nothing else may
RULES = """
table inet one_way {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
  }
  chain output {
    type filter hook output priority 0; policy accept;
  }
}
"""
_INPUT = ("inet", "one_way", "input")


@dataclass(frozen=True, slots=True)
class OneWay:
    """The namespace; this machine's own network is the world outside."""

    name: str

    def command(self, *words: str) -> list[str]:
        """A command that runs inside."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, given: str = "", within_s: float = 120.0) -> str:
        """Run a command inside to its end; what it printed."""
        done = subprocess.run(
            self.command(*words), input=given, capture_output=True, text=True, timeout=within_s, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def only(self, port: int) -> None:
        """Nothing gets out but to this port of the outside, as where a trust has a proxy and no other way."""
        rule = ("nft", "add", "rule", "inet", "one_way", "output")
        self.run(*rule, "oif", "!=", "lo", "tcp", "dport", "!=", str(port), "drop")

    def refuse(self, *ports: int) -> None:
        """These ports take no connection, not even from inside."""
        listed = "{ " + ", ".join(map(str, ports)) + " }"
        self.run(
            "nft", "insert", "rule", *_INPUT, "tcp", "dport", listed, "ct", "state", "new", "counter", "drop"
        )

    def refused(self) -> int:
        """How many packets :meth:`refuse` has dropped."""
        found = re.search(r"counter packets (\d+)", self.run("nft", "list", "chain", *_INPUT))
        assert found is not None
        return int(found[1])

    def silence(self) -> None:
        """Nothing gets out or in any more, and nobody is told: as when a line is cut somewhere."""
        self.run("nft", "add", "rule", "inet", "one_way", "output", "oif", "!=", "lo", "drop")

    def heal(self) -> None:
        """The line is whole again."""
        self.run("nft", "flush", "chain", "inet", "one_way", "output")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextmanager
def one_way() -> Iterator[OneWay]:
    """A namespace behind a one-way firewall, for the block; needs root."""
    name = f"oneway{os.getpid()}"
    near, far = f"ow{os.getpid()}a"[:15], f"ow{os.getpid()}b"[:15]
    _ip("netns", "add", name)
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far)
        _ip("link", "set", far, "netns", name)
        _ip("addr", "add", f"{OUTSIDE}/30", "dev", near)
        _ip("link", "set", near, "up")
        place = OneWay(name)
        place.run("ip", "addr", "add", f"{INSIDE}/30", "dev", far)
        place.run("ip", "link", "set", far, "up")
        place.run("ip", "link", "set", "lo", "up")
        place.run("nft", "-f", "-", given=RULES)
        yield place
    finally:
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True, timeout=30)
        _ip("netns", "del", name)
