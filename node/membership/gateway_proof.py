"""Whether who answers as the registry is its gateway, by the identity in its certificate (X509-SVID).

It is proven before each new stream. The channel is bound to the certificate that proved it, so that nobody
else answers any call on it, whatever names the authority was made to sign.
"""

from __future__ import annotations

import ssl

from cryptography import x509

from crosslight.runtime.log import get_logger
from crosslight.runtime.proxies import ProxyRefusedError, opener, proxy_for
from crosslight.runtime.seams import MemberLink
from crosslight.runtime.tls import Identity
from node.membership.config import RegionConfig
from node.membership.state import RegionState

log = get_logger("link")


class GatewayProof:
    """The gateway's certificate as it was last proven.

    Args:
        state: Where the registry is, and the region whose gateway it is.
        link: Makes the handshake.
        config: How long one may take, and by which proxy.
        open_mode: There is no TLS, and nothing is proven.
    """

    def __init__(
        self, state: RegionState, link: MemberLink, config: RegionConfig, *, open_mode: bool
    ) -> None:
        self._state, self._link, self._config, self._open = state, link, config, open_mode
        self._proven = b""
        #: Why it could not be proven, for whoever operates the node; '' = it was, or nobody answers.
        self.trouble = ""

    @property
    def proxy(self) -> str:
        """The HTTP proxy on the way; '' = none.

        Raises:
            ConfigError: what is configured is none.
        """
        return "" if self._open else proxy_for(self._state.registry.grpc, self._config.proxy)

    @property
    def peer(self) -> bytes:
        """The only certificate that a channel may meet; before any proof our own, which nobody else has."""
        if self._open:
            return b""
        return self._proven or self._state.credentials.cert.read_bytes()

    def _is_withdrawn(self, certificate: bytes) -> bool:
        directory = self._state.directory
        if directory is None:
            return False
        serial = f"{x509.load_pem_x509_certificate(certificate).serial_number:x}"
        withdrawn = serial in directory.withdrawn_certificates
        if withdrawn:
            log.error("who answers at the registry's address shows a certificate that was withdrawn")
        return withdrawn

    async def renew(self) -> bool:
        """Prove it anew; whether it is another certificate than before."""
        if self._open:
            return False
        before, gateway = self._proven, Identity("gateway", "", self._state.region.home_community_id)
        address, proxy, self.trouble = self._state.registry.grpc, self.proxy, ""
        try:
            proven = await self._link.prove(
                address, self._state.credentials, gateway, self._config.connect_timeout_s, proxy
            )
            self._proven = b"" if self._is_withdrawn(proven) else proven
        except ssl.SSLCertVerificationError as error:
            log.error("who answers at the registry's address is not its gateway")
            self._proven = b""
            # of another authority, and not another holder's of this one: that is ours to find, not OpenSSL's
            if getattr(error, "verify_code", 0):
                self.trouble = await opener(
                    address, proxy, self._config.connect_timeout_s, "the region's gateway"
                )
                log.error("TLS is opened on the way", reason=self.trouble)
        except ProxyRefusedError as error:
            self.trouble = str(error)
        except (OSError, TimeoutError, ValueError):
            pass  # nobody answers: the stream will say so, and the last proof holds
        return self._proven != before
