"""A certificate authority that the region knows nothing of, as browsers trust many."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class OutsideAuthority:
    """Its certificate is ``folder/outside-ca.pem``; what it issues goes where it is told."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Outside authority")])
        self.certificate = folder / "outside-ca.pem"
        made = self._build(self._name, self._key, timedelta(days=1), True)
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM))

    def _build(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, cert: Path, key: Path, *, life: timedelta = timedelta(days=30)) -> x509.Certificate:
        """A server's certificate for this machine; ``life`` from now, and may be over."""
        own = ec.generate_private_key(ec.SECP256R1())
        made = self._build(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), own, life, False
        )
        key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        cert.write_bytes(made.public_bytes(Encoding.PEM))
        return made
