"""What every client here shares: a session with the region's CA, a bearer token, bounded answers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import ClientConnectionError, ClientHttpProxyError, ClientResponse, ClientSession

from crosslight.runtime.http import client_session
from crosslight.runtime.machine_errors import reached_not
from crosslight.standards.problem import PeerError, TooLarge, Unavailable

MAX_ANSWER_BYTES = 64 << 20


def trusting(ca: Path | None, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext | None:
    """A client context that trusts ``ca`` only; None (plain or system trust) without one."""
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=str(ca))
    if cert is not None:
        context.load_cert_chain(str(cert), str(key) if key else None)
    return context


def trusting_people(ca: Path | None) -> ssl.SSLContext | None:
    """As :func:`trusting`, for a listener for people.

    Its certificate may be of any authority that this machine trusts, too.
    """
    context = trusting(ca)
    if context is not None:
        context.load_default_certs()
    return context


class HttpClient:
    """Asks one kind of face. Use as an async context manager.

    Args:
        tls: From :func:`trusting`.
        token: Bearer token, '' for none (open demo, or a client certificate).
        proxy: HTTP proxy on the way; '' for none.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        token: str = "",
        *,
        read_timeout_s: float = 30.0,
        proxy: str = "",
    ) -> None:
        self._tls, self._token, self._timeout, self._proxy = tls, token, read_timeout_s, proxy
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = client_session(self._tls, read_timeout_s=self._timeout, proxy=self._proxy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> ClientSession:
        """The open session."""
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        return self._session

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, data: object = None
    ) -> AsyncIterator[ClientResponse]:
        """One request; connection problems become :class:`Unavailable`."""
        sent = dict(headers or {})
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            async with self.session.request(
                method, url, headers=sent, data=data, allow_redirects=False
            ) as response:
                yield response
        except (ClientConnectionError, ClientHttpProxyError, TimeoutError, ssl.SSLError) as error:
            raise Unavailable(f"{url.split('?', 1)[0]} does not answer.", why=reached_not(error)) from error

    async def get(
        self, url: str, *, accept: str, ok: tuple[int, ...] = (200,)
    ) -> tuple[bytes, Mapping[str, str]]:
        """A bounded answer and its headers.

        Raises:
            PeerError: with the peer's own words, for another status than ``ok``.
        """
        async with self.request("GET", url, headers={"Accept": accept}) as response:
            return await read(response), await _checked(response, ok)


async def _checked(response: ClientResponse, ok: tuple[int, ...]) -> Mapping[str, str]:
    if response.status not in ok:
        text = (await read(response)).decode("utf-8", "replace")[:500]
        raise PeerError(f"{response.url.path}: HTTP {response.status}.", why=text)
    return response.headers


async def read(response: ClientResponse, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """The body, at most ``max_bytes``; cached, so that it can be read again."""
    cached: bytes | None = getattr(response, "_crosslight_body", None)
    if cached is not None:
        return cached
    parts, total = [], 0
    async for chunk in response.content.iter_chunked(1 << 18):
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge("The answer is larger than this client takes.", why=f"Limit {max_bytes} bytes.")
        parts.append(chunk)
    body = b"".join(parts)
    response._crosslight_body = body  # type: ignore[attr-defined]  # ours, kept with the answer
    return body
