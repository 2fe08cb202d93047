"""What a running node says of itself: whether it is ready, and its metrics. No patient data."""

from __future__ import annotations

from typing import Any

from crosslight import __version__
from crosslight.runtime.health import Gauge, Total
from node.membership.standing import DirectoryAge
from node.parts import Parts

#: How the region's directory stands, in words.
DIRECTORY: dict[DirectoryAge, str] = {
    "none": "ok",
    "missing": "none has come yet: whoever shows only a certificate is refused",
    "fresh": "ok",
    "ended": "past its end: members that were suspended since are not known here",
    "old": "past its limit: whoever shows only a certificate is refused",
}


class Health:
    """Asked by ``/health/ready`` and ``/metrics``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._connection, self._publisher = parts.publication.connection, parts.publication.publisher

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether images are taken in and given out now.

        The link is told (None: there is no such thing), not required.

        A clock that is off beyond the limit stops every retrieve (D22), so the node is not ready.
        """
        archived, published = await self._parts.archive.status(), await self._publisher.status()
        link = self._connection.status
        skew_s, right = link.skew_ms / 1000, self.clock_right()
        age = self._parts.ground.membership.directory_age(self._parts.ground.seams.clock.now())
        return archived.accepting and right, {
            "code": self._parts.ground.membership.code,
            "version": __version__,
            "children": str(self._parts.ground.seams.workers.confinement or "not started yet"),
            "accepting": archived.accepting,
            "linked": self._connection.linked,
            "suspended": link.suspended is not None,
            "waiting": published.waiting,
            "parked": published.parked,
            "quarantined": archived.quarantined,
            "held_up": published.held_up,
            **await self._parts.care.health(),
            "directory": DIRECTORY[age],
            **self._parts.ground.refusals.health(),
            **(outside.health() if (outside := self._parts.ground.people_certificate) is not None else {}),
            **(kept.health() if (kept := self._parts.continuity) is not None else {}),
            "clock": "ok" if right else f"wrong by {skew_s:+.0f} s: images are not given out",
        }

    def clock_right(self) -> bool:
        """Whether this clock agrees with the registry's within the limit; without a link nobody can say."""
        link = self._connection.status
        return (
            not link.connected or abs(link.skew_ms) <= self._parts.ground.config.serve.max_clock_skew_s * 1000
        )

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        refused = self._parts.ground.refusals.gauges()
        sources = await self._parts.sources.gauges()
        kept = self._parts.continuity.gauges() if self._parts.continuity is not None else []
        told = await self._parts.announcer.gauges() if self._parts.announcer is not None else []
        care, held_up = await self._parts.care.gauges(), self._parts.serve.bandwidth.gauges()
        others = [*sources, *refused, *kept, *told, *held_up]
        return [*await self._of_holdings(), *care, *self._of_connections(), *others]

    async def _of_holdings(self) -> list[Gauge]:
        archived, published = await self._parts.archive.status(), await self._publisher.status()
        unread, _ = await self._publisher.store.unread_numbers(0)
        return [
            Gauge("crosslight_node_studies", "Studies held.", archived.studies),
            Gauge("crosslight_node_instances", "Instances held and visible.", archived.instances),
            Gauge(
                "crosslight_node_instances_hidden", "Instances hidden by rejection notes.", archived.hidden
            ),
            Gauge("crosslight_node_object_bytes", "Bytes of objects.", archived.object_bytes),
            Gauge("crosslight_node_free_bytes", "Bytes free on the archive's disk.", archived.free_bytes),
            Gauge("crosslight_node_quarantined", "Objects in quarantine.", archived.quarantined),
            Gauge(
                "crosslight_node_waiting",
                "Studies waiting to be acknowledged by the registry.",
                published.waiting,
            ),
            Gauge(
                "crosslight_node_parked", "Studies refused for good; an operator is needed.", published.parked
            ),
            Gauge(
                "crosslight_node_numbers_unreadable",
                "Studies whose patient has a national number that is none.",
                unread,
            ),
        ]

    def _of_connections(self) -> list[Gauge]:
        ground, gauges = self._parts.ground, list(self._connection.gauges())
        if ground.people_certificate is not None:
            gauges += ground.people_certificate.gauges()
        if not ground.open_mode:
            left = (ground.membership.credentials.expires() - ground.seams.clock.now()).total_seconds()
            gauges.append(
                Gauge("crosslight_node_certificate_seconds", "Life left of the node's certificate.", left)
            )
        if (dimse := self._parts.dimse) is not None:
            objects: dict[tuple[str, ...], float] = {(k,): float(v) for k, v in dimse.objects.items()}
            gauges.append(
                Total("crosslight_node_dimse_objects", "Objects by C-STORE outcome.", objects, ("outcome",))
            )
        return gauges
