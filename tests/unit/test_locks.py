"""Every dependency is locked by version and hash, and the locks fit what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = ("build", "run", "simulate", "dev", "audit")
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.]+)((?: --hash=sha256:[0-9a-f]{64})*)\Z")


def lines(lock: str) -> list[str]:
    """The entries of a lock as pip joins them: without comments, one a line."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", kept)
    return [line.strip() for line in joined.splitlines() if line.strip()]


def pins(lock: str) -> dict[str, str]:
    """Versions by name."""
    found = (PIN.match(line) for line in lines(lock))
    return {canonicalize_name(pin["name"]): pin["version"] for pin in found if pin}


def wanted(lock: str) -> list[str]:
    """What pyproject.toml asks of a lock."""
    groups = PROJECT["dependency-groups"]
    return {
        "run": PROJECT["project"]["dependencies"],
        "build": [*groups["build"], *PROJECT["build-system"]["requires"]],
        "simulate": PROJECT["project"]["optional-dependencies"]["simulate"],
        "dev": groups["dev"],
        "audit": groups["audit"],
    }[lock]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_version_with_hashes(lock: str) -> None:
    found = lines(lock)
    assert found
    assert [line[:80] for line in found if not (pin := PIN.match(line)) or not pin[3]] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_what_the_project_asks_for_is_locked_at_a_version_that_fits(lock: str) -> None:
    locked = pins(lock)
    asked = [Requirement(text) for text in wanted(lock)]
    unfit = [
        f"{one} is {locked.get(canonicalize_name(one.name), 'missing')}"
        for one in asked
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"), prereleases=True)
        or canonicalize_name(one.name) not in locked
    ]
    assert unfit == [], "make lock UPGRADE= adds what is missing"


def test_what_two_locks_name_has_one_version() -> None:
    seen: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in pins(lock).items():
            seen.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in seen.items() if len(versions) > 1} == {}


def test_what_makes_installs_names_a_lock_and_asks_for_hashes() -> None:
    text = (ROOT / "Makefile").read_text("utf-8").replace("$(LOCKED)", "install --require-hashes")
    installs = [line.strip() for line in text.splitlines() if re.search(r"pip\b.* install ", line)]
    assert len(installs) > 3
    assert [
        line
        for line in installs
        if "--require-hashes -r $(LOCKS)/" not in line and "--no-deps --no-build-isolation" not in line
    ] == []
