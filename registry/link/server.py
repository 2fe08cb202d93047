"""The gRPC listener for nodes; messages, streams and pings are bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio

from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import cannot_listen
from crosslight.runtime.seams import MemberLink
from crosslight.runtime.tls import Credentials
from registry.link.link import MembershipServicer

log = get_logger("link")


class MemberServer:
    """The gRPC listener for nodes: mutual TLS, or plain in the open demo.

    Args:
        link: Makes the server.
        register: Adds further servicers (the index feed) to the server.
        began: Told of each TLS handshake that begins, by gRPC's threads.
    """

    def __init__(
        self,
        servicer: MembershipServicer,
        host: str,
        port: int,
        credentials: Credentials | None,
        *,
        link: MemberLink,
        max_message_bytes: int = 8 << 20,
        register: tuple[Callable[[grpc.aio.Server], None], ...] = (),
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._servicer, self._address, self._credentials = servicer, f"{host}:{port}", credentials
        self._link, self._max, self._register = link, max_message_bytes, register
        self._began = began
        self._server: Any = None
        self.port = port

    async def start(self) -> None:
        """Bind and serve; port 0 takes a free one, which :attr:`port` then tells.

        Raises:
            ConfigError: when the address cannot be had.
        """
        server = self._link.server(
            [
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._max),
                ("grpc.max_send_message_length", self._max),
                ("grpc.max_concurrent_streams", 64),
                ("grpc.max_metadata_size", 16384),
                ("grpc.keepalive_time_ms", 10_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        add_membership: Callable[..., None] = pb_grpc.add_MembershipServicer_to_server
        add_membership(self._servicer, server)
        for add in self._register:
            add(server)
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(self._address)
            else:
                self.port = server.add_secure_port(self._address, self._credentials.grpc_server(self._began))
        except RuntimeError as error:  # gRPC says no more
            raise cannot_listen(
                error, self._address.rpartition(":")[0], self.port, "listen.grpc_port"
            ) from error
        await server.start()
        self._server = server
        log.info("listening", name="members", address=self._address)

    async def stop(self, grace_s: float = 1.0) -> None:
        """End all links and stop."""
        if self._server is not None:
            await self._server.stop(grace_s)
