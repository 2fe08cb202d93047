"""Where a connection may go, looked at when it is made: after names were resolved.

A name is believed of whoever's certificate has it; what it resolves to says its owner, and may say something
else from one moment to the next. So a member's name could lead to this machine itself, past its firewall.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from crosslight.runtime.log import get_logger
from crosslight.standards.hosts import is_nowhere, is_this_machine

log = get_logger("http")


def is_own_address(address: str) -> bool:
    """Whether an address is one of this machine's: towards those, it is its own source (nothing is sent)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]).partition("%")[0] == address.partition("%")[0]
        except OSError:
            return False


def elsewhere(info: Any) -> socket.socket:
    """A socket to an address that is another machine's.

    Raises:
        OSError: it is this machine's own, or no machine's in every network.
    """
    family, kind, protocol, _, address = info
    host = str(address[0]).partition("%")[0]
    if is_nowhere(host) or is_this_machine(host) or is_own_address(host):
        log.warning("a name leads to this machine or nowhere: not called", address=host)
        raise OSError(errno.EADDRNOTAVAIL, "An address that is not called from here")
    return socket.socket(family, kind, protocol)
