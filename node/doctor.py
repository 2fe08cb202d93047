"""Checking a node that runs, from outside, and the registry as this node reaches it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from crosslight.client.doctor import Finding, Target, examine
from crosslight.client.report import show
from crosslight.runtime.seams import system_seams
from crosslight.standards.problem import CrosslightError
from node.config import NodeConfig, read_config, warnings_of
from node.membership.link_record import reach_text, read_seen
from node.membership.membership import Membership, membership_of
from node.parts import make_bucket


async def doctor(folder: Path, console: Console) -> int:
    """Examine the running node."""
    config = read_config(folder)
    files, foreign, open_mode = system_seams().files, config.publish.foreign, config.listen.open
    membership = membership_of(folder, files, foreign, config.archive, config.region, open_mode=open_mode)
    listen, dimse = config.listen, config.dimse
    scheme = "http" if listen.open else "https"
    base = f"{scheme}://{listen.public_host}:{listen.people_port}"
    target = Target(
        name=f"{membership.code} {membership.member.name}",
        base=base,
        dicomweb=f"{base}/dicomweb",
        dimse=(
            f"{listen.public_host}:{dimse.port}" if dimse.enabled and (dimse.callers or listen.open) else ""
        ),
        aet=(dimse.ae_title or membership.code)[:16],
        calling_aet=dimse.callers[0].ae_title if dimse.callers else "DOCTOR",
        ca=membership.authorities_file,
    )
    results = [(checked.name, await examine(checked)) for checked in (target, membership.registry_target())]
    results[0][1].extend(_settings(config, membership))
    results[0][1].extend(await _object_store(folder, config))
    results[0][1].extend(
        Finding("images", "ok", f"The region fetches them {road}.") for road in _road(folder)
    )
    return show(console, results)


def _settings(config: NodeConfig, membership: Membership) -> list[Finding]:
    """What is told by the configuration alone."""
    findings = [Finding("settings", "warn", what, todo) for what, todo in warnings_of(config)]
    if why := membership.not_agreed(config.archive.rules(membership.member, membership.region).authority):
        findings.append(Finding("patient numbers", "fail", "Nothing is published.", why))
    return findings


async def _object_store(folder: Path, config: NodeConfig) -> list[Finding]:
    """Whether the object store of the archive answers, where there is one."""
    store = config.archive.object_store
    try:
        bucket = make_bucket(store, folder)
        if bucket is None:
            return []
        await bucket.look()
    except CrosslightError as error:
        return [Finding("object store", "fail", f"{error.what} {error.why}".strip(), error.todo)]
    return [Finding("object store", "ok", f"{store.url} answers.")]


def _road(folder: Path) -> list[str]:
    """How the region gets at images, where a running node was told."""
    seen = read_seen(folder)
    road = reach_text(seen) if seen is not None and seen.connected else ""
    return [road] if road else []
