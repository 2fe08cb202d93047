"""The registry's end of a node's tunnel: a call that the node makes, and that connections to it go through.

It is taken on the very connection of the member's link, so that it is bound to the same certificate and the
same node, and ends with them (ADR 0058).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from crosslight.pb import tunnel_pb2 as pb
from crosslight.pb import tunnel_pb2_grpc as pb_grpc
from crosslight.runtime.log import get_logger
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import CrosslightError
from registry.link.callers import Callers
from registry.reach.tunnels import Tunnels

log = get_logger("tunnel")

GREETING_TIMEOUT_S = 10.0


class TunnelServicer(pb_grpc.TunnelServicer):
    """Takes the tunnels of nodes.

    Args:
        callers: Who calls; a suspension ends the call.
        tunnels: Where connections are opened from.
        linked: The connection of a member's link, as gRPC names it; '' = it has none here.
    """

    def __init__(self, callers: Callers, tunnels: Tunnels, linked: Callable[[MemberId], str]) -> None:
        self._callers, self._tunnels, self._linked = callers, tunnels, linked

    def register(self, server: grpc.aio.Server) -> None:
        """Add it to the server of the members' port."""
        add: Callable[..., None] = pb_grpc.add_TunnelServicer_to_server
        add(self, server)

    async def Carry(self, request_iterator: AsyncIterator[pb.TunnelFrame], context: Any) -> None:  # noqa: N802 - gRPC's name
        """One call of a member's node; the next one goes on where it ended."""
        member = await self._callers.member(context)
        if self._linked(member.id) != str(context.peer()):
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "A tunnel is taken on the connection of its node's link."
            )
        frames = aiter(request_iterator)
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                first = await anext(frames)
        except (StopAsyncIteration, TimeoutError):
            return
        if first.WhichOneof("body") != "greeting":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A tunnel begins with a greeting.")
        carrier = self._tunnels.greeted(member.id, first.greeting)
        log.info("tunnel begins", code=member.code, count=len(first.greeting.positions))
        await context.write(pb.TunnelFrame(greeting=carrier.mux.greeting(carrier.session)))

        async def read() -> pb.TunnelFrame | None:
            return await anext(frames, None)

        try:
            await carrier.carry(first.greeting, read, context.write)
        except CrosslightError as error:
            with suppress(grpc.aio.AbortError):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.what)
        finally:
            log.info("tunnel ended", code=member.code)
