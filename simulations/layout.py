"""Where the demo's services listen, and what their configuration files say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulations.accounts import Account
from simulations.topology import MemberPlan, Topology

HOST = "127.0.0.1"
CALLING_AET = "DEMO"
WORKSTATION_AFTER = 7
WORKSTATION_AET = (
    "WORKSTATION"  # may find and fetch at each node; C-MOVE sends to it at NodePorts.workstation
)


@dataclass(frozen=True, slots=True)
class NodePorts:
    """Addresses of one node."""

    base: int

    @property
    def dimse(self) -> int:
        """DIMSE."""
        return self.base + 2

    @property
    def systems(self) -> int:
        """Mutual TLS."""
        return self.base + 3

    def upstream(self, nth: int) -> tuple[int, int]:
        """Two for the archive of others of that number behind it."""
        return self.base + 4 + 2 * nth, self.base + 5 + 2 * nth

    @property
    def workstation(self) -> int:
        """A workstation of its trust, where somebody starts one."""
        return self.dimse + WORKSTATION_AFTER


def registry_values(
    topology: Topology, port_base: int, accounts: list[Account], *, open_mode: bool
) -> dict[str, Any]:
    """What the demo's ``registry.toml`` says."""
    region = topology.region()
    return {
        "region": {
            "name": region.name,
            "home_community_id": region.home_community_id,
            "authority": region.authority,
            "national_authority": region.national_authority,
            "national_system": region.national_system,
            "national_label": region.national_label,
            "allow_test_numbers": True,
            "zone": region.zone,
            "organisation_system": region.organisation_system,
            "organisation_authority": region.organisation_authority,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": port_base,
            "grpc_port": port_base + 1,
            "mllp_port": port_base + 2,
            "systems_port": port_base + 3,
            "open": open_mode,
        },
        "members": {"root_oid": topology.root, "loopback": True, "domains": ["localhost", f"{HOST}/32"]},
        "ask": {"searches_per_minute": 0},  # whoever measures it asks as fast as it can
        "portal": {"member_word": topology.member_word},
        "access": {"demo": {"enabled": True, "accounts": [a.as_values() for a in accounts]}},
        "log": {"json": False},
    }


def node_values(member: MemberPlan, ports: NodePorts, *, open_mode: bool) -> dict[str, Any]:
    """What the demo's ``node.toml`` of ``member`` says."""
    return {
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": ports.base,
            "systems_port": ports.systems,
            "open": open_mode,
        },
        "dimse": {
            "host": HOST,
            "port": ports.dimse,
            "callers": [
                {"ae_title": CALLING_AET, "addresses": [HOST]},
                {"ae_title": WORKSTATION_AET, "addresses": [HOST], "may": ["find", "open"]},
            ],
            "destinations": [{"ae_title": WORKSTATION_AET, "host": HOST, "port": ports.workstation}],
        },
        "archive": {"min_free_bytes": 256 << 20},
        "publish": {"road": member.road},
        "log": {"json": False},
    }
