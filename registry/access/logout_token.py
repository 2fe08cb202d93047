"""Logout tokens of an identity provider (OpenID Connect Back-Channel Logout 1.0, 2.4 to 2.6): pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from crosslight.standards.problem import Unauthenticated

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LIFE_S: Final = 600  # a token is taken for so long after it was issued, whatever it says of its own end
_TYPES: Final = frozenset({"", "jwt", "logout+jwt"})


@dataclass(frozen=True, slots=True)
class Logout:
    """Whose sessions end: the one with ``sid``, or, where that is '', all of ``subject``."""

    issuer: str
    subject: str
    sid: str
    token_id: str


def read_logout(
    header: dict[str, Any],
    claims: dict[str, Any],
    *,
    issuer: str,
    client_id: str,
    now: float,
    leeway_s: float,
) -> Logout:
    """What a token with a good signature says.

    Args:
        header, claims: Of the token.
        issuer: The provider's.
        client_id: Ours, there.
        now: Seconds since 1970.
        leeway_s: How far clocks may differ.

    Raises:
        Unauthenticated: it is no logout token for us, now; ``where`` names the claims that say so.
    """
    audience, events = claims.get("aud"), claims.get("events")
    issued, expires = claims.get("iat"), claims.get("exp")
    token_id, subject, sid = (claims.get(name, "") for name in ("jti", "sub", "sid"))
    checks = {
        "typ": str(header.get("typ", "")).lower() in _TYPES,
        "iss": claims.get("iss") == issuer,
        "aud": client_id in (audience if isinstance(audience, list) else [audience]),
        "iat": isinstance(issued, int | float) and now - LIFE_S - leeway_s < issued < now + leeway_s,
        # older providers leave it out
        "exp": expires is None or (isinstance(expires, int | float) and now < expires + leeway_s),
        "jti": isinstance(token_id, str) and 0 < len(token_id) <= 512,
        "events": isinstance(events, dict) and isinstance(events.get(EVENT), dict),
        "nonce": "nonce" not in claims,
        "sub": isinstance(subject, str) and len(subject) <= 512,
        "sid": isinstance(sid, str) and len(sid) <= 512 and bool(sid or subject),
    }
    if wrong := [name for name, good in checks.items() if not good]:
        raise Unauthenticated(
            "This is no logout token for this service.",
            why="OpenID Connect Back-Channel Logout 1.0, 2.6.",
            where=", ".join(wrong),
        )
    return Logout(issuer=issuer, subject=str(subject), sid=str(sid), token_id=str(token_id))
