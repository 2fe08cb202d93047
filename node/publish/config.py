"""Configuration of publication: to whom, by which road, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import section, setting
from node.membership.config import ForeignRegistryConfig


@dataclass(frozen=True, slots=True)
class PublishConfig:
    """[publish]: how studies become known to the region."""

    kind: str = setting(
        "crosslight",
        "What the registry is: crosslight (joined by invitation) or xds (any IHE XDS.b registry, "
        "[publish.xds]).",
        choices=("crosslight", "xds"),
    )
    road: str = setting(
        "grpc",
        "How the index is fed: grpc (fast) or soap (ITI-8, ITI-42, ITI-57, ITI-62). A foreign "
        "registry always gets soap.",
        choices=("grpc", "soap"),
    )
    first_s: float = setting(
        1.0, "A study is first published so long after its first object.", low=0.0, high=60
    )
    quiet_s: float = setting(
        5.0,
        "A study is published again, and as complete, after so long without a new object.",
        low=0.1,
        high=3600,
    )
    growing_s: float = setting(
        60.0, "A study that keeps growing is published again at least so often.", low=1, high=3600
    )
    retry_first_s: float = setting(
        0.5, "Longest wait before the first retry; doubled each time, and drawn at random.", low=0.01, high=60
    )
    retry_max_s: float = setting(5.0, "Longest wait before any retry of the registry.", low=0.1, high=600)
    study_retry_max_s: float = setting(
        300.0, "Longest wait before a retry of one study that the registry answered for.", low=1, high=86400
    )
    park_after: int = setting(
        8,
        "A study refused for a reason that may pass is parked for an operator after so many tries.",
        low=1,
        high=1000,
    )
    batch: int = setting(100, "Most studies in one message of the gRPC feed.", low=1, high=1000)
    parallel: int = setting(4, "Most SOAP submissions under way at once.", low=1, high=64)
    timeout_s: float = setting(
        30.0,
        "How long an answer of the registry is waited for; then its fate is asked for.",
        low=0.1,
        high=600,
    )
    retrieve_url: bool = setting(
        False, "Whether manifests carry the WADO-RS address of the images beside the retrieveLocationUID."
    )
    xds: ForeignRegistryConfig = section(
        ForeignRegistryConfig, 'The foreign registry; read only with kind = "xds".'
    )

    @property
    def foreign(self) -> ForeignRegistryConfig | None:
        """``[publish.xds]`` where the registry is not ours; None where it is."""
        return self.xds if self.kind == "xds" else None
