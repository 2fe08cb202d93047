"""To whom a node belongs (D18): the one seam, and which of the two it is.

:class:`~node.membership.joined.Joined` is a member of a region;
:class:`~node.membership.independent.Independent` publishes to a registry that is not ours and has joined
nothing. Nothing outside this room asks which: whatever differs is asked of the membership, and of its
connection while the node runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crosslight.runtime.clock import Clock
from crosslight.runtime.files import Files
from crosslight.runtime.health import Gauge
from crosslight.runtime.seams import Seams
from crosslight.runtime.tls import Credentials
from crosslight.runtime.tunnel.carrier import Take
from crosslight.runtime.waiting import Subscribers
from crosslight.standards.membership import Endpoints, MembershipFacts
from crosslight.standards.region import Region
from crosslight.standards.xds.model.publication import Source
from node.archive.config import ArchiveConfig
from node.membership.config import ForeignRegistryConfig, RegionConfig
from node.membership.independent import Independent
from node.membership.joined import Joined
from node.membership.link import Speaker
from node.membership.model import LinkStatus, RegistryRoads
from node.membership.standing import DirectoryAge
from node.membership.state import FACTS, REGION, RegionState

if TYPE_CHECKING:
    from crosslight.client.doctor import Target
    from node.serve.authenticate import Gate


class Connection(Protocol):
    """What ties a running node to its registry: a link where there is one, and certificates kept fresh."""

    @property
    def status(self) -> LinkStatus:
        """The link as an operator sees it; without one it is never connected."""
        ...

    @property
    def linked(self) -> bool | None:
        """Whether the link is up; None: there is no such thing."""
        ...

    @property
    def roads(self) -> RegistryRoads:
        """How what is published gets to the registry."""
        ...

    def gauges(self) -> Sequence[Gauge]:
        """Metrics of the link."""
        ...

    @property
    def changed(self) -> Subscribers[LinkStatus]:
        """Told of each new status."""
        ...

    def remember(self) -> None:
        """Keep what is known of the link for the ``status`` command, which is another process."""
        ...

    def start(self, speaker: Speaker) -> None:
        """Begin; listeners and sessions have been made.

        ``speaker`` answers for the node where there is a link.
        """
        ...

    def carry(self, take: Take) -> None:
        """Have ``take`` serve the connections that come through the link, where there is one that may."""
        ...

    async def stop(self) -> None:
        """End the link, and stop watching certificates."""
        ...


class Membership(Protocol):
    """Who this node is, and what follows from to whom it belongs."""

    @property
    def member(self) -> MembershipFacts:
        """This node; ``secret`` is empty where nobody gave it one."""
        ...

    @property
    def region(self) -> Region:
        """What the region says, or the configuration in its place."""
        ...

    @property
    def code(self) -> str:
        """This node's organisation code."""
        ...

    @property
    def source(self) -> Source:
        """This node as its DocumentEntries name it."""
        ...

    @property
    def credentials(self) -> Credentials:
        """Of both listeners."""
        ...

    @property
    def authorities_file(self) -> Path | None:
        """File of the certificates that a caller of this node trusts; None when everything is plain."""
        ...

    @property
    def suspended(self) -> bool:
        """Whether the region has suspended this node, as far as is known here."""
        ...

    def directory_age(self, now: datetime) -> DirectoryAge:
        """How the region's directory stands: past its end, later suspensions are not known here."""
        ...

    def not_agreed(self, authority: str) -> str:
        """Why nothing is published while ``authority`` issues this trust's patient numbers; '' = it is."""
        ...

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` after member, region, keys or suspensions changed."""
        ...

    def gate(self, clock: Clock) -> Gate:
        """Who may call this node over HTTP."""
        ...

    def certified(self, clock: Clock) -> Callable[[dict[str, Any]], None]:
        """Asks about a certificate (``getpeercert()`` form) where callers are known otherwise too: DICOM.

        It is asked from any thread, and raises what is wrong.
        """
        ...

    def connection(self, endpoints: Endpoints, seams: Seams, software: str) -> Connection:
        """What ties it to its registry while it runs; not started yet.

        Args:
            endpoints: Where this node's faces are.
            seams: The world outside.
            software: Name and version of this program.
        """
        ...

    def status_rows(self, *, serving: bool) -> Iterator[tuple[str, str]]:
        """How it stands, in rows for the ``status`` command."""
        ...

    def calls(self, road: str) -> Iterator[tuple[str, str, bool]]:
        """Addresses of the registry that this node calls, publishing by ``road``; why; whether always."""
        ...

    @property
    def lists_address(self) -> str:
        """Where a patient's list for an order is asked for (ADR 0060); '' where nobody gives one."""
        ...

    @property
    def systems(self) -> str:
        """Who connects to fetch what this node gives out, in words; '' = nobody: it has a tunnel."""
        ...

    def registry_target(self) -> Target:
        """The registry as this node reaches it, for ``doctor``."""
        ...


def is_member(folder: Path, foreign: ForeignRegistryConfig | None) -> bool:
    """Whether the node in ``folder`` has joined, or need not."""
    return foreign is not None or (folder / REGION / FACTS).exists()


def membership_of(
    folder: Path,
    files: Files,
    foreign: ForeignRegistryConfig | None,
    archive: ArchiveConfig,
    region: RegionConfig,
    *,
    open_mode: bool,
) -> Membership:
    """To whom the node in ``folder`` belongs.

    Args:
        folder: The node's.
        files: The seam for durable writes.
        foreign: ``[publish.xds]`` where the registry is not ours; None for a region's member.
        archive: ``[archive]``, which says what else a region would.
        region: ``[region]``.
        open_mode: No TLS on the listeners, so no certificates are needed.

    Raises:
        ConfigError: if it has not joined, or ``[publish.xds]`` lacks something.
    """
    if foreign is not None:
        return Independent(folder, foreign, archive, open_mode=open_mode)
    return Joined(folder, RegionState(folder / REGION, files), region, open_mode=open_mode)
