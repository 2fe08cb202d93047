"""Gateway: the answer of the first holder that gives a good one, on to who asked, in constant memory.

Failing over ends with the first byte: an answer that was begun is given whole or cut off. The act is audited
by ``ask`` before any of this; who may be called, and how, is ``reach``'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import ClientError, ClientResponse, web

from crosslight.runtime.caller import Caller
from crosslight.runtime.http import CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import share_of
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Busy, MemberUnreachable
from registry.gateway.answers import content_headers
from registry.gateway.holders import Holder
from registry.reach.members import Reach

log = get_logger("gateway")

#: A holder's answer that another holder may better: it does not have it (any more), or cannot serve now.
TRY_NEXT = frozenset({404, 410, 429, 500, 502, 503, 504, 507})
#: Request headers that a holder needs to answer as it would to a direct client.
FORWARDED = (
    "Accept",
    "Accept-Charset",
    "Accept-Encoding",
    "Range",
    "If-Range",
    "If-None-Match",
    "If-Modified-Since",
    "If-Match",
)
HOLDER_HEADER = "Crosslight-Holder"


class Gateway:
    """Routes retrieves to holders, as ``holders_of`` orders them.

    Args:
        reach: How a holder is called.
    """

    def __init__(self, reach: Reach) -> None:
        self.reach = reach

    @asynccontextmanager
    async def first(
        self,
        request: web.Request,
        holders: Sequence[Holder],
        path: str,
        *,
        caller: Caller,
        query: str = "",
        accept: str = "",
    ) -> AsyncIterator[tuple[Holder, ClientResponse]]:
        """The answer of the first holder that gives a good one; failing over ends with the first byte.

        Args:
            caller: Who asked: in the token, with the correlation id.
            accept: Ask for this with GET, whatever ``request`` says: for answers that are read here.

        Raises:
            MemberUnreachable: nobody answered; names them.
            Busy: nobody did, and at one of them there was no turn.
        """
        silent, busy = [], None
        method, headers = "GET", {"Accept": accept}
        if not accept:
            method = request.method
            headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        for place, holder in enumerate(holders):
            token = self.reach.mint(
                caller, holder.member, studies=(holder.holding.study_uid,), patient=holder.patient
            )
            opened = self.reach.open(
                holder.member,
                path,
                token,
                method=method,
                headers=headers,
                query=query,
                correlation=caller.correlation,
            )
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(self.reach.lanes.turn(holder.member, share_of(caller)))
                    response = await stack.enter_async_context(opened)
                except Busy as error:
                    busy = error
                    continue
                except MemberUnreachable:
                    silent.append(holder.member)
                    continue
                if response.status in TRY_NEXT and any(
                    self.reach.opens(candidate.member) for candidate in holders[place + 1 :]
                ):
                    continue
                yield holder, response
                return
        if busy is not None:
            raise busy
        raise self.reach.unreachable(silent or [holder.member for holder in holders])

    async def forward(
        self,
        request: web.Request,
        holders: Sequence[Holder],
        path: str,
        *,
        caller: Caller,
        extra: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Stream a holder's answer to ``request`` in constant memory.

        Its status, content headers and Content-Length are kept. ``extra`` are further headers of ours.

        Raises:
            BadGateway, PeerRefused, MemberFailed: it is nothing that is passed on (``answers.py``).
        """
        query = request.rel_url.raw_query_string
        async with self.first(request, holders, path, caller=caller, query=query) as (holder, upstream):
            response = web.StreamResponse(
                status=upstream.status, headers=content_headers(upstream, path, holder)
            )
            response.headers.update(extra or {})
            response.headers[HOLDER_HEADER] = holder.member.code
            response.headers[CORRELATION_HEADER] = caller.correlation
            if upstream.content_length is not None:
                response.content_length = upstream.content_length
            with self.reach.running(request, (holder.member.id,)):
                await self._copy(request, response, upstream, holder.member.id)
            return response

    async def _copy(
        self, request: web.Request, response: web.StreamResponse, upstream: ClientResponse, member: MemberId
    ) -> None:
        await response.prepare(request)
        try:
            while chunk := await upstream.content.readany():
                if self.reach.suspended(member):
                    raise ConnectionAbortedError("the member was suspended")
                await response.write(chunk)
            await response.write_eof()
        except (ClientError, ConnectionError, TimeoutError, OSError) as error:
            log.warning("stream cut", error=type(error).__name__)
            if request.transport is not None:  # never end a broken body as if it were whole
                request.transport.abort()
            raise ConnectionAbortedError("the stream was cut") from error
