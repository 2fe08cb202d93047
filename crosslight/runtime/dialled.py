"""HTTP over connections that somebody else opens: aiohttp's connector where no host is dialled."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import BaseConnector, ClientConnectorError, ClientRequest, ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import ceil_timeout

from crosslight.standards.problem import CrosslightError

Dial = Callable[[], socket.socket]
"""Opens a connection. Raises a CrosslightError where there is none to be had."""


class DialledConnector(BaseConnector):
    """Pools connections that ``dial`` opens, whatever the host of the address.

    Args:
        dial: Opens one.
        tls: For addresses over https.
        options: Of the pool, as aiohttp has them.
    """

    def __init__(self, dial: Dial, tls: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._dial, self._tls = dial, tls

    async def _create_connection(
        self, req: ClientRequest, traces: list[Any], timeout: ClientTimeout
    ) -> ResponseHandler:
        try:
            async with ceil_timeout(timeout.sock_connect, ceil_threshold=timeout.ceil_threshold):
                return await self._connected(req)
        except TimeoutError:
            raise
        except (OSError, CrosslightError) as error:
            failed = error if isinstance(error, OSError) else ConnectionError(str(error))
            raise ClientConnectorError(req.connection_key, failed) from error

    async def _connected(self, req: ClientRequest) -> ResponseHandler:
        sock = self._dial()
        secured = req.is_ssl()
        try:
            _, protocol = await self._loop.create_connection(
                self._factory,
                sock=sock,
                ssl=self._tls if secured else None,
                server_hostname=(req.url.raw_host or "") if secured else None,
            )
        except BaseException:
            sock.close()
            raise
        return protocol
