"""The only maker of principals from certificates and devices: a caller has one name on every road (D21).

A name is ``KIND:NAME``: ``member:RTK``, ``system:pacs``, ``aet:CT1``; the gateway is ``gateway``. Releases
before 0.3 wrote the certificate's URI for HL7 senders (``spiffe://COMMUNITY/member/RTK``): their rows stay as
they are, and :func:`uri_of` leads to them.
"""

from __future__ import annotations

import re
from typing import Final

from crosslight.runtime.tls import Identity
from crosslight.standards.access import BEFORE_GRANTS, INTEGRATOR, Grants, Principal

_ROLES: Final = {"member": "member", "system": INTEGRATOR, "gateway": "gateway"}
_NAMED = re.compile(r"(member|system):([A-Za-z0-9._-]{1,64})\Z")

NO_GRANTS: Final = Grants()
#: Whoever may run the registry's commands on its machine.
OPERATOR = Principal(
    subject="operator",
    name="command line",
    roles=frozenset({"operator"}),
    purpose="HOPERAT",
    evidence="local",
)


def subject_of(identity: Identity) -> str:
    """The one name of whom a certificate speaks for."""
    return f"{identity.kind}:{identity.name}" if identity.name else identity.kind


def principal_of(
    identity: Identity,
    *,
    name: str = "",
    number: int | None = None,
    evidence: str = "certificate",
    purpose: str = "TREAT",
    grants: Grants = NO_GRANTS,
) -> Principal:
    """Whom a certificate of the region speaks for.

    Args:
        identity: Of the certificate; of an open region, what the caller says it is.
        name: For people; the identity's own where there is no better one.
        number: The member's number, where the region's directory is at hand.
        evidence: How it is known, if not by a certificate.
        purpose: Of use.
        grants: Of an outside system.
    """
    return Principal(
        subject=subject_of(identity),
        name=name or identity.name,
        roles=frozenset({_ROLES[identity.kind]}),
        organisation=identity.name if identity.kind == "member" else "",
        purpose=purpose,
        evidence=evidence,
        member=number,
        credential=f"certificate {identity.serial}" if identity.serial else "",
        grants=grants,
    )


def outside_system(subject: str, name: str, serial: str = "", *, grants: Grants = BEFORE_GRANTS) -> Principal:
    """A system with a certificate of an authority that is not the region's (a node that stands alone, D18).

    Where that node names no systems, every certificate of the authority may search, fetch and store.

    Args:
        subject: Of the certificate, whole.
        name: The short one.
        serial: Of the certificate, in hex.
        grants: What the node's configuration grants it.
    """
    return Principal(
        subject=f"system:{subject}",
        name=name,
        roles=frozenset({INTEGRATOR}),
        evidence="certificate",
        grants=grants,
        credential=f"certificate {serial}" if serial else "",
    )


def device(title: str, organisation: str, grants: Grants = NO_GRANTS) -> Principal:
    """A DIMSE caller by its AE title: a device of the node's organisation, with what it may."""
    return Principal(
        subject=f"aet:{title}",
        name=title,
        roles=frozenset({INTEGRATOR}),
        organisation=organisation,
        evidence="dimse",
        grants=grants,
    )


def plain_subject(subject: str) -> str:
    """A subject as it is named now, whichever release wrote it."""
    identity = Identity.parse(subject)
    return subject if identity is None else subject_of(identity)


def uri_of(subject: str) -> tuple[str, str]:
    """How releases before 0.3 named an HL7 sender: what came before and after the community's OID.

    ('', '') for others.
    """
    if subject == "gateway":
        return "spiffe://", "/gateway"
    named = _NAMED.match(subject)
    return ("spiffe://", f"/{named[1]}/{named[2]}") if named else ("", "")
