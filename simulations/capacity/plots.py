"""Plots of an answer as SVG, drawn by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from math import cos, hypot, pi, sin

import matplotlib as mpl
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.capacity.answers import Answer
from simulations.capacity.demand import DAYS, Demand
from simulations.capacity.network import REGISTRY, RegionNetwork
from simulations.topology import Topology

BLUE, GREEN, AMBER, GREY = "#005eb8", "#00703c", "#b35900", "#4c6272"
#: A first image within this is "at once" to whoever waits (the project's goal).
GOAL_S = 1.0


def _svg(draw: Callable[[Axes], None], width: float = 8.0, height: float = 3.2) -> str:
    # ids within an SVG are made from a salt, else two runs of one seed would differ
    with mpl.rc_context(
        {
            "svg.hashsalt": "crosslight",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.fonttype": "none",
        }
    ):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def week(topology: Topology) -> str:
    """Searches each second over a week."""

    def draw(axes: Axes) -> None:
        demand = Demand(topology)
        rates = [demand.of_region(day, hour).finds for day in DAYS for hour in range(24)]
        axes.fill_between(range(len(rates)), rates, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(rates, color=BLUE, linewidth=1.5)
        axes.set_xticks([24 * day + 12 for day in range(7)], DAYS)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("searches a second")
        axes.set_title("Searches over a week, now", loc="left")

    return _svg(draw)


def latencies(answer: Answer, called: Mapping[str, str]) -> str:
    """How long each member waits for the first image in the last year: half, and 95 of 100."""

    def draw(axes: Axes) -> None:
        members = sorted(answer.members, key=lambda m: m.first_image.p95_s)
        names = [_text(called[m.code], 34) for m in members]
        axes.barh(names, [m.first_image.p95_s for m in members], color=BLUE, alpha=0.3, label="95 of 100")
        axes.barh(names, [m.first_image.p50_s for m in members], color=BLUE, label="half")
        if any(m.first_image.p95_s > GOAL_S / 2 for m in members):
            axes.axvline(GOAL_S, color=AMBER, linestyle="--", linewidth=1)
        axes.set_xlabel("seconds from the click to the first image")
        axes.legend(frameon=False, loc="lower right")

    return _svg(draw, height=1.4 + 0.28 * len(answer.members))


def _text(name: str, most: int) -> str:
    """A name that is no formula of matplotlib's, and not too long."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def disk(answer: Answer) -> str:
    """What the registry keeps, year by year."""

    def draw(axes: Axes) -> None:
        years = [bought.year for bought in answer.purchases]
        below = [0.0] * len(years)
        for name, colour, parts in (
            ("index", BLUE, [bought.index_gb for bought in answer.purchases]),
            ("write-ahead log", GREY, [bought.log_gb for bought in answer.purchases]),
            ("audit", GREEN, [bought.audit_gb for bought in answer.purchases]),
        ):
            axes.bar(years, parts, bottom=below, color=colour, alpha=0.75, label=name, width=0.6)
            below = [low + part for low, part in zip(below, parts, strict=True)]
        axes.legend(frameon=False, loc="upper left")
        axes.set_xticks(years)
        axes.set_xlabel("end of year")
        axes.set_ylabel("registry's disk, GB")

    return _svg(draw)


def _places(topology: Topology, network: RegionNetwork) -> dict[str, tuple[float, float]]:
    """Members on a circle beside those of the same network, that network between them and the registry."""
    graph = network.graph
    members = sorted(topology.codes, key=lambda code: (sorted(graph.neighbors(code)), code))
    outside = [n for n in topology.networks if not any(graph.has_edge(n, code) for code in members)]
    ring = [*members, *outside]
    angles = {place: pi / 2 - 2 * pi * number / len(ring) for number, place in enumerate(ring)}
    places = {place: (1.5 * cos(angle), sin(angle)) for place, angle in angles.items()}
    for name in topology.networks:
        if name not in places:
            at = [places[code] for code in members if graph.has_edge(name, code)]
            x, y = (sum(values) / len(at) for values in zip(*at, strict=True))
            far = max(hypot(x, y), 0.001)
            places[name] = (0.75 * x / far, 0.5 * y / far)
    return {**places, REGISTRY: (0.0, 0.0)}


def drawing(topology: Topology, network: RegionNetwork, called: Mapping[str, str]) -> str:
    """Places and lines: a wider line carries more, a dashed one is somebody's only way."""

    def draw(axes: Axes) -> None:
        graph = network.graph
        places = _places(topology, network)
        colours = [AMBER if p == REGISTRY else GREY if p in topology.networks else BLUE for p in graph]
        only = [pair for pair in graph.edges if network.isolated_by(graph.edges[pair]["link"].name)]
        for pairs, style in ((only, "dashed"), ([pair for pair in graph.edges if pair not in only], "solid")):
            widths = [0.6 + (graph.edges[pair]["mbit_s"] / 1000) ** 0.5 * 1.6 for pair in pairs]
            nx.draw_networkx_edges(
                graph, places, pairs, ax=axes, width=widths, edge_color=GREY, alpha=0.6, style=style
            )
        nx.draw_networkx_nodes(graph, places, ax=axes, node_size=140, node_color=colours)
        for place, (x, y) in places.items():
            outside = place in called or hypot(x / 1.5, y) > 0.9
            axes.text(
                x * (1.08 if outside else 1),
                y * (1.08 if outside else 1) + (0 if outside else 0.08),
                _text(called.get(place, place), 26),
                fontsize=9,
                ha="center" if not outside or abs(x) < 0.25 else "left" if x > 0 else "right",
                va="center" if outside and abs(x) >= 0.25 else "bottom" if y >= 0 or not outside else "top",
            )
        axes.margins(0.3, 0.14)
        axes.axis("off")

    return _svg(draw, width=9.0, height=5.6)
