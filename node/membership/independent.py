"""A node that has joined no region and publishes to a registry that is not ours (D18).

``[publish] kind = "xds"``. Who the node is comes from ``[publish.xds]``, certificates come from files that
others renew. There is no directory, there are no access tokens, and nobody suspends it: whoever shows a
certificate of the configured authority is a system, and may what ``[[publish.xds.systems]]`` grants it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosslight.runtime.clock import Clock
from crosslight.runtime.document_codes import procedure_codes
from crosslight.runtime.health import Gauge
from crosslight.runtime.peers import check_end
from crosslight.runtime.seams import Seams
from crosslight.runtime.tls import Credentials, client_context
from crosslight.runtime.tunnel.carrier import Take
from crosslight.runtime.waiting import Subscribers
from crosslight.standards.ids import Oid
from crosslight.standards.membership import Endpoints, MembershipFacts
from crosslight.standards.region import Region
from crosslight.standards.xds.model.publication import Source
from node.archive.config import ArchiveConfig
from node.membership.config import ForeignRegistryConfig
from node.membership.link import Speaker
from node.membership.model import LinkStatus, RegistryRoads, in_authority
from node.membership.standing import DirectoryAge

if TYPE_CHECKING:
    from crosslight.client.doctor import Target
    from node.serve.authenticate import Gate


class Independent:
    """As :class:`node.membership.membership.Membership`.

    Args:
        folder: The node's; paths of certificates are seen from it.
        config: ``[publish.xds]``.
        archive: ``[archive]``, which says what a region would: national authorities, time zone, test numbers.
        open_mode: No TLS on the listeners, so no certificates are needed.

    Raises:
        ConfigError: for what ``[publish.xds]`` lacks.
    """

    def __init__(
        self, folder: Path, config: ForeignRegistryConfig, archive: ArchiveConfig, *, open_mode: bool
    ) -> None:
        config.check(secured=not open_mode)
        self.folder, self._config, self._open = folder, config, open_mode
        self._credentials: Credentials | None = None
        self._client: Credentials | None = None
        self.member = MembershipFacts(
            id=0,
            code=config.organisation_code,
            name=config.organisation_name or config.organisation_code,
            repository_unique_id=Oid(config.repository_unique_id),
            retrieve_location_uid=Oid(config.retrieve_location_uid),
            authority=Oid(config.member_authority),
            secret=b"",
            epoch=0,
            authorities=(Oid(config.member_authority), Oid(config.patient_authority)),
        )
        nationals = tuple(Oid(authority) for authority in archive.national_authorities)
        self.region = Region(
            name="",
            home_community_id=Oid(config.home_community_id),
            authority=Oid(config.patient_authority),
            national_authority=nationals[0] if nationals else Oid(""),
            other_nationals=nationals[1:],
            allow_test_numbers=archive.allow_test_numbers,
            zone=archive.site_zone or "Europe/London",
            organisation_authority=Oid(config.organisation_authority),
            procedure_codes=procedure_codes(config.procedure_codes, "publish.xds.procedure_codes"),
        )

    @property
    def code(self) -> str:
        """This node's organisation code."""
        return self.member.code

    @property
    def source(self) -> Source:
        """This node as its DocumentEntries name it."""
        member = self.member
        return Source(
            code=member.code,
            name=member.name,
            repository_unique_id=member.repository_unique_id,
            retrieve_location_uid=member.retrieve_location_uid,
            authority=member.authority,
            organisation_authority=self.region.organisation_authority,
            procedure_codes=self.region.procedure_codes,
        )

    # --- certificates ---------------------------------------------------------------------------------------

    @property
    def authorities_file(self) -> Path | None:
        return None if self._open else self._path(self._config.ca)

    @property
    def credentials(self) -> Credentials:
        """Of both listeners."""
        if self._credentials is None:
            config = self._config
            cert, key = config.server_certificate or config.certificate, config.server_key or config.key
            self._credentials = Credentials(self.folder / cert, self.folder / key, self.folder / config.ca)
        return self._credentials

    def client_tls(self) -> ssl.SSLContext | None:
        """For calls to the registry, which is known by its host name; None for a plain one."""
        config = self._config
        ca, cert, key = (self._path(name) for name in (config.ca, config.certificate, config.key))
        if ca is None:
            return None
        if cert is None or key is None:
            return client_context(ca)
        if self._client is None:
            self._client = Credentials(cert, key, ca)
        return self._client.client()

    def in_use(self) -> tuple[Credentials, ...]:
        """Every set of files that a live context was made of."""
        return tuple(files for files in (self._credentials, self._client) if files is not None)

    def _path(self, value: str) -> Path | None:
        return self.folder / value if value else None

    # --- what a region would say ----------------------------------------------------------------------------

    @property
    def suspended(self) -> bool:
        return False

    def on_change(self, callback: Callable[[], object]) -> None:
        """Nothing changes while the node runs: ``callback`` is never called."""

    def directory_age(self, now: datetime) -> DirectoryAge:
        """There is no directory that could age."""
        return "none"

    def not_agreed(self, authority: str) -> str:
        """There is nobody to agree with: what is published is in ``publish.xds.patient_authority``."""
        return ""

    # --- while it runs --------------------------------------------------------------------------------------

    def gate(self, clock: Clock) -> Gate:
        # here, not above: it loads all of HTTP, for which most commands need not wait
        from node.serve.systems import SystemsGate

        return SystemsGate(clock, self._config.grants, open_mode=self._open)

    def certified(self, clock: Clock) -> Callable[[dict[str, Any]], None]:
        """Nobody withdraws one here."""
        return lambda certificate: check_end(certificate, clock.now())

    def connection(self, endpoints: Endpoints, seams: Seams, software: str) -> NoConnection:
        """There is nobody to be linked to."""
        return NoConnection(self, seams.clock)

    @property
    def roads(self) -> RegistryRoads:
        """SOAP and MLLP, to the registry that is known by its host name."""
        config = self._config
        return RegistryRoads(
            url=lambda: config.registry_url,
            mllp=config.mllp,
            mllp_name="publish.xds.mllp",
            tls=self.client_tls,
            patient=in_authority(config.patient_authority),
        )

    # --- in words -------------------------------------------------------------------------------------------

    def status_rows(self, *, serving: bool) -> Iterator[tuple[str, str]]:
        yield "Registry", f"{self._config.registry_url} (XDS; nothing is joined)"

    def calls(self, road: str) -> Iterator[tuple[str, str, bool]]:
        yield self._config.registry_url, "publication: ITI-42, ITI-57, ITI-62, ITI-18", True
        if self._config.mllp:
            yield self._config.mllp, "publication: patients (ITI-8)", True

    @property
    def lists_address(self) -> str:
        return ""

    @property
    def systems(self) -> str:
        return "systems with a certificate of its authority"

    def registry_target(self) -> Target:
        """Of one that is not ours only ITI-18 is known."""
        from crosslight.client.doctor import Target

        config = self._config
        return Target(
            name="Registry, as this node sees it",
            base="",
            xds_registry=config.registry_url,
            ca=self._path(config.ca),
            cert=self._path(config.certificate),
            key=self._path(config.key),
        )


class NoConnection:
    """As :class:`node.membership.membership.Connection`, without a link.

    It watches the certificates that others renew, and takes the new ones up.
    """

    linked = None
    status = LinkStatus()

    def __init__(self, membership: Independent, clock: Clock) -> None:
        self._membership, self._clock = membership, clock
        self.changed: Subscribers[LinkStatus] = Subscribers()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def roads(self) -> RegistryRoads:
        return self._membership.roads

    def gauges(self) -> Sequence[Gauge]:
        return ()

    def remember(self) -> None:
        """There is nothing to be remembered."""

    def start(self, speaker: Speaker) -> None:
        self._tasks = [
            asyncio.create_task(credentials.watch(self._clock)) for credentials in self._membership.in_use()
        ]

    def carry(self, take: Take) -> None:
        """Nothing comes through a link that is not there."""

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
