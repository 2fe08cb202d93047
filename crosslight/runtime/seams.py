"""All that a service asks of the world outside, as one value (D24, ADR 0032).

A service is made from a folder, a configuration and :class:`Seams`; no part of it reaches for a clock, a
random number, a durable file, a thread, a database, a socket or a channel in another way (ruff's
``banned-api`` holds that). So a whole region runs in one process on virtual time, with the same parts that
production wires::

    seams = system_seams()
    clock, ids = seams.clock, seams.ids
    db = seams.databases.open("sqlite:registry.db", base=folder)
    session = seams.http.client(tls)

A :class:`Seams` belongs to one service: its workers end with that service.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crosslight.runtime.clock import Clock, Ids, SystemClock, SystemIds
from crosslight.runtime.db import Db, EmbeddedDb, SqliteDb, open_db
from crosslight.runtime.files import Files, SystemFiles
from crosslight.runtime.waiting import Draw
from crosslight.runtime.workers import SystemWorkers, Workers

if TYPE_CHECKING:  # neither is loaded by a command that only looks into a database
    import grpc.aio
    from aiohttp import ClientSession, web

    from crosslight.runtime.dialled import Dial
    from crosslight.runtime.listener import ConnectionsConfig, Listener
    from crosslight.runtime.tls import Credentials, Identity

ChannelOptions = Sequence[tuple[str, Any]]  # gRPC's own names and values


class Databases(Protocol):
    """Opens databases. Whoever opens one closes it."""

    def open(self, url: str, *, base: Path) -> Db:
        """``sqlite:PATH`` (relative to ``base``) or ``postgresql://…``.

        Raises:
            ConfigError: for any other scheme.
        """
        ...

    def embedded(self, path: Path) -> EmbeddedDb:
        """The database in the file ``path``; made if it is not there."""
        ...


class Http(Protocol):
    """Both ends of HTTP."""

    def client(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        limit: int = 64,
        own_machine: bool = True,
        dial: Dial | None = None,
        proxy: str = "",
    ) -> ClientSession:
        """A session with bounded waits, at most ``limit`` connections, no cookies of others.

        Whoever asks closes it. ``own_machine``: whether a name may lead to this machine. ``dial``: gives
        every connection, whatever the host. ``proxy``: the HTTP proxy on the way.
        """
        ...

    def listener(
        self,
        app: web.Application,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        name: str = "",
        config: ConnectionsConfig | None = None,
    ) -> Listener:
        """What will serve ``app`` at an address, once started.

        ``name`` is the configuration's (``listen.<name>_port``), ``config`` bounds the connections.
        """
        ...


class MemberLink(Protocol):
    """Both ends of what members and their registry say to each other by the services of ``protos/``.

    The shapes are those of ``grpc.aio``: generated stubs are made of a channel, generated servicers are added
    to a server.
    """

    async def prove(
        self, address: str, credentials: Credentials, expect: Identity, timeout_s: float, proxy: str = ""
    ) -> bytes:
        """The certificate of ``expect`` at ``address``, PEM, as ``tls.proven_peer`` has it."""
        ...

    def channel(
        self, address: str, credentials: Credentials | None, options: ChannelOptions, *, peer: bytes = b""
    ) -> grpc.aio.Channel:
        """A channel to ``address`` (host:port), mutual TLS with ``credentials`` or plain without.

        It connects when used. ``peer``: the only certificate that it may meet, PEM; b'': any gateway's.
        """
        ...

    def server(self, options: ChannelOptions) -> grpc.aio.Server:
        """A server without an address yet."""
        ...


@dataclass(frozen=True, slots=True)
class Seams:
    """The world outside of one service.

    Attributes:
        clock: Time.
        ids: Random identifiers and secrets.
        files: Durable files.
        workers: Threads for blocking calls, bounded children for hostile bytes; they end with the service.
        databases: Opens databases.
        http: Sessions and listeners.
        link: Channels and servers of the members' link.
        draw: Randomness that is no secret: of retries and pauses, in [0, 1), anew at each call.
    """

    clock: Clock
    ids: Ids
    files: Files
    workers: Workers
    databases: Databases
    http: Http
    link: MemberLink
    draw: Draw


class SystemDatabases:
    """The real ones."""

    def open(self, url: str, *, base: Path) -> Db:
        return open_db(url, base=base)

    def embedded(self, path: Path) -> EmbeddedDb:
        return SqliteDb(path)


class SystemHttp:
    """On the system's sockets."""

    def client(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        limit: int = 64,
        own_machine: bool = True,
        dial: Dial | None = None,
        proxy: str = "",
    ) -> ClientSession:
        from crosslight.runtime.http import client_session

        return client_session(
            tls,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            limit=limit,
            own_machine=own_machine,
            dial=dial,
            proxy=proxy,
        )

    def listener(
        self,
        app: web.Application,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        name: str = "",
        config: ConnectionsConfig | None = None,
    ) -> Listener:
        from crosslight.runtime.listener import Listener

        return Listener(app, host, port, tls, name=name, config=config)


class GrpcLink:
    """The link between member and registry over real gRPC channels."""

    async def prove(
        self, address: str, credentials: Credentials, expect: Identity, timeout_s: float, proxy: str = ""
    ) -> bytes:
        from crosslight.runtime.tls import proven_peer

        return await proven_peer(credentials, address, expect, timeout_s, proxy)

    def channel(
        self, address: str, credentials: Credentials | None, options: ChannelOptions, *, peer: bytes = b""
    ) -> grpc.aio.Channel:
        import grpc.aio

        from crosslight.runtime.tls import gateway_channel_options

        if credentials is None:
            return grpc.aio.insecure_channel(address, options)
        return grpc.aio.secure_channel(
            address, credentials.grpc_channel(peer), [*options, *gateway_channel_options()]
        )

    def server(self, options: ChannelOptions) -> grpc.aio.Server:
        import grpc.aio

        return grpc.aio.server(options=options)


def system_seams(
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    files: Files | None = None,
    workers: Workers | None = None,
    draw: Draw | None = None,
) -> Seams:
    """The real world, for one service. Threads and children start when they are first needed.

    Args:
        clock: Another than the system's. ids: Another source. files: Others. workers: Others.
        draw: Another jitter.
    """
    return Seams(
        clock=clock or SystemClock(),
        ids=ids or SystemIds(),
        files=files or SystemFiles(),
        workers=workers or SystemWorkers(),
        databases=SystemDatabases(),
        http=SystemHttp(),
        link=GrpcLink(),
        draw=draw or random.SystemRandom().random,
    )
