"""Plots of an answer as SVG, drawn by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Callable

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

    return _svg(draw)


def latencies(answer: Answer) -> str:
    """How long each member waits for the first image in the last year: half, and 95 of 100."""

    def draw(axes: Axes) -> None:
        members = sorted(answer.members, key=lambda m: m.first_image.p95_s)
        names = [m.code for m in members]
        axes.barh(names, [m.first_image.p95_s for m in members], color=BLUE, alpha=0.3, label="95 of 100")
        axes.barh(names, [m.first_image.p50_s for m in members], color=BLUE, label="half")
        if any(m.first_image.p95_s > GOAL_S / 2 for m in members):
            axes.axvline(GOAL_S, color=AMBER, linestyle="--", linewidth=1)
        axes.set_xlabel("seconds from the click to the first image")
        axes.legend(frameon=False, loc="lower right")

    return _svg(draw, height=1.4 + 0.28 * len(answer.members))


def disk(answer: Answer) -> str:
    """What the registry keeps, year by year."""

    def draw(axes: Axes) -> None:
        years = [bought.year for bought in answer.purchases]
        axes.bar(years, [bought.disk_gb for bought in answer.purchases], color=GREEN, alpha=0.7)
        axes.set_xticks(years)
        axes.set_xlabel("end of year")
        axes.set_ylabel("registry's disk, GB")

    return _svg(draw)


def drawing(topology: Topology, network: RegionNetwork) -> str:
    """Places and lines: a wider line carries more."""

    def draw(axes: Axes) -> None:
        graph = network.graph
        # members stand beside those of the same network, so that few lines cross
        members = sorted(topology.codes, key=lambda code: (sorted(graph.neighbors(code)), code))
        rings = [ring for ring in ([REGISTRY], list(topology.networks), members) if ring]
        places = nx.shell_layout(graph, rings)
        colours = [AMBER if p == REGISTRY else GREY if p in topology.networks else BLUE for p in graph]
        widths = [0.6 + (graph.edges[pair]["mbit_s"] / 1000) ** 0.5 * 1.6 for pair in graph.edges]
        nx.draw_networkx_edges(graph, places, ax=axes, width=widths, edge_color=GREY, alpha=0.6)
        nx.draw_networkx_nodes(graph, places, ax=axes, node_size=160, node_color=colours)
        above = {place: (x, y + 0.07) for place, (x, y) in places.items()}
        nx.draw_networkx_labels(graph, above, ax=axes, font_size=8)
        axes.margins(0.12)
        axes.axis("off")

    return _svg(draw, height=4.6)
