"""A registry's configuration file, ``registry.toml``: one section for each room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.audit.keeping import AuditConfig
from crosslight.runtime.config import LOOPBACK, load, section, setting
from crosslight.runtime.document_codes import ProcedureCodesConfig, procedure_codes
from crosslight.runtime.listener import ConnectionsConfig
from crosslight.runtime.log import LogConfig
from crosslight.runtime.mllp import MllpLimits
from crosslight.runtime.refusals import RefusalsConfig
from crosslight.standards.ids import NHS_NUMBER_OID, NHS_NUMBER_SYSTEM, Oid, is_uid
from crosslight.standards.membership import RegistryAddresses
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import ODS_OID, Region
from registry.access.config import AccessConfig
from registry.ask.config import AskConfig
from registry.dicomweb.config import DicomwebConfig
from registry.enrich.config import EnrichConfig
from registry.fhir.config import FhirConfig
from registry.gateway.config import GatewayConfig
from registry.identity.config import IdentityConfig
from registry.index.config import ChangesConfig
from registry.members.config import MembersConfig
from registry.portal.config import PortalConfig

FILE = "registry.toml"


@dataclass(frozen=True, slots=True)
class RegionConfig:
    """[region]: the affinity domain and its names. They are for good: identifiers are made from them."""

    name: str = setting(help="The region's name, as people say it.")
    home_community_id: str = setting(help="OID of the region (homeCommunityId), without urn:oid:.")
    authority: str = setting(
        help="OID under which the region gives ids to patients who have no national number."
    )
    national_authority: str = setting(
        NHS_NUMBER_OID, "OID of the national number; empty in a region without one."
    )
    national_system: str = setting(NHS_NUMBER_SYSTEM, "FHIR system URI of the national number.")
    national_label: str = setting("NHS No.", "As a patient banner writes it.")
    other_nationals: tuple[str, ...] = setting([], "OIDs of further national numbers that stand beside it.")
    allow_test_numbers: bool = setting(
        False, "Accept NHS numbers of the test range 9xx. Never with real patients."
    )
    zone: str = setting(
        "Europe/London", "IANA time zone: local days in searches, and studies without a zone."
    )
    organisation_system: str = setting(
        "https://fhir.nhs.uk/Id/ods-organization-code", "FHIR system of organisation codes."
    )
    organisation_authority: str = setting(
        ODS_OID,
        "OID of the authority of organisation codes, as authorInstitution names it (XON.6); empty where they"
        " have none.",
    )
    repository_unique_id: str = setting(
        "",
        "OID of the registry's own document repository, under which it holds nothing yet; empty:"
        " home_community_id + .3.",
    )
    procedure_codes: tuple[ProcedureCodesConfig, ...] = setting(
        [],
        "Each: what a DocumentEntry says by its study's procedure. Nodes are told; without any, 18748-4"
        " and N.",
    )

    @property
    def own_repository(self) -> Oid:
        """The registry's own repositoryUniqueId (D11)."""
        return Oid(self.repository_unique_id or f"{self.home_community_id}.3")

    def region(self) -> Region:
        """As a value.

        Raises:
            ConfigError: for what should be an OID and is none.
        """
        for key in ("home_community_id", "authority", "national_authority", "organisation_authority"):
            text = getattr(self, key)
            if not is_uid(text) and (text or key not in ("national_authority", "organisation_authority")):
                raise ConfigError(f"region.{key} is no OID.", where=f"region.{key}")
        return Region(
            name=self.name,
            home_community_id=Oid(self.home_community_id),
            authority=Oid(self.authority),
            national_authority=Oid(self.national_authority),
            national_system=self.national_system,
            national_label=self.national_label,
            allow_test_numbers=self.allow_test_numbers,
            zone=self.zone,
            organisation_system=self.organisation_system,
            organisation_authority=Oid(self.organisation_authority),
            procedure_codes=procedure_codes(self.procedure_codes, "region.procedure_codes"),
            other_nationals=tuple(Oid(o) for o in self.other_nationals),
        )


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """[listen]: where this registry can be reached."""

    host: str = setting("0.0.0.0", "Address to bind; 127.0.0.1 for this machine only.")  # noqa: S104 - a server's default
    public_host: str = setting("localhost", "Name or address by which nodes and clients reach this registry.")
    people_port: int = setting(
        8600, "HTTPS for people and apps: the page, FHIR, DICOMweb, joining.", low=1, high=65535
    )
    grpc_port: int = setting(
        8601, "gRPC for nodes: the link and the index feed (mutual TLS).", low=1, high=65535
    )
    mllp_port: int = setting(8602, "HL7 v2 patient feeds, ITI-8 (mutual TLS).", low=1, high=65535)
    systems_port: int = setting(8603, "HTTPS with mutual TLS: XDS, RAD-69.", low=1, high=65535)
    people_certificate: str = setting(
        "",
        "File of the certificate chain of the people's listener, of any authority that browsers trust; taken"
        " up anew when it changes. Empty: one of the region's own authority.",
    )
    people_key: str = setting("", "File of its key.")
    open: bool = setting(
        False,
        "No authentication and no TLS, for trying ordinary tools. Only with host = 127.0.0.1; never with real"
        " patients.",
    )


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """[database]: where the index is."""

    url: str = setting("sqlite:registry.db", "sqlite:FILE (in this folder), or postgresql://user@host/name.")
    audit_url: str = setting(
        "sqlite:audit.db", "Where the audit is; with PostgreSQL name its database here too."
    )
    audit_owner_url: str = setting(
        "",
        "The audit's database as its owner, another role than the service's: for the commands migrate and"
        " audit expire. Empty: the service owns its audit, and could change it.",
    )


@dataclass(frozen=True, slots=True)
class XdsConfig:
    """[xds]: the XDS registry face."""

    check_codes: bool = setting(
        True, "Refuse codes and mime types outside the region's value sets at ITI-42."
    )
    warn: bool = setting(
        True, "Add a Warning to ITI-18 answers that are not complete; the coverage slots are always there."
    )
    quiet_for: tuple[str, ...] = setting(
        [],
        "Systems (as the audit calls them, e.g. system:oldpacs) that get no Warning, because they take it for"
        " a failure.",
    )
    sender_faults_400: bool = setting(
        False,
        "Answer a SOAP fault of the sender's making with HTTP 400 (SOAP 1.2 part 2, Table 20) instead of 500,"
        " the only one whose fault many clients read.",
    )


@dataclass(frozen=True, slots=True)
class Hl7Config:
    """[hl7]: connections of the patient feeds (ITI-8)."""

    connections: int = setting(64, "Most connections at a time.", low=1, high=10_000)
    connections_per_sender: int = setting(
        8, "Of these, most of one member or system; of those that lie idle the oldest gives way.", low=1
    )

    def limits(self) -> MllpLimits:
        """As the listener takes them."""
        return MllpLimits(
            max_connections=self.connections,
            max_connections_per_peer=min(self.connections, self.connections_per_sender),
        )


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """The whole file."""

    region: RegionConfig = section(RegionConfig, "The region and its names.")
    listen: ListenConfig = section(ListenConfig, "Where this registry can be reached.")
    database: DatabaseConfig = section(DatabaseConfig, "Where the index and the audit are.")
    audit: AuditConfig = section(AuditConfig, "How long acts are kept.")
    identity: IdentityConfig = section(IdentityConfig, "Who says who is who.")
    members: MembersConfig = section(MembersConfig, "Invitations, certificates, heartbeats.")
    access: AccessConfig = section(AccessConfig, "Who gets in, and for how long.")
    ask: AskConfig = section(AskConfig, "What may be asked, and how often.")
    portal: PortalConfig = section(PortalConfig, "The clinician's page.")
    fhir: FhirConfig = section(FhirConfig, "The FHIR face.")
    dicomweb: DicomwebConfig = section(DicomwebConfig, "The region-wide DICOMweb root.")
    gateway: GatewayConfig = section(GatewayConfig, "Retrieves from the members that hold images.")
    xds: XdsConfig = section(XdsConfig, "The XDS registry face.")
    hl7: Hl7Config = section(Hl7Config, "Patient feeds by HL7 v2.")
    enrich: EnrichConfig = section(EnrichConfig, "Completing what was registered by its entry only.")
    changes: ChangesConfig = section(ChangesConfig, "The feed of what changed.")
    refusals: RefusalsConfig = section(RefusalsConfig, "Callers whose credentials do not hold.")
    connections: ConnectionsConfig = section(ConnectionsConfig, "Connections of the HTTP listeners.")
    log: LogConfig = section(LogConfig, "Logs.")


def read_config(folder: Path) -> RegistryConfig:
    """Read ``folder/registry.toml``.

    Raises:
        ConfigError: for what cannot be read, and for an open registry that is not on loopback.
    """
    config = load(RegistryConfig, folder / FILE)
    config.region.region()
    if config.listen.open and config.listen.host not in LOOPBACK:
        raise ConfigError(
            "An open registry listens on loopback only.", todo="Set host = 127.0.0.1.", where="listen.host"
        )
    return config


def people_url(config: RegistryConfig) -> str:
    """Base of the people listener, as others reach it."""
    listen = config.listen
    return f"{'http' if listen.open else 'https'}://{listen.public_host}:{listen.people_port}"


def addresses(config: RegistryConfig) -> RegistryAddresses:
    """What members are told."""
    listen = config.listen
    scheme = "http" if listen.open else "https"
    return RegistryAddresses(
        people=people_url(config),
        systems=f"{scheme}://{listen.public_host}:{listen.systems_port}",
        grpc=f"{listen.public_host}:{listen.grpc_port}",
        mllp=f"{listen.public_host}:{listen.mllp_port}",
    )
