"""Configuration of membership: the region's certificate authority, invitations and the link."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.shares import ShareLimits


@dataclass(frozen=True, slots=True)
class MembersConfig:
    """[members]: who belongs to the region, and for how long a certificate says so."""

    root_oid: str = setting(
        "",
        "OID under which members' OIDs are allocated, as ROOT.10.MEMBER.n; empty = the region's"
        " homeCommunityId.",
    )
    invitation_hours: float = setting(72.0, "How long an invitation holds.", low=0.0001, high=720)
    certificate_days: float = setting(
        7.0,
        "Life of a member's certificate and of the registry's own; each is renewed by itself at two thirds.",
        low=0.00002,
        high=397,
    )
    system_certificate_days: float = setting(
        90.0,
        "Life of an outside system's certificate, which an operator renews by hand.",
        low=0.00002,
        high=397,
    )
    hosts: tuple[str, ...] = setting(
        ["localhost", "127.0.0.1"],
        "Names and addresses by which others reach this registry; they go into its certificates.",
    )
    domains: tuple[str, ...] = setting(
        [],
        "Domains and networks (10.0.0.0/8) below which the region's authority may sign host names: name"
        " constraints of a new authority, or of one under an offline root. Without networks no addresses."
        " Empty: any name.",
    )
    loopback: bool = setting(
        False,
        "Members may be on this machine (localhost, 127.0.0.1), where their certificates name it: for demos"
        " and trials. Never in a region of several machines: a member could lead the registry to itself."
        " Without it the gateway connects to no address of its own machine either, whatever name led there.",
    )
    heartbeat_s: float = setting(2.0, "How often nodes say that they live.", low=0.05, high=60)
    missed_heartbeats: int = setting(
        3, "A member that misses so many heartbeats is unreachable.", low=2, high=100
    )
    poll_s: float = setting(
        1.0,
        "How often every process looks for changes of members that another made (suspension).",
        low=0.02,
        high=5,
    )
    directory_hours: float = setting(
        24.0, "How long a signed directory holds at the nodes.", low=0.001, high=720
    )
    max_message_bytes: int = setting(8 << 20, "Largest gRPC message from a node.", low=65536, high=256 << 20)
    feeds: int = setting(16, "Most calls of nodes' feeds that are taken in at a time.", low=1, high=1024)
    feeds_per_member: int = setting(2, "Of these, most of one member.", low=1, high=1024)
    comparisons_per_member: int = setting(
        2, "Most comparisons of one member at a time; of all eight times as many.", low=1, high=64
    )
    joins_per_minute: int = setting(
        60, "Requests to join of one address in a minute; 0 = without bound.", low=0, high=100_000
    )
    links_per_member: int = setting(
        4, "Most links of one member that are open or being opened at a time.", low=2, high=64
    )
    max_skew_s: float = setting(
        60.0,
        "Clock difference of a node from which on it counts as wrong: its images are not said to open.",
        low=1,
        high=3600,
    )

    superseded_grace_s: float = setting(
        60.0,
        "How long after a newer certificate was first shown the older ones of its holder still hold.",
        low=0,
        high=3600,
    )
    max_renewals: int = setting(
        10,
        "How many certificates a member is given in an hour (or in a fifth of their life, if that is less).",
        low=1,
        high=1000,
    )

    def feeding(self) -> ShareLimits:
        """Of the feed's calls."""
        return ShareLimits(total=self.feeds, each=min(self.feeds_per_member, self.feeds))

    def comparing(self) -> ShareLimits:
        """Of comparisons."""
        return ShareLimits(total=8 * self.comparisons_per_member, each=self.comparisons_per_member)

    @property
    def silence_s(self) -> float:
        """Seconds without a heartbeat after which a member counts as unreachable."""
        return self.heartbeat_s * self.missed_heartbeats
