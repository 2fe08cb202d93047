"""The node's end of the link: one outbound stream to the registry while the node lives (D10, D18).

Reconnects by itself with jittered pauses of at most a few seconds; a renewed certificate is taken up by a new
stream before the old one ends. The node serves with or without it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import grpc
import grpc.aio

from crosslight.pb import membership_pb2 as pb
from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.runtime.waiting import Backoff, Subscribers, Wake
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import CrosslightError
from node.membership.config import RegionConfig
from node.membership.gateway_proof import GatewayProof
from node.membership.heartbeat import concern_message, heartbeat_message
from node.membership.model import EpochGrant, HelloFacts, LinkStatus, NodeStatus
from node.membership.state import RegionState

log = get_logger("link")

MEMBER_METADATA = "crosslight-member"
WELCOME_TIMEOUT_S = 15.0
RETIRE_GRACE_S = 10.0


class Speaker(Protocol):
    """Who answers for the node on its link."""

    async def hello(self) -> HelloFacts:
        """What the publisher remembers, asked at each beginning."""
        ...

    async def status(self) -> NodeStatus:
        """For a heartbeat."""
        ...

    async def welcomed(self, grant: EpochGrant) -> None:
        """Told of each grant before anything else is read; the epoch is kept durably when it returns."""
        ...

    async def reconcile(self, why: str) -> None:
        """The registry orders a comparison outside a welcome."""
        ...


class Link:
    """Keeps the node linked. ``speaker`` is set before :meth:`start`.

    Args:
        state: Who the node is; the directory goes into it.
        endpoints: Where this node's faces are.
        open_mode: Plain link, the node names itself (the open demo).
        software: Name and version of this program.
    """

    def __init__(
        self,
        state: RegionState,
        config: RegionConfig,
        seams: Seams,
        *,
        endpoints: Endpoints,
        open_mode: bool = False,
        software: str = "crosslight",
    ) -> None:
        self.state, self.config, self.open_mode = state, config, open_mode
        self.clock, self._link = seams.clock, seams.link
        self.endpoints, self.software = endpoints, software
        self._proof = GatewayProof(state, self._link, config, open_mode=open_mode)
        self.speaker: Speaker
        self.status = LinkStatus(since=seams.clock.now())
        self.changed: Subscribers[LinkStatus] = Subscribers()  # told of each new status
        self._channel: grpc.aio.Channel | None = None
        self._changed = Wake(seams.clock)
        self._backoff = Backoff(config.reconnect_min_s, config.reconnect_max_s, seams.draw, least=0.5)
        self._task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Event] = []
        self._retiring: set[asyncio.Task[None]] = set()

    # --- for other rooms ------------------------------------------------------------------------------------

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call on :meth:`channel` carries.

        The node's name on a plain link; nothing on mutual TLS, where the certificate says it.
        """
        return ((MEMBER_METADATA, self.state.code),) if self.open_mode else ()

    def channel(self) -> grpc.aio.Channel:
        """The channel to the registry, for the index feed too.

        Ask anew for each call: renewal replaces it.
        """
        if self._channel is None:
            self._channel = self._new_channel()
        return self._channel

    async def connected(self) -> None:
        """Wait until the link is up."""
        while not self.status.connected:
            event = asyncio.Event()
            self._waiters.append(event)
            await event.wait()

    def start(self) -> None:
        """Begin to link."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the link."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._retire()
        for task in list(self._retiring):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def certificate_changed(self) -> None:
        """A renewed certificate is in place: take it up by a new stream, then end the old one."""
        self._changed.set()

    # --- channels -------------------------------------------------------------------------------------------

    def _new_channel(self) -> grpc.aio.Channel:
        timeout_ms, proxy = int(self.config.connect_timeout_s * 1000), self._proof.proxy
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.config.max_message_bytes),
            ("grpc.max_send_message_length", self.config.max_message_bytes),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", timeout_ms),
            ("grpc.max_reconnect_backoff_ms", max(1000, int(self.config.reconnect_max_s * 1000))),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", int(bool(proxy))),
            *([("grpc.http_proxy", proxy)] if proxy else []),
        ]
        return self._link.channel(
            self.state.registry.grpc,
            None if self.open_mode else self.state.credentials,
            options,
            peer=self._proof.peer,
        )

    # --- the loop -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        session: Session | None = None
        older: Session | None = None
        try:
            while True:
                try:
                    if await self._proof.renew():
                        self._retire()
                    session = Session(self, self.channel())
                except (OSError, ValueError, CrosslightError) as error:
                    log.error("link cannot begin", error=type(error).__name__)
                    await self.clock.sleep(self.config.reconnect_max_s)
                    continue
                await session.begin()
                if older is not None:
                    await older.end()
                    older = None
                if session.welcomed.is_set():
                    attempt = 0
                # a renewed certificate: the next session begins before this one ends
                if await self._changed.wait(unless=session.task):
                    older = session
                    self._retire()
                    continue
                await session.end()
                self._down(session)
                await self.clock.sleep(self._backoff.delay_s(attempt))
                attempt += 1
        finally:
            for unended in (session, older):
                if unended is not None:
                    await unended.end()

    def _down(self, session: Session) -> None:
        before = self.status
        since = self.clock.now() if before.connected else before.since
        refused = self._proof.trouble or session.refused
        self._set_status(
            replace(before, connected=False, since=since, refused=refused, suspended=session.suspended)
        )
        if before.connected or (refused, session.suspended) != (before.refused, before.suspended):
            log.warning("link lost", reason=session.suspended or refused or session.why)
        self._changed.clear()
        # A new channel tries at once, where this one may be in a pause of its own; and it uses a renewed
        # certificate.
        self._retire()

    def _retire(self) -> None:
        """Let calls under way on the channel finish, and make another for what comes."""
        channel, self._channel = self._channel, None
        if channel is not None:
            task = asyncio.create_task(channel.close(RETIRE_GRACE_S))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def up(self, grant: EpochGrant) -> None:
        """A session was welcomed."""
        self._set_status(
            LinkStatus(
                connected=True,
                since=self.clock.now(),
                skew_ms=self.status.skew_ms,
                epoch=grant.epoch,
                incarnation=grant.incarnation,
            )
        )
        log.info(
            "link up",
            epoch=grant.epoch,
            incarnation=grant.incarnation,
            state="reconcile" if grant.reconcile else "agreed",
        )
        waiters, self._waiters = self._waiters, []
        for event in waiters:
            event.set()

    def acknowledged(self, skew_ms: int, reach: str) -> None:
        """The clocks were compared, and the registry says how it reaches this node."""
        if abs(skew_ms) > self.config.max_skew_warn_s * 1000 >= abs(self.status.skew_ms):
            log.warning("the clock differs from the registry's", skew_s=skew_ms / 1000)
        self._set_status(replace(self.status, skew_ms=skew_ms, reach=reach[:16]))

    def _set_status(self, status: LinkStatus) -> None:
        self.status = status
        self.changed(status)


class Session:
    """One stream, from Hello to its end."""

    def __init__(self, link: Link, channel: grpc.aio.Channel) -> None:
        self._link, self._channel = link, channel
        self.welcomed = asyncio.Event()
        self.refused = ""
        self.suspended: str | None = None
        self.why = ""
        self.task: asyncio.Task[None]
        self._acked_s = link.clock.monotonic_s()

    async def begin(self) -> None:
        """Start, and wait until it is welcomed or over."""
        self.task = asyncio.create_task(self._run())
        welcomed = asyncio.create_task(self.welcomed.wait())
        await asyncio.wait({self.task, welcomed}, return_when=asyncio.FIRST_COMPLETED)
        welcomed.cancel()

    async def end(self) -> None:
        """Stop it, if it is not over."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def _run(self) -> None:
        stub: Any = pb_grpc.MembershipStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        call = stub.Link(metadata=self._link.metadata)
        beats: asyncio.Task[None] | None = None
        try:
            await self._hello(call)
            beats = asyncio.create_task(self._beat(call))
            await self._read(call)
            self.why = "the registry ended it"
        except grpc.aio.AioRpcError as error:
            self._ended(error.code(), error.details() or "")
        except (TimeoutError, asyncio.InvalidStateError):
            self.why = "the registry does not answer"
        except CrosslightError as error:
            self.why = error.what
            log.error("link", kind=type(error).__name__, reason=error.what)
        except Exception:
            self.why = "something failed here"
            log.exception("link")
        finally:
            if beats is not None:
                beats.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await beats
            call.cancel()

    async def _hello(self, call: Any) -> None:
        link = self._link
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            facts = await link.speaker.hello()
            hello = pb.Hello(
                code=link.state.code,
                software=link.software,
                epoch=facts.epoch,
                acked_n=facts.acked_n,
                made_n=facts.made_n,
                incarnation=facts.incarnation,
                state_id=facts.state_id,
                endpoints=pb.Endpoints(**link.endpoints.plain()),
            )
            await self._write(call, pb.NodeMessage(hello=hello))
            message = await call.read()
        if message is grpc.aio.EOF or message.WhichOneof("body") != "welcome":
            raise TimeoutError
        welcome = message.welcome
        self._directory(welcome.directory)
        grant = EpochGrant(epoch=welcome.epoch, reconcile=welcome.reconcile, incarnation=welcome.incarnation)
        await link.speaker.welcomed(grant)
        self._acked_s = link.clock.monotonic_s()
        link.up(grant)
        self.welcomed.set()

    @staticmethod
    async def _write(call: Any, message: pb.NodeMessage) -> None:
        try:
            await call.write(message)
        except asyncio.InvalidStateError:
            pass  # the stream is over: the reader learns why

    async def _read(self, call: Any) -> None:
        patience_s = self._link.config.heartbeat_s * self._link.config.missed_acks
        while True:
            waited_s = self._link.clock.monotonic_s() - self._acked_s
            async with asyncio.timeout(max(0.05, patience_s - waited_s)):
                message = await call.read()
            if message is grpc.aio.EOF:
                code = await call.code()
                if code is not grpc.StatusCode.OK:
                    self._ended(code, await call.details() or "")
                return
            await self._message(message)

    def _ended(self, code: grpc.StatusCode, details: str) -> None:
        self.why = code.name
        if code is grpc.StatusCode.PERMISSION_DENIED:
            self.suspended = self.suspended or details
        elif code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION):
            self.refused = details

    async def _message(self, message: pb.RegistryMessage) -> None:
        kind = message.WhichOneof("body")
        if kind == "ack":
            self._ack(message.ack)
        elif kind == "directory":
            self._directory(message.directory)
        elif kind == "suspended":
            self.suspended = message.suspended.reason or "no reason given"
        elif kind == "reconcile":
            await self._link.speaker.reconcile(message.reconcile.why)

    def _ack(self, ack: pb.HeartbeatAck) -> None:
        self._acked_s = self._link.clock.monotonic_s()
        self._link.acknowledged(ack.node_skew_ms, ack.reach)

    def _directory(self, directory: pb.Directory) -> None:
        try:
            self._link.state.accept_directory(directory.jws, self._link.clock.now())
        except CrosslightError as error:
            log.error(
                "directory refused", kind=type(error).__name__, reason=error.what, version=directory.version
            )

    async def _beat(self, call: Any) -> None:
        link = self._link
        status, sent_version = NodeStatus(), b""
        while True:
            try:
                async with asyncio.timeout(link.config.heartbeat_s):
                    status = await link.speaker.status()
            except TimeoutError:
                pass  # the node is busy, not dead: the last status is said again
            except Exception:
                log.exception("status")
            now_ms = int(link.clock.now().timestamp() * 1000)
            beat = heartbeat_message(status, now_ms)
            if status.concern is not None and sent_version != (sent_version := status.concern.version):
                beat.concern.CopyFrom(concern_message(status.concern))
            await self._write(call, pb.NodeMessage(heartbeat=beat))
            await link.clock.sleep(link.config.heartbeat_s)
