"""Checking a node that runs, from outside, and the registry as this node reaches it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from crosslight.client.doctor import Finding, Target, examine
from crosslight.client.report import show
from crosslight.runtime.seams import system_seams
from node.config import NodeConfig, read_config, warnings_of
from node.membership.independent import Alone
from node.membership.joined import BUNDLE, IDENTITY
from node.membership.standing import REGION, Standing, not_agreed, standing


async def doctor(folder: Path, console: Console) -> int:
    """Examine the running node."""
    config = read_config(folder)
    state = standing(folder, config, system_seams().files)
    listen, dimse = config.listen, config.dimse
    scheme = "http" if listen.open else "https"
    base = f"{scheme}://{listen.public_host}:{listen.people_port}"
    target = Target(
        name=f"{state.code} {state.member.name}",
        base=base,
        dicomweb=f"{base}/dicomweb",
        dimse=f"{listen.public_host}:{dimse.port}" if dimse.enabled and (dimse.callers or listen.open) else "",
        aet=(dimse.ae_title or state.code)[:16],
        calling_aet=dimse.callers[0].ae_title if dimse.callers else "DOCTOR",
        ca=None if listen.open else state.ca if isinstance(state, Alone) else folder / REGION / BUNDLE,
    )
    results = [(one.name, await examine(one)) for one in (target, _upstream(folder, config, state))]
    results[0][1].extend(_settings(config, state))
    return show(console, results)


def _settings(config: NodeConfig, state: Standing) -> list[Finding]:
    """What is told by the configuration alone."""
    found = [Finding("settings", "warn", what, todo) for what, todo in warnings_of(config)]
    if why := not_agreed(config, state):
        found.append(Finding("patient numbers", "fail", "Nothing is published.", why))
    return found


def _upstream(folder: Path, config: NodeConfig, state: Standing) -> Target:
    """The registry, as this node reaches it; of one that is not ours only ITI-18 is known."""
    if isinstance(state, Alone):
        cert, key = state.client_files
        registry_url = state.registry.systems
        return Target(name="Registry, as this node sees it", base="", xds_registry=registry_url, ca=state.ca, cert=cert, key=key)
    registry, secured = state.registry, not config.listen.open
    own = folder / REGION / IDENTITY if secured else None
    return Target(
        name=f"Registry of {state.region.name}, as this node sees it",
        base=registry.people,
        fhir=f"{registry.people}/fhir",
        xds_registry=f"{registry.systems}/xds/registry",
        ca=folder / REGION / BUNDLE if secured else None,
        cert=own,
        key=own,
    )
