"""Whether who answers as the registry is its gateway, by the identity in its certificate (X509-SVID).

It is proven before each new stream. The channel is bound to the certificate that proved it, so that nobody
else answers any call on it, whatever names the authority was made to sign.
"""

from __future__ import annotations

import ssl

from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import MemberLink
from crosslight.runtime.tls import Identity
from node.membership.state import RegionState

log = get_logger("link")


class GatewayProof:
    """The gateway's certificate as it was last proven.

    Args:
        state: Where the registry is, and the region whose gateway it is.
        link: Makes the handshake.
        timeout_s: For one.
        open_mode: There is no TLS, and nothing is proven.
    """

    def __init__(self, state: RegionState, link: MemberLink, timeout_s: float, *, open_mode: bool) -> None:
        self._state, self._link, self._timeout_s, self._open = state, link, timeout_s, open_mode
        self._proven = b""

    @property
    def peer(self) -> bytes:
        """The only certificate that a channel may meet; before any proof our own, which nobody else has."""
        if self._open:
            return b""
        return self._proven or self._state.credentials.cert.read_bytes()

    async def renew(self) -> bool:
        """Prove it anew; whether it is another certificate than before."""
        if self._open:
            return False
        before, gateway = self._proven, Identity("gateway", "", self._state.region.home_community_id)
        try:
            self._proven = await self._link.prove(
                self._state.registry.grpc, self._state.credentials, gateway, self._timeout_s
            )
        except ssl.SSLCertVerificationError:
            log.error("who answers at the registry's address is not its gateway")
            self._proven = b""
        except (OSError, TimeoutError, ValueError):
            pass  # nobody answers: the stream will say so, and the last proof holds
        return self._proven != before
