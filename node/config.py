"""A node's configuration file, ``node.toml``: one section for each room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.audit.keeping import AuditConfig
from crosslight.runtime.config import LOOPBACK, load, section, setting
from crosslight.runtime.listener import ConnectionsConfig
from crosslight.runtime.log import LogConfig
from crosslight.runtime.refusals import RefusalsConfig
from crosslight.standards.problem import ConfigError
from node.archive.config import ArchiveConfig
from node.continuity.config import ContinuityConfig
from node.dimse.config import DimseConfig
from node.membership.config import RegionConfig
from node.publish.config import PublishConfig
from node.serve.config import ServeConfig
from node.sources.config import SourcesConfig

FILE = "node.toml"


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """[listen]: where this node can be reached."""

    host: str = setting("0.0.0.0", "Address to bind; 127.0.0.1 for this machine only.")  # noqa: S104 - a server's default
    public_host: str = setting(
        "localhost", "Name or address by which the registry and clients reach this node."
    )
    people_port: int = setting(
        8443, "HTTPS for people and apps (DICOMweb with a bearer token).", low=1, high=65535
    )
    systems_port: int = setting(
        8444, "HTTPS with mutual TLS: the gateway's retrieves, RAD-69, ITI-43.", low=1, high=65535
    )
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
class NodeConfig:
    """The whole file."""

    listen: ListenConfig = section(ListenConfig, "Where this node can be reached.")
    dimse: DimseConfig = section(DimseConfig, "The DICOM listener for modalities and the PACS.")
    archive: ArchiveConfig = section(ArchiveConfig, "How objects are kept and read.")
    sources: SourcesConfig = section(SourcesConfig, "Archives of others beside which this node stands.")
    serve: ServeConfig = section(ServeConfig, "Bounds of DICOMweb, RAD-69 and ITI-43.")
    publish: PublishConfig = section(PublishConfig, "How studies become known to the region.")
    region: RegionConfig = section(RegionConfig, "The link to the registry.")
    audit: AuditConfig = section(AuditConfig, "How long acts are kept.")
    continuity: ContinuityConfig = section(
        ContinuityConfig, "The region's lists of patients with an order here, for when the region is away."
    )
    refusals: RefusalsConfig = section(RefusalsConfig, "Callers whose credentials do not hold.")
    connections: ConnectionsConfig = section(ConnectionsConfig, "Connections of the HTTP listeners.")
    log: LogConfig = section(LogConfig, "Logs.")


def read_config(folder: Path) -> NodeConfig:
    """Read ``folder/node.toml``.

    Raises:
        ConfigError: for what cannot be read, and for an open node that is not on loopback.
    """
    config = load(NodeConfig, folder / FILE)
    if config.listen.open and config.listen.host not in LOOPBACK:
        raise ConfigError(
            "An open node listens on loopback only.", todo="Set host = 127.0.0.1.", where="listen.host"
        )
    check_notifies(config)
    return config


def check_notifies(config: NodeConfig) -> None:
    """Whoever may tell of a source names one that can be asked for a study.

    Raises:
        ConfigError: naming the caller.
    """
    known = {source.name for source in config.sources.all}
    for caller in config.dimse.callers:
        if unknown := set(caller.notifies) - known:
            raise ConfigError(
                f"{caller.ae_title} may tell of {sorted(unknown)[0]!r}, which is no source here.",
                todo="Name one of [[sources.dimse]] or [[sources.dicomweb]].",
                where="dimse.callers.notifies",
            )


def warnings_of(config: NodeConfig) -> list[tuple[str, str]]:
    """What the configuration allows and nobody means: (what is so, what to do)."""
    warnings = []
    if config.dimse.enabled and not config.dimse.callers and not config.listen.open:
        warnings.append(
            ("No system may send by DICOM.", "Name each in [[dimse.callers]], or set dimse.enabled = false.")
        )
    nobody_calls = config.listen.open or config.region.reach == "tunnel"
    if config.listen.public_host in LOOPBACK and not nobody_calls:
        warnings.append(
            (
                f"Others cannot reach this node: listen.public_host is {config.listen.public_host}.",
                "Set it to a name in the node's certificate.",
            )
        )
    return warnings
