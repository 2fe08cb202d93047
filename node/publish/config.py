"""Configuration of publication: to whom, by which road, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import section, setting


@dataclass(frozen=True, slots=True)
class ForeignRegistryConfig:
    """[publish.xds]: a registry that is not ours (``kind = "xds"``): no joining, SOAP and MLLP only (D18)."""

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
    home_community_id: str = setting("", "OID of the affinity domain's community.")
    ca: str = setting("", "File of the certificates to trust; empty = plain http and MLLP without TLS.")
    certificate: str = setting("", "File of this node's certificate chain for mutual TLS.")
    key: str = setting("", "File of its key.")


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
