"""Applications on a free port of loopback, as a service runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import web

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, Handler, admit, problems
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
async def served(app: web.Application) -> AsyncIterator[str]:
    """``app`` on a free port of loopback, as ``runtime.http.Listener`` runs it; its address."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
