"""The registry's own certificates, issued to itself, and renewed while it runs.

It issues those for outside systems too.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from crosslight.runtime.clock import Clock
from crosslight.runtime.files import Files, private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.outside_certificate import OutsideCertificate, for_people
from crosslight.runtime.tls import GATEWAY_NAME, Credentials, Identity, pem_blocks
from crosslight.standards.problem import ConfigError, CrosslightError
from registry.members.ca import CertificateAuthority, due
from registry.members.config import MembersConfig
from registry.members.subject_names import general_names

log = get_logger("members")


@dataclass(frozen=True, slots=True)
class SystemCertificate:
    """Where an outside system's certificate was put."""

    cert: Path
    key: Path
    ca: Path


class OwnCertificates:
    """``people.pem`` and ``gateway.pem``, each key and chain in one.

    People's is for servers only and names hosts; the gateway's is both ways and names the gateway.

    Args:
        folder: For the files (the registry's ``tls`` folder).
        community: homeCommunityId.
        hosts: By which others reach this registry.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        folder: Path,
        community: str,
        hosts: tuple[str, ...],
        config: MembersConfig,
        clock: Clock,
        files: Files,
    ) -> None:
        self._ca = ca
        self._folder = folder
        self._config = config
        self._clock = clock
        self._files = files
        self._hosts = hosts
        self._gateway = Identity("gateway", "", community)
        self._community = community
        self.people: Credentials | None = None
        self.gateway: Credentials | None = None
        self._serial = (0, "")  # of the gateway's file as it was last read

    def open(self) -> None:
        """Make what is missing, due or names other hosts.

        Then :attr:`people` and :attr:`gateway` are ready.
        """
        self._ensure("people.pem", None)
        self._ensure("gateway.pem", self._gateway)
        people, gateway = self._folder / "people.pem", self._folder / "gateway.pem"
        self.people = Credentials(people, people, self._ca.bundle)
        self.gateway = Credentials(gateway, gateway, self._ca.bundle)

    def _leaf(self) -> x509.Certificate:
        if self.gateway is None:
            raise ConfigError("The registry's own certificates are not open.")
        return x509.load_pem_x509_certificate(pem_blocks(self.gateway.cert.read_bytes())[1])

    @property
    def serial(self) -> str:
        """The serial number of the gateway's certificate, as that of any other is written."""
        stamp = self.gateway.cert.stat().st_mtime_ns if self.gateway is not None else 0
        if stamp != self._serial[0]:
            self._serial = stamp, f"{self._leaf().serial_number:x}"
        return self._serial[1]

    @property
    def gateway_ends(self) -> datetime:
        """When that ends by itself."""
        return self._leaf().not_valid_after_utc

    def replace_gateway(self) -> None:
        """Another certificate and key for the gateway: for every handshake from here on."""
        self._make("gateway.pem", self._gateway)
        if self.gateway is not None:
            self.gateway.reload_if_changed()

    def presenter(self) -> str:
        """The thumbprint of the certificate that members see when they are called; '' where they see none."""
        return self.gateway.thumbprint if self.gateway is not None else ""

    def for_people(self, outside: OutsideCertificate | None = None) -> ssl.SSLContext:
        """The context of the people's listener.

        Its certificate is ``outside``'s where there is one. Nodes that join ask for the gateway by name and
        meet the gateway's own, so that they trust nobody but the authority of their invitation.
        """
        if self.people is None or self.gateway is None:
            raise ConfigError("The registry's own certificates are not open.")
        named = {GATEWAY_NAME: self.gateway.server(mutual=False)}
        return for_people(self.people.server(mutual=False), outside, named)

    def _ensure(self, name: str, identity: Identity | None) -> bool:
        path = self._folder / name
        if path.exists() and self._serves(path, identity):
            return False
        self._make(name, identity)
        return True

    def _make(self, name: str, identity: Identity | None) -> None:
        path = self._folder / name
        life = timedelta(days=self._config.certificate_days)
        issued = self._ca.write_pair(path, identity, self._hosts, life)
        log.info(
            "own certificate issued", file=name, serial=issued.serial, expires=issued.expires.isoformat()
        )

    def _serves(self, path: Path, identity: Identity | None) -> bool:
        try:
            chain = pem_blocks(path.read_bytes())[1]
            leaf = x509.load_pem_x509_certificate(chain)
            leaf.verify_directly_issued_by(self._ca.certificate)
            names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        if not chain.endswith(self._ca.issuing_pem):
            return False
        if not isinstance(names, x509.SubjectAlternativeName) or due(leaf, self._clock.now()):
            return False
        wanted = general_names(identity, self._hosts)
        return all(name in list(names) for name in wanted)

    def renew_due(self) -> None:
        """Renew what is due, and put what is new into the live contexts.

        Another process or a command may have renewed it.
        """
        for name, identity, credentials in (
            ("people.pem", None, self.people),
            ("gateway.pem", self._gateway, self.gateway),
        ):
            self._ensure(name, identity)
            if credentials is not None:
                credentials.reload_if_changed()

    async def run(self) -> None:
        """Keep them fresh until cancelled."""
        every_s = min(3600.0, max(0.5, self._config.certificate_days * 86400 / 20))
        while True:
            await self._clock.sleep(every_s)
            try:
                self.renew_due()
            except (OSError, CrosslightError) as error:
                log.error("own certificates cannot be renewed", reason=type(error).__name__)

    def issue_system(self, name: str, folder: Path) -> tuple[SystemCertificate, str]:
        """A certificate for an outside system (role integrator), as three files in ``folder``.

        The second value is its serial number.

        An operator hands them over; it is renewed by calling this again.
        """
        private_folder(folder)
        both = folder / f"{name}.both.pem"
        life = timedelta(days=self._config.system_certificate_days)
        issued = self._ca.write_pair(both, Identity("system", name, self._community), (), life)
        key, chain = pem_blocks(both.read_bytes())
        files = SystemCertificate(
            cert=folder / f"{name}.pem", key=folder / f"{name}.key", ca=folder / "ca.pem"
        )
        self._files.write_atomic(files.key, key)
        self._files.write_atomic(files.cert, chain)
        self._files.write_atomic(files.ca, self._ca.bundle.read_bytes())
        both.unlink()
        return files, issued.serial
