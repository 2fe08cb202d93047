"""How a node stands: a member of a region, or alone before a registry that is not ours (D18)."""

from __future__ import annotations

from pathlib import Path

from crosslight.runtime.files import Files
from crosslight.standards.dicom.record.rules import RecordRules
from node.config import NodeConfig
from node.membership.independent import Alone
from node.membership.joined import FACTS, RegionState

REGION = "region"  # the folder that joining makes

Standing = RegionState | Alone


def standing(folder: Path, config: NodeConfig, files: Files) -> Standing:
    """Who the node in ``folder`` is.

    Raises:
        ConfigError: if it has not joined, or ``[publish.xds]`` lacks something.
    """
    if config.publish.kind == "xds":
        return Alone(folder, config.publish.xds, config.archive, open_mode=config.listen.open)
    return RegionState(folder / REGION, files)


def has_standing(folder: Path, config: NodeConfig) -> bool:
    """Whether the node has joined, or need not."""
    return config.publish.kind == "xds" or (folder / REGION / FACTS).exists()


def record_rules(config: NodeConfig, state: Standing) -> RecordRules:
    """How this node makes records of studies: its configuration, and what its region says."""
    region, member = state.region, state.member
    return config.archive.rules(
        authority=member.authority,
        authorities=tuple(one for one in member.authorities if one not in region.nationals),
        asked=member.asked,
        namespace=member.code,
        nationals=tuple(region.nationals),
        site_zone=region.zone,
        allow_test_numbers=region.allow_test_numbers,
    )


def not_agreed(config: NodeConfig, state: Standing) -> str:
    """Why nothing may be published yet: the authority of this trust's patient numbers is not agreed with its region; '' = it is.

    Published under it, every study would be refused; under another one, every patient would change later.
    """
    if isinstance(state, Alone):
        return ""
    main, member = record_rules(config, state).authority, state.member
    if main in (member.authority, *member.authorities):
        return ""
    if main in member.asked:
        return (
            f"The patient authority {main} waits for the region's operator: "
            f"crosslight-registry authority {member.code} {main} --agree"
        )
    return (
        f"The patient authority {main} (archive.patient_authority) is not agreed with the region. Its operator does so with: "
        f"crosslight-registry authority {member.code} {main} --agree"
    )
