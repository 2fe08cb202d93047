"""Checking a registry that runs, from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from crosslight.client.doctor import Target, examine
from crosslight.client.report import show
from registry.commands import opened


async def doctor(folder: Path, console: Console) -> int:
    """Examine the running registry, with a certificate made for this."""
    async with opened(folder) as offline:
        listen, base = offline.config.listen, offline.people_url
        systems = f"{'http' if listen.open else 'https'}://{listen.public_host}:{listen.systems_port}"
        target = Target(
            name=offline.region.name,
            base=base,
            fhir=f"{base}/fhir",
            dicomweb=f"{base}/dicomweb",
            xds_registry=f"{systems}/xds/registry",
        )
        if not listen.open:
            files = await offline.members.issue_system("doctor", folder / "systems")
            target = replace(target, ca=files.ca, cert=files.cert, key=files.key)
    return show(console, [(target.name, await examine(target))])
