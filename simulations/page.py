"""The clinician's page as a browser without scripts would use it: sign in, search, read the rows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

from aiohttp import ClientError, ClientSession, ClientTimeout, CookieJar, TCPConnector
from lxml import html

from crosslight.standards.problem import PeerError, Unavailable
from simulations.people import SyntheticPatient

MAX_HOPS = 10
MAX_PAGE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A patient's page."""

    study_uids: set[str]
    notices: str  # text of the notices, disputes among them
    coverage: str  # text of the strip
    text: str


class PageClient:
    """A browser's worth of cookies and forms. Use as an async context manager; it signs in on entering.

    Args:
        base: The registry's people listener.
        tls: Trusts the region's CA.
        signed_in: User and password at the demo's provider; None in the open demo.
    """

    def __init__(self, base: str, tls: ssl.SSLContext | None, signed_in: tuple[str, str] | None) -> None:
        self._base, self._tls, self._who = base.rstrip("/"), tls, signed_in
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = TCPConnector(ssl=self._tls if self._tls is not None else True)
        jar = CookieJar(unsafe=True)  # the demo's host is an address
        self._session = ClientSession(connector=connector, cookie_jar=jar, timeout=ClientTimeout(total=30))
        if self._who is not None:
            await self._sign_in(*self._who)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _go(
        self, method: str, url: str, data: dict[str, str] | None = None
    ) -> tuple[str, html.HtmlElement]:
        """Follow redirects, as a browser does; the address reached and the page there."""
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        headers = {"Accept": "text/html", "Origin": self._base, "Sec-Fetch-Site": "same-origin"}
        for _ in range(MAX_HOPS):
            try:
                async with self._session.request(
                    method, url, data=data, allow_redirects=False, headers=headers
                ) as response:
                    body = await response.content.read(MAX_PAGE_BYTES)
                    if response.status in (301, 302, 303, 307, 308):
                        url = urljoin(url, response.headers["Location"])
                        method, data = ("GET", None) if response.status not in (307, 308) else (method, data)
                        continue
                    page: html.HtmlElement = html.fromstring(body or b"<html></html>")
                    if response.status >= 400:
                        raise PeerError(f"The page answers HTTP {response.status}.", why=_text(page)[:300])
                    return url, page
            except ClientError as error:
                raise Unavailable("The page does not answer.", why=type(error).__name__) from error
        raise PeerError("The page redirects for ever.")

    async def _submit(
        self, url: str, page: html.HtmlElement, needs: str, values: dict[str, str]
    ) -> tuple[str, html.HtmlElement]:
        """Fill in the form that has the field ``needs``, and post it."""
        for form in page.forms:
            if needs in form.fields:
                filled = {name: str(value or "") for name, value in form.fields.items()}
                return await self._go("POST", urljoin(url, form.action or url), {**filled, **values})
        raise PeerError(f"The page has no form with {needs!r}.", why=_text(page)[:300])

    async def _sign_in(self, user: str, password: str) -> None:
        url, page = await self._go("GET", f"{self._base}/signin")
        url, page = await self._submit(url, page, "password", {"user": user, "password": password})
        if not url.startswith(self._base) or "/demo-idp" in url:
            raise PeerError("Signing in failed.", why=_text(page)[:300])

    async def find(self, number: str, patient: SyntheticPatient | None = None) -> PageAnswer:
        """Search by number.

        Where several patients come back, the one with ``patient``'s date of birth is chosen.
        """
        url, page = await self._go("GET", f"{self._base}/")
        url, page = await self._submit(url, page, "number", {"number": number})
        for choice in page.find_class("person"):
            links = [a.get("href", "") for a in choice.iter("a")]
            if patient is not None and links and f"{patient.birth_date:%Y}" in _text(choice):
                url, page = await self._go("GET", urljoin(url, links[0]))
                break
        rows = page.xpath("//*[@data-study-uid]/@data-study-uid")
        notices = " ".join(_text(n) for n in page.find_class("notice"))
        strip = " ".join(_text(n) for n in page.xpath("//*[contains(@class, 'sites')]"))
        return PageAnswer({str(r) for r in rows}, notices, strip, _text(page))


def _text(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())
