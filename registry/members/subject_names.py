"""The names in certificates that the region's authority signs."""

from __future__ import annotations

import ipaddress

from cryptography import x509

from crosslight.runtime.tls import Identity
from crosslight.standards.hosts import plain_hosts


def is_reserved(host: str) -> bool:
    """Whether a plain host is nobody's but the region's own: the gateway's name is there."""
    return host == "internal" or host.endswith(".internal")


def general_names(identity: Identity | None, hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    """The names of a certificate.

    Exactly one URI (X509-SVID 2) where it is for our own ends, and the hosts.
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)] if identity else []
    for host in plain_hosts(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names
