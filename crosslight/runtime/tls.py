"""TLS between our own ends and towards people: contexts, peer identities, and renewal without restart (D21).

Who a peer is follows from the one SPIFFE URI in its certificate, never from a common name or a host name.
Inner traffic (gateway to node, node to registry) therefore checks the expected identity inside the handshake,
before a byte is sent; people's browsers check host names as usual. Knows nothing of who is a member:
suspension is decided above.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.proxies import opened
from crosslight.standards.problem import ConfigError, Unauthenticated, kind_as_sentence

log = get_logger("tls")

#: A DNS name that only the gateway's certificate carries: gRPC checks it in place of the host it dialled.
GATEWAY_NAME = "gateway.crosslight.internal"

IdentityKind = Literal["member", "gateway", "system"]
_SPIFFE = re.compile(r"spiffe://([0-9a-z.-]{1,128})/(?:(gateway)|(member|system)/([A-Za-z0-9._-]{1,64}))\Z")
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # for TLS 1.2 peers; TLS 1.3 has its own list
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\s*", re.S)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate speaks for: ``spiffe://<home community>/<kind>/<name>``; the gateway has no name.

    ``serial`` is the certificate's, in hex, where it came from one: whoever renews stays who they are.
    """

    kind: IdentityKind
    name: str = ""
    community: str = ""  # homeCommunityId, without urn:oid:
    serial: str = field(default="", compare=False)

    @property
    def uri(self) -> str:
        """As the URI SAN of a certificate."""
        return f"spiffe://{self.community}/{self.kind}" + (f"/{self.name}" if self.name else "")

    @classmethod
    def parse(cls, uri: str) -> Self | None:
        """Read a SPIFFE URI of ours; None for any other."""
        match = _SPIFFE.match(uri)
        if match is None:
            return None
        community, gateway, kind, name = match.groups()
        return cls("gateway" if gateway else cast(IdentityKind, kind), name or "", community)


def identity_of(uris: list[str]) -> Identity:
    """The identity in a certificate's URI SANs: there must be exactly one (X509-SVID 2).

    Raises:
        Unauthenticated: if there is none, more than one, or one that is not ours.
    """
    identity = Identity.parse(uris[0]) if len(uris) == 1 else None
    if identity is None:
        raise Unauthenticated("The client certificate names no member, gateway or system of this region.")
    return identity


def peer_identity(certificate: dict[str, Any] | None) -> Identity:
    """Who the other side of a mutual TLS connection is, from ``SSLObject.getpeercert()``.

    Raises:
        Unauthenticated: if there is no certificate, or it names nobody of ours.
    """
    shown = certificate or {}
    uris = [value for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
    return replace(identity_of(uris), serial=serial_of(shown))


def serial_of(certificate: dict[str, Any]) -> str:
    """The serial number of a certificate in ``getpeercert()`` form, in hex without leading zeros."""
    return str(certificate.get("serialNumber", "")).lower().lstrip("0")


def expires_at(certificate: dict[str, Any]) -> datetime:
    """When a certificate in ``getpeercert()`` form ends: a connection may outlive it, its rights may not."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


def spki_pin(certificate: x509.Certificate) -> str:
    """The pin of a certificate's key: SHA-256 of its SubjectPublicKeyInfo, in hex (RFC 7469 2.4's input)."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def thumbprint(der: bytes) -> str:
    """The ``x5t#S256`` of a certificate: base64url of the SHA-256 of its DER, unpadded (RFC 8705 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def pem_blocks(data: bytes) -> tuple[bytes, bytes]:
    """Private key and certificate chain of a PEM file that holds both ('' for what is not there)."""
    key, chain = b"", b""
    for match in _PEM.finditer(data):
        if match.group(1).endswith(b"PRIVATE KEY"):
            key = match.group(0)
        elif match.group(1) == b"CERTIFICATE":
            chain += match.group(0)
    return key, chain


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load(context: ssl.SSLContext, cert: Path | None, key: Path | None, ca: Path | None) -> None:
    try:
        if cert is not None:
            context.load_cert_chain(cert, key)
        if ca is not None:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate in {cert or ca} cannot be used.",
            why=kind_as_sentence(error),
            todo="Join again, or check the paths.",
        ) from error


def server_context(cert: Path, key: Path, *, client_ca: Path | None = None) -> ssl.SSLContext:
    """For a listener: TLS 1.3 (1.2 for older systems).

    With ``client_ca`` a client certificate of it is required.

    Sessions are not resumed on mutual listeners: each connection proves a certificate that holds now.

    Raises:
        ConfigError: if a file cannot be read as what it should be.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _load(context, cert, key, client_ca)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def _expecting(expected: Identity) -> type[ssl.SSLObject]:
    class Expecting(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                identity = peer_identity(self.getpeercert())
            except Unauthenticated:
                identity = None
            if identity != expected:
                raise ssl.SSLCertVerificationError(f"the peer is not {expected.uri}")

    return Expecting


def client_context(
    ca: Path, cert: Path | None = None, key: Path | None = None, *, expect: Identity | None = None
) -> ssl.SSLContext:
    """For calls to a server whose certificate ``ca`` signed.

    Args:
        ca: Trust anchors, PEM.
        cert: Own certificate chain, for mutual TLS.
        key: Its key; None when ``cert`` holds it too.
        expect: The identity that the server must have; it is checked in the handshake, in place of the host
            name.

    Raises:
        ConfigError: if a file cannot be read as what it should be.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    _load(context, cert, key, ca)
    if expect is not None:
        context.check_hostname = False
        context.sslobject_class = _expecting(expect)
    return context


def refused_certificate(error: ssl.SSLError) -> str:
    """Why a handshake failed, where it was for the caller's certificate; '' for all that is no credential."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "The client certificate is of no authority that is trusted here, or does not hold now."
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "No client certificate was shown."
    return ""


def watched(context: ssl.SSLContext, refused: Callable[[str, str], None]) -> ssl.SSLContext:
    """``context`` of an asyncio listener, that tells of refused certificates: why, and the caller's address.

    asyncio passes over a handshake that fails: no protocol is made, nothing is logged. So the handshake
    itself tells, and finds the address at its caller, asyncio's SSLProtocol; '' where that is another.
    """

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLError as error:
                if why := refused_certificate(error):
                    refused(why, _peer_of(sys._getframe(1).f_locals.get("self")))
                raise

    context.sslobject_class = Watched
    return context


def _peer_of(protocol: object) -> str:
    transport = getattr(protocol, "_transport", None)
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if name else ""


class Credentials:
    """One end's certificate, key and trust bundle as files, and every context made of them.

    ``reload`` puts renewed files into the live contexts: new handshakes use them, listeners and sessions
    stay.

    Args:
        cert: Own chain, PEM.
        key: Own key, PEM; may be the same file, which is then replaced as one.
        ca: Trust bundle, PEM.
    """

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self.cert, self.key, self.ca = cert, key, ca
        self._contexts: list[ssl.SSLContext] = []
        self._clients: dict[Identity | None, ssl.SSLContext] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._thumbprint = ""

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in (self.cert, self.key, self.ca)]
        return tuple((s.st_mtime_ns, s.st_ino) for s in stats)

    def server(self, *, mutual: bool) -> ssl.SSLContext:
        """A listener's context; ``mutual`` requires a client certificate of the bundle."""
        context = server_context(self.cert, self.key, client_ca=self.ca if mutual else None)
        self._contexts.append(context)
        return context

    def client(self, expect: Identity | None = None) -> ssl.SSLContext:
        """The context for calling ``expect`` (None: any server of the region, by host name).

        One for each, shared.
        """
        context = self._clients.get(expect)
        if context is None:
            context = self._clients[expect] = client_context(self.ca, self.cert, self.key, expect=expect)
        return context

    def reload(self) -> None:
        """Use the files as they are now for every handshake from here on."""
        stamp = self._stamp()
        for context in (*self._contexts, *self._clients.values()):
            _load(context, self.cert, self.key, self.ca if context.verify_mode == ssl.CERT_REQUIRED else None)
        with self._lock:
            self._generation += 1
        self._seen, self._thumbprint = stamp, ""
        log.info("certificates loaded", file=self.cert.name, expires=self.expires().isoformat())

    def reload_if_changed(self) -> bool:
        """Reload when another program replaced a file; whether it did."""
        if self._stamp() == self._seen:
            return False
        self.reload()
        return True

    async def watch(self, clock: Clock, every_s: float = 30.0) -> None:
        """Reload whenever the files change, for certificates that others renew; runs until cancelled."""
        while True:
            await clock.sleep(every_s)
            try:
                self.reload_if_changed()
            except (ConfigError, OSError) as error:
                log.error("certificates cannot be loaded", file=self.cert.name, reason=type(error).__name__)

    def leaf(self) -> x509.Certificate:
        """Our own certificate."""
        return x509.load_pem_x509_certificates(self.cert.read_bytes())[0]

    @property
    def thumbprint(self) -> str:
        """Of the certificate that the contexts show: with :func:`thumbprint`, what it is known by."""
        if not self._thumbprint:
            self._thumbprint = thumbprint(self.leaf().public_bytes(Encoding.DER))
        return self._thumbprint

    def expires(self) -> datetime:
        """When our own certificate ends."""
        return self.leaf().not_valid_after_utc

    def _pems(self) -> tuple[bytes, bytes, bytes]:
        """Key, chain, bundle."""
        return (
            pem_blocks(self.key.read_bytes())[0],
            pem_blocks(self.cert.read_bytes())[1],
            self.ca.read_bytes(),
        )

    def grpc_server(self, began: Callable[[], None] = lambda: None) -> grpc.ServerCredentials:
        """Credentials of a gRPC listener that requires client certificates and follows :meth:`reload`.

        ``began`` is called by gRPC's threads as each handshake begins.
        """
        used = self._generation

        def configuration() -> Any:
            key, chain, bundle = self._pems()
            return grpc.ssl_server_certificate_configuration([(key, chain)], bundle)

        def fetch() -> Any:  # called by gRPC's threads before each handshake; None = as before
            nonlocal used
            began()
            with self._lock:
                if used == self._generation:
                    return None
                used = self._generation
            return configuration()

        return grpc.dynamic_ssl_server_credentials(configuration(), fetch, require_client_authentication=True)

    def grpc_channel(self, peer: bytes = b"") -> grpc.ChannelCredentials:
        """Credentials of one gRPC channel, as the files are now; use with :func:`gateway_channel_options`.

        ``peer`` is the only certificate that is met then, PEM: see :func:`proven_peer`.
        """
        key, chain, bundle = self._pems()
        return grpc.ssl_channel_credentials(peer or bundle, key, chain)


async def proven_peer(
    credentials: Credentials, address: str, expect: Identity, timeout_s: float, proxy: str = ""
) -> bytes:
    """The certificate at ``address`` (host:port) whose holder is ``expect``, PEM.

    gRPC checks names of hosts and knows no SPIFFE identity. So the identity is checked here, in a handshake
    of its own, and the channel is then bound to this very certificate. ``proxy`` is the way, if there is one.

    Raises:
        OSError: nobody answers there, or somebody else (``ssl.SSLCertVerificationError``).
        TimeoutError: not in time.
    """
    context = client_context(credentials.ca, credentials.cert, credentials.key, expect=expect)
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(timeout_s):
        _, writer = await opened(address, proxy, context)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(der).encode()


def gateway_channel_options() -> list[tuple[str, Any]]:
    """Channel options by which gRPC accepts the gateway's certificate alone, at whatever address."""
    return [("grpc.ssl_target_name_override", GATEWAY_NAME)]


def grpc_identity(auth_context: Any) -> Identity:
    """Who called a gRPC method, from ``context.auth_context()``.

    Raises:
        Unauthenticated: without a client certificate of ours.
    """
    return identity_of([uri.decode("utf-8", "replace") for uri in auth_context.get("peer_uri", ())])


def grpc_certificate(auth_context: Any) -> x509.Certificate | None:
    """The certificate that a gRPC caller showed, or None on a plain link."""
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    return x509.load_pem_x509_certificate(pem) if pem else None
