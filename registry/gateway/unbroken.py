"""A holder's answer that breaks off goes on where it broke: who asked sees no break (RFC 9110 14, 13.1.5).

Only an answer of which the holder says that it is the same bytes each time: by a strong tag, with ranges. Any
other is cut off, as an answer that is not whole must be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from aiohttp import ClientError, ClientResponse, hdrs

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Backoff
from crosslight.standards.problem import MemberUnreachable

log = get_logger("gateway")

LEAST_BYTES = 1 << 16  # an answer that breaks off before it has given so many came short
MOST_SHORT = 20  # so many short ones after each other, and it is given up
BROKEN = (ClientError, ConnectionError, TimeoutError, OSError)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})\Z")

#: The same question with more headers, to the same holder.
Again = Callable[[Mapping[str, str]], AbstractAsyncContextManager[ClientResponse]]


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes ``first`` to ``last`` of ``total``, in the state that ``tag`` names."""

    first: int
    last: int
    total: int
    tag: str


def span_of(response: ClientResponse) -> Span | None:
    """What a holder's answer is a part of; None: it cannot be gone on with."""
    tag = response.headers.get(hdrs.ETAG, "")
    coding = response.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if not tag.startswith('"') or coding != "identity":
        return None
    if response.status == 206:
        said = _CONTENT_RANGE.match(response.headers.get(hdrs.CONTENT_RANGE, ""))
        return Span(int(said[1]), int(said[2]), int(said[3]), tag) if said is not None else None
    length = response.content_length
    if response.status != 200 or not length or response.headers.get(hdrs.ACCEPT_RANGES) != "bytes":
        return None
    return Span(0, length - 1, length, tag)


class Unbroken:
    """Reads answers of holders to their end.

    Args:
        clock: For waiting.
        backoff: Between the tries.
        patience_s: So long without a byte more, and it is given up.

    Attributes:
        resumed: How often an answer went on, by the code of the member, since the start.
    """

    def __init__(self, clock: Clock, backoff: Backoff, patience_s: float) -> None:
        self._clock, self._backoff, self._patience_s = clock, backoff, patience_s
        self.resumed: Counter[str] = Counter()

    async def read(self, response: ClientResponse, again: Again, member: str) -> AsyncGenerator[bytes]:
        """The bytes of ``response``, as they come.

        Args:
            response: What was answered; whoever opened it closes it.
            again: Asks once more.
            member: Code of the holder, for the log.

        Raises:
            ClientError, ConnectionError, TimeoutError, OSError: it broke off, for good.
        """
        span, sent, before, short = span_of(response), 0, 0, 0
        async with AsyncExitStack() as opened:
            while True:
                try:
                    while chunk := await response.content.readany():
                        sent += len(chunk)
                        yield chunk
                    return
                except BROKEN as error:
                    if span is None or span.first + sent > span.last:
                        raise
                    log.warning("stream broke off", member=member, error=type(error).__name__)
                    await opened.aclose()
                    short, before = (short + 1 if sent - before < LEAST_BYTES else 0), sent
                    if short > MOST_SHORT:
                        raise
                    if short:  # a member that gives a few bytes at a time is not asked without a pause
                        await self._clock.sleep(self._backoff.delay_s(short - 1))
                    response = await self._go_on(opened, again, span, sent, error)
                    self.resumed[member] += 1
                    log.info("stream goes on", member=member, at=span.first + sent)

    async def _go_on(
        self, opened: AsyncExitStack, again: Again, span: Span, sent: int, error: BaseException
    ) -> ClientResponse:
        first, began, tries = span.first + sent, self._clock.monotonic_s(), 0
        asked: dict[str, str] = {hdrs.RANGE: f"bytes={first}-{span.last}", hdrs.IF_RANGE: span.tag}
        while True:
            try:
                response = await opened.enter_async_context(again(asked))
            except MemberUnreachable:
                pass
            else:
                if span_of(response) == Span(first, span.last, span.total, span.tag):
                    return response
                if response.status < 500 and response.status != 429:  # it is another state by now, or refused
                    raise error
                await opened.aclose()
            wait_s = self._backoff.delay_s(tries)
            if self._clock.monotonic_s() + wait_s - began > self._patience_s:
                raise error
            await self._clock.sleep(wait_s)
            tries += 1
