"""Links to pages: opaque, encrypted tokens, so that no address made here holds a patient identifier.

A token holds the search and the place in it; it is bound to who asked, and ends after a while. No state is
kept: any process of the registry that has the key can go on (D25).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crosslight.runtime.clock import Clock, Ids
from crosslight.standards.problem import Invalid

PARAMETER = "_page"


@dataclass(frozen=True, slots=True)
class Page:
    """A search and where to go on: ``after`` is the last row's sort key, or the index's cursor."""

    resource: str
    pairs: tuple[tuple[str, str], ...]
    after: Any = None


class PageTokens:
    """Makes and reads page tokens.

    Args:
        key: A secret of the region, the same in every process; only a key derived from it is used.
        ttl_s: How long a token works.
    """

    def __init__(self, key: bytes, clock: Clock, ids: Ids, ttl_s: int) -> None:
        derived = hashlib.blake2b(key, digest_size=32, person=b"fhir-page-token").digest()
        self._cipher = AESGCM(derived)
        self._clock = clock
        self._ids = ids
        self._ttl_s = ttl_s

    def make(self, resource: str, pairs: Sequence[tuple[str, str]], after: Any, *, subject: str) -> str:
        """A token for ``subject``."""
        body = orjson.dumps([int(self._clock.now().timestamp()) + self._ttl_s, resource, list(pairs), after])
        nonce = self._ids.token_bytes(12)
        sealed = nonce + self._cipher.encrypt(nonce, body, subject.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def read(self, token: str, *, resource: str, subject: str) -> Page:
        """The page of a token.

        Raises:
            Invalid: a token of another server, person or resource, or one that has ended.
        """
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            body = self._cipher.decrypt(sealed[:12], sealed[12:], subject.encode())
            expires, kind, pairs, after = orjson.loads(body)
        except (InvalidTag, binascii.Error, ValueError, TypeError):
            raise self._refused("It was not made here for you.") from None
        if kind != resource or expires < self._clock.now().timestamp():
            raise self._refused("It has ended, or belongs to another search.")
        return Page(resource, tuple((name, value) for name, value in pairs), after)

    @staticmethod
    def _refused(why: str) -> Invalid:
        return Invalid(
            "The page link cannot be used.", why=why, todo="Search again.", where=PARAMETER, fhir_code="value"
        )
