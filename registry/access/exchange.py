"""A token for the registry is exchanged for a short one for one member (OAuth 2.0 Token Exchange, RFC 8693).

So no member is ever shown a token that opens anything elsewhere. What is given has the roles, the grants and
the purpose of what was shown, never more; it ends no later, and with it when that is withdrawn. At the
listener for systems it is bound to the certificate that asked (RFC 8705 3). Errors are those of RFC 6749 5.2.
There is no client registration: the token is the credential.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import orjson
from aiohttp import hdrs, web

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.http import CALLER, CORRELATION, admit, peer_thumbprint, read_limited
from crosslight.runtime.rates import PerMinute
from crosslight.runtime.tokens import Claims
from crosslight.standards.access import Decision
from crosslight.standards.problem import (
    Busy,
    CrosslightError,
    Forbidden,
    Invalid,
    OurError,
    Unauthenticated,
    Unsupported,
    UnsupportedMediaType,
)
from registry.access.authenticate import EXCHANGE_AT
from registry.access.tokens import AccessTokens
from registry.members.model import Directory, Member

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # RFC 8693 2.1
TYPE_URN: Final = "urn:ietf:params:oauth:token-type:access_token"  # RFC 8693 3
METADATA_PATH: Final = "/.well-known/oauth-authorization-server"  # RFC 8414 3
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_BYTES, MAX_FIELDS = 32768, 16
_TARGET = "audience"  # where an error is about whom the token is for


class TokenExchange:
    """The token endpoint, on the listeners for people and for systems.

    Args:
        tokens: Verifies what is shown and signs what is given.
        directory: Members, for whom tokens may be.
        audit: Every exchange is an act.
        clock: Time.
        base: Of the people listener, as apps reach it.
        life_s: The longest life of what is given.
        rates: How often one app or person may ask.
    """

    def __init__(
        self,
        tokens: AccessTokens,
        directory: Directory,
        audit: AuditLog,
        clock: Clock,
        base: str,
        *,
        life_s: float,
        rates: PerMinute,
    ) -> None:
        self._rates = rates
        self._tokens, self._directory, self._audit = tokens, directory, audit
        self._clock, self._base, self._life_s = clock, base.rstrip("/"), int(life_s)

    def routes(self) -> list[web.RouteDef]:
        """The token endpoint."""
        return [web.post(EXCHANGE_AT, self._token)]

    def metadata_routes(self) -> list[web.RouteDef]:
        """What an app may read before it asks (RFC 8414)."""
        return [web.get(METADATA_PATH, self._metadata)]

    async def _metadata(self, request: web.Request) -> web.Response:
        told = {
            "issuer": self._base,
            "token_endpoint": self._base + EXCHANGE_AT,
            "jwks_uri": f"{self._base}/.well-known/jwks.json",
            "grant_types_supported": [GRANT_TYPE],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
            "tls_client_certificate_bound_access_tokens": True,
        }
        headers = {hdrs.CACHE_CONTROL: "public, max-age=300"}
        return web.Response(body=orjson.dumps(told), content_type="application/json", headers=headers)

    async def _token(self, request: web.Request) -> web.Response:
        form = await _form(request)
        certificate = _system_of(request)
        presenter = peer_thumbprint(request)
        try:
            shown = self._tokens.claims(form["subject_token"], presenter)
        except Unauthenticated as error:  # RFC 8693 2.2.2: the request is invalid
            error.where = "subject_token"
            raise
        caller = admit(request, shown.principal, via=certificate)
        self._rates.take(certificate or shown.principal.subject)
        member = self._member(form)
        ttl_s = min(self._life_s, shown.expires - int(self._clock.now().timestamp()))
        if ttl_s <= 0:
            raise Unauthenticated("The token has expired.", todo="Get a new one.", where="subject_token")
        async with self._act(caller, shown, member):
            given = self._tokens.signer.access(
                shown.principal,
                audience=member.code,
                ttl_s=ttl_s,
                presenter=presenter if certificate else "",
                source=shown.token_id,
            )
        return _answered(given, ttl_s)

    def _act(self, caller: Caller, shown: Claims, member: Member) -> Act:
        about = About(query={"member": member.code, "token": shown.token_id})
        decision = Decision(True, "a token for one member, for no more than the one shown")
        return self._audit.act(caller, "token", "exchange-token", about, decision=decision)

    def _member(self, form: dict[str, str]) -> Member:
        """For whom a token is wanted: by its code (``audience``), or by its address (``resource``).

        Raises:
            Invalid: nobody's, or a member that nothing may be asked of now.
        """
        code, resource = form.get("audience", ""), form.get("resource", "")
        matching = [m for m in self._directory.all() if m.code == code or _is_at(m, resource)]
        if len(matching) != 1 or matching[0].status != "active" or (code and matching[0].code != code):
            raise Invalid(
                "No token is given for that.",
                why="It is no one active member of this region.",
                todo="Give audience=CODE, or resource= an address of /fhir/Endpoint.",
                where=_TARGET,
            )
        return matching[0]


def _is_at(member: Member, resource: str) -> bool:
    """Whether ``resource`` is one of a member's addresses, or below one."""
    roots = {member.endpoints.base, member.endpoints.systems, member.endpoints.dicomweb} - {""}
    return any(resource == root or resource.startswith(f"{root.rstrip('/')}/") for root in roots)


def _system_of(request: web.Request) -> str:
    """The subject of the system whose certificate carries the request; '' at the listener for people.

    Raises:
        Forbidden: the certificate is a member's, or the gateway's: they exchange nothing.
    """
    caller = request.get(CALLER)
    if caller is None or caller.principal.evidence == "open":
        return ""
    subject: str = caller.via or caller.principal.subject
    if not subject.startswith("system:"):
        raise Forbidden("A token is exchanged for an app or a system.", why="This certificate is neither's.")
    return subject


async def _form(request: web.Request) -> dict[str, str]:
    """The parameters of an exchange that is built here.

    Raises:
        UnsupportedMediaType: no form.
        Invalid: repeated, missing, or not understood ones.
        Unsupported: another grant type.
    """
    if request.content_type != FORM:
        raise UnsupportedMediaType("A form is wanted here.", todo=f"Send it as {FORM}.")
    body = await read_limited(request, MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Invalid("The form cannot be read.", why=f"UTF-8, at most {MAX_FIELDS} fields.") from None
    form = {name: value for name, value in pairs if value}
    if len(form) != sum(1 for _, value in pairs if value):
        raise Invalid("A parameter is repeated.", why="RFC 6749 3.2: one value each.")
    if form.get("grant_type") != GRANT_TYPE:
        raise Unsupported("Tokens are exchanged here, and nothing else.", todo=f"grant_type={GRANT_TYPE}")
    if "subject_token" not in form or form.get("subject_token_type") != TYPE_URN:
        raise Invalid("An access token is wanted in subject_token.", todo=f"subject_token_type={TYPE_URN}")
    if form.get("requested_token_type", TYPE_URN) != TYPE_URN:
        raise Invalid("Access tokens are given, and no others.", where="requested_token_type")
    if over := {"actor_token", "scope"} & form.keys():
        raise Invalid(
            "What is given has the roles of what was shown, no others.", where=", ".join(sorted(over))
        )
    return form


def _answered(token: str, ttl_s: int) -> web.Response:
    """RFC 8693 2.2.1."""
    said = {
        "access_token": token,
        "issued_token_type": TYPE_URN,
        "token_type": "Bearer",
        "expires_in": ttl_s,
    }
    headers = {hdrs.CACHE_CONTROL: "no-store", hdrs.PRAGMA: "no-cache"}
    return web.Response(body=orjson.dumps(said), content_type="application/json", headers=headers)


def render_oauth_error(request: web.Request, error: CrosslightError) -> web.Response:
    """An error of the token endpoint (RFC 6749 5.2, RFC 8693 2.2.2)."""
    status, code = error.http_status, "invalid_request"
    if isinstance(error, OurError):
        code = "server_error"
    elif isinstance(error, Busy):
        code = "temporarily_unavailable"
    elif isinstance(error, Unsupported):
        status, code = 400, "unsupported_grant_type"
    elif isinstance(error, Forbidden):
        code = "unauthorized_client"
    elif isinstance(error, Unauthenticated) and error.where != "subject_token":
        code = "invalid_client"
    elif error.where == _TARGET:
        status, code = 400, "invalid_target"
    elif isinstance(error, Unauthenticated | Invalid):
        status = 400
    words = " ".join(part for part in (error.what, error.why, error.todo) if part)
    told = {
        "error": code,
        "error_description": words.encode("ascii", "replace").decode().replace('"', "'"),
        "correlation": request.get(CORRELATION, ""),
    }
    headers = {hdrs.CACHE_CONTROL: "no-store", hdrs.PRAGMA: "no-cache"}
    return web.Response(
        status=status, body=orjson.dumps(told), content_type="application/json", headers=headers
    )
