"""The node's end of its tunnel: what the registry asks of this node when nothing can be let in (ADR 0058).

A call on the link's own connection carries connections from the registry's gateway to the node's listener for
systems. The listener takes each as one that came to its port: TLS, certificate, token and release are the
same. Without the tunnel a connection of this process cannot be had: it is one end of an anonymous pair.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from crosslight.pb import tunnel_pb2 as pb
from crosslight.pb import tunnel_pb2_grpc as pb_grpc
from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.tunnel.carrier import Carrier, Take
from crosslight.runtime.tunnel.mux import Mux
from crosslight.runtime.waiting import Backoff
from crosslight.standards.problem import CrosslightError
from node.membership.config import RegionConfig
from node.membership.link import Link
from node.membership.model import LinkStatus

log = get_logger("tunnel")

GRACE_S = 60.0  # as long as the gateway waits in the middle of an answer
GREETING_TIMEOUT_S = 15.0
UNKNOWN_PAUSE_S = 60.0  # before a registry that knows no tunnels is asked again


class NodeTunnel:
    """Keeps a tunnel up while the link is.

    Args:
        link: On whose channel it is.
        config: Whether it is wanted, and how soon it is tried again.
        clock: Time.
        backoff: Between tries.
        take: Serves the connections that come.
    """

    def __init__(self, link: Link, config: RegionConfig, clock: Clock, backoff: Backoff, take: Take) -> None:
        self._link, self._config, self._clock, self._backoff, self._take = link, config, clock, backoff, take
        self._carrier: Carrier | None = None
        self._channel: grpc.aio.Channel | None = None
        self._failed = 0
        link.changed.add(self._link_changed)

    @property
    def carrier(self) -> Carrier | None:
        """The tunnel as it is now."""
        return self._carrier

    def _link_changed(self, status: LinkStatus) -> None:
        """A call on a connection that was given up would last until that one is closed: end it now."""
        moved = not status.connected or self._link.channel() is not self._channel
        if moved and self._carrier is not None:
            self._carrier.detach()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._link.connected()
                pause_s = await self._call()
                await self._clock.sleep(pause_s)
        finally:
            if self._carrier is not None:
                self._carrier.close()

    async def _call(self) -> float:
        """One call, until it ends; how long to wait then."""
        self._channel = self._link.channel()
        stub: Any = pb_grpc.TunnelStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        call = stub.Carry(metadata=self._link.metadata)
        try:
            await self._carry(call)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return UNKNOWN_PAUSE_S
            log.warning("tunnel lost", reason=error.code().name)
        except (asyncio.InvalidStateError, TimeoutError, CrosslightError) as error:
            log.warning("tunnel lost", reason=type(error).__name__)
        finally:
            call.cancel()
        self._failed += 1
        return self._backoff.delay_s(self._failed - 1)

    async def _carry(self, call: Any) -> None:
        carrier = self._carrier
        if carrier is None or carrier.closed:
            carrier = self._carrier = Carrier(Mux(), self._clock, GRACE_S, self._take)
        greeting = carrier.mux.greeting(carrier.session, self._config.reach)
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            await call.write(pb.TunnelFrame(greeting=greeting))
            answer = await _read(call)
        if answer is None or answer.WhichOneof("body") != "greeting":
            return
        if answer.greeting.session != carrier.session:
            if carrier.session:
                carrier.close()
                carrier = self._carrier = Carrier(Mux(), self._clock, GRACE_S, self._take)
            carrier.session = answer.greeting.session
        self._failed = 0
        await carrier.carry(answer.greeting, lambda: _read(call), call.write)


async def _read(call: Any) -> pb.TunnelFrame | None:
    frame = await call.read()
    if frame is not grpc.aio.EOF:
        return frame  # type: ignore[no-any-return]  # generated
    with suppress(grpc.aio.UsageError):
        if await call.code() is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata()
            )
    return None
