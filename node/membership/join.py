"""Joining a region with an invitation (D18, security.md 1.1).

The registry's pin is checked first; only then is the secret sent; files are written last.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from crosslight.runtime.clock import Ids
from crosslight.runtime.http import limited_chunks
from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import reached_not
from crosslight.runtime.proxies import host_and_port, opener, proxy_to
from crosslight.runtime.seams import Http, Seams
from crosslight.runtime.signing import private_pem
from crosslight.runtime.tls import GATEWAY_NAME, spki_pin
from crosslight.standards.membership import Invitation, JoinReply
from crosslight.standards.problem import (
    ConfigError,
    Conflict,
    CrosslightError,
    Forbidden,
    Gone,
    Malformed,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from node.membership.state import FACTS, RegionState, write_membership

log = get_logger("region")

MAX_REPLY_BYTES = 1 << 20
_SHOWN_S = 10.0
_OF_ANOTHER_AUTHORITY = frozenset({18, 19, 20, 21})  # X509_V_ERR of chains that end at none that is trusted
_REFUSALS: dict[int, type[CrosslightError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    409: Conflict,
    410: Gone,
    413: TooLarge,
}


def new_request(code: str, ids: Ids) -> tuple[bytes, bytes]:
    """A fresh P-256 key, which never leaves this machine, and a PKCS#10 request for it; both as PEM."""
    key = ids.private_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = request.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return private_pem(key), csr.public_bytes(Encoding.PEM)


def pinned(bundle_pem: str, pin: str) -> str:
    """The certificate of ``bundle_pem`` whose key has this pin, as PEM.

    Raises:
        Forbidden: if there is none: whoever answers is not who invited.
    """
    try:
        certificates = x509.load_pem_x509_certificates(bundle_pem.encode())
    except ValueError:
        certificates = []
    for certificate in certificates:
        if spki_pin(certificate) == pin:
            return certificate.public_bytes(Encoding.PEM).decode()
    raise Forbidden(
        "This is not the registry that invited you: its certificate authority does not match the invitation's"
        " pin.",
        why="Nothing secret was sent.",
        todo="Check the address with the region's operator, and that nobody intercepts the connection.",
    )


async def join(
    invitation: str, folder: Path, seams: Seams, authorities: Sequence[str] = (), proxy: str = ""
) -> RegionState:
    """Join, and write what was given into ``folder``.

    Joining again keeps OIDs and secret: the registry knows them.

    Args:
        invitation: As the region's operator gave it.
        folder: The node's ``region`` folder.
        seams: HTTP, and durable writes.
        authorities: OIDs under which this trust issues patient numbers; those not agreed yet wait for the
            operator.
        proxy: As ``region.proxy`` says: an HTTP proxy's URL, ``environment``, or '' for none.

    Raises:
        Malformed: the invitation, or the registry's answer, cannot be read; an authority cannot be the
            trust's own.
        ConfigError: this node is another member already, or ``proxy`` is none.
        Forbidden: the pin does not match (nothing secret was sent), or the member is suspended.
        Unauthenticated: the registry does not know the invitation.
        Conflict: the invitation was used.
        Gone: the invitation has expired.
        Unavailable: the registry cannot be reached.
    """
    invited = Invitation.parse(invitation)
    if (folder / FACTS).exists() and (known := RegionState(folder, seams.files).code) != invited.code:
        raise ConfigError(
            f"This node is {known}; the invitation is for {invited.code}.", todo="Use a new folder."
        )
    way = _Way(seams.http, invited.url, proxy_to(invited.url, proxy))
    authority = pinned(await _bundle(way), invited.pin)
    key_pem, csr_pem = new_request(invited.code, seams.ids)
    reply = await _ask(way, invited, authority, csr_pem, authorities)
    _check(reply, invited, key_pem)
    write_membership(folder, reply, key_pem, seams.files)
    log.info("joined", code=reply.member.code, epoch=reply.member.epoch)
    return RegionState(folder, seams.files)


@dataclass(frozen=True, slots=True)
class _Way:
    """How the registry is reached: its address, and the proxy before it ('' = none)."""

    http: Http
    url: str
    proxy: str


async def _bundle(way: _Way) -> str:
    """The trust bundle from someone not yet trusted; only its pin gives it weight."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    async with way.http.client(unverified, read_timeout_s=15, proxy=way.proxy) as session:
        answer = await _json(session, way, "GET", None)
    return str(answer.get("bundle_pem", ""))


async def _ask(
    way: _Way, invited: Invitation, authority: str, csr_pem: bytes, authorities: Sequence[str]
) -> JoinReply:
    verified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    verified.minimum_version = ssl.TLSVersion.TLSv1_2
    verified.load_verify_locations(cadata=authority)
    optional = {"authorities": list(authorities)} if authorities else {}
    body = orjson.dumps({"secret": invited.secret, "csr_pem": csr_pem.decode(), **optional})
    async with way.http.client(verified, read_timeout_s=30, proxy=way.proxy) as session:
        reply = await _json(session, way, "POST", body, asked=GATEWAY_NAME)
        return JoinReply.from_plain(reply)


async def _json(
    session: aiohttp.ClientSession, way: _Way, method: str, body: bytes | None, *, asked: str = ""
) -> dict[str, Any]:
    """A JSON answer; ``asked``: whom the certificate has to name, whatever was dialled ('': the host)."""
    headers, url = {"Content-Type": "application/json"} if body else {}, f"{way.url}/join"
    named = asked if asked and url.startswith("https://") else None
    try:
        async with session.request(
            method, url, data=body, headers=headers, allow_redirects=False, server_hostname=named
        ) as response:
            chunks = limited_chunks(response.content.iter_chunked(1 << 16), MAX_REPLY_BYTES)
            data = b"".join([chunk async for chunk in chunks])
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        certificate = getattr(error, "certificate_error", None)
        if getattr(certificate, "verify_code", 0) in _OF_ANOTHER_AUTHORITY:
            # the pin did match: the registry is behind it, and something between opens what is said
            raise Unavailable(
                f"The registry cannot be reached at {url} without being read on the way."
                " The invitation was not sent.",
                why=await opener(host_and_port(url), way.proxy, _SHOWN_S, "the registry"),
            ) from None
        raise Unavailable(
            f"The registry cannot be reached at {url}.",
            why=reached_not(error),
            todo="Check address, firewall and clock.",
        ) from None
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        parsed = None
    if status != 200:
        problem = parsed.get("error", {}) if isinstance(parsed, dict) else {}
        kind = _REFUSALS.get(status, Unavailable)
        what = str(problem.get("what") or f"The registry answered {status}.")
        raise kind(what, why=str(problem.get("why", "")), todo=str(problem.get("todo", "")))
    if not isinstance(parsed, dict):
        raise Malformed("What answers there is no registry.", where=url)
    return parsed


def _check(reply: JoinReply, invited: Invitation, key_pem: bytes) -> None:
    """Whether the answer is for this key, this member and the pinned authority."""
    pinned(reply.bundle_pem, invited.pin)
    try:
        leaf = x509.load_pem_x509_certificates(reply.chain_pem.encode())[0]
    except (ValueError, IndexError):
        raise Malformed("The registry's answer holds no certificate.") from None
    own_key = load_pem_private_key(key_pem, None).public_key()
    if leaf.public_key() != own_key or reply.member.code != invited.code:
        raise Malformed("The registry's answer is for another member.")
