"""Gateway: which holders may be asked, with what token, and their bytes on to who asked.

Credentials are exchanged here (D21): who asked is known by session, bearer or certificate; the holder gets a token of a few
minutes that names them, the patient, the studies and the holder. The act is audited by ``ask`` before any of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import ClientError, ClientResponse, ClientSession, web
from yarl import URL

from crosslight.runtime.http import CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import Principal
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Conflict, Gone, MemberUnreachable, NotFound
from registry.ask.ask import Ask
from registry.ask.question import Answer
from registry.gateway.config import GatewayConfig
from registry.identity.model import Person
from registry.index.model import Holding
from registry.members.model import Directory, Member

log = get_logger("gateway")

#: A holder's answer that another holder may better: it does not have it (any more), or cannot serve now.
TRY_NEXT = frozenset({404, 410, 500, 502, 503, 504, 507})
#: Request headers that a holder needs to answer as it would to a direct client.
FORWARDED = (
    "Accept", "Accept-Charset", "Accept-Encoding", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match",
)  # fmt: skip
#: Response headers that belong to the content; connection headers and a node's own addresses stay behind.
PASSED = (
    "Content-Type", "Content-Encoding", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control", "Vary",
    "Warning", "Retry-After", "Content-Disposition",
)  # fmt: skip
HOLDER_HEADER = "Crosslight-Holder"


class Tracker(Protocol):
    """What ends when a member is suspended (``registry.members.live.LiveConnections``)."""

    def closer(self, member: MemberId, close: Callable[[], None]) -> Callable[[], None]:
        """Call ``close`` when the member is cut off; returns how to forget it."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """One member that holds a study, for one patient."""

    member: Member
    holding: Holding
    person: Person | None

    @property
    def patient(self) -> str:
        """The patient as this holder knows them: its own local number as CX."""
        return self.holding.record.patient.local.cx()


class Unanswered(Exception):
    """A holder gave no answer at all; nothing of it has been passed on."""


class Gateway:
    """Routes retrieves to holders.

    Args:
        ask: The one way to answers; callers ask, then hand the answer in.
        directory: Members, their addresses and presence.
        signer: Mints release tokens.
        sessions: The HTTP session for a member (:class:`MemberSessions`).
        live: Ends running streams of a member that is suspended.
    """

    def __init__(
        self,
        ask: Ask,
        directory: Directory,
        signer: TokenSigner,
        sessions: Callable[[Member], ClientSession],
        config: GatewayConfig,
        live: Tracker | None = None,
    ) -> None:
        self.ask, self.directory, self.sessions, self.config = ask, directory, sessions, config
        self._signer, self._live = signer, live

    # --- who ---------------------------------------------------------------------------------------------------------

    def reachable(self, member: Member) -> bool:
        """Whether a member may be asked now. Foreign members have no link: they are tried, where an address is known."""
        if member.status == "foreign":
            at = member.endpoints
            return any((at.systems, at.dicomweb, at.rad69, at.xds_repository))
        return member.status == "active" and self.directory.presence(member.id).opens

    def opens(self, member: Member) -> bool:
        """Whether images may be opened there now."""
        return member.shows_images and self.reachable(member)

    def holders(self, answer: Answer, study_uid: str, *, code: str = "") -> list[Holder]:
        """The holders of a study, best first: reachable, then the most images, then by code.

        Args:
            code: Only this member.

        Raises:
            NotFound, Gone: nobody holds it, or nobody any more.
            Conflict: members hold it for different patients and none was named: nobody may be guessed (D1).
        """
        found = []
        for holding in answer.holdings:
            member = self.directory.by_id(holding.member)
            if holding.study_uid != study_uid or holding.state != "approved" or member is None:
                continue
            if not code or member.code.casefold() == code.casefold():
                found.append(Holder(member, holding, answer.person_of(holding)))
        if not found:
            if study_uid in answer.gone or any(h.study_uid == study_uid for h in answer.holdings):
                raise Gone("This study is no longer held.", where=study_uid)
            raise NotFound("No member holds this study.", why="Or none that you may know of.", where=study_uid)
        if len({h.person.key if h.person else h.holding.whose for h in found}) > 1:
            codes = ", ".join(sorted(h.member.code for h in found))
            raise Conflict(
                "Members hold this study for different patients.",
                why=f"Holders: {codes}.",
                todo="Open it at /dicomweb/members/CODE/studies/… of the one you mean.",
                where=study_uid,
            )
        return sorted(found, key=lambda h: (not self.opens(h.member), -h.holding.record.n_instances, h.member.code))

    def alternatives(self, holders: Sequence[Holder]) -> list[Holder]:
        """The first holder, and others that hold the very same: a conflicting copy is never given in place of another (D1)."""
        if not holders:
            return []
        first = holders[0]
        return [first, *(h for h in holders[1:] if h.holding.digest == first.holding.digest or not first.holding.conflict)]

    def mint(self, principal: Principal, member: Member, *, studies: Iterable[str], patient: str, correlation: str) -> str:
        """A token that lets ``member`` release ``studies`` to ``principal`` (D21)."""
        return self._signer.release(
            principal, holder=member.code, patient=patient, studies=tuple(studies), correlation=correlation,
            ttl_s=self.config.token_ttl_s,
        )  # fmt: skip

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

    def describe(self, member: Member) -> str:
        """``Name (CODE) cannot be reached since …``."""
        if member.status == "suspended":
            since, word = member.status_since, "is suspended"
        elif not member.shows_images:  # a foreign source that only registered
            return f"{member.name} ({member.code}) gave no address to open images at"
        else:
            presence = self.directory.presence(member.id)
            since, word = presence.since, "has never linked" if presence.never_linked else "cannot be reached"
            if presence.reachable and presence.clock_wrong:
                word = f"gives out no images: its clock is off by {presence.skew_ms / 1000:+.0f} s"
        at = f" since {since.strftime('%Y-%m-%dT%H:%M:%SZ')}" if since else ""
        return f"{member.name} ({member.code}) {word}{at}"

    # --- how ---------------------------------------------------------------------------------------------------------

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
        """A holder's answer, its body not yet read. ``path`` is below its DICOMweb root.

        Raises:
            Unanswered: no connection, or no status line in time. Nothing else is caught: what fails later is a cut stream.
        """
        root = f"{member.endpoints.systems}/dicomweb" if member.endpoints.systems else member.endpoints.dicomweb
        if not root or not self.reachable(member):
            raise Unanswered(member.code)
        sent = {
            "Accept-Encoding": "identity",
            **(headers or {}),
            "Authorization": f"Bearer {token}",
            CORRELATION_HEADER: correlation,
        }
        url = URL(f"{root}/{path}" + (f"?{query}" if query else ""), encoded=True)
        try:
            async with asyncio.timeout(self.config.answer_timeout_s):
                response = await self.sessions(member).request(
                    method, url, headers=sent, allow_redirects=False, read_bufsize=self.config.buffer_bytes
                )
        except (ClientError, ConnectionError, TimeoutError, OSError) as error:
            log.warning("holder does not answer", member=member.code, error=type(error).__name__)
            raise Unanswered(member.code) from error
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    @asynccontextmanager
    async def first(
        self,
        request: web.Request,
        holders: Sequence[Holder],
        path: str,
        *,
        principal: Principal,
        correlation: str,
        query: str = "",
        accept: str = "",
    ) -> AsyncIterator[tuple[Holder, ClientResponse]]:
        """The answer of the first holder that gives a good one; failing over ends with the first byte.

        Args:
            accept: Ask for this with GET, whatever ``request`` says: for answers that are read here.

        Raises:
            MemberUnreachable: nobody answered; names them.
        """
        tries, silent = self.alternatives(holders), []
        method, headers = "GET", {"Accept": accept}
        if not accept:
            method = request.method
            headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        for at, holder in enumerate(tries):
            token = self.mint(
                principal, holder.member, studies=(holder.holding.study_uid,), patient=holder.patient, correlation=correlation
            )
            opened = self.open(holder.member, path, token, method=method, headers=headers, query=query, correlation=correlation)
            async with AsyncExitStack() as stack:
                try:
                    response = await stack.enter_async_context(opened)
                except Unanswered:
                    silent.append(holder.member)
                    continue
                if response.status in TRY_NEXT and any(self.opens(h.member) for h in tries[at + 1 :]):
                    continue
                yield holder, response
                return
        raise self.unreachable(silent or [h.member for h in tries])

    async def forward(
        self,
        request: web.Request,
        holders: Sequence[Holder],
        path: str,
        *,
        principal: Principal,
        correlation: str,
        extra: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Stream a holder's answer to ``request``: status, content headers and Content-Length kept, constant memory.

        ``extra`` are further headers of ours.
        """
        async with self.first(
            request, holders, path, principal=principal, correlation=correlation, query=request.rel_url.raw_query_string
        ) as (holder, upstream):
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=extra)
            for name in PASSED:
                if name in upstream.headers:
                    response.headers[name] = upstream.headers[name]
            response.headers[HOLDER_HEADER] = holder.member.code
            response.headers[CORRELATION_HEADER] = correlation
            response.headers["X-Content-Type-Options"] = "nosniff"
            if upstream.content_length is not None:
                response.content_length = upstream.content_length
            with self.running(request, (holder.member.id,)):
                await self._copy(request, response, upstream, holder.member.id)
            return response

    async def _copy(self, request: web.Request, response: web.StreamResponse, upstream: ClientResponse, member: MemberId) -> None:
        await response.prepare(request)
        try:
            while chunk := await upstream.content.readany():
                if self.suspended(member):
                    raise ConnectionAbortedError("the member was suspended")
                await response.write(chunk)
            await response.write_eof()
        except (ClientError, ConnectionError, TimeoutError, OSError) as error:
            log.warning("stream cut", error=type(error).__name__)
            if request.transport is not None:  # never end a broken body as if it were whole
                request.transport.abort()
            raise ConnectionAbortedError("the stream was cut") from error

    def suspended(self, member: MemberId) -> bool:
        """Whether nothing more may come from a member."""
        found = self.directory.by_id(member)
        return found is None or found.status == "suspended"

    @contextmanager
    def running(self, request: web.Request, members: Iterable[MemberId]) -> Iterator[None]:
        """While inside, suspension of any of ``members`` cuts the answer to ``request`` and all that feeds it."""
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
            for one in forget:
                one()
