"""A node's parts as production makes them, of a member whose registry is not there: what it would say the
test says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from joserfc import jws
from joserfc.jwk import ECKey

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.health import Gauge
from crosslight.runtime.seams import system_seams
from crosslight.runtime.service_life import Life
from crosslight.runtime.tunnel.carrier import Take
from crosslight.runtime.waiting import Draw, Subscribers
from crosslight.standards.access import Grants
from crosslight.standards.directory import DirectoryDocument, DirectoryMember, DirectorySystem
from crosslight.standards.membership import JoinReply, MembershipFacts, RegistryAddresses
from crosslight.standards.region import Region
from node.archive.archive import Archive
from node.config import NodeConfig
from node.membership.joined import Joined
from node.membership.link import Speaker
from node.membership.model import LinkStatus, RegistryRoads
from node.membership.state import REGION, RegionState, write_membership
from node.parts import Ground, make_archive, make_ground
from node.serve.bounded_child import reading_workers


@dataclass
class StillConnection:
    """A connection that is as the test says."""

    status: LinkStatus = field(default_factory=LinkStatus)
    changed: Subscribers[LinkStatus] = field(default_factory=Subscribers)

    @property
    def linked(self) -> bool:
        return self.status.connected

    @property
    def roads(self) -> RegistryRoads:
        raise AssertionError("nothing is published")

    def gauges(self) -> Sequence[Gauge]:
        return ()

    def remember(self) -> None:
        """Nobody asks."""

    def start(self, speaker: Speaker) -> None:
        """Nothing to do."""

    def carry(self, take: Take) -> None:
        """Nothing comes."""

    async def stop(self) -> None:
        """Nothing to do."""


def joined(folder: Path, member: MembershipFacts, region: Region, key: ECKey, config: NodeConfig) -> Joined:
    """The membership of ``member``, written as joining does; ``key`` signs the region's tokens."""
    seams = system_seams()
    jwks = {"keys": [key.as_dict(private=False)]}
    reply = JoinReply(
        chain_pem="", bundle_pem="", member=member, region=region, jwks=jwks, registry=RegistryAddresses()
    )
    write_membership(folder / REGION, reply, b"", seams.files)
    return Joined(
        folder, RegionState(folder / REGION, seams.files), config.region, open_mode=config.listen.open
    )


READS = Grants(capabilities=frozenset({"find", "open"}))


def signed_directory(
    key: ECKey,
    region: Region,
    members: Mapping[str, str],
    *,
    systems: Sequence[str] | Mapping[str, Grants] = (),
    withdrawn: Collection[str] = (),
    version: int = 1,
    issued: float | None = None,
) -> str:
    """The region's directory: what it says of members by code, of systems, and of certificates.

    Systems of whom a test says no grants may find and open.
    """
    granted = systems if isinstance(systems, Mapping) else dict.fromkeys(systems, READS)
    issued = system_seams().clock.now().timestamp() if issued is None else issued
    document = DirectoryDocument(
        version=version,
        community=region.home_community_id,
        issued=int(issued),
        expires=int(issued) + 86400,
        members=tuple(
            DirectoryMember(
                code=code,
                name=code,
                repository_unique_id="",
                retrieve_location_uid="",
                authority="",
                status=status,
            )
            for code, status in members.items()
        ),
        jwks={"keys": [key.as_dict(private=False)]},
        region=region,
        systems=tuple(DirectorySystem(name=name, grants=grants) for name, grants in granted.items()),
        withdrawn_certificates=frozenset(withdrawn),
    )
    header = {"alg": "ES256", "kid": str(key.kid), "typ": "directory+jwt"}
    return jws.serialize_compact(header, orjson.dumps(document.claims()), key)


@asynccontextmanager
async def node_ground(
    folder: Path,
    member: MembershipFacts,
    region: Region,
    key: ECKey,
    *,
    config: NodeConfig | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    draw: Draw | None = None,
    archive_clock: Clock | None = None,
) -> AsyncIterator[tuple[Ground, Archive]]:
    """What every part of a node stands on, and its archive, open; one database has both archive and audit.

    Args:
        archive_clock: By which objects are received, where that is not ``clock``.
    """
    config = config or NodeConfig()
    seams = system_seams(clock=clock, ids=ids, workers=reading_workers(), draw=draw)
    async with Life() as life:
        db = seams.databases.embedded(folder / "node.sqlite")
        life.closes(db)
        life.closes(seams.workers)
        audit = AuditLog(db, seams.clock)
        await audit.open()
        membership = joined(folder, member, region, key, config)
        ground = make_ground(seams, folder, config, membership, db, audit)
        receiving = replace(seams, clock=archive_clock or seams.clock)
        archive = make_archive(receiving, folder, config, membership, db)
        life.closes(archive)
        await archive.open()
        yield ground, archive
