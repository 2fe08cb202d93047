"""HTTP proxies on the way out: which one there is, and a connection through it (CONNECT, RFC 9110 9.3.6).

What is carried is TLS from end to end. A proxy that opens it shows a certificate of its own: that is seen by
whose it is (:func:`shown_by`), and nothing is sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from base64 import b64encode
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from cryptography import x509
from cryptography.x509.oid import NameOID

from crosslight.standards.problem import ConfigError

MAX_HEAD_BYTES = 1 << 14
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_NAMES = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)


class ProxyRefusedError(ConnectionError):
    """A proxy does not let us through; its text says which, and why."""


def proxy_for(address: str, configured: str) -> str:
    """The proxy to ``address`` (host:port), as ``http://host:port``; '' = none.

    Args:
        address: Whom to reach. This machine is reached without any.
        configured: ``environment`` (``https_proxy`` and ``no_proxy``), '' for none, or a proxy's URL.

    Raises:
        ConfigError: it is no URL of an HTTP proxy.
    """
    host = address.rpartition(":")[0].strip("[]")
    if not configured or _is_here(host):
        return ""
    proxy = configured
    if configured == "environment":
        proxy = "" if proxy_bypass(host) else getproxies().get("https", "")
        proxy = f"http://{proxy}" if proxy and "://" not in proxy else proxy
    parts = urlsplit(proxy)
    if proxy and (parts.scheme != "http" or not parts.hostname):
        raise ConfigError(
            "That is no HTTP proxy.", why="Its address is http://host:port.", where="region.proxy"
        )
    return proxy.rstrip("/")


def host_and_port(url: str) -> str:
    """Whom an http or https URL reaches, as host:port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def proxy_to(url: str, configured: str) -> str:
    """As :func:`proxy_for`, to whom a URL reaches; without TLS there is none: it would read everything."""
    return proxy_for(host_and_port(url), configured) if url.startswith("https:") else ""


def without_secret(proxy: str) -> str:
    """A proxy's address for people: host and port."""
    parts = urlsplit(proxy)
    return f"{parts.hostname}:{parts.port or 80}"


def _is_here(host: str) -> bool:
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def opened(
    address: str, proxy: str, tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with TLS to ``address``, through ``proxy`` where there is one.

    Raises:
        OSError: nobody answers, the handshake fails (``ssl.SSLError``), or the proxy says no
            (:class:`ProxyRefusedError`).
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not proxy:
        return await asyncio.open_connection(host, int(port), ssl=tls)
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=MAX_HEAD_BYTES)
    try:
        await _connect(reader, writer, address, proxy)
        await writer.start_tls(tls, server_hostname=host)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, proxy: str
) -> None:
    parts, sign_in = urlsplit(proxy), ""
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        sign_in = f"Proxy-Authorization: Basic {b64encode(pair.encode()).decode()}\r\n"
    writer.write(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{sign_in}\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ProxyRefusedError(f"The proxy {without_secret(proxy)} gives no answer.") from None
    found = _STATUS.match(head)
    status = int(found.group(1)) if found else 0
    if not 200 <= status < 300:
        why = "it asks for a name and a password" if status == 407 else f"status {status}"
        raise ProxyRefusedError(
            f"The proxy {without_secret(proxy)} does not let this node through to {address}: {why}."
        )


async def opener(address: str, proxy: str, timeout_s: float, instead_of: str) -> str:
    """Who shows a certificate that is none of the region's at ``address``, in words."""
    issuer = await shown_by(address, proxy, timeout_s)
    way = f"the proxy {without_secret(proxy)}" if proxy else "something on the way"
    named = f"a certificate of “{issuer}”" if issuer else "a certificate of another authority"
    return (
        f"Not {instead_of} answers at {address} but {way}: it shows {named}, so TLS is opened"
        f" there. Have {address} passed on unopened."
    )


async def shown_by(address: str, proxy: str, timeout_s: float) -> str:
    """Whose certificate is shown at ``address``: the name of its issuer, whoever that is; '' = nobody's.

    Nothing is sent, and nothing is believed.
    """
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await opened(address, proxy, blind)
        der = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.transport.abort()
        issuer = x509.load_der_x509_certificate(der).issuer
    except (OSError, TimeoutError, ValueError, AttributeError, TypeError):
        return ""
    names = (a for oid in _NAMES for a in issuer.get_attributes_for_oid(oid))
    return next((str(name.value)[:120] for name in names), "an authority without a name")
