"""Whoever shows a certificate of the region: the one question that every gate asks at each use (D21).

A certificate says who somebody is, and was good at its handshake. Whether its holder may be dealt with now is
the region's word: the registry's own tables, or at a node the signed directory. What was opened with it is
cut as soon as the answer changes, and when the certificate ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.tls import (
    Identity,
    IdentityKind,
    expires_at,
    grpc_certificate,
    grpc_identity,
    peer_identity,
    serial_of,
)
from crosslight.runtime.waiting import Wake
from crosslight.standards.access import Grants
from crosslight.standards.problem import CrosslightError, Forbidden, Unauthenticated, as_sentence

log = get_logger("peers")

ANYBODY: Final[frozenset[IdentityKind]] = frozenset({"member", "gateway", "system"})
_NEVER = datetime.max.replace(tzinfo=UTC)
_LOOK_S = 60.0  # at the latest: a clock that was set is noticed


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a gate knows of a certificate: whose, its serial number in hex, and its end."""

    identity: Identity
    serial: str
    expires: datetime


def tls_peer(certificate: dict[str, Any] | None) -> PeerCertificate:
    """From ``SSLObject.getpeercert()``.

    Raises:
        Unauthenticated: if there is none, or it names nobody of ours.
    """
    identity = peer_identity(certificate)
    assert certificate is not None  # noqa: S101 - it has a name
    return PeerCertificate(identity, serial_of(certificate), expires_at(certificate))


def grpc_peer(auth_context: Any) -> PeerCertificate:
    """From the ``auth_context()`` of a gRPC call.

    Raises:
        Unauthenticated: if there is no certificate, or it names nobody of ours.
    """
    identity, certificate = grpc_identity(auth_context), grpc_certificate(auth_context)
    if certificate is None:
        raise Unauthenticated("A client certificate is needed.")
    return PeerCertificate(identity, f"{certificate.serial_number:x}", certificate.not_valid_after_utc)


def named_peer(identity: Identity) -> PeerCertificate:
    """Of one that only says its name, on the plain links of the open demo."""
    return PeerCertificate(identity, "", _NEVER)


class Standing(Protocol):
    """The region's word about whoever may show a certificate of it."""

    @property
    def community(self) -> str:
        """homeCommunityId."""
        ...

    def member_status(self, code: str) -> tuple[str, str]:
        """Status of the member with this code, and the reason; ('', '') = there is none."""
        ...

    def is_system(self, name: str) -> bool:
        """Whether an outside system of this name has not been ended."""
        ...

    def is_withdrawn(self, serial: str) -> bool:
        """Whether the certificate with this serial number is refused although it has not ended."""
        ...

    def system_grants(self, name: str) -> Grants:
        """What an outside system was granted; nothing, where it is none."""
        ...


def check_peer(
    peer: PeerCertificate, region: Standing, now: datetime, kinds: Collection[IdentityKind] = ANYBODY
) -> None:
    """Whether whoever shows this certificate may be dealt with.

    Args:
        peer: What was shown.
        region: Its word.
        now: By whose clock it must not have ended.
        kinds: Who is a caller here at all.

    Raises:
        Unauthenticated: another region's, ended, withdrawn, or of nobody that the region knows.
        Forbidden: a suspended member's.
    """
    identity = peer.identity
    if identity.community != region.community:
        raise Unauthenticated("The client certificate is of another region.")
    if identity.kind not in kinds:
        raise Unauthenticated(
            f"The certificate of a {identity.kind} opens nothing here.",
            why=f"Callers here: {' and '.join(sorted(kinds))}.",
        )
    if peer.expires <= now:
        raise Unauthenticated("The client certificate has expired.", todo="Renew it, or join again.")
    if region.is_withdrawn(peer.serial):
        raise Unauthenticated(
            "The client certificate was withdrawn.",
            why="A newer one has taken its place, or the region's operator ended it.",
            todo="Use the newer one, or ask the region's operator for an invitation or another certificate.",
        )
    if identity.kind == "member":
        _check_member(*region.member_status(identity.name))
    elif identity.kind == "system" and not region.is_system(identity.name):
        raise Unauthenticated(
            "No system of this region has this name.", todo="Ask the region's operator for a certificate."
        )


def grants_of(identity: Identity, region: Standing) -> Grants:
    """What whoever shows a certificate was granted; members and the gateway need no grants."""
    return region.system_grants(identity.name) if identity.kind == "system" else Grants()


def _check_member(status: str, reason: str) -> None:
    if status == "suspended":
        raise Forbidden(
            "This member is suspended.", why=as_sentence(reason), todo="Ask the region's operator."
        )
    if status != "active":
        raise Unauthenticated("No member of this region has this name.", todo="Join first.")


def check_certificate(certificate: dict[str, Any], region: Standing, now: datetime) -> None:
    """As :func:`check_peer`, of one whose authority need not be the region's: only its end is asked then.

    Args:
        certificate: In ``getpeercert()`` form.
        region: Its word.
        now: By whose clock it must not have ended.
    """
    names = certificate.get("subjectAltName", ())
    if any(kind == "URI" and Identity.parse(value) is not None for kind, value in names):
        check_peer(tls_peer(certificate), region, now)
    check_end(certificate, now)


def check_end(certificate: dict[str, Any], now: datetime) -> None:
    """Whether a certificate has not ended.

    Raises:
        Unauthenticated: if it has.
    """
    if expires_at(certificate) <= now:
        raise Unauthenticated("The client certificate has expired.", todo="Renew it.")


Close = Callable[[CrosslightError], None]


class LivePeers:
    """What is open now by whose certificate.

    TLS asks only at a handshake, so what outlives its certificate's rights must be closed from here.

    Args:
        clock: By which certificates end.
        check: Raises what is to be said to a peer that is no longer let in.
    """

    def __init__(self, clock: Clock, check: Callable[[PeerCertificate], None]) -> None:
        self._clock, self._check, self._wake = clock, check, Wake(clock)
        self._transports: dict[PeerCertificate, dict[int, asyncio.BaseTransport]] = {}
        self._closers: dict[PeerCertificate, list[Close]] = {}

    def connection(self, peer: PeerCertificate, transport: asyncio.BaseTransport | None) -> None:
        """Abort ``transport`` when the peer is no longer let in; forgotten some time after it closed."""
        if transport is None:
            return
        known = self._transports.setdefault(peer, {})
        if id(transport) not in known:
            for key in [key for key, transport in known.items() if transport.is_closing()]:
                del known[key]
            known[id(transport)] = transport
            self._wake.set()  # its certificate may be the next to end

    def closer(self, peer: PeerCertificate, close: Close) -> Callable[[], None]:
        """Call ``close`` with the reason when the peer is no longer let in, for things that end politely.

        Returns how to forget it.
        """
        closers = self._closers.setdefault(peer, [])
        closers.append(close)
        self._wake.set()

        def forget() -> None:
            if close in closers:
                closers.remove(close)

        return forget

    def count(self, identity: Identity) -> int:
        """How much is open for whoever has this name."""
        peers = [peer for peer in {*self._transports, *self._closers} if peer.identity == identity]
        return sum(len(self._open(peer)) + len(self._closers.get(peer, ())) for peer in peers)

    def _open(self, peer: PeerCertificate) -> list[asyncio.BaseTransport]:
        return [t for t in self._transports.get(peer, {}).values() if not t.is_closing()]

    def look(self) -> int:
        """Ask anew about everybody who has something open, and end what is no longer let in; how much."""
        cut = 0
        for peer in {*self._transports, *self._closers}:
            try:
                self._check(peer)
            except CrosslightError as error:
                cut += self._cut(peer, error)
            else:
                if not self._open(peer):
                    self._transports.pop(peer, None)
                if not self._closers.get(peer, True):
                    del self._closers[peer]
        return cut

    def _cut(self, peer: PeerCertificate, error: CrosslightError) -> int:
        transports, closers = self._open(peer), self._closers.pop(peer, [])
        self._transports.pop(peer, None)
        for close in list(closers):
            close(error)
        for transport in transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                transport.close()
        count = len(transports) + len(closers)
        if count:
            log.warning("connections cut", peer=peer.identity.uri, count=count, reason=error.what)
        return count

    async def run(self) -> None:
        """Look whenever a certificate ends, until cancelled."""
        while True:
            self.look()
            await self._wake.wait(self._next_s())

    def _next_s(self) -> float | None:
        ends = [peer.expires for peer in {*self._transports, *self._closers}]
        if not ends:
            return None
        return min(_LOOK_S, max(0.0, (min(ends) - self._clock.now()).total_seconds()))
