"""Signatures by our own P-256 keys: ECDSA with SHA-256, its nonce by RFC 6979.

The same key and bytes give the same signature: none leaks a key because a machine's randomness was poor, and
a run on virtual time sends the same bytes again. Verifying is joserfc's and cryptography's business.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from crosslight.standards.problem import ConfigError

P256_BYTES = 32  # of each half of a signature (RFC 7518 3.4)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as PEM: PKCS#8, not encrypted, for a file whose mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def compact_jws(header: Mapping[str, Any], payload: bytes, key: ECKey) -> str:
    """``payload`` as a compact JWS by ES256 (RFC 7515 7.1, RFC 7518 3.4).

    ``header`` is given without ``alg``, which is ours to say.

    Raises:
        ConfigError: the key is no private P-256 key.
    """
    private = key.private_key
    if private is None or not isinstance(private.curve, ec.SECP256R1):
        raise ConfigError("The key that signs is no private P-256 key.")
    signed = b".".join(map(_base64url, (orjson.dumps({"alg": "ES256", **header}), payload)))
    der = private.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    halves = b"".join(half.to_bytes(P256_BYTES, "big") for half in decode_dss_signature(der))
    return b".".join((signed, _base64url(halves))).decode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
