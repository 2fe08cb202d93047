"""Asks the region for the list of each patient with an order here, again and again until it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Backoff, Wake
from crosslight.standards.fhir.order_list import OrderAsked
from crosslight.standards.fhir.terms import JSON_TYPE, Systems
from crosslight.standards.problem import CrosslightError, Invalid, PeerError, TooLarge, Unavailable
from crosslight.standards.region import Region
from node.continuity.kept_lists import Kept, KeptLists

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = get_logger("continuity")
PURGE_EVERY_S = 60.0
_FINAL = frozenset({400, 413, 422})  # the registry will not answer this number, however often it is asked


class Asker:
    """Fills :class:`KeptLists`, and empties them of what has grown old.

    Args:
        session: With the node's own certificate.
        url: Of the registry's operation, asked anew for each call.
        headers: That name this node where there are no certificates (an open region).
        lists: What is wanted.
        region: Its FHIR systems.
        wake: Set when an order has come.
        backoff: After the region did not answer.
        max_bytes: Largest answer.
    """

    def __init__(
        self,
        session: ClientSession,
        url: Callable[[], str],
        headers: Mapping[str, str],
        lists: KeptLists,
        region: Callable[[], Region],
        wake: Wake,
        backoff: Backoff,
        max_bytes: int,
    ) -> None:
        self._session, self._url, self._headers = session, url, dict(headers)
        self._lists, self._region, self._wake, self._backoff = lists, region, wake, backoff
        self._max_bytes = max_bytes

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                await self._round()
                failures = 0
            except CrosslightError as error:
                if not failures:
                    log.warning("the region gives no list now", reason=error.what, why=error.why)
                failures += 1
            except OSError as error:
                log.error("a list cannot be kept", reason=error.strerror or "")
                failures += 1
            except Exception:
                log.exception("unexpected")
                failures += 1
            pause_s = self._backoff.delay_s(failures - 1) if failures else PURGE_EVERY_S
            await self._wake.wait(min(pause_s, PURGE_EVERY_S))

    async def _round(self) -> None:
        for kept in self._lists.wanting():
            try:
                bundle = await self.ask(kept)
            except (Invalid, TooLarge) as error:
                log.warning("no list is given for an order", reason=error.what)
                self._lists.remove(kept.patient)
                continue
            if self._lists.find(kept.patient) == kept:  # else another order came meanwhile: once more
                self._lists.said(kept.patient, bundle)

    async def ask(self, kept: Kept) -> bytes:
        """The list of one patient, as the region says it now.

        Raises:
            Unavailable, PeerError: no answer, or not now.
            Invalid, TooLarge: never for this patient.
        """
        system = Systems(self._region()).system(kept.patient.authority)
        asked = OrderAsked(order=kept.order, system=system, value=kept.patient.value)
        headers = {**self._headers, "Content-Type": JSON_TYPE, "Accept": JSON_TYPE}
        from aiohttp import ClientError

        try:
            async with self._session.post(
                self._url(), data=asked.parameters(), headers=headers, allow_redirects=False
            ) as response:
                if response.status in _FINAL:
                    raise Invalid(
                        "The registry gives no list for this number.", why=f"HTTP {response.status}."
                    )
                if response.status == 403:
                    raise PeerError(
                        "The registry gives this member no lists for orders.",
                        why="HTTP 403.",
                        todo="The region's operator names it in ask.order_lists.",
                    )
                if response.status != 200:
                    raise PeerError("The registry gives no list.", why=f"HTTP {response.status}.")
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > self._max_bytes:
                        raise TooLarge("The region's list is too large to be kept.")
                return bytes(body)
        except (TimeoutError, ClientError, OSError) as error:
            raise Unavailable("The registry does not answer.", why=type(error).__name__) from None
