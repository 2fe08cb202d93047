"""The region's certificate authority.

It has one P-256 key in the registry's folder, short-lived certificates, no revocation lists.

A certificate says who its holder is, never what it may do: suspension and status are asked of the directory
at each use (D21). Nothing in a request but its public key is believed.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.files import PRIVATE_FOLDER, Files, one_at_a_time, private_folder
from crosslight.runtime.signing import private_pem
from crosslight.runtime.tls import GATEWAY_NAME, Identity, spki_pin
from crosslight.standards.ids import Oid
from crosslight.standards.problem import ConfigError, Invalid, Malformed, TooLarge

CA_LIFE = timedelta(days=3650)
# for clocks that are a little behind ours; never more than a tenth of the life
BACKDATE = timedelta(minutes=5)
MAX_CSR_BYTES = 16384

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate: chain without the root, serial in hex, and its end."""

    chain_pem: bytes
    serial: str
    expires: datetime


def csr_public_key(csr_pem: bytes) -> PublicKey:
    """The public key of a PKCS#10 request that proves possession of its private key.

    All else in it is ignored.

    Raises:
        TooLarge: over 16 KiB.
        Malformed: if it is no request, or its signature does not hold.
        Invalid: if the key is too weak.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise TooLarge("The certificate request is too large.")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        holds = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise Malformed("The certificate request cannot be read.", why="RFC 2986.") from None
    if not holds:
        raise Malformed("The certificate request's signature does not hold.", why="RFC 2986 3.")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256:
        return key
    if isinstance(key, rsa.RSAPublicKey) and 3072 <= key.key_size <= 8192:
        return key
    raise Invalid(
        "The key of the certificate request is too weak.",
        todo="Use EC P-256 or stronger, or RSA from 3072 bits.",
    )


def general_names(identity: Identity | None, hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    """The names of a certificate.

    Exactly one URI (X509-SVID 2) where it is for our own ends, and the hosts.
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)] if identity else []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


class CertificateAuthority:
    """The key that makes members members.

    Args:
        folder: Holds ``ca.key`` (0600) and ``ca.pem``; made at first use.
        community: The region's homeCommunityId.
        region_name: For the certificate's own name.
    """

    def __init__(
        self, folder: Path, community: Oid, region_name: str, clock: Clock, ids: Ids, files: Files
    ) -> None:
        self._folder, self._community, self._name = folder, community, region_name
        self._clock, self._ids, self._files = clock, ids, files
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._certificate: x509.Certificate | None = None

    @property
    def bundle(self) -> Path:
        """The trust bundle as a file."""
        return self._folder / "ca.pem"

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        if self._certificate is None:
            raise ConfigError("The certificate authority is not open.")
        return self._certificate

    @property
    def pin(self) -> str:
        """SHA-256 of its key, as invitations carry it."""
        return spki_pin(self.certificate)

    def open(self) -> None:
        """Load the key and certificate, or make them in a new folder.

        Raises:
            ConfigError: if only one of them is there, they do not belong together, or the key can be read by
                others.
        """
        key_path = self._folder / "ca.key"
        if not (key_path.exists() and self.bundle.exists()):
            with one_at_a_time(self._folder):
                if not key_path.exists() and not self.bundle.exists():
                    self._create(key_path)
        if not key_path.exists() or not self.bundle.exists():
            raise ConfigError(
                f"{self._folder} holds half a certificate authority.",
                todo="Restore ca.key and ca.pem from backup.",
            )
        if key_path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{key_path} can be read by others.", todo="chmod 600, and ask who has read it."
            )
        key = load_pem_private_key(key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(self.bundle.read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(
                f"{key_path} and {self.bundle} do not belong together.", todo="Restore both from one backup."
            )
        self._key, self._certificate = key, certificate

    def _create(self, key_path: Path) -> None:
        os.chmod(self._folder, PRIVATE_FOLDER)
        key = self._ids.private_key()
        now = self._clock.now()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self._name[:64]),
                x509.NameAttribute(NameOID.COMMON_NAME, "Crosslight certificate authority"),
            ]
        )
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(self._serial())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        )
        self._files.write_atomic(key_path, private_pem(key))
        self._files.write_atomic(self.bundle, certificate.public_bytes(Encoding.PEM))

    def _serial(self) -> int:
        return int.from_bytes(self._ids.token_bytes(19), "big") | 1

    def issue(
        self,
        public_key: PublicKey,
        *,
        identity: Identity | None,
        hosts: tuple[str, ...],
        life: timedelta,
        server: bool,
        client: bool,
    ) -> Issued:
        """A leaf certificate; everything in it is ours to say.

        Args:
            public_key: Of the holder.
            identity: Who it is; None for a certificate that only names hosts (people's listener).
            hosts: DNS names and addresses under which it may be a server.
            life: From now on.
            server: Whether it may be a TLS server.
            client: Whether it may be a TLS client.
        """
        key, now = self._key, self._clock.now()
        if key is None:
            raise ConfigError("The certificate authority is not open.")
        uses = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        common = (identity.name or identity.kind) if identity else (hosts[0] if hosts else "registry")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(self._serial())
            .not_valid_before(now - min(BACKDATE, life / 10))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True
            )
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(general_names(identity, hosts)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        )
        pem = certificate.public_bytes(Encoding.PEM)
        return Issued(pem, f"{certificate.serial_number:x}", certificate.not_valid_after_utc)

    def member(self, csr_pem: bytes, code: str, hosts: tuple[str, ...], life: timedelta) -> Issued:
        """The certificate of a member's node, client and server in one."""
        identity = Identity("member", code, self._community)
        return self.issue(
            csr_public_key(csr_pem), identity=identity, hosts=hosts, life=life, server=True, client=True
        )

    def write_pair(
        self, path: Path, identity: Identity | None, hosts: tuple[str, ...], life: timedelta
    ) -> Issued:
        """A new key and certificate of our own, replaced as one file (0600).

        For the gateway, the people's listener, or an outside system.
        """
        key = self._ids.private_key()
        ours = hosts if identity is None or identity.kind != "gateway" else (*hosts, GATEWAY_NAME)
        server = identity is None or identity.kind == "gateway"
        issued = self.issue(
            key.public_key(),
            identity=identity,
            hosts=ours,
            life=life,
            server=server,
            client=identity is not None,
        )
        private_folder(path.parent)
        self._files.write_atomic(path, private_pem(key) + issued.chain_pem)
        return issued


def due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of a certificate's life are over (security.md 1.1)."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3
