"""The docs say what is there: keys, commands, options, metrics, files and tests are held against the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import configuration_page
import pytest

from crosslight.runtime.config import keys
from node.__main__ import main as node
from node.config import NodeConfig
from registry.__main__ import main as registry
from registry.config import RegistryConfig
from simulations.__main__ import main as crosslight

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
CONFORMANCE = sorted((ROOT / "docs" / "conformance").glob("*.md"))
GUIDES = "\n".join(
    (ROOT / name).read_text("utf-8")
    for name in ("README.md", "docs/operations.md", "docs/simulation.md", "docs/drills.md")
)
COMMANDS = {"crosslight": crosslight, "crosslight-node": node, "crosslight-registry": registry}

_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|proto|sql|js|css|html|zdict|txt)\Z")
_FOLDER = re.compile(
    r"(?:crosslight|node|registry|simulations|tests|docs|benchmarks|protos)(?:/[\w.-]+)*/?\Z"
)
_PROOF = re.compile(r"`(test_\w+\.py)(?:::(test_\w+))?`")
#: Names in the docs that are no files of this project: those that services write, and examples.
WRITTEN = {
    "node.toml",
    "registry.toml",
    "node.db",
    "ca.pem",
    "member.json",
    "backup.txt",
    "backup.json",
    "demo.json",
}
MACHINE = ("/work/", "/root/", "/home/", "/Users/", "/tmp/k")
HOSTS = (
    "pypi.org",
    "pythonhosted.org",
    "artifactory",
    "nexus.",
    "proxy.golang.org",
    "files.pythonhosted",
    "devpi",
    "127.0.0.1:3",
)


def pages(*names: str) -> str:
    return "\n".join((ROOT / "docs" / name).read_text("utf-8") for name in names)


# --- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [NodeConfig, RegistryConfig])
def test_every_key_is_explained(cls: type[object]) -> None:
    missing = [key.path for key in keys(cls) if len(key.help) < 5]
    assert missing == []
    page = pages("configuration.md")
    assert [key.path for key in keys(cls) if f"`{key.path.replace('[]', '')}`" not in page] == []


def test_the_configuration_page_is_in_step() -> None:
    assert configuration_page.PAGE.read_text("utf-8") == configuration_page.page(), (
        "run: python tests/configuration_page.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_keys_that_a_page_names_exist(page: Path) -> None:
    known = {key.path.replace("[]", "") for cls in (NodeConfig, RegistryConfig) for key in keys(cls)}
    sections = {path.rsplit(".", 1)[0] for path in known} | {path.split(".")[0] for path in known}
    firsts = {path.split(".")[0] for path in known}
    named = [
        code for code in _CODE.findall(page.read_text("utf-8")) if re.fullmatch(r"[a-z]+(\.[a-z_]+)+", code)
    ]
    wrong = [
        code
        for code in named
        if code.split(".")[0] in firsts
        and code not in known
        and code not in sections
        and not _PATH.match(code)
        and not (ROOT / Path(*code.split("."))).exists()
    ]
    assert wrong == []


# --- commands -----------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    for program, group in COMMANDS.items():
        assert isinstance(group, click.Group)
        for name, command in group.commands.items():
            yield f"{program} {name}", command


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda x: x if isinstance(x, str) else "")
def test_every_command_and_option_is_in_a_guide(name: str, command: click.Command) -> None:
    program, verb = name.split()
    assert re.search(rf"{program}(?: --dir \S+)? {verb}\b", GUIDES), f"{name} is in no guide"
    assert command.help, f"{name} has no help"
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []
    flags = [max(o.opts, key=len) for o in options]
    assert [flag for flag in flags if flag not in GUIDES] == []


def test_the_groups_own_options_are_in_a_guide() -> None:
    for group in COMMANDS.values():
        for option in (p for p in group.params if isinstance(p, click.Option)):
            assert max(option.opts, key=len) in GUIDES


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"(crosslight(?:-node|-registry)?)(?: --dir \S+)? ([a-z]+)(?=[ `\n])", page.read_text("utf-8")
    )
    known = {name for name, _ in commands()}
    written = "\n".join(
        _CODE.findall(page.read_text("utf-8")) + re.findall(r"```.*?```", page.read_text("utf-8"), re.DOTALL)
    )
    wrong = {f"{p} {v}" for p, v in named if f"{p} {v}" in written and f"{p} {v}" not in known}
    assert not wrong - {"crosslight crosslight"}  # of useradd: user and folder


# --- metrics ------------------------------------------------------------------------------------------------


def test_metrics_in_code_and_docs_are_the_same() -> None:
    code = "\n".join(
        p.read_text("utf-8")
        for room in ("node", "registry", "crosslight")
        for p in (ROOT / room).rglob("*.py")
    )
    made = set(re.findall(r"Gauge\(\s*\"(crosslight_\w+)\"", code))
    made |= {f"{name}_total" for name in re.findall(r"Total\(\s*\"(crosslight_\w+)\"", code)}
    told = set(re.findall(r"`(crosslight_(?:node|member|registry|refused|people)_\w+)`", GUIDES))
    assert made, "no metric was found in the code"
    assert made == told


# --- files and tests ----------------------------------------------------------------------------------------


def files_named(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    for link in _LINK.findall(text):
        if "://" not in link:
            yield str((page.parent / link).resolve().relative_to(ROOT))
    for code in _CODE.findall(text):
        if (_PATH.match(code) or _FOLDER.match(code)) and code not in WRITTEN:
            yield code


@pytest.fixture(scope="module")
def files() -> frozenset[str]:
    """Every file of the project by each of its endings: ``node/app.py``, ``app.py``; and every folder."""
    found = {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "SECURITY.md",
    }
    for room in (
        "crosslight",
        "node",
        "registry",
        "simulations",
        "tests",
        "docs",
        "benchmarks",
        "protos",
        "requirements",
    ):
        for path in (ROOT / room).rglob("*"):
            parts = path.relative_to(ROOT).parts
            found |= {"/".join(parts[i:]) for i in range(len(parts))}
        found.add(room)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_exists(page: Path, files: frozenset[str]) -> None:
    assert [name for name in files_named(page) if name.rstrip("/") not in files] == []


@pytest.fixture(scope="module")
def proofs() -> dict[str, set[str]]:
    """Test files and the functions in each."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        found[path.name] = {
            n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_test_that_a_page_names_exists(page: Path, proofs: dict[str, set[str]]) -> None:
    wrong = [
        f"{file}::{test}"
        for file, test in _PROOF.findall(page.read_text("utf-8"))
        if file not in proofs or (test and test not in proofs[file])
    ]
    assert wrong == []


@pytest.mark.parametrize("page", [p for p in CONFORMANCE if p.name != "fhir.md"], ids=lambda p: p.name)
def test_conformance_is_proved(page: Path) -> None:
    """Tables of what is there name tests, and each row has as many cells as its head."""
    assert len(_PROOF.findall(page.read_text("utf-8"))) > 20
    width = 0
    for line in page.read_text("utf-8").splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_machine_and_no_package_host(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [found for found in (*MACHINE, *HOSTS) if found in text] == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text("utf-8")
    assert [p.name for p in sorted(folder.glob("0*.md")) if f"({p.name})" not in listed] == []
