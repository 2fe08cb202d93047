"""Configuration of publication: to whom, by which road, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import section, setting
from crosslight.runtime.document_codes import ProcedureCodesSection
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import ODS_OID


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
    repository_unique_id: str = setting("", "This node's repositoryUniqueId there: manifests are fetched under it.")
    retrieve_location_uid: str = setting("", "This node's retrieveLocationUID there: images are fetched under it (RAD-69).")
    member_authority: str = setting("", "OID of this trust's own patient numbers.")
    organisation_code: str = setting("", "This trust's organisation code.")
    organisation_name: str = setting("", "This trust's name.")
    organisation_authority: str = setting(
        "", "OID of the authority of that code, for authorInstitution (XON.6); empty: a name alone.", example=ODS_OID
    )
    home_community_id: str = setting("", "OID of the affinity domain's community.")
    ca: str = setting(
        "", "File of the certificates to trust. Whoever shows this node's systems listener a certificate under them is a system "
        "and may retrieve. Empty: plain http and MLLP; only with listen.open."
    )  # fmt: skip
    certificate: str = setting("", "File of this node's certificate chain, with which it calls the registry (mutual TLS).")
    key: str = setting("", "File of its key.")
    server_certificate: str = setting("", "File of the certificate chain of this node's listeners. Empty: the same one.")
    server_key: str = setting("", "File of its key.")
    procedure_codes: tuple[ProcedureCodesSection, ...] = setting(
        [],
        "Each: what a DocumentEntry says by its study's procedure; without any, 18748-4 and N..",
    )

    def check(self, *, secured: bool = False) -> None:
        """Whether everything is there that a foreign registry needs.

        Args:
            secured: The node's listeners use TLS, and need a certificate too.

        Raises:
            ConfigError: naming the key.
        """
        for name in ("patient_authority", "repository_unique_id", "retrieve_location_uid", "member_authority"):
            if not is_uid(getattr(self, name)):
                raise ConfigError(f"publish.xds.{name} must be an OID.", where=f"publish.xds.{name}")
        for name in ("registry_url", "mllp", "organisation_code", *(("certificate",) if secured else ())):
            if not getattr(self, name):
                raise ConfigError(f"publish.xds.{name} is missing.", where=f"publish.xds.{name}")
        if self.organisation_authority and not is_uid(self.organisation_authority):
            raise ConfigError("publish.xds.organisation_authority must be an OID.", where="publish.xds.organisation_authority")
        if self.home_community_id and not is_uid(self.home_community_id):
            raise ConfigError("publish.xds.home_community_id must be an OID.", where="publish.xds.home_community_id")
        if bool(self.certificate) != bool(self.key) or (self.certificate and not self.ca):
            raise ConfigError("publish.xds needs ca, certificate and key together.", where="publish.xds.certificate")
        if bool(self.server_certificate) != bool(self.server_key):
            raise ConfigError("publish.xds needs server_certificate and server_key together.", where="publish.xds.server_key")


@dataclass(frozen=True, slots=True)
class PublishConfig:
    """[publish]: how studies become known to the region."""

    kind: str = setting(
        "crosslight", "What the registry is: crosslight (joined by invitation) or xds (any IHE XDS.b registry, [publish.xds]).",
        choices=("crosslight", "xds"),
    )  # fmt: skip
    road: str = setting(
        "grpc", "How the index is fed: grpc (fast) or soap (ITI-8, ITI-42, ITI-57, ITI-62). A foreign registry always gets soap.",
        choices=("grpc", "soap"),
    )  # fmt: skip
    first_s: float = setting(1.0, "A study is first published so long after its first object.", low=0.0, high=60)
    quiet_s: float = setting(
        5.0, "A study is published again, and as complete, after so long without a new object.", low=0.1, high=3600
    )
    growing_s: float = setting(60.0, "A study that keeps growing is published again at least so often.", low=1, high=3600)
    retry_first_s: float = setting(
        0.5, "Longest wait before the first retry; doubled each time, and drawn at random.", low=0.01, high=60
    )
    retry_max_s: float = setting(5.0, "Longest wait before any retry of the registry.", low=0.1, high=600)
    study_retry_max_s: float = setting(
        300.0, "Longest wait before a retry of one study that the registry answered for.", low=1, high=86400
    )
    park_after: int = setting(
        8, "A study refused for a reason that may pass is parked for an operator after so many tries.", low=1, high=1000
    )
    batch: int = setting(100, "Most studies in one message of the gRPC feed.", low=1, high=1000)
    parallel: int = setting(4, "Most SOAP submissions under way at once.", low=1, high=64)
    timeout_s: float = setting(
        30.0, "How long an answer of the registry is waited for; then its fate is asked for.", low=0.1, high=600
    )
    retrieve_url: bool = setting(
        False, "Whether manifests carry the WADO-RS address of the images beside the retrieveLocationUID."
    )
    xds: ForeignRegistryConfig = section(ForeignRegistryConfig, 'The foreign registry; read only with kind = "xds".')
