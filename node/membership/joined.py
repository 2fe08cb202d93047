"""A member of a region (D18): tokens and certificates are the region's, and a link leads to its registry."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosslight.runtime.clock import Clock
from crosslight.runtime.health import Gauge
from crosslight.runtime.peers import check_certificate
from crosslight.runtime.proxies import proxy_for, proxy_to
from crosslight.runtime.seams import Seams
from crosslight.runtime.tls import Credentials, Identity
from crosslight.runtime.tokens import TokenVerifier
from crosslight.runtime.tunnel.carrier import Take
from crosslight.runtime.waiting import Backoff, Subscribers
from crosslight.standards.fhir.order_list import OPERATION
from crosslight.standards.membership import Endpoints, MembershipFacts
from crosslight.standards.region import Region
from crosslight.standards.xds.model.publication import Source
from node.membership.config import RegionConfig
from node.membership.link import Link, Speaker
from node.membership.link_record import SeenLink, link_text, reach_text, read_seen, skew_text, write_seen
from node.membership.model import Feed, LinkStatus, RegistryRoads, own_authority
from node.membership.renewal import Renewal
from node.membership.standing import UNHEARD, DirectoryAge, RegionWord, age_of
from node.membership.state import BUNDLE, IDENTITY, RegionState
from node.membership.tunnel import NodeTunnel

if TYPE_CHECKING:
    from crosslight.client.doctor import Target
    from node.serve.authenticate import Gate

REGISTRY_PATH = "/xds/registry"  # of our registry's SOAP transactions, below its systems listener


class Joined:
    """As :class:`node.membership.membership.Membership`.

    Args:
        folder: The node's.
        state: What is known of the region.
        config: ``[region]``.
        open_mode: No TLS, the node names itself (the open demo).
    """

    def __init__(self, folder: Path, state: RegionState, config: RegionConfig, *, open_mode: bool) -> None:
        self._folder = folder
        self.state = state
        self._config = config
        self._open = open_mode

    # --- who it is ------------------------------------------------------------------------------------------

    @property
    def member(self) -> MembershipFacts:
        return self.state.member

    @property
    def region(self) -> Region:
        return self.state.region

    @property
    def code(self) -> str:
        return self.state.code

    @property
    def source(self) -> Source:
        return self.state.source

    @property
    def credentials(self) -> Credentials:
        return self.state.credentials

    @property
    def authorities_file(self) -> Path | None:
        return None if self._open else self.state.folder / BUNDLE

    @property
    def suspended(self) -> bool:
        return self.state.suspended(self.code)

    def on_change(self, callback: Callable[[], object]) -> None:
        self.state.on_change(callback)

    def directory_age(self, now: datetime) -> DirectoryAge:
        return age_of(self.state.directory, now, timedelta(hours=self._config.directory_grace_hours))

    def not_agreed(self, authority: str) -> str:
        """As ``Membership.not_agreed``: why nothing is published until the region's operator has agreed.

        Under an authority that is not agreed every study would be refused. Publishing under another one
        meanwhile would move every patient later.
        """
        member = self.state.member
        if authority in (member.authority, *member.authorities):
            return ""
        agree = f"crosslight-registry authority {member.code} {authority} --agree"
        if authority in member.asked:
            return f"The patient authority {authority} waits for the region's operator: {agree}"
        return (
            f"The patient authority {authority} (archive.patient_authority) is not agreed with the region. "
            f"Its operator does so with: {agree}"
        )

    # --- while it runs --------------------------------------------------------------------------------------

    def gate(self, clock: Clock) -> Gate:
        # here, not above: it loads all of HTTP, for which most commands need not wait
        from node.serve.authenticate import Authenticator

        state = self.state
        verifier = TokenVerifier(
            state.region.home_community_id, clock, state.jwks, lambda: state.withdrawn_tokens
        )
        state.on_change(lambda: verifier.replace_keys(state.jwks))
        gate = Authenticator(
            verifier,
            RegionWord(state),
            clock,
            code=lambda: state.code,
            stale=lambda: self.directory_age(clock.now()) in UNHEARD,
            open_mode=self._open,
        )
        state.on_change(gate.live.look)
        return gate

    def certified(self, clock: Clock) -> Callable[[dict[str, Any]], None]:
        word = RegionWord(self.state)
        return lambda certificate: check_certificate(certificate, word, clock.now())

    def connection(self, endpoints: Endpoints, seams: Seams, software: str) -> RegionConnection:
        state = self.state
        link = Link(state, self._config, seams, endpoints=endpoints, open_mode=self._open, software=software)
        return RegionConnection(self._folder, state, link, seams, self._config)

    # --- in words -------------------------------------------------------------------------------------------

    def status_rows(self, *, serving: bool) -> Iterator[tuple[str, str]]:
        state, seen = self.state, read_seen(self._folder)
        yield "Region", f"{state.region.name}, {state.registry.grpc}"
        yield "Link", link_text(seen, serving=serving)
        if seen is not None and serving and (skew := skew_text(seen)):
            yield "Clock", skew
        if seen is not None and serving and seen.connected and (reach := reach_text(seen)):
            yield "Images are fetched", reach
        own = (*state.member.authorities, state.member.authority)
        asked = "".join(f"; {authority} (not agreed yet)" for authority in state.member.asked)
        yield "Patient authorities", ", ".join(own) + asked

    def calls(self, road: str) -> Iterator[tuple[str, str, bool]]:
        registry = self.state.registry
        carried = "" if self._config.reach == "direct" else ", images (tunnel)"
        yield registry.grpc, f"the link, the index feed, renewal of the certificate{carried}", True
        yield registry.people, "joining again; doctor", False
        if road == "soap":
            yield registry.systems, "publication by SOAP", True
            yield registry.mllp, "publication by SOAP: patients", True

    @property
    def lists_address(self) -> str:
        return f"{self.state.registry.systems}/fhir/ImagingStudy/{OPERATION}"

    @property
    def systems(self) -> str:
        return "the region's gateway" if self._config.reach != "tunnel" else ""

    def registry_target(self) -> Target:
        from crosslight.client.doctor import Target

        registry = self.state.registry
        own = None if self._open else self.state.folder / IDENTITY
        return Target(
            name=f"Registry of {self.state.region.name}, as this node sees it",
            base=registry.people,
            proxy=proxy_to(registry.people, self._config.proxy),
            fhir=f"{registry.people}/fhir",
            xds_registry=f"{registry.systems}{REGISTRY_PATH}",
            ca=self.authorities_file,
            cert=own,
            key=own,
        )


class RegionConnection:
    """The link, and the certificate's renewal over it; as :class:`node.membership.membership.Connection`."""

    def __init__(
        self, folder: Path, state: RegionState, link: Link, seams: Seams, config: RegionConfig
    ) -> None:
        self._folder, self._state, self._files, self._config = folder, state, seams.files, config
        self._clock = seams.clock
        self.link = link
        self._renewal = Renewal(state, link, seams)
        self._backoff = Backoff(config.reconnect_min_s, config.reconnect_max_s, seams.draw, least=0.5)
        self._seen: SeenLink | None = None
        self.tunnel: NodeTunnel | None = None
        self._carrying: asyncio.Task[None] | None = None

    @property
    def status(self) -> LinkStatus:
        return self.link.status

    @property
    def changed(self) -> Subscribers[LinkStatus]:
        return self.link.changed

    @property
    def linked(self) -> bool | None:
        return self.link.status.connected

    @property
    def roads(self) -> RegistryRoads:
        """The gRPC feed, and SOAP and MLLP where ``publish.road`` says so.

        Over TLS the registry has to show the certificate of the region's gateway.
        """
        state, link = self._state, self.link

        def tls() -> ssl.SSLContext | None:
            gateway = Identity("gateway", "", state.region.home_community_id)
            return None if link.open_mode else state.credentials.client(gateway)

        def proxy(address: str) -> str:
            return "" if link.open_mode else proxy_for(address, self._config.proxy)

        return RegistryRoads(
            url=lambda: state.registry.systems + REGISTRY_PATH,
            mllp=state.registry.mllp,
            mllp_name="the registry's MLLP address",
            tls=tls,
            patient=own_authority,
            proxy=proxy,
            feed=Feed(channel=link.channel, metadata=link.metadata, hello_again=link.certificate_changed),
        )

    def gauges(self) -> Sequence[Gauge]:
        status = self.link.status
        skew_s, directory = status.skew_ms / 1000, self._state.directory
        left_s = directory.expires - self._clock.now().timestamp() if directory is not None else 0.0
        return (
            Gauge("crosslight_node_linked", "1 while linked to the registry.", float(status.connected)),
            Gauge("crosslight_node_clock_skew_seconds", "This clock minus the registry's.", skew_s),
            Gauge("crosslight_node_directory_seconds", "Life left of the region's directory.", left_s),
        )

    def remember(self) -> None:
        if (current := SeenLink.of(self.link.status)) != self._seen:
            self._seen = current
            with suppress(OSError):  # only the ``status`` command reads it: the node goes on
                write_seen(self._folder, current, self._files)

    def start(self, speaker: Speaker) -> None:
        self.link.speaker = speaker
        self.link.start()
        if not self.link.open_mode:
            self._renewal.start()

    def carry(self, take: Take) -> None:
        if self._config.reach != "direct":
            self.tunnel = NodeTunnel(self.link, self._config, self._clock, self._backoff, take)
            self._carrying = asyncio.create_task(self.tunnel.run())

    async def stop(self) -> None:
        if self._carrying is not None:
            self._carrying.cancel()
            with suppress(asyncio.CancelledError):
                await self._carrying
        await self._renewal.stop()
        await self.link.stop()
