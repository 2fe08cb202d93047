"""Reach: which members may be asked now, with what token, and the exchange with one of them.

Credentials are exchanged here (D21): who asked is known by session, bearer or certificate; the member gets a
token of a few minutes that names them, the patient, the studies and the member. The act is audited before any
of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ConnectionTimeoutError, web
from yarl import URL

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.http import CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.soap.client import SoapClient, SoapReply, SoapStream
from crosslight.runtime.tokens import TokenSigner
from crosslight.runtime.workers import Workers
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import MemberUnreachable, Unavailable
from registry.members.model import Directory, Member
from registry.reach.addresses import ACTIONS, Service
from registry.reach.config import ReachConfig
from registry.reach.lanes import MemberLanes
from registry.reach.sessions import MemberSessions
from registry.reach.tunnels import Tracker

log = get_logger("reach")


class Reach:
    """Calls members.

    Args:
        directory: Members, their addresses and presence.
        signer: Mints release tokens.
        sessions: The HTTP session for a member (:class:`~registry.reach.sessions.MemberSessions`).
        config: Bounds of each call.
        ids: Message ids of SOAP requests.
        live: Ends running streams of a member that is suspended.
        workers: Where large SOAP answers are parsed.

    Each call is made in a turn at its member (:attr:`lanes`), which whoever calls takes.
    """

    def __init__(
        self,
        directory: Directory,
        signer: TokenSigner,
        sessions: MemberSessions,
        config: ReachConfig,
        ids: Ids,
        live: Tracker | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.directory, self._sessions, self._config = directory, sessions, config
        self._signer = signer
        self._ids = ids
        self._live = live
        self._workers = workers
        self.lanes = MemberLanes(config)

    # --- whether --------------------------------------------------------------------------------------------

    def reachable(self, member: Member) -> bool:
        """Whether a member may be asked now.

        Foreign members have no link: they are tried, where an address is known.
        """
        if member.status == "foreign":
            return any(self.offers(member, service) for service in ("dicomweb", "rad69", "iti43"))
        return member.status == "active" and self.directory.presence(member.id).opens

    def offers(self, member: Member, service: Service) -> bool:
        """Whether an address of ``service`` is known."""
        return bool(self._sessions.address(member, service))

    def opens(self, member: Member) -> bool:
        """Whether images may be opened there now."""
        return member.shows_images and self.reachable(member)

    def suspended(self, member: MemberId) -> bool:
        """Whether nothing more may come from a member."""
        known = self.directory.by_id(member)
        return known is None or known.status == "suspended"

    def describe(self, member: Member) -> str:
        """``Name (CODE) cannot be reached since …``."""
        if member.status == "suspended":
            since, trouble = member.status_since, "is suspended"
        elif not member.shows_images:  # a foreign source that only registered
            return f"{member.name} ({member.code}) gave no address to open images at"
        else:
            presence = self.directory.presence(member.id)
            since, trouble = (
                presence.since,
                "has never linked" if presence.never_linked else "cannot be reached",
            )
            if presence.reachable and presence.clock_wrong:
                trouble = f"gives out no images: its clock is off by {presence.skew_ms / 1000:+.0f} s"
        when = f" since {since.strftime('%Y-%m-%dT%H:%M:%SZ')}" if since else ""
        return f"{member.name} ({member.code}) {trouble}{when}"

    def unreachable(self, members: Iterable[Member]) -> MemberUnreachable:
        """The error that names who cannot be reached, and since when."""
        each = list({m.id: m for m in members}.values())
        for_good = all(member.status == "suspended" or not member.shows_images for member in each)
        return MemberUnreachable(
            f"{' and '.join(self.describe(member) for member in each)}.",
            why="The images are kept there and nowhere else.",
            todo="Ask the region's operator, or there." if for_good else "Try again later.",
            where=",".join(member.code for member in each),
        )

    # --- the exchange ---------------------------------------------------------------------------------------

    def mint(self, caller: Caller, member: Member, *, studies: Iterable[str], patient: str) -> str:
        """A token that lets ``member`` release ``studies`` to who called (D21).

        It carries the call's correlation id.
        """
        return self._signer.release(
            caller.principal,
            holder=member.code,
            patient=patient,
            studies=tuple(studies),
            correlation=caller.correlation,
            ttl_s=self._config.token_ttl_s,
        )

    @asynccontextmanager
    async def open(
        self,
        member: Member,
        path: str,
        token: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        query: str = "",
        correlation: str = "",
    ) -> AsyncIterator[ClientResponse]:
        """A member's answer, its body not yet read. ``path`` is below its DICOMweb root.

        Raises:
            MemberUnreachable: no connection, or no status line in time; nothing of it has been passed on.
                Nothing else is caught: what fails later is a cut stream.
        """
        root = self._sessions.address(member, "dicomweb")
        if not root or not self.reachable(member):
            raise self.unreachable([member])
        sent = {"Accept-Encoding": "identity", **(headers or {}), **_credentials(token, correlation)}
        url = URL(f"{root}/{path}" + (f"?{query}" if query else ""), encoded=True)
        try:
            async with asyncio.timeout(self._config.answer_timeout_s):
                response = await self._request(member, method, url, sent)
        except (ClientError, ConnectionError, TimeoutError, OSError) as error:
            log.warning("member does not answer", member=member.code, error=type(error).__name__)
            raise self.unreachable([member]) from error
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _request(
        self, member: Member, method: str, url: URL, headers: dict[str, str]
    ) -> ClientResponse:
        """By the other road where this one gives no connection: nothing was sent by it."""
        for again in (True, False):
            try:
                return await self._sessions(member).request(
                    method,
                    url,
                    headers=headers,
                    allow_redirects=False,
                    read_bufsize=self._config.buffer_bytes,
                )
            except (ClientConnectorError, ConnectionTimeoutError):
                if not again or not self._sessions.other_road(member):
                    raise
        raise AssertionError("unreachable")

    def stream(
        self, member: Member, service: Service, body: bytes, token: str, *, correlation: str
    ) -> AbstractAsyncContextManager[SoapStream]:
        """A member's answer as far as its root part, its other parts to be read one by one.

        Raises:
            Unavailable: no address is known. What :meth:`SoapClient.stream` raises.
        """
        return self._soap(member).stream(
            self._known(member, service),
            ACTIONS[service],
            body,
            headers=_credentials(token, correlation),
            timeout_s=self._config.answer_timeout_s,
        )

    async def call(
        self,
        member: Member,
        service: Service,
        body: bytes,
        token: str,
        *,
        correlation: str,
        timeout_s: float,
        max_bytes: int,
    ) -> SoapReply:
        """A member's answer, whole, its parts inlined; within ``timeout_s`` and ``max_bytes``.

        Raises:
            Unavailable: no address is known. What :meth:`SoapClient.call` raises.
        """
        return await self._soap(member).call(
            self._known(member, service),
            ACTIONS[service],
            body,
            mtom=True,
            timeout_s=timeout_s,
            max_bytes=max_bytes,
            headers=_credentials(token, correlation),
        )

    def _soap(self, member: Member) -> SoapClient:
        return SoapClient(self._sessions(member), self._ids, self._workers)

    def _known(self, member: Member, service: Service) -> str:
        url = self._sessions.address(member, service)
        if not url:
            raise Unavailable("The member has no address for this transaction.", where=member.code)
        return url

    @contextmanager
    def running(self, request: web.Request, members: Iterable[MemberId]) -> Iterator[None]:
        """While inside, suspension of any of ``members`` cuts the answer to ``request`` and its sources."""
        task, transport = asyncio.current_task(), request.transport

        def cut() -> None:
            if transport is not None:
                transport.abort()
            if task is not None:
                task.cancel()

        forget = [self._live.closer(member, cut) for member in members] if self._live is not None else []
        try:
            yield
        finally:
            for forget_member in forget:
                forget_member()


def _credentials(token: str, correlation: str) -> dict[str, str]:
    """Headers of a call; ``token`` is '' for a foreign source, which knows none."""
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    return {**bearer, CORRELATION_HEADER: correlation}
