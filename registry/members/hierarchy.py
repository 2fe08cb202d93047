"""Certificates of authorities: an offline root, the issuing authority under it, the names that it may sign.

RFC 5280. The root's key signs nothing but issuing authorities, and need never be on a machine with a network.
Values in and out: files and commands are above.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from crosslight.standards.hosts import plain_host
from crosslight.standards.problem import Invalid, Malformed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ROOT_LIFE = timedelta(days=20 * 365)
ISSUING_LIFE = timedelta(days=2 * 365)
BACKDATE = timedelta(minutes=5)  # for clocks that are a little behind ours
INNER_DOMAIN = "crosslight.internal"  # where the gateway's own name is
_EVERY_ADDRESS = [x509.IPAddress(ipaddress.ip_network(net)) for net in ("0.0.0.0/0", "::/0")]


def authority_name(region: str, what: str) -> x509.Name:
    """The subject of an authority's certificate."""
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, region[:64])
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, f"Crosslight {what}")])


def _networks(domains: Sequence[str]) -> tuple[list[Network], list[str]]:
    """The networks among ``domains``, and the names."""
    networks, names = list[Network](), list[str]()
    for domain in domains:
        try:
            networks.append(ipaddress.ip_network(domain))
        except ValueError:
            names.append(plain_host(domain))
    return networks, names


def constraints_of(domains: Sequence[str]) -> x509.NameConstraints | None:
    """Name constraints (RFC 5280 4.2.1.10) for hosts below ``domains``; None where none is named.

    Without any network no address may be signed. With some the certificate says nothing of addresses, as
    gRPC's TLS takes none that lies under constraints of addresses; :func:`within` is asked before.

    Args:
        domains: Domain names, and networks as ``10.0.0.0/8``.

    Raises:
        Invalid: one is neither.
    """
    if not domains:
        return None
    networks, names = _networks(domains)
    allowed = [x509.DNSName(name) for name in (INNER_DOMAIN, *names)]
    return x509.NameConstraints(allowed, None if networks else _EVERY_ADDRESS)


def within(domains: Sequence[str], host: str) -> bool:
    """Whether a plain host is below one of ``domains``, or in a network among them; any is if none is."""
    if not domains:
        return True
    networks, names = _networks(domains)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return any(host == name or host.endswith(f".{name}") for name in (INNER_DOMAIN, *names))
    return any(address.version == network.version and address in network for network in networks)


def constraints_in(made: x509.Certificate | x509.CertificateSigningRequest) -> x509.NameConstraints | None:
    """The name constraints of a certificate or a request."""
    try:
        value = made.extensions.get_extension_for_oid(ExtensionOID.NAME_CONSTRAINTS).value
    except x509.ExtensionNotFound:
        return None
    return value if isinstance(value, x509.NameConstraints) else None


def permitted(constraints: x509.NameConstraints | None, host: str) -> bool:
    """Whether a plain host may be signed under ``constraints``."""
    if constraints is None:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        subtrees = constraints.permitted_subtrees or []
        domains = [subtree.value for subtree in subtrees if isinstance(subtree, x509.DNSName)]
        return any(host == domain or host.endswith(f".{domain}") for domain in domains)
    return not constraints.excluded_subtrees


def in_words(constraints: x509.NameConstraints | None) -> str:
    """What may be signed, for a person."""
    if constraints is None:
        return "any name"
    names = ", ".join(str(subtree.value) for subtree in constraints.permitted_subtrees or [])
    return names + ("" if constraints.excluded_subtrees else ", and addresses")


def _authority(
    name: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, serial: int, now: datetime
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def self_signed(
    key: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    serial: int,
    now: datetime,
    *,
    life: timedelta,
    path_length: int,
    constraints: x509.NameConstraints | None = None,
) -> x509.Certificate:
    """A root: ``path_length`` 1 for one that signs issuing authorities, 0 for one that issues itself."""
    builder = (
        _authority(name, name, key.public_key(), serial, now)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def issuing_request(
    key: ec.EllipticCurvePrivateKey, name: x509.Name, constraints: x509.NameConstraints | None
) -> bytes:
    """What an issuing authority asks its root to sign: PKCS#10 with the constraints that it asks for."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.PEM)


def read_request(pem: bytes) -> x509.CertificateSigningRequest:
    """A request of an issuing authority whose signature holds.

    Raises:
        Malformed: it is none.
    """
    with suppress(ValueError, UnsupportedAlgorithm, InvalidSignature):
        request = x509.load_pem_x509_csr(pem)
        if request.is_signature_valid and isinstance(request.public_key(), ec.EllipticCurvePublicKey):
            return request
    raise Malformed(
        "That is no request of an issuing authority.", todo="Make one: crosslight-registry ca request."
    )


def sign_issuing(
    root_key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    request: x509.CertificateSigningRequest,
    serial: int,
    now: datetime,
    *,
    life: timedelta = ISSUING_LIFE,
) -> x509.Certificate:
    """An issuing authority's certificate; of the request its name, key and constraints, and nothing else."""
    key, constraints = request.public_key(), constraints_in(request)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Malformed("The key of the request is of no kind that is signed here.")
    builder = (
        _authority(request.subject, root.subject, key, serial, now)
        .not_valid_after(min(now + life, root.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(root_key, hashes.SHA256(), ecdsa_deterministic=True)


def check_issued(issuing: x509.Certificate, root: x509.Certificate) -> None:
    """Whether ``issuing`` is an authority that ``root`` signed, and ``root`` one that signed itself.

    Raises:
        Invalid: it is not.
    """
    try:
        root.verify_directly_issued_by(root)
        issuing.verify_directly_issued_by(root)
        basic = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        basic = None
    if basic is None or not basic.ca or basic.path_length != 0:
        raise Invalid("The issuing authority's certificate is not its root's.", why="RFC 5280 6.1.")
