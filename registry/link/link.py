"""The registry's end of the link: one gRPC stream for each node (D10, D19).

Heartbeats come in, grants and orders go out.

The peer's certificate says who it is; on the plain links of the open demo the metadata ``crosslight-member``
does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from crosslight.pb import membership_pb2 as pb
from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import Places
from crosslight.standards.hosts import plain_hosts
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Busy, Conflict, CrosslightError, Forbidden, Unauthenticated
from registry.link.beats import concern_of, date_of, moment_of, unix_ms
from registry.link.callers import REFUSALS, Callers, refusal_of
from registry.link.epochs import NodeSays, RegistrySays, decide
from registry.members.ends import LinkEnd, second_holder
from registry.members.join import issue_member
from registry.members.model import IndexFacts, Member
from registry.members.presence import Report
from registry.members.service import MemberService
from registry.members.store import MemberRow

log = get_logger("link")

HELLO_TIMEOUT_S = 10.0
MAX_QUEUED = 32
MAX_LINKS = 4096
DRIFTS = 3  # censuses in a row that must differ, with nothing waiting, before a reconciliation is ordered
DRIFT_PAUSE_S = 60.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT
RENEWAL_REFUSALS: dict[type[CrosslightError], grpc.StatusCode] = {
    **REFUSALS,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class MembershipServicer(pb_grpc.MembershipServicer):
    """Serves the link of each node, and renews its certificate on it."""

    def __init__(
        self,
        members: MemberService,
        index: IndexFacts,
        clock: Clock,
        callers: Callers | None = None,
        reach: Callable[[MemberId], str] = lambda member: "",
    ) -> None:
        self._members, self._index, self._clock, self.reach = members, index, clock, reach
        self._callers = callers or Callers(members)
        self.links: dict[MemberId, _Link] = {}
        most = members.config.links_per_member
        self.places = Places("links", MAX_LINKS, most)
        members.on_change(self._changed)

    def _changed(self) -> None:
        for link in self.links.values():
            link.push_directory()

    def refresh_directories(self) -> None:
        """Push the directory where it was signed anew; called now and then by the server."""
        self._changed()

    def connection(self, member: MemberId) -> str:
        """The connection of a member's link, as gRPC names it; '' = it has none here."""
        link = self.links.get(member)
        return link.connection if link is not None else ""

    async def Link(self, request_iterator: AsyncIterator[pb.NodeMessage], context: Any) -> None:  # noqa: N802 - gRPC's name
        """One stream for as long as the node lives."""
        try:
            self._callers.linked()
            member = self._callers.identify(context)
        except (Unauthenticated, Forbidden) as error:
            self._callers.refused(context, error)
            await context.abort(REFUSALS[type(error)], str(error))
            return
        try:
            place = self.places.enter(member.code, lambda: None)
        except Busy as error:
            log.warning("link refused", code=member.code, reason=error.what)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        link = _Link(self, self._members, self._index, self._clock, self._callers, member.id, context)
        try:
            await link.run(request_iterator)
        except CrosslightError as error:
            log.error("link refused", code=member.code, reason=error.what)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        finally:
            self.places.leave(place)
            if self.links.get(member.id) is link:
                del self.links[member.id]
            log.info("link ended", code=member.code)

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: N802 - gRPC's name
        """A new certificate over the old one's mutual TLS."""
        member = await self._callers.member(context)
        row = self._members.row(member.id)
        try:
            await self._members.renewals.check(self._callers.peer(context), member)
            chain = await issue_member(self._members, row, request.csr_pem) if row else b""
        except CrosslightError as error:
            await context.abort(RENEWAL_REFUSALS.get(type(error), INVALID), str(error))
            raise
        return pb.RenewReply(chain_pem=chain, bundle_pem=self._members.ca.bundle.read_bytes())


class _Link:
    """One node's stream."""

    def __init__(
        self,
        servicer: MembershipServicer,
        members: MemberService,
        index: IndexFacts,
        clock: Clock,
        callers: Callers,
        member: MemberId,
        context: Any,
    ) -> None:
        self._members = members
        self._index = index
        self._clock = clock
        self._callers = callers
        self._member, self._context, self._links = member, context, servicer.links
        self._reach, self.connection = servicer.reach, str(context.peer())
        self.far = LinkEnd(callers.address(context), "")
        self._queue: asyncio.Queue[pb.RegistryMessage | None] = asyncio.Queue(MAX_QUEUED)
        self._directory_sent = ""
        self._ended: asyncio.Event = asyncio.Event()
        self._why = ("", grpc.StatusCode.OK)
        self._census_ms = -1
        self._software = ""
        self._census: tuple[bool | None, str] = (None, "")
        self._drifts = 0
        self._drift_ordered_s = float("-inf")

    def end(self, why: str, status: Any) -> None:
        """End the stream; the node hears why."""
        self._why = (why, status)
        self._ended.set()

    def _refused(self, error: CrosslightError) -> None:
        if isinstance(error, Forbidden):
            self._push(pb.RegistryMessage(suspended=pb.Suspended(reason=error.why)))
        self.end(error.what, refusal_of(error))

    def _push(self, message: pb.RegistryMessage) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.end("The node does not read.", grpc.StatusCode.RESOURCE_EXHAUSTED)

    def push_directory(self) -> None:
        """Send the directory when it is another one than this node has."""
        version, jws = self._members.signed_directory()
        if jws != self._directory_sent:
            self._directory_sent = jws
            self._push(pb.RegistryMessage(directory=pb.Directory(version=version, jws=jws)))

    async def run(self, messages: AsyncIterator[pb.NodeMessage]) -> None:
        """Until the node, the network, a suspension or a newer link ends it."""
        forget = self._members.peers.closer(self._callers.peer(self._context), self._refused)
        writer: asyncio.Task[None] | None = None
        reader: asyncio.Task[None] | None = None
        ended: asyncio.Task[Any] | None = None
        token = 0
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(aiter(messages))
            if first.WhichOneof("body") != "hello":
                raise Conflict("A link begins with Hello.")
            await self._welcome(first.hello)
            token = await self._take_over()
            writer = asyncio.create_task(self._write())
            reader = asyncio.create_task(self._read(messages, token))
            ended = asyncio.create_task(self._ended.wait())
            await asyncio.wait({reader, ended, writer}, return_when=asyncio.FIRST_COMPLETED)
            await self._flush(writer)
        except (StopAsyncIteration, TimeoutError):
            self.end("No Hello came.", grpc.StatusCode.DEADLINE_EXCEEDED)
        finally:
            forget()
            for task in (reader, writer, ended):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await task
            if token:
                self._members.board.lost(self._member, token, self._why[0])
        why, status = self._why
        if status is not grpc.StatusCode.OK:
            await self._context.abort(status, why)

    async def _alone(self, member: Member) -> None:
        """Whether no other link of the member lives: no new epoch is granted beside one.

        Two holders of a key who take the link from each other would use up the epochs (D10).

        Raises:
            Conflict: if one does.
        """
        older = self._links.get(self._member)
        if older is not None and self._members.presence(self._member).reachable:
            why = second_holder(older.far, self.far) or f"from {self.far.address or '?'}, twice"
        elif not (why := await self._members.held_elsewhere(self._member, self.far)):
            return
        await self._members.alarms.sound(member, "two-holders", why)
        raise Conflict(
            "Another node that has this member's key is linked.",
            why="A node with another memory is let in when the other one's link has ended.",
            todo="If it is yours, stop it; else tell the region's operator at once.",
        )

    async def _take_over(self) -> int:
        """Be the member's link from now on, in place of an older one; the token for its presence.

        One that still lives, and is not the same node's, is the sign of a key with two holders.
        """
        older, live = self._links.get(self._member), self._members.presence(self._member).reachable
        self._links[self._member] = self
        token = self._members.board.opened(self._member, self.far)
        if older is not None:
            older.end("A newer link of this member has begun.", grpc.StatusCode.ABORTED)
            member = self._members.by_id(self._member)
            if live and member is not None and (why := second_holder(older.far, self.far)):
                await self._members.alarms.sound(member, "two-holders", why)
        self.push_directory()  # it may have changed since the Welcome
        return token

    async def _flush(self, writer: asyncio.Task[None]) -> None:
        """Give what is queued a moment to leave."""
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)
        await asyncio.wait({writer}, timeout=1.0)

    async def _welcome(self, hello: pb.Hello) -> None:
        row = self._members.row(self._member)
        if row is None:
            raise Conflict("This member is not known any more.")
        cursor = await self._index.cursor(self._member)
        node = NodeSays(
            epoch=hello.epoch,
            acked_n=hello.acked_n,
            made_n=hello.made_n,
            incarnation=hello.incarnation[:64],
            state_id=hello.state_id[:64],
        )
        self.far = replace(self.far, state_id=node.state_id)
        known = RegistrySays(
            epoch=row.member.epoch, cursor=cursor, incarnation=self._index.incarnation, state_id=row.state_id
        )
        decision = decide(node, known)
        if decision.epoch > row.member.epoch:
            await self._alone(row.member)
        self._software = "".join(char for char in hello.software[:40] if char.isprintable())
        endpoints = self._claimed(row, hello.endpoints)
        await self._members.store.hello(
            self._member, epoch=decision.epoch, state_id=node.state_id, endpoints=endpoints
        )
        await self._members.refresh()
        version, jws = self._members.signed_directory()
        self._directory_sent = jws
        log.info(
            "link begins",
            code=row.member.code,
            epoch=decision.epoch,
            reason=decision.why,
            version=hello.software[:40],
        )
        welcome = pb.Welcome(
            registry_unix_ms=unix_ms(self._clock.now()),
            incarnation=self._index.incarnation,
            epoch=decision.epoch,
            reconcile=decision.reconcile,
            directory=pb.Directory(version=version, jws=jws),
        )
        await self._context.write(pb.RegistryMessage(welcome=welcome))

    def _claimed(self, row: MemberRow, message: pb.Endpoints) -> Endpoints:
        """What is believed of where the node says it is; the rest is logged for the region's operator."""
        said = {name: getattr(message, name) for name in pb.Endpoints.DESCRIPTOR.fields_by_name}
        if self._members.open_mode:
            return Endpoints.plain_claimed(said).endpoints
        claimed = Endpoints.claimed(said, plain_hosts(row.hosts), loopback=self._members.config.loopback)
        for reason in claimed.refused:
            log.warning("an address that a member gave is not used", code=row.member.code, reason=reason)
        return claimed.endpoints

    async def _write(self) -> None:
        while (message := await self._queue.get()) is not None:
            await self._context.write(message)

    async def _read(self, messages: AsyncIterator[pb.NodeMessage], token: int) -> None:
        async for message in messages:
            if message.WhichOneof("body") != "heartbeat":
                continue
            try:
                # a certificate may end, a suspension may come, while a stream lives
                self._callers.identify(self._context)
            except (Unauthenticated, Forbidden) as error:
                self.end(str(error), REFUSALS[type(error)])
                return
            await self._heartbeat(message.heartbeat, token)

    async def _heartbeat(self, beat: pb.Heartbeat, token: int) -> None:
        now_ms = unix_ms(self._clock.now())
        skew_ms = beat.sent_unix_ms - now_ms if beat.sent_unix_ms else 0
        if abs(skew_ms) > self._members.config.max_skew_s * 1000:
            log.error("a node's clock is wrong", member=int(self._member), skew_s=skew_ms / 1000)
        ack = pb.HeartbeatAck(registry_unix_ms=now_ms, node_skew_ms=skew_ms, reach=self._reach(self._member))
        self._push(pb.RegistryMessage(ack=ack))
        if beat.HasField("concern"):
            self._members.board.concerned(self._member, concern_of(beat.concern))
        # Heard first: counting must not make a live member look silent.
        self._members.board.heard(self._member, token, self._report(beat, skew_ms))
        if beat.HasField("census"):
            await self._compare(beat, skew_ms)
            self._members.board.heard(self._member, token, self._report(beat, skew_ms))

    def _report(self, beat: pb.Heartbeat, skew_ms: int) -> Report:
        equal, at = self._census
        earlier = self._members.board.report(self._member)
        return Report(
            waiting=min(beat.waiting, 1 << 62),
            parked=min(beat.parked, 1 << 62),
            quarantined=min(beat.quarantined, 1 << 62),
            filling=beat.filling,
            indexed_from=date_of(beat.indexed_from),
            census_equal=equal if at else earlier.census_equal,
            census_at=at or earlier.census_at,
            skew_ms=max(-(1 << 62), min(skew_ms, 1 << 62)),
            software=self._software,
            studies=min(beat.census.studies, 1 << 62) if beat.HasField("census") else earlier.studies,
            trouble=earlier.trouble,
            concern=beat.concern_version[:64].hex(),
            reach=self._reach(self._member),
        )

    async def _compare(self, beat: pb.Heartbeat, skew_ms: int) -> None:
        """Hold the node's census against ours (D19); drift that stays orders a reconciliation."""
        census, (equal, _) = beat.census, self._census
        if census.taken_unix_ms == self._census_ms and equal:
            return
        ours = await self._index.census(self._member)
        equal = ours.studies == census.studies and (
            ours.digest == census.digest or not (ours.studies or census.studies)
        )
        new = census.taken_unix_ms != self._census_ms
        self._census_ms = census.taken_unix_ms
        now = self._clock.now()
        # by our clock: a wrong one must not make it look fresh
        taken = moment_of(census.taken_unix_ms - skew_ms) or now
        self._census = (equal, min(taken, now).isoformat())
        settled = beat.waiting == 0 and not beat.filling
        self._drifts = 0 if equal or not settled else self._drifts + new
        since_s = self._clock.monotonic_s() - self._drift_ordered_s
        if self._drifts >= DRIFTS and since_s > DRIFT_PAUSE_S:
            self._drifts, self._drift_ordered_s = 0, self._clock.monotonic_s()
            log.warning("drift", member=int(self._member), count=int(census.studies), held=ours.studies)
            self._push(pb.RegistryMessage(reconcile=pb.Reconcile(why="counts or digests differ")))
