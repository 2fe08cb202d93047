"""The list of what runs, judged by CycloneDX's own schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sbom() -> str:
    path = ROOT / "dist" / "crosslight.cdx.json"
    path.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(
        ["make", "-s", "sbom"], cwd=ROOT, env=environment, check=True, timeout=600, stdout=subprocess.PIPE
    )
    return path.read_text("utf-8")


@pytest.mark.timeout(660)
def test_the_list_of_what_runs_is_cyclonedx(sbom: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None


@pytest.mark.timeout(660)
def test_the_list_names_what_the_lock_does_and_nothing_more(sbom: str) -> None:
    found = json.loads(sbom)
    listed = {(part["name"].lower().replace("_", "-"), part["version"]) for part in found["components"]}
    lock = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    assert listed == set(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))
    assert found["metadata"]["component"]["name"] == "crosslight"
    assert not re.search(r"file:|/home/|/root/|/tmp/", sbom)
