"""The signed directory: what every member must know of the region, as one versioned, expiring JWS (ES256)."""

from __future__ import annotations

import orjson

from crosslight.runtime.signing import compact_jws
from crosslight.standards.directory import DirectoryDocument, DirectoryMember, DirectorySystem
from crosslight.standards.region import Region
from registry.keys import TokenKeys
from registry.members.credential_store import CredentialFacts
from registry.members.model import Member


def directory_document(
    members: tuple[Member, ...],
    credentials: CredentialFacts,
    region: Region,
    keys: TokenKeys,
    *,
    version: int,
    issued: int,
    expires: int,
) -> DirectoryDocument:
    """The directory as it is now; ``members`` are those that count for coverage."""
    return DirectoryDocument(
        version=version,
        community=region.home_community_id,
        issued=issued,
        expires=expires,
        members=tuple(
            DirectoryMember(
                code=m.code,
                name=m.name,
                repository_unique_id=m.repository_unique_id,
                retrieve_location_uid=m.retrieve_location_uid,
                authority=m.authority,
                authorities=m.authorities,
                asked=m.asked,
                status=m.status,
                endpoints=m.endpoints,
            )
            for m in members
        ),
        jwks=keys.jwks(),
        region=region,
        systems=tuple(
            DirectorySystem(name=system.name, grants=system.grants) for system in credentials.systems.values()
        ),
        withdrawn_tokens=credentials.withdrawn_tokens,
        withdrawn_certificates=credentials.withdrawn_certificates,
    )


def sign_directory(document: DirectoryDocument, keys: TokenKeys) -> str:
    """As a compact JWS by the region's token key."""
    header = {"kid": keys.signing.kid, "typ": "directory+jwt"}
    return compact_jws(header, orjson.dumps(document.claims()), keys.signing)
