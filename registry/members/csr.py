"""Certificate requests of members: nothing in them is believed but the key (RFC 2986)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crosslight.standards.problem import Invalid, Malformed, TooLarge

MAX_CSR_BYTES = 16384
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


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
