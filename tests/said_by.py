"""Whether a certificate's holder may be dealt with, for directories that a test makes."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.peers import PeerCertificate, check_peer
from crosslight.standards.access import Grants
from registry.members.model import Directory
from registry.members.roster import CALLERS


@dataclass(frozen=True)
class SaidBy:
    """What a test's directory says of members; every system is known, and nothing was withdrawn."""

    directory: Directory
    community: str

    def member_status(self, code: str) -> tuple[str, str]:
        member = self.directory.by_code(code)
        return (member.status, member.status_reason) if member else ("", "")

    def is_system(self, name: str) -> bool:
        return True

    def is_withdrawn(self, serial: str) -> bool:
        return False

    def system_grants(self, name: str) -> Grants:
        return self.directory.system_grants(name)

    def check(self, peer: PeerCertificate) -> None:
        """As the registry's own roster."""
        check_peer(peer, self, SystemClock().now(), CALLERS)
