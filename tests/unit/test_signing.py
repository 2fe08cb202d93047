"""Our own signatures: any library verifies them, and the same bytes give the same one (RFC 6979)."""

from __future__ import annotations

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.signing import compact_jws, private_pem
from crosslight.standards.problem import ConfigError

PAYLOAD = b'{"sub":"somebody"}'


def key() -> ECKey:
    return ECKey.import_key(private_pem(SystemIds().private_key()))


def public(of: ECKey) -> ECKey:
    return ECKey.import_key(of.as_dict(private=False))


def test_another_library_verifies_it() -> None:
    ours = key()
    token = compact_jws({"kid": "1", "typ": "access+jwt"}, PAYLOAD, ours)
    read = jws.deserialize_compact(token, public(ours), algorithms=["ES256"])
    assert read.payload == PAYLOAD
    assert read.headers() == {"alg": "ES256", "kid": "1", "typ": "access+jwt"}


def test_another_key_does_not() -> None:
    token = compact_jws({}, PAYLOAD, key())
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(token, public(key()), algorithms=["ES256"])


def test_the_same_bytes_have_the_same_signature_and_others_another() -> None:
    ours = key()
    assert compact_jws({}, PAYLOAD, ours) == compact_jws({}, PAYLOAD, ours)
    signatures = {compact_jws({}, payload, ours).rpartition(".")[2] for payload in (PAYLOAD, b"{}")}
    assert len(signatures) == 2


def test_a_signature_is_as_long_as_it_must_be_whatever_its_halves_are() -> None:
    """RFC 7518 3.4: leading zeros are kept; of 600 signatures some have them."""
    ours = key()
    lengths = {len(compact_jws({}, b"%d" % n, ours).rpartition(".")[2]) for n in range(600)}
    assert lengths == {86}  # 64 octets in base64url


@pytest.mark.parametrize("other", ["public", "another curve"])
def test_what_cannot_sign_by_es256_is_refused(other: str) -> None:
    wrong = public(key()) if other == "public" else ECKey.generate_key("P-384")
    with pytest.raises(ConfigError):
        compact_jws({}, PAYLOAD, wrong)
