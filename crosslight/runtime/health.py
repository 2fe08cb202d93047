"""``/health/live``, ``/health/ready`` and ``/metrics`` of both services: no patient data, no sign-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Ready = Callable[[], Awaitable[tuple[bool, dict[str, Any]]]]
Gauges = Callable[[], Awaitable[list["Gauge"]]]


class Gauge:
    """One metric's values now. ``values`` maps label values to numbers; no label may hold patient data."""

    def __init__(
        self, name: str, help: str, values: dict[tuple[str, ...], float] | float, labels: tuple[str, ...] = ()
    ) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values = values if isinstance(values, dict) else {(): float(values)}


class Total(Gauge):
    """A metric that only grows while the process lives; its exposed name ends in ``_total``."""


class _Once(Collector):
    def __init__(self, gauges: list[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> list[Metric]:
        families: list[Metric] = []
        for gauge in self._gauges:
            kind = CounterMetricFamily if isinstance(gauge, Total) else GaugeMetricFamily
            family = kind(gauge.name, gauge.help, labels=gauge.labels)
            for labels, number in gauge.values.items():
                family.add_metric(labels, number)
            families.append(family)
        return families


def routes(ready: Ready, gauges: Gauges) -> list[web.RouteDef]:
    """Health and metrics.

    Args:
        ready: Whether work can be done now, and details without patient data.
        gauges: The metrics, computed when asked.
    """

    async def live(request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def is_ready(request: web.Request) -> web.Response:
        good, details = await ready()
        body = orjson.dumps({"ready": good, **details})
        return web.Response(status=200 if good else 503, body=body, content_type="application/json")

    async def metrics(request: web.Request) -> web.Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(await gauges()))
        return web.Response(
            body=generate_latest(registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    return [web.get("/health/live", live), web.get("/health/ready", is_ready), web.get("/metrics", metrics)]
