"""The simulated twin of :class:`crosslight.runtime.seams.Seams`, for one service of a run."""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import BaseConnector, ClientConnectorError, ClientRequest, ClientSession, ClientTimeout, web
from aiohttp.client_proto import ResponseHandler
from cryptography.hazmat.primitives.asymmetric import ec

from crosslight.runtime.files import SystemFiles
from crosslight.runtime.listener import ConnectionsConfig, Listener
from crosslight.runtime.seams import Seams
from simulations.virtual.database import InlineDatabases
from simulations.virtual.link import MemoryLink
from simulations.virtual.loop import OutsideError
from simulations.virtual.network import Network
from simulations.virtual.trace import Trace
from simulations.virtual.workers import InlineWorkers

BEGIN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


class VirtualClock:
    """The loop's time, from :data:`BEGIN` on; ``ahead`` makes it another's."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return BEGIN + self.ahead + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededIds:
    """The same ids for the same seed."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._dice.randbytes(16), version=4)

    def token_bytes(self, n: int) -> bytes:
        return self._dice.randbytes(n)

    def key63(self) -> int:
        return self._dice.getrandbits(63) or 1

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        # below the curve's order, which is above 2^255
        return ec.derive_private_key(self._dice.getrandbits(255) or 1, ec.SECP256R1())


class QuickFiles(SystemFiles):
    """Real files that wait for no disk."""

    def sync(self, handle: BinaryIO) -> None:
        handle.flush()

    def sync_dir(self, path: Path) -> None:
        """Nothing to wait for."""

    def begin_writing(self, handle: BinaryIO) -> None:
        """Nothing to begin."""

    def free_bytes(self, path: Path) -> int:
        return 1 << 40


class _MemoryConnector(BaseConnector):
    """aiohttp's client over the network in memory."""

    def __init__(self, network: Network, who: str, limit: int) -> None:
        super().__init__(limit=limit, keepalive_timeout=30)
        self._network, self._who = network, who

    async def _create_connection(
        self, req: ClientRequest, traces: list[Any], timeout: ClientTimeout
    ) -> ResponseHandler:
        if req.is_ssl():
            raise OutsideError("TLS")
        try:
            async with asyncio.timeout(timeout.sock_connect):
                _, protocol = await self._network.connect(
                    self._factory, self._who, req.url.host or "", req.url.port or 80
                )
        except OSError as error:
            raise ClientConnectorError(req.connection_key, error) from error
        handler: ResponseHandler = protocol
        return handler


class MemoryHttp:
    """Sessions and listeners of one service."""

    def __init__(self, network: Network, who: str) -> None:
        self._network, self._who = network, who

    def client(
        self,
        tls: Any = None,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        limit: int = 64,
        own_machine: bool = True,
        dial: Any = None,
        proxy: str = "",
    ) -> ClientSession:
        """A session; what is asked of others is in the trace."""
        timeout = ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s)
        connector = _MemoryConnector(self._network, self._who, limit)
        return ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )

    def listener(
        self,
        app: web.Application,
        host: str,
        port: int,
        tls: Any = None,
        *,
        name: str = "",
        config: ConnectionsConfig | None = None,
    ) -> Listener:
        """What is answered is in the trace, by method, path and status."""
        if tls is not None:
            raise OutsideError("TLS")
        self._network.owns(self._who, port)
        app.on_response_prepare.append(self._answered)
        return Listener(app, host, port, None, name=name, config=config)

    async def _answered(self, request: web.Request, response: web.StreamResponse) -> None:
        # aiohttp would take the machine's time
        response.headers["Date"] = format_datetime(VirtualClock().now(), usegmt=True)
        self._network.trace.note(self._who, f"answers {request.method} {request.path} {response.status}")


def virtual_seams(network: Network, who: str, seed: int, *, ahead: timedelta = timedelta()) -> Seams:
    """The world of the service ``who``.

    Args:
        network: Of the run.
        who: Its name in traces and for lines.
        seed: Of ids and jitter; the same for the same run.
        ahead: How far its clock is ahead.
    """
    trace: Trace = network.trace
    return Seams(
        clock=VirtualClock(ahead),
        ids=SeededIds(random.Random(f"{seed} {who} ids")),
        files=QuickFiles(),
        workers=InlineWorkers(),
        databases=InlineDatabases(who, trace),
        http=MemoryHttp(network, who),
        link=MemoryLink(network, who),
        draw=random.Random(f"{seed} {who} draw").random,
    )
