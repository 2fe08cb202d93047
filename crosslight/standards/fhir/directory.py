"""Organization and Endpoint: the region's members and where their images are opened."""

from __future__ import annotations

from crosslight.standards.fhir.facts import MemberFacts, RegionFacts
from crosslight.standards.fhir.terms import (
    CONNECTION_TYPE,
    EXT_REPOSITORY,
    EXT_RETRIEVE_LOCATION,
    PAYLOAD_TYPE,
    RFC3986,
    V2_0203,
)
from crosslight.standards.fhir.wire import Resource, prune, versioned

WADO = "dicom-wado-rs"


def organization(member: MemberFacts, region: RegionFacts, *, incarnation: str) -> Resource:
    """A member under its organisation code.

    A foreign source, which is no part of the region, under its repository's OID.
    """
    oids = (
        (EXT_REPOSITORY, member.repository_unique_id),
        (EXT_RETRIEVE_LOCATION, member.retrieve_location_uid),
    )
    endpoints = [
        *([region.endpoint_id] if member.shows_images else []),
        *([member.endpoint_id] if member.dicomweb else []),
    ]
    region_itself = {"reference": f"Organization/{region.organization_id}", "display": region.name}
    body = prune(
        {
            "resourceType": "Organization",
            "id": member.organization_id,
            "extension": [{"url": url, "valueOid": f"urn:oid:{oid}"} for url, oid in oids if oid],
            "identifier": [{"use": "official", **member.identifier(region.organisation_system)}],
            "active": member.active,
            "name": member.name,
            "partOf": region_itself if not member.foreign else None,
            "endpoint": [{"reference": f"Endpoint/{key}"} for key in endpoints],
        }
    )
    return versioned(body, stem=incarnation, updated=None)


def region_organization(region: RegionFacts, *, incarnation: str) -> Resource:
    """The region itself: who manages the gateway."""
    identifier = {
        "type": {"coding": [{"system": V2_0203, "code": "XX"}]},
        "system": RFC3986,
        "value": f"urn:oid:{region.home_community_id}",
    }
    body = {
        "resourceType": "Organization",
        "id": region.organization_id,
        "identifier": [identifier],
        "active": True,
        "name": region.name,
        "endpoint": [{"reference": f"Endpoint/{region.endpoint_id}"}],
    }
    return versioned(body, stem=incarnation, updated=None)


def _endpoint(
    key: str, name: str, owner: str, owner_name: str, address: str, state: str, incarnation: str
) -> Resource:
    body = {
        "resourceType": "Endpoint",
        "id": key,
        "status": state,
        "connectionType": {"system": CONNECTION_TYPE, "code": WADO, "display": "DICOM WADO-RS"},
        "name": name,
        "managingOrganization": {"reference": f"Organization/{owner}", "display": owner_name},
        "payloadType": [{"coding": [{"system": PAYLOAD_TYPE, "code": "none"}], "text": "DICOM WADO-RS"}],
        "payloadMimeType": ["application/dicom", "application/dicom+json"],
        "address": address,
    }
    return versioned(body, stem=incarnation, updated=None)


def member_endpoint(member: MemberFacts, *, incarnation: str) -> Resource:
    """A member's own DICOMweb root; ``error`` while it cannot be reached, ``suspended`` while it is."""
    state = "suspended" if not member.active else "active" if member.reachable else "error"
    name = f"DICOMweb of {member.name}"
    return _endpoint(
        member.endpoint_id, name, member.organization_id, member.name, member.dicomweb, state, incarnation
    )


def region_endpoint(region: RegionFacts, *, incarnation: str) -> Resource:
    """The gateway's DICOMweb root: every member's images under one address."""
    name = f"DICOMweb of {region.name}, through the gateway"
    return _endpoint(
        region.endpoint_id, name, region.organization_id, region.name, region.dicomweb, "active", incarnation
    )
