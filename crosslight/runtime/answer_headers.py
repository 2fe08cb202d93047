"""Headers of every answer of a listener, errors and what the router refuses included.

A page of ours brings its own policy. Everything else is data: whoever opens it in a browser gets no script,
no form and no origin of ours (CSP 3, ``sandbox``), no other site embeds it (Fetch 3.7), and no cache keeps it
unless a face says how (RFC 9111 5.2.2.5). A viewer of another origin that is let in by CORS reads on: neither
policy has a say in a request of that kind.
"""

from __future__ import annotations

import ipaddress
from functools import partial

from aiohttp import hdrs, web

CSP, CORP = "Content-Security-Policy", "Cross-Origin-Resource-Policy"
NO_PAGE = "sandbox; default-src 'none'; frame-ancestors 'none'"
NOBODY_KEEPS = "no-store"
ONE_YEAR = "max-age=31536000"  # RFC 6797 6.1.1: of this host alone, its subdomains may be anybody's
#: In place of a program's name and version, which tell an attacker what to try (RFC 9110 10.2.4).
SERVER = "Crosslight"


async def on_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer before it is sent; what a face has set stays."""
    headers = response.headers
    headers.setdefault(CSP, NO_PAGE)
    headers.setdefault(CORP, "same-origin")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault(hdrs.CACHE_CONTROL, NOBODY_KEEPS)
    headers[hdrs.SERVER] = SERVER
    if request.secure and is_remembered(request.host):
        headers.setdefault("Strict-Transport-Security", ONE_YEAR)


def install(app: web.Application) -> None:
    """Have every answer of ``app`` carry them."""
    app.on_response_prepare.append(on_answer)


class _Unrouted(web.Request):
    """A request that reached no application: it could not be read as HTTP. Its refusal is completed too."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        if self._match_info is None:
            await on_answer(self, response)


def guard(server: web.Server | None) -> None:
    """Have a server's own refusals carry them too, before any application is asked."""
    if server is not None:
        server.request_factory = partial(server.request_factory, _cls=_Unrouted)  # type: ignore[call-arg]  # of aiohttp's own


def is_remembered(host: str) -> bool:
    """Whether a host is one that a browser may remember (RFC 6797 8.1.1).

    Addresses are none; ``localhost`` is everybody's, and other programs there use plain HTTP.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() not in ("", "localhost")
    return False
