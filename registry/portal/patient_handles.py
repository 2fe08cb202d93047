"""Opaque addresses of patients' pages: sealed, bound to the person who searched, and ending.

No identifier stands in a URL.

A handle says nothing to anyone but this registry; to another user, or after its time, it leads nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crosslight.runtime.clock import Clock, Ids
from crosslight.standards.access import Principal
from crosslight.standards.problem import NotFound

_PURPOSE = b"crosslight portal handle"


class Handles:
    """Seals and opens handles with a key derived from the region's.

    Every process of a registry has the same.
    """

    def __init__(self, key: bytes, clock: Clock, ids: Ids, ttl_s: int) -> None:
        self._cipher = AESGCM(hmac.new(key, _PURPOSE, hashlib.sha256).digest())
        self._clock, self._ids, self._ttl_s = clock, ids, ttl_s

    def seal(self, fhir_id: str, principal: Principal) -> str:
        """The handle of a person for ``principal``."""
        nonce = self._ids.token_bytes(12)
        ends = int(self._clock.now().timestamp()) + self._ttl_s
        sealed = self._cipher.encrypt(nonce, orjson.dumps([fhir_id, ends]), principal.subject.encode())
        return urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, handle: str, principal: Principal) -> str:
        """The person's FHIR id.

        Raises:
            NotFound: for any handle that is not this principal's, or has ended.
        """
        try:
            raw = urlsafe_b64decode(handle + "=" * (-len(handle) % 4)) if len(handle) < 400 else b""
            fhir_id, ends = orjson.loads(self._cipher.decrypt(raw[:12], raw[12:], principal.subject.encode()))
        except (InvalidTag, ValueError):
            fhir_id, ends = "", 0
        if ends < self._clock.now().timestamp():
            raise NotFound(
                "This page’s address has ended, or was made for somebody else.",
                todo="Search for the patient again.",
            )
        return str(fhir_id)
