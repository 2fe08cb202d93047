"""Where a member's services are, as the registry calls them: the only place that builds such addresses."""

from __future__ import annotations

from typing import Literal

from crosslight.standards.membership import FACE_PATHS
from crosslight.standards.xds.wire import rad69, retrieve
from registry.members.model import Member

#: What the registry asks of a member: WADO-RS and QIDO-RS below one root, manifests, instances as an XDS-I
#: consumer does.
Service = Literal["dicomweb", "iti43", "rad69"]

#: The ``wsa:Action`` of those that are SOAP transactions.
ACTIONS: dict[Service, str] = {"iti43": retrieve.ACTION_REQUEST, "rad69": rad69.ACTION_REQUEST}


def address(member: Member, service: Service) -> str:
    """The service's URL without a trailing slash; '' when none is known.

    A node's DICOMweb root is that of its listener for systems, which takes the gateway's certificate; a
    foreign source has one root only.
    """
    endpoints = member.endpoints
    if service == "dicomweb":
        return f"{endpoints.systems}/dicomweb" if endpoints.systems else endpoints.dicomweb
    return endpoints.xds_repository if service == "iti43" else endpoints.rad69


#: The host of a node that is called through its tunnel and has no address that is believed (RFC 6761 6.4).
NO_HOST = "node.invalid"
_FACES: dict[Service, str] = {"dicomweb": "dicomweb", "iti43": "xds_repository", "rad69": "rad69"}


def tunnelled(service: Service, *, secured: bool) -> str:
    """The service's URL at a node that needs no address, as its connections come through its tunnel."""
    return f"{'https' if secured else 'http'}://{NO_HOST}{FACE_PATHS[_FACES[service]]}"
