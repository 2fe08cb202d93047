"""Applications on a free port of loopback, as a service runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import web

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, Handler, admit, problems
from crosslight.runtime.listener import ConnectionsConfig, Listener
from crosslight.standards.access import OPEN, Principal


def service(
    routes: Iterable[web.RouteDef],
    renderers: ErrorRenderers | None = None,
    principal: Callable[[web.Request], Principal] | None = None,
) -> web.Application:
    """An application around routes, as the composition root makes it: errors rendered once, a principal on
    each request.
    """

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        admit(request, principal(request) if principal is not None else OPEN)
        return await handler(request)

    shell = cast(Any, problems(renderers or ErrorRenderers(), SystemIds()))
    app = web.Application(middlewares=[shell, authenticate])
    app.add_routes(routes)
    return app


@asynccontextmanager
async def served(app: web.Application, config: ConnectionsConfig | None = None) -> AsyncIterator[str]:
    """``app`` on a free port of loopback, as services run it; its address."""
    listener = Listener(app, "127.0.0.1", 0, config=config)
    listener.shutdown_s = 0.2
    await listener.start()
    try:
        yield f"http://127.0.0.1:{listener.port}"
    finally:
        await listener.stop()
