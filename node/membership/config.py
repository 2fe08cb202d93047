"""Configuration of a node's membership: the link to its region, or a registry that is not ours."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.document_codes import ProcedureCodesConfig
from crosslight.standards.access import BEFORE_GRANTS, Grants
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import ODS_OID

#: What may be granted to a system at a node: it registers nothing and feeds nobody there.
NODE_CAPABILITIES = ("find", "open", "export", "store")


@dataclass(frozen=True, slots=True)
class RegionConfig:
    """[region]: the link to the registry. Who the node is and where the registry is, it learns by joining."""

    heartbeat_s: float = setting(
        2.0, "How often the node tells the registry that it lives.", low=0.05, high=60
    )
    missed_acks: int = setting(
        4, "After so many heartbeats without an answer the link is made anew.", low=2, high=100
    )
    reconnect_min_s: float = setting(
        0.2, "First pause before a lost link is tried again; it doubles.", low=0.01, high=60
    )
    reconnect_max_s: float = setting(
        3.0, "Longest pause before a lost link is tried again.", low=0.05, high=300
    )
    connect_timeout_s: float = setting(
        5.0, "How long one attempt to reach the registry may take.", low=0.2, high=60
    )
    max_message_bytes: int = setting(
        8 << 20, "Largest gRPC message from the registry.", low=65536, high=256 << 20
    )
    max_skew_warn_s: float = setting(
        2.0, "Clock difference to the registry from which on a warning is logged.", low=0.1
    )
    reach: str = setting(
        "auto",
        "How the region reaches this node for images: direct (its listener for systems is let in by the"
        " firewall), tunnel (through the link, which the node makes: nothing is let in), auto (direct where"
        " that works).",
        choices=("auto", "direct", "tunnel"),
    )
    proxy: str = setting(
        "environment",
        "HTTP proxy on the way to the registry, for joining, the link, doctor, and publication by SOAP and"
        " ITI-8: http://host:port"
        " (user:password@ before the host where it asks), environment (https_proxy and no_proxy), or empty"
        " for none. It has to pass TLS on unopened.",
    )
    directory_grace_hours: float = setting(
        24.0,
        "How long after the end of the region's directory, when the registry is away, those who show only a"
        " certificate are still let in. People's tokens are taken as before.",
        low=0,
        high=720,
    )


@dataclass(frozen=True, slots=True)
class NamedSystemConfig:
    """One ``[[publish.xds.systems]]``: a system that calls this node, and what it may."""

    name: str = setting(
        "",
        "Of its certificate: the whole subject as CN=…,O=…, or its common name, or an alternative name where"
        " it has none.",
        example="CN=viewer,O=Trust",
    )
    may: tuple[str, ...] = setting(
        [],
        f"Of {', '.join(NODE_CAPABILITIES)}: search one patient, fetch images and manifests, ask for"
        " everybody, store here.",
        example=["find", "open"],
    )


@dataclass(frozen=True, slots=True)
class ForeignRegistryConfig:
    """[publish.xds]: a registry that is not ours (``kind = "xds"``): no joining, SOAP and MLLP only (D18).

    Paths are absolute, or seen from the node's folder.
    """

    registry_url: str = setting("", "Address of its Registry actor: ITI-42, ITI-57, ITI-62 and ITI-18.")
    mllp: str = setting("", "host:port of its patient identity feed (ITI-8).")
    patient_authority: str = setting(
        "", "OID under which it knows patients. A patient without an id there waits, and is shown as waiting."
    )
    repository_unique_id: str = setting(
        "", "This node's repositoryUniqueId there: manifests are fetched under it."
    )
    retrieve_location_uid: str = setting(
        "", "This node's retrieveLocationUID there: images are fetched under it (RAD-69)."
    )
    member_authority: str = setting("", "OID of this trust's own patient numbers.")
    organisation_code: str = setting("", "This trust's organisation code.")
    organisation_name: str = setting("", "This trust's name.")
    organisation_authority: str = setting(
        "",
        "OID of the authority of that code, for authorInstitution (XON.6); empty: a name alone.",
        example=ODS_OID,
    )
    home_community_id: str = setting("", "OID of the affinity domain's community.")
    ca: str = setting(
        "",
        "File of the certificates to trust. Whoever shows this node's systems listener a certificate "
        "under them is a system and may retrieve. Empty: plain http and MLLP; only with listen.open.",
    )
    certificate: str = setting(
        "", "File of this node's certificate chain, with which it calls the registry (mutual TLS)."
    )
    key: str = setting("", "File of its key.")
    server_certificate: str = setting(
        "", "File of the certificate chain of this node's listeners. Empty: the same one."
    )
    server_key: str = setting("", "File of its key.")
    procedure_codes: tuple[ProcedureCodesConfig, ...] = setting(
        [],
        "Each: what a DocumentEntry says by its study's procedure; without any, 18748-4 and N..",
    )

    systems: tuple[NamedSystemConfig, ...] = setting(
        [],
        "Each: a system that may call this node, and what it may. With one or more, who is not named may"
        " nothing; without any, every certificate under ca may search, fetch and store.",
    )

    def grants(self, subject: str, name: str) -> Grants:
        """What the system with this certificate may here (ADR 0036)."""
        if not self.systems:
            return BEFORE_GRANTS
        may = {capability for one in self.systems if one.name in (subject, name) for capability in one.may}
        return Grants(capabilities=frozenset(may), store_at=self.organisation_code if "store" in may else "")

    def check(self, *, secured: bool = False) -> None:
        """Whether everything is there that a foreign registry needs.

        Args:
            secured: The node's listeners use TLS, and need a certificate too.

        Raises:
            ConfigError: naming the key.
        """
        oids = ("patient_authority", "repository_unique_id", "retrieve_location_uid", "member_authority")
        for name in oids:
            if not is_uid(getattr(self, name)):
                raise ConfigError(f"publish.xds.{name} must be an OID.", where=f"publish.xds.{name}")
        for name in ("registry_url", "mllp", "organisation_code", *(("certificate",) if secured else ())):
            if not getattr(self, name):
                raise ConfigError(f"publish.xds.{name} is missing.", where=f"publish.xds.{name}")
        for one in self.systems:
            if not one.name or set(one.may) - set(NODE_CAPABILITIES):
                raise ConfigError(
                    f"publish.xds.systems: each has a name, and may some of {', '.join(NODE_CAPABILITIES)}.",
                    where="publish.xds.systems",
                )
        if self.organisation_authority and not is_uid(self.organisation_authority):
            raise ConfigError(
                "publish.xds.organisation_authority must be an OID.",
                where="publish.xds.organisation_authority",
            )
        if self.home_community_id and not is_uid(self.home_community_id):
            raise ConfigError(
                "publish.xds.home_community_id must be an OID.", where="publish.xds.home_community_id"
            )
        if bool(self.certificate) != bool(self.key) or (self.certificate and not self.ca):
            raise ConfigError(
                "publish.xds needs ca, certificate and key together.", where="publish.xds.certificate"
            )
        if bool(self.server_certificate) != bool(self.server_key):
            raise ConfigError(
                "publish.xds needs server_certificate and server_key together.",
                where="publish.xds.server_key",
            )
