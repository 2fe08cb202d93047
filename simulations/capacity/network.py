"""The region as a graph: which way a message takes, what may fail without harm, and what a cut isolates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

from crosslight.standards.problem import ConfigError
from simulations.topology import LinkPlan, Topology

REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Road:
    """The way between two places: the lines in order."""

    links: tuple[LinkPlan, ...]

    @property
    def rtt_s(self) -> float:
        """Round trip over all of it, seconds."""
        return sum(link.rtt_ms for link in self.links) / 1000

    @property
    def loss(self) -> float:
        """Part of the packets that is lost on the way."""
        kept = 1.0
        for link in self.links:
            kept *= 1 - link.loss
        return 1 - kept

    @property
    def narrowest(self) -> LinkPlan:
        """The line that carries least."""
        return min(self.links, key=lambda link: link.mbit_s)


@dataclass(frozen=True, slots=True)
class WeakPoint:
    """A line or a place whose failure cuts somebody off."""

    name: str
    isolates: tuple[str, ...]  # codes of members that reach the registry no more
    exams_share: float  # theirs, of the region's


class RegionNetwork:
    """Places and lines of a topology.

    Args:
        topology: A region whose members, networks and registry are joined.

    Raises:
        ConfigError: a line leads to no place, or a member has no way to the registry.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.graph = nx.Graph()
        self.graph.add_nodes_from((*topology.codes, *topology.networks, REGISTRY))
        for link in topology.links:
            for end in (link.a, link.b):
                if end not in self.graph:
                    raise ConfigError(
                        f"The line {link.name} leads to {end}, which is no place.", where="links"
                    )
            self.graph.add_edge(link.a, link.b, link=link, rtt_ms=link.rtt_ms, mbit_s=link.mbit_s)
        for neighbour in topology.neighbours:
            if neighbour.at not in self.graph:
                raise ConfigError(
                    f"{neighbour.name} comes by {neighbour.at}, which is no place.", where="neighbours"
                )
        if lost := self._cut_off(self.graph):
            raise ConfigError(f"There is no line from {', '.join(lost)} to the registry.", where="links")

    def road(self, a: str, b: str) -> Road:
        """The way between two places with the shortest round trip."""
        places = nx.shortest_path(self.graph, a, b, weight="rtt_ms")
        return Road(tuple(self.graph.edges[pair]["link"] for pair in pairwise(places)))

    def min_cut(self, code: str) -> tuple[tuple[str, ...], int]:
        """The fewest lines whose loss cuts a member from the registry; so many independent ways it has."""
        lines = nx.minimum_edge_cut(self.graph, code, REGISTRY)
        return tuple(sorted(self.graph.edges[pair]["link"].name for pair in lines)), len(lines)

    def least_mbit_s(self, code: str) -> float:
        """What all ways of a member to the registry carry together (maximum flow)."""
        return float(nx.maximum_flow_value(self.graph, code, REGISTRY, capacity="mbit_s"))

    def isolated_by(self, name: str) -> tuple[str, ...]:
        """Members without a way to the registry when this line or place is lost.

        Raises:
            ConfigError: if there is none of that name.
        """
        without = self.graph.copy()
        pair = next((pair for pair in without.edges if without.edges[pair]["link"].name == name), None)
        if pair is not None:
            without.remove_edge(*pair)
        elif name in without:
            without.remove_node(name)
        else:
            raise ConfigError(f"There is no line or place {name}.", where=name)
        return self._cut_off(without)

    def weak_points(self) -> list[WeakPoint]:
        """Single points of failure, the worst first: lines, networks and the registry itself."""
        exams = {member.code: member.exams_per_year for member in self._topology.members}
        total = sum(exams.values()) or 1
        points = [
            WeakPoint(name, codes, sum(exams[code] for code in codes) / total)
            for name in self._names()
            if (codes := self.isolated_by(name))
        ]
        return sorted(points, key=lambda point: (-point.exams_share, point.name))

    def _names(self) -> Iterator[str]:
        yield from (link.name for link in self._topology.links)
        yield from self._topology.networks
        yield REGISTRY

    def _cut_off(self, graph: nx.Graph) -> tuple[str, ...]:
        reached = nx.node_connected_component(graph, REGISTRY) if REGISTRY in graph else set()
        return tuple(code for code in self._topology.codes if code not in reached)
