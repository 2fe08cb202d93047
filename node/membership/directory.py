"""The region's signed directory at the node (security.md 1.1).

It is verified, and never taken when it is older than the one known, or past its end.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from crosslight.runtime.tokens import ALGORITHMS
from crosslight.standards.directory import DirectoryDocument
from crosslight.standards.problem import Malformed, TooLarge, Unauthenticated, kind_as_sentence

MAX_DIRECTORY_BYTES = 4 << 20
LEEWAY_S = 60


def read_directory(token: str, jwks: dict[str, Any], community: str) -> DirectoryDocument:
    """The directory in a JWS, if one of ``jwks`` signed it for this region. Age is not looked at.

    Raises:
        TooLarge: over 4 MiB.
        Unauthenticated: if the signature or the region is another.
        Malformed: if it is no directory.
    """
    if len(token) > MAX_DIRECTORY_BYTES:
        raise TooLarge("The directory is too large.")
    try:
        signed = jws.deserialize_compact(token, KeySet.import_key_set(jwks), algorithms=ALGORITHMS)  # type: ignore[arg-type]  # plain JSON, which it checks
        claims = orjson.loads(signed.payload)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise Unauthenticated(
            "The directory's signature does not hold.", why=kind_as_sentence(error)
        ) from None
    if not isinstance(claims, dict):
        raise Malformed("The directory is no object.")
    document = DirectoryDocument.from_claims(claims)
    if document.community != community:
        raise Unauthenticated("The directory is another region's.")
    return document


def check_fresh(document: DirectoryDocument, known: DirectoryDocument | None, now: datetime) -> None:
    """Whether ``document`` may take the place of ``known``.

    Order is by time of signing, then version: a registry restored from backup starts with a lower version,
    and must be heard.

    Raises:
        Unauthenticated: if it is older than what is known (rollback), or at its end (freeze).
    """
    if known is not None and (document.issued, document.version) < (known.issued, known.version):
        raise Unauthenticated(
            "The directory is older than the one known.", why="A directory is never taken back."
        )
    if document.expires + LEEWAY_S < now.timestamp():
        raise Unauthenticated("The directory has expired.", todo="Check the clocks.")
