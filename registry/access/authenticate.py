"""Who calls the registry: the middleware of its two listeners (D21).

Every path is protected that is not named as public.

*people*: session cookie or bearer access token. *systems*: the identity of the client certificate; a
    registered system may also act for the person in an access token. In open mode a caller without
    credentials is the principal ``open``.
"""

from __future__ import annotations

from typing import Literal

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from crosslight.runtime.clock import Clock
from crosslight.runtime.credentials import principal_of, subject_of
from crosslight.runtime.http import Handler, admit, peer_certificate, peer_thumbprint, refuse
from crosslight.runtime.peers import named_peer, tls_peer
from crosslight.runtime.tls import Identity
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.problem import Unauthenticated
from registry.access.sessions import COOKIE, SESSION, Session, Sessions, check_csrf
from registry.access.signin import sign_in_address
from registry.access.tokens import AccessTokens
from registry.members.service import MemberService

ListenerKind = Literal["people", "systems"]

#: Needs no sign-in: no patient data behind it. A trailing slash means all below it.
PUBLIC = (
    "/health",
    "/health/",
    "/metrics",
    "/join",
    "/signin",
    "/signin/",
    "/signed-out",
    "/demo-idp/",
    "/.well-known/",
    "/static/",
    "/favicon.ico",
    "/fhir/metadata",
)
#: Where a token is exchanged for another: on the people listener the token itself is all the credentials.
EXCHANGE_AT = "/token"
#: Where a browser without a session gets an answer, not the sign-in page.
SERVICES = ("/fhir", "/dicomweb", "/xds", "/rad69", EXCHANGE_AT)
MEMBER_HEADER = "Crosslight-Member"
_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
_MAX_TOKEN_CHARS = 16384


class Authenticator:
    """Makes a principal of a request's credentials."""

    def __init__(
        self,
        members: MemberService,
        tokens: AccessTokens,
        sessions: Sessions,
        clock: Clock,
        *,
        open_mode: bool = False,
        public: tuple[str, ...] = PUBLIC,
    ) -> None:
        self._members = members
        self._tokens = tokens
        self._sessions = sessions
        self._clock = clock
        self._open = open_mode
        self._exact = frozenset(p for p in public if not p.endswith("/"))
        self._below = tuple(p for p in public if p.endswith("/"))

    def middleware(self, listener: ListenerKind) -> Middleware:
        """For the application of one listener."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self.is_public(request) and not (listener == "people" and request.path == EXCHANGE_AT):
                try:
                    await self.authenticate(request, listener)
                except Unauthenticated as error:
                    if listener == "people" and _is_page(request):
                        if hdrs.AUTHORIZATION in request.headers or COOKIE in request.cookies:
                            refuse(request, error)
                        raise web.HTTPSeeOther(sign_in_address(request)) from None
                    raise
                session = request.get(SESSION)
                if session is not None and session.stale and _is_page(request):
                    raise web.HTTPSeeOther(sign_in_address(request, silent=True))
            return await handler(request)

        return middleware

    def is_public(self, request: web.Request) -> bool:
        """Whether no credentials are needed; a CORS preflight has none by its nature."""
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return True
        return request.path in self._exact or request.path.startswith(self._below)

    async def authenticate(self, request: web.Request, listener: ListenerKind) -> None:
        """Put on the request who calls.

        Raises:
            Unauthenticated: no credentials, or none that hold.
            Forbidden: a suspended member; a forged form.
        """
        principal, via = await self._known(request, listener)
        admit(request, principal, via=via)

    async def _known(self, request: web.Request, listener: ListenerKind) -> tuple[Principal, str]:
        """In whose name a request comes, and the subject of the certificate that carries a person's token."""
        token = _bearer(request)
        if listener == "systems" and not self._open:
            return self._system(request, token)
        if token is not None:
            return self._tokens.principal(token), ""
        session = await self._session(request)
        if session is not None:
            return session.principal, ""
        if not self._open:
            raise Unauthenticated("Sign in, or send an access token.")
        return self._named(request), ""

    async def _session(self, request: web.Request) -> Session | None:
        session = await self._sessions.find(request.cookies.get(COOKIE, ""))
        if session is not None:
            if request.method not in _SAFE:
                await check_csrf(request, session)
            request[SESSION] = session
        return session

    def _named(self, request: web.Request) -> Principal:
        """Open mode: a node names itself by header, as it does on the plain link.

        Anybody else is ``open``.
        """
        code = request.headers.get(MEMBER_HEADER)
        if code is None:
            return OPEN
        member = self._members.active(code)
        identity = Identity("member", member.code, self._members.community)
        self._members.peers.connection(named_peer(identity), request.transport)
        return principal_of(identity, name=member.name, number=member.id, evidence="open")

    def _system(self, request: web.Request, token: str | None) -> tuple[Principal, str]:
        peer = tls_peer(peer_certificate(request))
        self._members.check_peer(peer)
        self._members.peers.connection(peer, request.transport)
        identity = peer.identity
        if token is not None and identity.kind == "system":
            return self._tokens.principal(token, peer_thumbprint(request)), subject_of(identity)
        if token is not None:
            raise Unauthenticated("An access token is not accepted beside this certificate.")
        if identity.kind != "member":
            return principal_of(identity, grants=self._members.system_grants(identity.name)), ""
        member = self._members.active(identity.name)
        return principal_of(identity, name=member.name, number=member.id), ""


def _bearer(request: web.Request) -> str | None:
    """The bearer token of a request (RFC 6750 2.1), or None."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if not scheme:
        return None
    if scheme.lower() != "bearer" or not token.strip() or len(token) > _MAX_TOKEN_CHARS:
        raise Unauthenticated("Only bearer tokens are accepted.", why="RFC 6750 2.1.")
    return token.strip()


def _is_page(request: web.Request) -> bool:
    """Whether a person's browser asks for a page."""
    if request.method != hdrs.METH_GET or request.path.startswith(SERVICES):
        return False
    if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return False
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")
