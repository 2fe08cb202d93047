"""The parts of continuity, and their life."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.mllp import MllpServer
from crosslight.runtime.proxies import host_and_port
from crosslight.runtime.refusals import Noted
from crosslight.runtime.seams import Seams
from crosslight.runtime.service_life import Life
from crosslight.runtime.waiting import Backoff, Wake
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import Region
from node.continuity.asking import Asker
from node.continuity.config import ContinuityConfig
from node.continuity.face import routes
from node.continuity.kept_lists import KeptLists
from node.continuity.orders import OrderFeed
from node.membership.membership import Membership
from node.membership.model import RegistryRoads
from node.serve.release import Release

if TYPE_CHECKING:
    from aiohttp import web

FOLDER = "region-lists"


class Continuity:
    """What listens to orders, asks the region, and keeps its answers.

    Args:
        config: ``[continuity]``.
        folder: The node's.
        seams: The world outside.
        membership: Whose numbers count, and where a list is asked for.
        roads: To the registry.
        secured: Whether senders are known by address; False in an open node.
        noted: Told of senders who may not.
    """

    def __init__(
        self,
        config: ContinuityConfig,
        folder: Path,
        seams: Seams,
        membership: Membership,
        roads: RegistryRoads,
        *,
        secured: bool,
        noted: Noted,
    ) -> None:
        config.check(secured=secured)
        if not membership.lists_address:
            raise ConfigError(
                "Only a region's registry gives lists for orders.",
                why="This node publishes to a registry that is not ours.",
                where="continuity.enabled",
            )
        self._config, self._seams, self._membership, self._roads = config, seams, membership, roads
        self.lists = KeptLists(folder / FOLDER, seams.files, seams.clock, config)
        self._wake = Wake(seams.clock)
        senders = frozenset(config.senders) if secured else None
        self.feed = OrderFeed(
            self.lists, self._region, senders, seams.clock, seams.ids, noted=noted, wanted=self._wake.set
        )

    def _region(self) -> Region:
        return self._membership.region

    def open(self) -> None:
        """Read what is kept."""
        self.lists.open()

    async def start(self, life: Life) -> None:
        """Listen and ask until the end of ``life``.

        Raises:
            ConfigError: when the address cannot be had.
        """
        config, seams, feed = self._config, self._seams, self._roads.feed
        proxy = self._roads.proxy(host_and_port(self._membership.lists_address))
        session = seams.http.client(self._roads.tls(), read_timeout_s=30.0, limit=1, proxy=proxy)
        life.closes(session)
        asker = Asker(
            session,
            lambda: self._membership.lists_address,
            dict(feed.metadata) if feed is not None else {},
            self.lists,
            self._region,
            self._wake,
            Backoff(config.retry_first_s, config.retry_max_s, seams.draw, least=0.5),
            config.max_list_bytes,
        )
        life.runs(asker.run())
        server = MllpServer(
            self.feed.handle, config.host, config.port, limits=config.limits(), busy=self.feed.turn_away
        )
        life.stops(server)
        await server.start()

    def routes(self, release: Release) -> list[web.RouteDef]:
        """The face that people and systems meet."""
        return routes(self.lists, release, self._region, self._seams.clock)

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``."""
        n_lists, n_wanted, n_bytes, oldest_s = self.lists.figures()
        return {
            "region_lists": {
                "kept": n_lists,
                "wanted": n_wanted,
                "bytes": n_bytes,
                "oldest_s": round(oldest_s),
            }
        }

    def gauges(self) -> list[Gauge]:
        """Metrics."""
        n_lists, n_wanted, n_bytes, oldest_s = self.lists.figures()
        orders: dict[tuple[str, ...], float] = {
            ("taken",): float(self.feed.n_taken),
            ("refused",): float(self.feed.n_refused),
        }
        return [
            Gauge("crosslight_node_region_lists", "Region's lists kept for patients with an order.", n_lists),
            Gauge("crosslight_node_region_lists_wanted", "Orders whose list has not come yet.", n_wanted),
            Gauge("crosslight_node_region_list_bytes", "Bytes of the lists kept.", n_bytes),
            Gauge("crosslight_node_region_list_age_seconds", "Age of the oldest list kept.", oldest_s),
            Total(
                "crosslight_node_orders", "Orders received since the start, by outcome.", orders, ("outcome",)
            ),
        ]
