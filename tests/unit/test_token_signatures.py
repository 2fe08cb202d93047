"""A signature is checked once; whether the token holds, at each use."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from registry_room import TestClock

from crosslight.runtime import tokens
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.signing import private_pem
from crosslight.runtime.tokens import LEEWAY_S, Claims, TokenSigner, TokenVerifier
from crosslight.standards.access import Principal
from crosslight.standards.problem import Unauthenticated

ANN = Principal(subject="person:ann", roles=frozenset({"clinician"}), organisation="RA2")
LIFE_S = 300


def new_key() -> ECKey:
    key = ECKey.import_key(private_pem(SystemIds().private_key()))
    key.ensure_kid()
    return key


def public(key: ECKey) -> dict[str, object]:
    return {"keys": KeySet([key]).as_dict(private=False)["keys"]}


class Verified:
    """A verifier, a token that it has seen, and how often it looked at a signature."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.withdrawn, self.looked = TestClock(), set[str](), 0
        key = new_key()
        self.signer = TokenSigner(key, "1.2.3", self.clock, SystemIds())
        self.verifier = TokenVerifier("1.2.3", self.clock, public(key), lambda: self.withdrawn)
        decode = jwt.decode

        def counting(*args: Any, **more: Any) -> jwt.Token:
            self.looked += 1
            return decode(*args, **more)

        monkeypatch.setattr(jwt, "decode", counting)
        self.token = self.mint("one")
        assert self.claims(self.token).token_id == "one"

    def mint(self, name: str, *, presenter: str = "") -> str:
        return self.signer.access(ANN, audience="RTK", ttl_s=LIFE_S, token_id=name, presenter=presenter)

    def claims(self, token: str, *, audience: str = "RTK", presenter: str | None = None) -> Claims:
        return self.verifier.verify(token, kind="access", audience=audience, presenter=presenter)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Verified:
    return Verified(monkeypatch)


def test_a_signature_is_checked_once(seen: Verified) -> None:
    assert [seen.claims(seen.token).principal for _ in range(3)] == [ANN] * 3
    assert seen.looked == 1


def test_a_seen_token_that_was_withdrawn_is_refused_at_once(seen: Verified) -> None:
    seen.withdrawn.add("one")
    with pytest.raises(Unauthenticated, match="withdrawn"):
        seen.claims(seen.token)
    exchanged = seen.signer.access(ANN, audience="RTK", ttl_s=LIFE_S, source="two")
    seen.claims(exchanged)
    seen.withdrawn.add("two")
    with pytest.raises(Unauthenticated, match="withdrawn"):
        seen.claims(exchanged)
    assert seen.looked == 2


async def test_a_seen_token_past_its_end_is_refused(seen: Verified) -> None:
    await seen.clock.sleep(LIFE_S + LEEWAY_S)
    assert seen.claims(seen.token).token_id == "one"
    await seen.clock.sleep(1)
    with pytest.raises(Unauthenticated, match="expired"):
        seen.claims(seen.token)


def test_a_seen_token_is_no_other_ones(seen: Verified) -> None:
    """What it is for, of which kind it is, and who may show it."""
    with pytest.raises(Unauthenticated):
        seen.claims(seen.token, audience="RXC")
    with pytest.raises(Unauthenticated):
        seen.verifier.verify(seen.token, kind="release", audience="RTK")
    bound = seen.mint("bound", presenter="thumb")
    seen.claims(bound, presenter="thumb")
    with pytest.raises(Unauthenticated, match="somebody else"):
        seen.claims(bound, presenter="another")


def test_a_seen_token_ends_with_its_key(seen: Verified) -> None:
    seen.verifier.replace_keys(public(new_key()))
    with pytest.raises(Unauthenticated, match="cannot be verified"):
        seen.claims(seen.token)


def test_a_bad_signature_is_never_remembered_and_few_good_ones_are(
    seen: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            seen.claims(f"{seen.token[:-4]}AAAA")
    assert seen.looked == 3
    monkeypatch.setattr(tokens, "KEPT_SIGNATURES", 2)
    for name in ("two", "three"):
        seen.claims(seen.mint(name))
    seen.claims(seen.token)
    assert seen.looked == 6, "the one that was shown longest ago was forgotten"
