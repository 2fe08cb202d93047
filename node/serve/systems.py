"""Who calls a node that publishes to a registry that is not ours (D18): systems, by client certificates.

Nobody issues access tokens there, so the listener for people answers 401 to all that is protected. A system
is whoever shows a certificate under the configured authority (IHE ATNA: ITI TF-1 9.1, node authentication);
it needs no SPIFFE name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web

from crosslight.runtime.clock import Clock
from crosslight.runtime.credentials import outside_system
from crosslight.runtime.http import peer_certificate
from crosslight.runtime.peers import check_end
from crosslight.runtime.tls import serial_of
from crosslight.standards.access import OPEN, Grants
from crosslight.standards.problem import Unauthenticated
from node.serve.authenticate import Gate, ListenerKind
from node.serve.release import Grant

_NO_TOKENS = (
    "Access tokens are not accepted here: this node belongs to no Crosslight region, and nobody issues any."
)
_TODO = "Call the systems listener with a client certificate."
_SHORT = {
    "commonName": "CN",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "localityName": "L",
    "countryName": "C",
}
MAX_NAME_CHARS = 256


class SystemsGate(Gate):
    """The gate of an independent node.

    Every certificate under the configured authority that has not ended is that of a system, with the role of
    an integrator.

    Args:
        clock: Time.
        grants: What a system may, by its certificate's whole subject and its short name.
        open_mode: Without TLS and certificates.
    """

    def __init__(
        self, clock: Clock, grants: Callable[[str, str], Grants], *, open_mode: bool = False
    ) -> None:
        super().__init__(open_mode=open_mode)
        self._clock, self._grants = clock, grants

    def grant(self, request: web.Request, listener: ListenerKind) -> Grant:
        """As :meth:`Gate.grant`."""
        if hdrs.AUTHORIZATION in request.headers:
            raise Unauthenticated(_NO_TOKENS, todo=_TODO)
        if self._open:
            return Grant(principal=OPEN, kind="open")
        if listener != "systems":
            raise Unauthenticated("Nobody can sign in here.", why=_NO_TOKENS, todo=_TODO)
        certificate = peer_certificate(request) or {}
        subject, name = system_names(certificate)
        check_end(certificate, self._clock.now())  # the connection may outlive it
        principal = outside_system(subject, name, serial_of(certificate), grants=self._grants(subject, name))
        return Grant(principal=principal, kind="certificate", via=principal.subject)

    def advice(self, listener: ListenerKind) -> str:
        """As :meth:`Gate.advice`."""
        return (
            "Nobody issues access tokens for this node; systems come with a client certificate to its systems"
            " listener."
        )


def system_names(certificate: dict[str, Any]) -> tuple[str, str]:
    """Whole subject and short name of a system, from ``getpeercert()``.

    An alternative name stands in for a subject, or a common name in it, that is missing.

    Raises:
        Unauthenticated: for a certificate that names nobody.
    """
    pairs = [pair for relative in certificate.get("subject", ()) for pair in relative]
    alternatives = [
        str(value) for kind, value in certificate.get("subjectAltName", ()) if kind in ("URI", "DNS", "email")
    ]
    distinguished = ",".join(f"{_SHORT.get(kind, kind)}={value}" for kind, value in pairs)
    subject = distinguished or next(iter(alternatives), "")
    if not subject:
        raise Unauthenticated(
            "The client certificate names nobody.", why="It has neither subject nor alternative name."
        )
    common = [str(value) for kind, value in pairs if kind == "commonName"]
    name = next(iter([*common, *alternatives]), subject)
    return subject[:MAX_NAME_CHARS], name[:MAX_NAME_CHARS]
