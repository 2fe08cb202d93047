"""Addresses of the relay, on the listener for systems."""

from __future__ import annotations

from aiohttp import web

from crosslight.runtime.soap.server import MAX_QUERY_BYTES, read_soap
from crosslight.standards.xds.wire.soap import action_not_supported
from registry.ihe.relay import Relay


def routes(relay: Relay, *, repository: str = "/xds/repository", imaging: str = "/rad69") -> list[web.RouteDef]:
    """ITI-43 and RAD-69; each address takes both, dispatched on ``wsa:Action``."""
    handlers = relay.handlers()

    async def handle(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request, MAX_QUERY_BYTES)
        handler = handlers.get(envelope.action)
        if handler is None:
            raise action_not_supported(envelope)
        return await handler(request, envelope)

    return [web.post(repository, handle), web.post(imaging, handle)]
