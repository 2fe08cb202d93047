"""Which certificates of a holder still count, and who may have another (ADR 0035).

A new certificate takes the place of the older ones of its holder when it is first shown: until then its
holder may not have it yet. After a grace, in which calls under way finish, the older ones are withdrawn
everywhere. So a copy of an old key opens nothing, and a copy of the current one shows itself when its holder
renews.
"""

from __future__ import annotations

from datetime import timedelta

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.peers import PeerCertificate
from crosslight.standards.problem import Busy, Unauthenticated
from registry.members.alarms import Alarms
from registry.members.config import MembersConfig
from registry.members.credential_store import CredentialStore
from registry.members.model import Member
from registry.members.use_store import UseStore

log = get_logger("members")

LOOK_EVERY_S = 15.0
HOUR = timedelta(hours=1)


class Renewals:
    """Follows which certificates are shown.

    Args:
        store: Where that is kept.
        credentials: Where certificates are withdrawn.
        alarms: Told of what looks like a second holder.
        config: The grace, and the limit.
        clock: Time.
    """

    def __init__(
        self,
        store: UseStore,
        credentials: CredentialStore,
        alarms: Alarms,
        config: MembersConfig,
        clock: Clock,
    ) -> None:
        self._store, self._credentials, self._alarms = store, credentials, alarms
        self._config, self._clock = config, clock
        self._noted: set[str] = set()
        self._new: set[str] = set()
        self._looked_s = float("-inf")

    def saw(self, serial: str) -> None:
        """A certificate was shown and let in; it is noted soon (:meth:`follow`)."""
        if serial and serial not in self._noted:
            self._new.add(serial)

    async def follow(self) -> bool:
        """Note what was shown, and withdraw what it took the place of; whether anything was withdrawn."""
        if self._new:
            new, self._new = self._new, set()
            try:
                await self._store.note(new)
            except BaseException:
                self._new |= new
                raise
            self._noted |= new
        grace_s, now_s = self._config.superseded_grace_s, self._clock.monotonic_s()
        if now_s - self._looked_s < min(LOOK_EVERY_S, grace_s):
            return False
        self._looked_s = now_s
        old = await self._store.superseded(self._clock.now() - timedelta(seconds=grace_s))
        for certificate in old:
            await self._credentials.withdraw("certificate", certificate.serial, certificate.expires)
            log.info("certificate superseded", identity=certificate.identity, serial=certificate.serial)
        return bool(old)

    async def check(self, peer: PeerCertificate, member: Member) -> None:
        """Whether a member may have another certificate.

        Raises:
            Unauthenticated: by one that a newer one has taken the place of.
            Busy: it was given many lately.
        """
        if await self._store.is_superseded(peer.serial):
            await self._alarms.sound(member, "superseded", f"serial number {peer.serial}")
            raise Unauthenticated(
                "This certificate renews nothing.",
                why="A newer one of this member has been used: it took this one's place.",
                todo="Use the newer one, or ask the region's operator for an invitation.",
            )
        within = min(HOUR, timedelta(days=self._config.certificate_days) / 5)
        given = await self._store.issued_since(member.id, self._clock.now() - within)
        if given >= self._config.max_renewals:
            await self._alarms.sound(
                member, "renewals", f"{given} certificates within {within.total_seconds():.0f} s"
            )
            raise Busy(
                "This member was given too many certificates lately.",
                why=f"Limit here: {self._config.max_renewals} within {within.total_seconds():.0f} s.",
                todo="Try again later.",
            )

    async def withdraw_all(self, member: Member) -> int:
        """Withdraw all that a member was given so far; how many."""
        every = await self._store.of_member(member.id)
        for certificate in every:
            await self._credentials.withdraw("certificate", certificate.serial, certificate.expires)
        return len(every)
