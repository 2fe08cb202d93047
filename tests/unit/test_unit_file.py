"""The systemd units that ``init --systemd`` writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from crosslight.runtime.command import write_unit
from crosslight.runtime.files import SystemFiles

ANALYZE = shutil.which("systemd-analyze") or "systemd-analyze"


def analyzed(*arguments: str) -> str:
    """What ``systemd-analyze`` says of a file; no systemd need run."""
    done = subprocess.run(
        [ANALYZE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("service", ["node", "registry"])
def test_a_unit_says_each_thing_once_and_names_its_folder(tmp_path: Path, service: str) -> None:
    text = write_unit(tmp_path, service, SystemFiles()).read_text("utf-8")
    names = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert sorted({name for name in names if names.count(name) > 1}) == ["SystemCallFilter"]
    assert f"ReadWritePaths={tmp_path}\n" in text
    assert f" -m {service} --dir {tmp_path} serve\n" in text


@pytest.mark.parametrize("service", ["node", "registry"])
def test_systemd_reads_the_unit_without_a_word(tmp_path: Path, service: str) -> None:
    assert str(tmp_path) not in analyzed("verify", str(write_unit(tmp_path, service, SystemFiles())))


def test_systemd_finds_little_exposed(tmp_path: Path) -> None:
    """2.5 of 10 and less is "OK" in systemd's own words; without the filters the unit had 8.9."""
    unit = write_unit(tmp_path, "node", SystemFiles())
    unit.write_text(
        re.sub("(?m)^User=.*$", "User=crosslight", unit.read_text("utf-8")), "utf-8"
    )  # not who runs the tests
    said = re.search(
        r"exposure level for \S+: ([\d.]+)", analyzed("security", "--offline=true", "--no-pager", str(unit))
    )
    assert said is not None
    assert float(said[1]) <= 2.5


def test_the_unit_lets_children_confine_themselves(tmp_path: Path) -> None:
    """What it refuses it refuses with an error, so that no child is killed for trying."""
    text = write_unit(tmp_path, "node", SystemFiles()).read_text("utf-8")
    sets: dict[str, set[str]] = {}
    for line in analyzed("syscall-filter", "--no-pager").splitlines():
        if line.startswith("@"):
            current = sets[line.split()[0]] = set()
        elif line.strip() and not line.strip().startswith("#"):
            current.add(line.strip())

    def calls(name: str) -> set[str]:
        return set().union(*map(calls, sets[name])) if name in sets else {name}

    allowed: set[str] = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        named = set().union(*map(calls, value.lstrip("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    assert {"seccomp", "prctl", "landlock_create_ruleset", "landlock_restrict_self"} <= allowed
    assert "ptrace" not in allowed
    assert "SystemCallErrorNumber=EPERM\n" in text
