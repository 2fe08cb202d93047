"""Writes docs/configuration.md from the dataclasses that read the files: run ``python
tests/configuration_page.py``.
"""

from __future__ import annotations

import sys
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from crosslight.runtime.config import Key, keys, toml_value
from node.config import NodeConfig
from registry.config import RegistryConfig

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

This page is generated from the code by `tests/configuration_page.py`; a test fails when it is out of step.
Do not edit it.

One TOML file for each service, in the service's own folder: `node.toml` and `registry.toml`. `init` writes
it with every key explained and commented out at its default. It is read once, at the start: restart the
service after a change. An unknown key, a wrong type or a value out of range is refused with the path of the
key. Relative file names are taken from the service's folder. No key can be set from the environment;
`CROSSLIGHT_NODE_DIR` and `CROSSLIGHT_REGISTRY_DIR` name the folders.

Units are in the names: `_s` seconds, `_bytes` bytes. **required** stands where there is no default.
"""
KINDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}


def kind_of(key: Key) -> str:
    """What to write there, in words."""
    if key.kind.startswith("tuple"):
        return "list of text"
    if key.kind.startswith("dict"):
        return "table of text"
    return KINDS.get(key.kind, key.kind)


def value_of(key: Key) -> str:
    """The default as TOML, or that there is none."""
    if key.required:
        return "**required**"
    text = f"`{toml_value(key.default)}`"
    return (
        f"{text}; for example `{toml_value(key.example)}`"
        if key.example is not None and not key.default
        else text
    )


def sections(cls: type[Any], prefix: str = "") -> list[tuple[str, type[Any], str]]:
    """(heading, dataclass, explanation) of a file's sections, in the order of the file."""
    found: list[tuple[str, type[Any], str]] = []
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        hint, args, name = hints[item.name], typing.get_args(hints[item.name]), prefix + item.name
        if is_dataclass(hint):
            inner = typing.cast(type[Any], hint)
            found += [(f"[{name}]", inner, item.metadata.get("help", "")), *sections(inner, f"{name}.")]
        elif typing.get_origin(hint) is tuple and is_dataclass(args[0]):
            found.append((f"[[{name}]]", typing.cast(type[Any], args[0]), item.metadata.get("help", "")))
    return found


def cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(heading: str, cls: type[Any], explained: str) -> list[str]:
    """One section: its own keys, not those of sections inside it."""
    prefix = heading.strip("[]")
    own = [
        key
        for key in keys(cls, f"{prefix}.")
        if key.path.count(".") == prefix.count(".") + 1 and "[]" not in key.path
    ]
    lines = [f"### `{heading}`", "", explained, ""]
    if not own:
        return lines
    lines += ["| Key | Kind | Default | Accepted | Meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{key.path}` | {kind_of(key)} | {cell(value_of(key))} | {cell(key.limits)} | {cell(key.help)} |"
        for key in own
    ]
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for title, cls in (("node.toml", NodeConfig), ("registry.toml", RegistryConfig)):
        lines += [f"## {title}", ""]
        for heading, inner, explained in sections(cls):
            lines += table(heading, inner, explained)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(
            0 if PAGE.read_text("utf-8") == page() else f"{PAGE} is out of step: run python {sys.argv[0]}"
        )
    PAGE.write_text(page(), "utf-8")
