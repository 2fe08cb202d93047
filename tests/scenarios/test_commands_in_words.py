"""What a command says when the machine refuses: one sentence with the thing and the key, status 1, no
stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ports import free_base
from scenario_hand import HOST, set_keys
from scenario_processes import Family

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(200)]


@pytest.mark.parametrize("key", ["people_port", "grpc_port", "mllp_port", "systems_port"])
def test_a_port_that_is_taken(tmp_path: Path, key: str) -> None:
    family, folder, base = Family(), tmp_path / "registry", free_base(1)
    assert family.run("registry", "init", str(folder)).status == 0
    ports = {"people_port": base, "grpc_port": base + 1, "mllp_port": base + 2, "systems_port": base + 3}
    set_keys(folder / "registry.toml", "listen", host=HOST, public_host=HOST, **ports)
    with socket.create_server((HOST, ports[key])):
        done = family.run("registry", "--dir", str(folder), "serve", within_s=60)
    assert done.status == 1
    assert f"Port {ports[key]} (listen.{key}) is taken by another program." in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("module", "database", "arguments"),
    [
        ("registry", "registry.db", ("members",)),
        ("registry", "registry.db", ("invite", "RTK")),
        ("registry", "registry.db", ("serve",)),
        ("node", "node.db", ("status",)),
        ("node", "node.db", ("verify",)),
        ("node", "node.db", ("backup", "elsewhere")),
        ("node", "audit.db", ("audit", "--patient", "9990000018")),
    ],
)
def test_a_damaged_database(tmp_path: Path, module: str, database: str, arguments: tuple[str, ...]) -> None:
    family, folder = Family(), tmp_path / module
    assert family.run(module, "init", str(folder)).status == 0
    (folder / database).write_bytes(b"this is no database, whatever it is called " * 200)
    given = [str(tmp_path / one) if one == "elsewhere" else one for one in arguments]
    done = family.run(module, "--dir", str(folder), *given, within_s=60)
    assert done.status == 1
    assert f"{folder / database} is damaged" in done.output, done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("node", ("init", "/proc/nowhere/node"), "/proc/nowhere"),
        ("registry", ("init", "/proc/nowhere/r"), "/proc/nowhere"),
        ("node", ("--dir", "FOLDER", "backup", "/proc/nowhere"), "/proc/nowhere is not there"),
        ("node", ("--dir", "FOLDER", "restore", "/tmp"), "is not a finished backup"),
        ("node", ("--dir", "FOLDER", "backup", "/tmp/x", "--recipient", "age1none"), "is no public key"),
    ],
)
def test_folders_that_cannot_be(tmp_path: Path, module: str, arguments: tuple[str, ...], words: str) -> None:
    family, folder = Family(), tmp_path / "node"
    assert family.run("node", "init", str(folder)).status == 0
    done = family.run(module, *(str(folder) if one == "FOLDER" else one for one in arguments), within_s=60)
    assert done.status == 1
    assert words in done.output, done.output
    assert "Traceback" not in done.output
