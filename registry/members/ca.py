"""The region's certificate authority.

It has one P-256 key in the registry's folder, its own root or under an offline one (``hierarchy.py``),
short-lived certificates, no revocation lists.

A certificate says who its holder is, never what it may do: suspension and status are asked of the directory
at each use (D21). Nothing in a request but its public key is believed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.files import PRIVATE_FOLDER, Files, one_at_a_time, private_folder
from crosslight.runtime.signing import private_pem
from crosslight.runtime.tls import GATEWAY_NAME, Identity, spki_pin
from crosslight.standards.hosts import plain_hosts
from crosslight.standards.ids import Oid
from crosslight.standards.problem import ConfigError, Conflict, Invalid, Malformed
from registry.members.csr import PublicKey, csr_public_key
from registry.members.hierarchy import (
    BACKDATE,
    authority_name,
    check_issued,
    constraints_in,
    constraints_of,
    in_words,
    issuing_request,
    permitted,
    self_signed,
    within,
)
from registry.members.subject_names import general_names, is_reserved

CA_LIFE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate: chain without the root, serial in hex, and its end."""

    chain_pem: bytes
    serial: str
    expires: datetime


class CertificateAuthority:
    """The key that makes members members: one of its own, or an issuing one under an offline root.

    Args:
        folder: Holds ``ca.key`` (0600), ``ca.pem`` (whom to trust: the roots) and, under a root,
            ``issuing.pem``. Made at first use, without an offline root.
        community: The region's homeCommunityId.
        region_name: For the certificate's own name.
        domains: Below which hosts may be signed; none: any.
    """

    def __init__(
        self,
        folder: Path,
        community: Oid,
        region_name: str,
        clock: Clock,
        ids: Ids,
        files: Files,
        domains: Sequence[str] = (),
    ) -> None:
        self._folder, self._community, self._name = folder, community, region_name
        self._clock, self._ids, self._files = clock, ids, files
        self._domains = domains
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._certificate: x509.Certificate | None = None
        self._root: x509.Certificate | None = None
        self._seen: tuple[int, ...] = ()

    @property
    def bundle(self) -> Path:
        """The trust bundle as a file: the root, and while a region moves under one the old one too."""
        return self._folder / "ca.pem"

    @property
    def _key_path(self) -> Path:
        return self._folder / "ca.key"

    @property
    def _issuing_path(self) -> Path:
        return self._folder / "issuing.pem"

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate: the issuer of all others."""
        if self._certificate is None:
            raise ConfigError("The certificate authority is not open.")
        return self._certificate

    @property
    def root(self) -> x509.Certificate:
        """Whom joining pins."""
        return self._root or self.certificate

    @property
    def under_root(self) -> bool:
        """Whether the root is another's, that may be offline."""
        return self.root != self.certificate

    @property
    def installed(self) -> datetime:
        """Since when it issues under its root; the beginning of time where there is none."""
        if not self.under_root:
            return datetime.min.replace(tzinfo=UTC)
        return datetime.fromtimestamp(self._issuing_path.stat().st_mtime, UTC)

    @property
    def issuing_pem(self) -> bytes:
        """What follows a leaf in its chain: the issuing authority, where a root stands above it."""
        return self.certificate.public_bytes(Encoding.PEM) if self.under_root else b""

    @property
    def pin(self) -> str:
        """SHA-256 of the root's key, as invitations carry it."""
        return spki_pin(self.root)

    def open(self) -> None:
        """Load the key and certificates, or make them in a new folder.

        Raises:
            ConfigError: if only one of them is there, they do not belong together, or the key can be read by
                others.
        """
        key_path = self._key_path
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
        self._seen = self._stamp()
        root = x509.load_pem_x509_certificate(self.bundle.read_bytes())
        certificate = self._issuing(root) or root
        key = load_pem_private_key(self._current_key(certificate), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(
                f"{key_path} and {self.bundle} do not belong together.", todo="Restore both from one backup."
            )
        self._key, self._certificate, self._root = key, certificate, root

    def _issuing(self, root: x509.Certificate) -> x509.Certificate | None:
        """The issuing certificate, where there is one of this root."""
        if not self._issuing_path.exists():
            return None
        issuing = x509.load_pem_x509_certificate(self._issuing_path.read_bytes())
        try:
            check_issued(issuing, root)
        except Invalid:  # installing broke off before its root was trusted: what was before goes on
            return None
        return issuing

    def _current_key(self, certificate: x509.Certificate) -> bytes:
        """The key of ``certificate``, also where installing broke off before it was put in place."""
        following = self._folder / "next.key"
        if following.exists():
            pem = following.read_bytes()
            if load_pem_private_key(pem, None).public_key() == certificate.public_key():
                self._files.write_atomic(self._key_path, pem)
                self._files.remove(following)
        return self._key_path.read_bytes()

    def _stamp(self) -> tuple[int, ...]:
        paths = (self._key_path, self.bundle, self._issuing_path)
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)

    def _create(self, key_path: Path) -> None:
        os.chmod(self._folder, PRIVATE_FOLDER)
        key = self._ids.private_key()
        certificate = self_signed(
            key,
            authority_name(self._name, "certificate authority"),
            self._serial(),
            self._clock.now(),
            life=CA_LIFE,
            path_length=0,
            constraints=constraints_of(self._domains),
        )
        self._files.write_atomic(key_path, private_pem(key))
        self._files.write_atomic(self.bundle, certificate.public_bytes(Encoding.PEM))

    # --- under an offline root ------------------------------------------------------------------------------

    def request(self) -> bytes:
        """What the root is asked to sign.

        At first for the key that there is, so that every certificate that it signed goes on; later for a new
        key, kept aside until its certificate is installed.
        """
        key = self._key
        if self.under_root or key is None:
            key = self._ids.private_key()
            self._files.write_atomic(self._folder / "next.key", private_pem(key))
        return issuing_request(key, self.certificate.subject, constraints_of(self._domains))

    def install(self, pem: bytes, hosts: Iterable[str]) -> None:
        """Issue by a certificate that a root signed from now on; whom to trust is the root then.

        The old authority is trusted beside it until :meth:`retire`.

        Args:
            pem: The issuing certificate, then its root.
            hosts: All that have to go on being signed.

        Raises:
            Malformed, Invalid: it is none, for another key, or does not permit a host.
        """
        try:
            issuing, root = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise Malformed("The file holds no issuing certificate with its root.") from None
        check_issued(issuing, root)
        self._check_key(issuing)
        constraints = constraints_in(issuing)
        if bad := [host for host in plain_hosts(hosts) if not permitted(constraints, host)]:
            raise Invalid(
                "The new authority may not sign a name that is in use.",
                why=f"It may sign {in_words(constraints)}.",
                todo="Add it to members.domains, and ask the root again.",
                where=bad[0],
            )
        old = [] if self.root == root else x509.load_pem_x509_certificates(self.bundle.read_bytes())
        bundle = [root, *(one for one in old if one != root)] if old else None
        # whatever is the last of these that is done, what is there can be opened
        self._files.write_atomic(self._issuing_path, issuing.public_bytes(Encoding.PEM))
        if bundle is not None:
            self._files.write_atomic(self.bundle, b"".join(c.public_bytes(Encoding.PEM) for c in bundle))
        self.open()

    def _check_key(self, issuing: x509.Certificate) -> None:
        paths = (path for path in (self._folder / "next.key", self._key_path) if path.exists())
        keys = [load_pem_private_key(path.read_bytes(), None).public_key() for path in paths]
        if issuing.public_key() not in keys:
            raise Invalid(
                "The certificate is for another key.", todo="Ask anew: crosslight-registry ca request."
            )

    def retire(self, last_end: datetime) -> bool:
        """Trust the root alone; whether anybody else was trusted.

        Args:
            last_end: When the last certificate ends that may need the old authority.

        Raises:
            Conflict: it has not ended yet.
        """
        if not self.under_root or len(x509.load_pem_x509_certificates(self.bundle.read_bytes())) == 1:
            return False
        if last_end > self._clock.now():
            raise Conflict(
                "Certificates of the old authority are in use.",
                why=f"The last ends on {last_end:%Y-%m-%d %H:%M} UTC.",
                todo="Retire it then.",
            )
        self._files.write_atomic(self.bundle, self.root.public_bytes(Encoding.PEM))
        return True

    def may_sign(self, host: str) -> bool:
        """Whether a plain host is within this authority's name constraints, and what is configured."""
        return within(self._domains, host) and permitted(constraints_in(self.certificate), host)

    # --- issuing --------------------------------------------------------------------------------------------

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
        if self._seen != self._stamp():  # a command has installed another
            self.open()
        key, now, hosts = self._key, self._clock.now(), plain_hosts(hosts)
        if key is None:
            raise ConfigError("The certificate authority is not open.")
        if bad := [host for host in hosts if not self.may_sign(host)]:
            raise Invalid(
                "The region's authority may not sign this name.",
                why=f"It may sign {in_words(constraints_in(self.certificate))}.",
                todo="See members.domains.",
                where=bad[0],
            )
        uses = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        common = (identity.name or identity.kind) if identity else (hosts[0] if hosts else "registry")
        if identity is not None and "." in common:  # a name with a dot would be held against the constraints
            common = f"{identity.kind} {common}"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(self._serial())
            .not_valid_before(now - min(BACKDATE, life / 10))
            .not_valid_after(min(now + life, self.certificate.not_valid_after_utc))
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
        return Issued(
            pem + self.issuing_pem, f"{certificate.serial_number:x}", certificate.not_valid_after_utc
        )

    def member(self, csr_pem: bytes, code: str, hosts: tuple[str, ...], life: timedelta) -> Issued:
        """The certificate of a member's node, client and server in one."""
        identity = Identity("member", code, self._community)
        hosts = tuple(host for host in plain_hosts(hosts) if not is_reserved(host))
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
