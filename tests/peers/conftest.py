"""Peers written by others, built from their own packages.

One that cannot be had fails the run: nothing here is skipped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

HERE = Path(__file__).parent
BUILD_S = 900.0  # an empty Maven cache, on a slow line


class Message(NamedTuple):
    """What HAPI's validator says of one place of a resource."""

    severity: str  # INFORMATION | WARNING | ERROR | FATAL
    place: str
    text: str


class FhirValidator:
    """HAPI's validator of base R4, as a process that takes a resource at a time."""

    def __init__(self, jar: Path) -> None:
        command = ["java", "-jar", str(jar)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def messages(self, resource: bytes) -> list[Message]:
        """Everything that it says of ``resource`` (JSON)."""
        ask, answer = self._process.stdin, self._process.stdout
        assert ask is not None
        assert answer is not None
        ask.write(orjson.dumps(orjson.loads(resource)) + b"\n")
        ask.flush()
        found = []
        while line := answer.readline().decode().rstrip("\n"):
            found.append(Message(*line.split("\t", 2)))
        assert self._process.poll() is None, "the validator ended"
        return found

    def errors(self, resource: bytes) -> list[Message]:
        """What makes ``resource`` no R4."""
        return [one for one in self.messages(resource) if one.severity in ("ERROR", "FATAL")]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def fhir_validator() -> Iterator[FhirValidator]:
    """The validator, built by Maven."""
    folder = HERE / "validator"
    built = subprocess.run(
        ["mvn", "-q", "-B", "package"], cwd=folder, capture_output=True, text=True, timeout=BUILD_S
    )
    assert built.returncode == 0, built.stdout + built.stderr
    validator = FhirValidator(folder / "target" / "validator.jar")
    yield validator
    validator.close()
