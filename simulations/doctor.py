"""``crosslight doctor``: checks every service that an endpoints file names, from outside."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from crosslight.client.doctor import Finding, Target, examine
from crosslight.client.report import show


def targets(endpoints: dict[str, Any]) -> list[Target]:
    """What to examine: the registry, then each node."""
    tls = {k: Path(v) if v else None for k, v in endpoints["tls"].items()}
    registry = endpoints["registry"]
    all_targets = [
        Target(
            name="registry",
            base=registry["base"],
            fhir=registry["fhir"],
            dicomweb=registry["dicomweb"],
            xds_registry=registry["xds_registry"],
            token=endpoints["tokens"]["integrator"] or "",
        )
    ]
    for node in endpoints["nodes"]:
        all_targets.append(
            Target(
                name=f"{node['code']} {node['name']}",
                base=node["base"],
                dicomweb=node["dicomweb"],
                dimse=node["dimse"],
                aet=node["aet"],
                calling_aet="DEMO",
                token=node["tokens"]["integrator"] or "",
            )
        )
    return [replace(t, ca=tls["ca"], cert=tls["client_cert"], key=tls["client_key"]) for t in all_targets]


async def examine_all(wanted: list[Target]) -> list[tuple[str, list[Finding]]]:
    """One after another, so that one slow service does not make another look slow."""
    return [(target.name, await examine(target)) for target in wanted]


@click.command()
@click.argument("endpoints", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def doctor(endpoints: Path) -> None:
    """Check a whole region from outside: health, TLS, clocks, DICOM, DICOMweb, FHIR, XDS, publication.

    ENDPOINTS is the file that `crosslight demo --json` writes. Ends with status 1 when something has failed.
    """
    content = orjson.loads(endpoints.read_bytes())
    sys.exit(show(Console(), asyncio.run(examine_all(targets(content)))))
