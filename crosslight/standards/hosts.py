"""Names and addresses of hosts as they are compared, and what is believed of an address that its owner gives.

Pure: nothing is looked up. Who answers at an address is proven in the handshake of each call.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from contextlib import suppress

from crosslight.standards.problem import Invalid

MAX_ADDRESS_CHARS = 512
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
#: ``https://HOST`` with a port or none: no user, path, query or fragment, not even an empty one.
_ORIGIN = re.compile(r"https://(\[[0-9a-fA-F:.]+\]|[^\s/?#@\[\]:\\]+)(?::([0-9]{1,5}))?/?\Z")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/?#@\[\]:\\]+):([0-9]{1,5})\Z")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def plain_host(text: str) -> str:
    """A host's name or address in the one spelling in which it is compared.

    Lower case, A-labels (RFC 3490 4.1) and no dot at the end; an address in its shortest form (RFC 5952).

    Raises:
        Invalid: it is neither.
    """
    if (address := _address(text)) is not None:
        return str(address)
    try:
        name = text.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    # the last label of a name is no number: "127.1" and "0x7f000001" are addresses to some programs
    numeric = labels[-1].isdecimal() or labels[-1].startswith("0x")
    if not name or len(name) > 253 or numeric or not all(_LABEL.match(label) for label in labels):
        raise Invalid("That is no host name or address.", why="RFC 1123 2.1; no wildcards.", where=text[:64])
    return name


def plain_hosts(texts: Iterable[str]) -> tuple[str, ...]:
    """Each of them once, as :func:`plain_host`; without those that are none."""
    hosts: dict[str, None] = {}
    for text in texts:
        with suppress(Invalid):
            hosts[plain_host(text)] = None
    return tuple(hosts)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_this_machine(host: str) -> bool:
    """Whether a plain host always means the machine that asks (RFC 6761 6.3, RFC 6890)."""
    address = _address(host)
    return address.is_loopback if address is not None else host == "localhost" or host.endswith(".localhost")


def is_nowhere(host: str) -> bool:
    """Whether a plain host is an address that is no machine's own in every network.

    Link-local ones, where clouds keep their metadata, the unspecified one, multicast and reserved ones.
    """
    address = _address(host)
    return address is not None and (
        address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or (address.is_reserved and not address.is_loopback)
    )


def claimed_host(text: str, hosts: Collection[str], *, loopback: bool) -> str:
    """A host that a member says is its own, in the plain spelling.

    Args:
        text: Its word.
        hosts: The plain hosts in its certificate.
        loopback: Whether members may be on this machine (demos and tests).

    Raises:
        Invalid: it is not believed, and why.
    """
    host = plain_host(text)
    if host not in hosts:
        raise Invalid("The host is none of those in the member's certificate.", where=host)
    if is_nowhere(host) or (is_this_machine(host) and not loopback):
        raise Invalid("Nobody elsewhere reaches that host.", where=host)
    return host


def claimed_origin(text: str, hosts: Collection[str], *, loopback: bool) -> str:
    """An origin (RFC 6454 4) that a member says is its own, without a slash at its end.

    Raises:
        Invalid: it is not believed, and why. Only https, only a host and port.
    """
    match = _ORIGIN.match(text) if len(text) <= MAX_ADDRESS_CHARS else None
    if match is None:
        raise Invalid("An address is https:// with a host and a port, and nothing else.", where=text[:64])
    host = claimed_host(match[1].strip("[]"), hosts, loopback=loopback)
    port = int(match[2] or 443)
    if not 0 < port < 65536:
        raise Invalid("There is no such port.", where=text[:64])
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}" + (f":{port}" if match[2] else "")


def claimed_host_port(text: str, hosts: Collection[str], *, loopback: bool) -> str:
    """``host:port`` that a member says is its own.

    Raises:
        Invalid: it is not believed, and why.
    """
    match = _HOST_PORT.match(text) if len(text) <= MAX_ADDRESS_CHARS else None
    if match is None or not 0 < int(match[2]) < 65536:
        raise Invalid("That is no host:port.", where=text[:64])
    host = claimed_host(match[1].strip("[]"), hosts, loopback=loopback)
    return f"[{host}]:{match[2]}" if ":" in host else f"{host}:{match[2]}"
