"""A node that has joined no region (``[publish] kind = "xds"``, D18): what stands in place of membership and link.

Who the node is comes from ``[publish.xds]``, certificates come from files that others renew. There is no directory, there are no
access tokens, and nobody suspends it: whoever shows a certificate of the configured authority is a system.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crosslight.runtime.clock import Clock
from crosslight.runtime.document_codes import procedure_codes
from crosslight.runtime.tls import Credentials, client_context
from crosslight.standards.ids import Oid
from crosslight.standards.membership import MembershipFacts, RegistryAddresses
from crosslight.standards.region import Region
from crosslight.standards.xds.model.publication import Source
from node.archive.config import ArchiveConfig
from node.membership.model import LinkStatus
from node.publish.config import ForeignRegistryConfig


class Alone:
    """In place of :class:`node.membership.joined.RegionState`.

    Args:
        folder: The node's; paths of certificates are seen from it.
        config: ``[publish.xds]``.
        archive: ``[archive]``, which says what a region would: national authorities, time zone, test numbers.
        open_mode: No TLS on the listeners, so no certificates are needed.

    Raises:
        ConfigError: for what ``[publish.xds]`` lacks.
    """

    def __init__(self, folder: Path, config: ForeignRegistryConfig, archive: ArchiveConfig, *, open_mode: bool) -> None:
        config.check(secured=not open_mode)
        self.folder, self._config = folder, config
        self._credentials: Credentials | None = None
        self._client: Credentials | None = None
        self.registry = RegistryAddresses(systems=config.registry_url, mllp=config.mllp)
        self.member = MembershipFacts(
            id=0, code=config.organisation_code, name=config.organisation_name or config.organisation_code,
            repository_unique_id=Oid(config.repository_unique_id), retrieve_location_uid=Oid(config.retrieve_location_uid),
            authority=Oid(config.member_authority), secret=b"", epoch=0,
            authorities=(Oid(config.member_authority), Oid(config.patient_authority)),
        )  # fmt: skip
        nationals = tuple(Oid(authority) for authority in archive.national_authorities)
        self.region = Region(
            name="", home_community_id=Oid(config.home_community_id), authority=Oid(config.patient_authority),
            national_authority=nationals[0] if nationals else Oid(""), other_nationals=nationals[1:],
            allow_test_numbers=archive.allow_test_numbers, zone=archive.site_zone or "Europe/London",
            organisation_authority=Oid(config.organisation_authority),
            procedure_codes=procedure_codes(config.procedure_codes, "publish.xds.procedure_codes"),
        )  # fmt: skip

    @property
    def code(self) -> str:
        """This node's organisation code."""
        return self.member.code

    @property
    def source(self) -> Source:
        """This node as its DocumentEntries name it."""
        m = self.member
        return Source(
            code=m.code, name=m.name, repository_unique_id=m.repository_unique_id,
            retrieve_location_uid=m.retrieve_location_uid, authority=m.authority,
            organisation_authority=self.region.organisation_authority, procedure_codes=self.region.procedure_codes,
        )  # fmt: skip

    # --- certificates ----------------------------------------------------------------------------------------------

    @property
    def ca(self) -> Path | None:
        """Whom to trust; None when everything is plain."""
        return self._path(self._config.ca)

    @property
    def client_files(self) -> tuple[Path | None, Path | None]:
        """Certificate chain and key with which the registry is called."""
        return self._path(self._config.certificate), self._path(self._config.key)

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
        cert, key = self.client_files
        if self.ca is None:
            return None
        if cert is None or key is None:
            return client_context(self.ca)
        if self._client is None:
            self._client = Credentials(cert, key, self.ca)
        return self._client.client()

    def in_use(self) -> tuple[Credentials, ...]:
        """Every set of files that a live context was made of."""
        return tuple(c for c in (self._credentials, self._client) if c is not None)

    def _path(self, value: str) -> Path | None:
        return self.folder / value if value else None

    # --- what a region would say -----------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing changes while the node runs: ``callback`` is never called."""

    def suspended(self, code: str) -> bool:
        """Nobody is."""
        return False


class NoLink:
    """In place of :class:`node.membership.link.Link`: there is nobody to be linked to."""

    status = LinkStatus()

    def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""


class CertificateWatch:
    """In place of :class:`node.membership.renewal.Renewal`: takes up files that an operator or a program has renewed."""

    def __init__(self, state: Alone, clock: Clock) -> None:
        self._state, self._clock = state, clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch; the listeners and sessions have been made."""
        self._tasks = [asyncio.create_task(one.watch(self._clock)) for one in self._state.in_use()]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
