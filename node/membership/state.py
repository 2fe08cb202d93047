"""What a node knows of its region, kept on disk so that it starts and serves without the registry.

``identity.pem`` (0600) holds key and certificate in one, so that a renewal replaces both at once;
``bundle.pem`` whom to trust; ``member.json`` (0600, written last: it is what says that joining succeeded) the
rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from crosslight.runtime.files import PRIVATE_FOLDER, Files, private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.tls import Credentials
from crosslight.standards.directory import DirectoryDocument, DirectoryMember
from crosslight.standards.ids import Oid
from crosslight.standards.membership import (
    JoinReply,
    MembershipFacts,
    RegistryAddresses,
    region_from_plain,
    region_plain,
)
from crosslight.standards.problem import ConfigError, CrosslightError, kind_as_sentence
from crosslight.standards.region import Region
from crosslight.standards.xds.model.publication import Source
from node.membership.directory import check_fresh, read_directory

log = get_logger("region")

REGION = "region"  # the folder that joining makes, in the node's
IDENTITY, BUNDLE, FACTS = "identity.pem", "bundle.pem", "member.json"


class RegionState:
    """What is known of the region, and who this node is there.

    Args:
        folder: The node's ``region`` folder, made by joining.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder, self._files = folder, files
        self._listeners: list[Callable[[], object]] = []
        self._credentials: Credentials | None = None
        self._directory_jws = ""
        self.directory: DirectoryDocument | None = None
        data = self._read()
        try:
            self.member = MembershipFacts.from_plain(data["member"])
            self.region: Region = region_from_plain(data["region"])
            self.registry = RegistryAddresses.from_plain(data["registry"])
            self.jwks: dict[str, Any] = dict(data["jwks"])
            self._restore_directory(str(data.get("directory", "")))
        except (KeyError, TypeError, CrosslightError) as error:
            raise ConfigError(
                f"{folder / FACTS} cannot be used.", why=kind_as_sentence(error), todo="Join again."
            ) from None

    def _read(self) -> dict[str, Any]:
        path = self.folder / FACTS
        try:
            data = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            raise ConfigError(
                "This node has not joined a region.", todo="Run join with an invitation."
            ) from None
        except (orjson.JSONDecodeError, OSError) as error:
            raise ConfigError(
                f"{path} cannot be read.", why=kind_as_sentence(error), todo="Join again."
            ) from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path} cannot be read.", todo="Join again.")
        return data

    def _restore_directory(self, token: str) -> None:
        if token:
            self.directory = read_directory(token, self.jwks, self.region.home_community_id)
            self._directory_jws = token

    # --- who we are -----------------------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """This node's organisation code."""
        return self.member.code

    @property
    def source(self) -> Source:
        """This node as its DocumentEntries name it."""
        member = self.member
        return Source(
            code=member.code,
            name=member.name,
            repository_unique_id=Oid(member.repository_unique_id),
            retrieve_location_uid=Oid(member.retrieve_location_uid),
            authority=Oid(member.authority),
            organisation_authority=self.region.organisation_authority,
            procedure_codes=self.region.procedure_codes,
        )

    @property
    def credentials(self) -> Credentials:
        """The node's certificate, key and bundle; one object for all listeners and sessions."""
        if self._credentials is None:
            identity = self.folder / IDENTITY
            self._credentials = Credentials(identity, identity, self.folder / BUNDLE)
        return self._credentials

    # --- what the region says -------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` after the directory, and with it keys and suspensions, changed."""
        self._listeners.append(callback)

    @property
    def members(self) -> tuple[DirectoryMember, ...]:
        """The members as last heard."""
        return self.directory.members if self.directory else ()

    def suspended(self, code: str) -> bool:
        """Whether the member with this code is suspended, as far as is known here."""
        return self.directory is not None and code in self.directory.suspended

    @property
    def withdrawn_tokens(self) -> frozenset[str]:
        """The ids of tokens that were ended before their time, as far as is known here."""
        return self.directory.withdrawn_tokens if self.directory is not None else frozenset()

    def accept_directory(self, token: str, now: datetime) -> DirectoryDocument:
        """Verify and keep a directory that the registry sent.

        Raises:
            Unauthenticated: wrong signature or region, older than the known one, or expired.
            Malformed: no directory.
        """
        if token == self._directory_jws and self.directory is not None:
            return self.directory
        document = read_directory(token, self.jwks, self.region.home_community_id)
        check_fresh(document, self.directory, now)
        self.directory, self._directory_jws = document, token
        self.jwks, self.region = document.jwks, document.region
        own = next((member for member in document.members if member.code == self.code), None)
        if own is not None:
            self.member = replace(self.member, authorities=own.authorities, asked=own.asked)
        self.save()
        log.info("directory", version=document.version, count=len(document.members))
        for listener in self._listeners:
            listener()
        return document

    # --- on disk --------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write ``member.json``: who the node is, the region, and its directory."""
        data = {
            "member": self.member.plain(),
            "region": region_plain(self.region),
            "registry": asdict(self.registry),
            "jwks": self.jwks,
            "directory": self._directory_jws,
        }
        write_facts(self.folder, data, self._files)

    def replace_certificate(self, key_pem: bytes, chain_pem: bytes, bundle_pem: bytes) -> None:
        """Use a renewed certificate from now on, without a restart."""
        credentials = self.credentials
        if bundle_pem.strip():
            self._files.write_atomic(self.folder / BUNDLE, bundle_pem)
        self._files.write_atomic(self.folder / IDENTITY, key_pem + chain_pem)
        credentials.reload()


def write_facts(folder: Path, data: dict[str, Any], files: Files) -> None:
    """Replace ``member.json``, which holds the member's secret."""
    files.write_atomic(folder / FACTS, orjson.dumps(data, option=orjson.OPT_INDENT_2))


def write_membership(folder: Path, reply: JoinReply, key_pem: bytes, files: Files) -> None:
    """Keep what joining gave; until the last file is there the node has not joined."""
    private_folder(folder)
    os.chmod(folder, PRIVATE_FOLDER)
    files.write_atomic(folder / BUNDLE, reply.bundle_pem.encode())
    files.write_atomic(folder / IDENTITY, key_pem + reply.chain_pem.encode())
    data = {
        "member": reply.member.plain(),
        "region": region_plain(reply.region),
        "registry": asdict(reply.registry),
        "jwks": reply.jwks,
        "directory": "",
    }
    write_facts(folder, data, files)
