"""Gateway: the answer of the first holder that gives a good one, on to who asked, in constant memory.

Failing over ends with the first byte: an answer that was begun is given whole (``unbroken.py``) or cut off.
The act is audited by ``ask`` before any of this; who may be called, and how, is ``reach``'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

from aiohttp import ClientResponse, web

from crosslight.runtime.caller import Caller
from crosslight.runtime.http import CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import share_of
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Busy, MemberUnreachable
from registry.gateway.answers import content_headers
from registry.gateway.holders import Holder
from registry.gateway.unbroken import BROKEN, Unbroken
from registry.reach.members import Reach

log = get_logger("gateway")

#: A holder's answer that another holder may better: it does not have it (any more), or cannot serve now.
TRY_NEXT = frozenset({404, 410, 429, 500, 502, 503, 504, 507})
#: Request headers that a holder needs to answer as it would to a direct client.
ACCEPTED = ("Accept", "Accept-Charset", "Accept-Encoding")
FORWARDED = (
    *ACCEPTED,
    "Range",
    "If-Range",
    "If-None-Match",
    "If-Modified-Since",
    "If-Match",
    "Want-Repr-Digest",
)
HOLDER_HEADER = "Crosslight-Holder"


def _forwarded(request: web.Request, names: Iterable[str] = FORWARDED) -> dict[str, str]:
    return {name: request.headers[name] for name in names if name in request.headers}


class Gateway:
    """Routes retrieves to holders, as ``holders_of`` orders them.

    Args:
        reach: How a holder is called.
        unbroken: How an answer is read to its end.
    """

    def __init__(self, reach: Reach, unbroken: Unbroken) -> None:
        self.reach, self.unbroken = reach, unbroken

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
            method, headers = request.method, _forwarded(request)
        for place, holder in enumerate(holders):
            opened = self._open(holder, path, caller, headers=headers, query=query, method=method)
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

            def again(more: Mapping[str, str]) -> AbstractAsyncContextManager[ClientResponse]:
                headers = {**_forwarded(request, ACCEPTED), **more}
                return self._open(holder, path, caller, headers=headers, query=query)

            with self.reach.running(request, (holder.member.id,)):
                chunks = self.unbroken.read(upstream, again, holder.member.code)
                async with aclosing(chunks):
                    await self._copy(request, response, chunks, holder.member.id)
            return response

    def _open(
        self,
        holder: Holder,
        path: str,
        caller: Caller,
        *,
        headers: Mapping[str, str],
        query: str,
        method: str = "GET",
    ) -> AbstractAsyncContextManager[ClientResponse]:
        token = self.reach.mint(
            caller, holder.member, studies=(holder.holding.study_uid,), patient=holder.patient
        )
        return self.reach.open(
            holder.member,
            path,
            token,
            method=method,
            headers=headers,
            query=query,
            correlation=caller.correlation,
        )

    async def _copy(
        self,
        request: web.Request,
        response: web.StreamResponse,
        chunks: AsyncIterator[bytes],
        member: MemberId,
    ) -> None:
        await response.prepare(request)
        try:
            async for chunk in chunks:
                if self.reach.suspended(member):
                    raise ConnectionAbortedError("the member was suspended")
                await response.write(chunk)
            await response.write_eof()
        except BROKEN as error:
            log.warning("stream cut", error=type(error).__name__)
            if request.transport is not None:  # never end a broken body as if it were whole
                request.transport.abort()
            raise ConnectionAbortedError("the stream was cut") from error
