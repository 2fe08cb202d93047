"""Who calls a node: the middleware of its two listeners (D21).

*people*: a bearer access token for this member. *systems*: the identity of the client certificate; the
    gateway shows a release token, bound to its certificate, for whoever stands behind it; a registered system
    acts as itself or for the person in an access token. The region's signed directory is asked at each
    request about whoever shows a certificate, and what is open is cut when its answer changes (ADR 0035). In
    open mode certificates are not asked for, and a caller without a bearer token is the principal ``open``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from joserfc.errors import JoseError
from joserfc.jws import extract_compact

from crosslight.runtime.clock import Clock
from crosslight.runtime.credentials import principal_of, subject_of
from crosslight.runtime.http import Handler, admit, peer_certificate, peer_thumbprint
from crosslight.runtime.peers import (
    LivePeers,
    PeerCertificate,
    Standing,
    check_peer,
    grants_of,
    tls_peer,
)
from crosslight.runtime.tls import Identity
from crosslight.runtime.tokens import Kind, TokenVerifier
from crosslight.standards.access import OPEN
from crosslight.standards.problem import Unauthenticated, Unavailable
from node.serve.release import GRANT, Grant

ListenerKind = Literal["people", "systems"]

#: Below these nobody comes without credentials; all else of a node (health, metrics) holds no patient data.
PROTECTED = ("/dicomweb", "/xds", "/rad69", "/kept")
_MAX_TOKEN_CHARS = 16384


class Gate(ABC):
    """Puts the principal and the grant of a request's credentials on it.

    Args:
        open_mode: Let callers without credentials in, as ``open``.
        protected: Path prefixes that need credentials.
    """

    def __init__(self, *, open_mode: bool = False, protected: Sequence[str] = PROTECTED) -> None:
        self._open, self._protected = open_mode, tuple(protected)

    def middleware(self, listener: ListenerKind) -> Middleware:
        """For the application of one listener."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self.is_protected(request):
                grant = self.grant(request, listener)
                admit(request, grant.principal, via=grant.via, correlation=grant.correlation)
                request[GRANT] = grant
            return await handler(request)

        return middleware

    @abstractmethod
    def advice(self, listener: ListenerKind) -> str:
        """What a caller without credentials is told: where there are some."""

    async def watch(self) -> None:
        """Cut what a certificate opened when it ends, until cancelled; nothing where that is not known."""
        return

    def is_protected(self, request: web.Request) -> bool:
        """Whether credentials are needed; a CORS preflight has none by its nature."""
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return False
        return any(
            request.path == prefix or request.path.startswith(prefix + "/") for prefix in self._protected
        )

    @abstractmethod
    def grant(self, request: web.Request, listener: ListenerKind) -> Grant:
        """What the request's credentials grant.

        Raises:
            Unauthenticated: missing, wrong, or of the wrong kind for this listener.
        """


class Authenticator(Gate):
    """The gate of a region's member.

    Args:
        verifier: Of tokens, by the region's public keys.
        region: Its word about whoever shows a certificate.
        clock: By which certificates end.
        code: This node's organisation code, the audience of its tokens; '' before joining.
        stale: Whether the region's word is too old to let anybody in by it alone.
        open_mode: As of :class:`Gate`.
        protected: As of :class:`Gate`.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        region: Standing,
        clock: Clock,
        *,
        code: Callable[[], str],
        stale: Callable[[], bool] = lambda: False,
        open_mode: bool = False,
        protected: Sequence[str] = PROTECTED,
    ) -> None:
        super().__init__(open_mode=open_mode, protected=protected)
        self._verifier, self._region, self._clock = verifier, region, clock
        self._code, self._stale = code, stale
        self.live = LivePeers(clock, self._check)

    async def watch(self) -> None:
        """As :meth:`Gate.watch`."""
        await self.live.run()

    def grant(self, request: web.Request, listener: ListenerKind) -> Grant:
        """As :meth:`Gate.grant`."""
        token = _bearer(request)
        identity = self._identity(request) if listener == "systems" and not self._open else None
        if token is None:
            return self._without_token(identity)
        kind = _kind_of(token)
        if kind == "release":
            if listener != "systems" or (identity is not None and identity.kind != "gateway"):
                raise Unauthenticated(
                    "A release token is not accepted here.", why="It is for the region's gateway."
                )
            return self._released(token, identity, self._presenter(request))
        if identity is not None and identity.kind != "system":
            raise Unauthenticated(
                "An access token is not accepted here.", todo="Exchange it for a release token."
            )
        claims = self._verifier.verify(
            token, kind="access", audience=self._audience(), presenter=self._presenter(request)
        )
        return Grant(principal=claims.principal, kind="access", via=_via(identity))

    def advice(self, listener: ListenerKind) -> str:
        """As :meth:`Gate.advice`."""
        if listener == "people":
            return (
                "A token of the region's registry is exchanged there for one for this node (POST /token); its"
                " operator issues them (crosslight-registry token)."
            )
        return "The region's operator issues client certificates (crosslight-registry system)."

    def _audience(self) -> str:
        code = self._code()
        if not code:
            raise Unauthenticated("This node has not joined its region yet.")
        return code

    def _presenter(self, request: web.Request) -> str | None:
        """The certificate that a token must be bound to; None where nobody is asked for one."""
        return None if self._open else peer_thumbprint(request)

    def _released(self, token: str, identity: Identity | None, presenter: str | None) -> Grant:
        claims = self._verifier.verify(token, kind="release", audience=self._audience(), presenter=presenter)
        return Grant(
            principal=claims.principal,
            kind="release",
            studies=frozenset(claims.studies),
            correlation=claims.correlation,
            via=_via(identity),
        )

    def _identity(self, request: web.Request) -> Identity:
        peer = tls_peer(peer_certificate(request))
        self._check(peer)
        self.live.connection(peer, request.transport)
        return peer.identity

    def _check(self, peer: PeerCertificate) -> None:
        check_peer(peer, self._region, self._clock.now())

    def _without_token(self, identity: Identity | None) -> Grant:
        if identity is not None:
            if self._stale():
                raise Unavailable(
                    "This node has not heard from its region for too long to let anybody in by a certificate"
                    " alone.",
                    why="Who was suspended meanwhile is not known here.",
                    todo="Send a person's access token, or ask this trust to look at the node's link.",
                )
            principal = principal_of(identity, grants=grants_of(identity, self._region))
            return Grant(principal=principal, kind="certificate", via=_via(identity))
        if self._open:
            return Grant(principal=OPEN, kind="open")
        raise Unauthenticated("Sign in first.", todo="Send a bearer token.")


def _via(identity: Identity | None) -> str:
    return "" if identity is None else subject_of(identity)


def _bearer(request: web.Request) -> str | None:
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if len(values) > 1 or scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_CHARS:
        raise Unauthenticated("Only one bearer token is taken.", why="RFC 6750 2.1.")
    return token


def _kind_of(token: str) -> Kind:
    """Which kind a token claims to be: decides only against what it is verified."""
    try:
        claimed = str(extract_compact(token.encode()).headers().get("typ", ""))
    except (JoseError, ValueError, KeyError, TypeError):
        raise Unauthenticated("The token cannot be read.") from None
    kind = claimed.removesuffix("+jwt")
    if kind not in ("access", "release"):
        raise Unauthenticated("The token is of an unknown kind.")
    return cast(Kind, kind)
