"""Configuration: one commented TOML file for each service, read once into frozen dataclasses.

A section is a frozen dataclass whose fields are made with :func:`setting`; the name carries the unit. Unknown
keys, wrong types and values out of range are refused with their path. The same table makes the commented file
that ``init`` writes and the page in docs/ (a test holds them together).
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from crosslight.standards.problem import ConfigError

C = TypeVar("C")
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # the only addresses of a service without TLS and authentication


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    example: Any = None,
) -> Any:
    """One key of a configuration file.

    Args:
        default: Its value when absent; without one the key is required.
        help: One or two sentences for the person who edits the file.
        low: Smallest number allowed.
        high: Largest number allowed.
        choices: The only strings allowed.
        example: Shown in the commented file where there is no default.
    """
    meta = {"help": help, "low": low, "high": high, "choices": choices, "example": example}
    if isinstance(default, list | dict | tuple):
        return field(
            default_factory=lambda: tuple(default) if isinstance(default, list) else default, metadata=meta
        )
    return field(default=default, metadata=meta) if default is not MISSING else field(metadata=meta)


def section(cls: type[Any], help: str = "") -> Any:
    """A nested section with its own defaults."""
    return field(default_factory=cls, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class Key:
    """One documented key."""

    path: str
    kind: str
    default: Any
    help: str
    required: bool
    limits: str = ""  # what is accepted, in words; '' = anything of the kind
    example: Any = None


def load(cls: type[C], path: Path) -> C:
    """Read ``path`` as ``cls``.

    Raises:
        ConfigError: naming the file and the key path.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no {path}.", todo="Make one with the init command.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return from_dict(cls, data, str(path))


def from_dict(cls: type[C], data: dict[str, Any], source: str = "", prefix: str = "") -> C:
    """Build ``cls`` from plain data; errors name ``source`` and the key."""
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # a section is a dataclass
    for name in data:
        if name not in known:
            near = ", ".join(sorted(known))
            raise ConfigError(
                f"{source}: unknown key {prefix}{name}.", todo=f"Known here: {near}.", where=prefix + name
            )
    values = {}
    for name, item in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], source, prefix + name, item.metadata)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(
                f"{source}: {prefix}{name} is missing.",
                why=item.metadata.get("help", ""),
                where=prefix + name,
            )
    return cls(**values)


def _value(hint: Any, raw: Any, source: str, path: str, meta: Any) -> Any:
    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"{source}: {path} must be {expected}.", where=path)

    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return _value(inner[0], raw, source, path, meta)
    if is_dataclass(hint):
        if not isinstance(raw, dict):
            raise refuse("a section")
        return from_dict(typing.cast(type[Any], hint), raw, source, path + ".")
    if origin is tuple:
        if not isinstance(raw, list):
            raise refuse("a list")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, source, f"{path}[{i}]", meta) for i, item in enumerate(raw))
    if origin is dict:
        if not isinstance(raw, dict):
            raise refuse("a table")
        inner = typing.get_args(hint)[1]
        return {k: _value(inner, v, source, f"{path}.{k}", meta) for k, v in raw.items()}
    if hint is bool:
        if not isinstance(raw, bool):
            raise refuse("true or false")
        return raw
    if hint in (int, float):
        if (
            isinstance(raw, bool)
            or not isinstance(raw, int | float)
            or (hint is int and not isinstance(raw, int))
        ):
            raise refuse("a number" if hint is float else "a whole number")
        low, high = meta.get("low"), meta.get("high")
        if (low is not None and raw < low) or (high is not None and raw > high):
            raise refuse(f"from {low if low is not None else '-∞'} to {high if high is not None else '∞'}")
        return hint(raw)
    if hint is str or origin is typing.Literal:
        if not isinstance(raw, str):
            raise refuse("text")
        choices = meta.get("choices") or typing.get_args(hint)
        if choices and raw not in choices:
            raise refuse("one of " + ", ".join(choices))
        return raw
    raise ConfigError(f"{path}: no reader for {hint}")


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else None


def keys(cls: type[Any], prefix: str = "") -> list[Key]:
    """Every key of ``cls`` in order, nested sections after their parent's own keys."""
    hints = typing.get_type_hints(cls)
    own: list[Key] = []
    nested: list[Key] = []
    for item in fields(cls):
        hint = hints[item.name]
        args = typing.get_args(hint)
        if is_dataclass(hint):
            nested += keys(typing.cast(type[Any], hint), f"{prefix}{item.name}.")
            continue
        if typing.get_origin(hint) is tuple and is_dataclass(args[0]):
            nested += keys(typing.cast(type[Any], args[0]), f"{prefix}{item.name}[].")
            continue
        required = item.default is MISSING and item.default_factory is MISSING
        default = None if required else _default(item)
        kind = getattr(hint, "__name__", str(hint)) if not typing.get_origin(hint) else str(hint)
        meta = item.metadata
        own.append(
            Key(
                prefix + item.name,
                kind,
                default,
                meta.get("help", ""),
                required,
                _limits(meta),
                meta.get("example"),
            )
        )
    return own + nested


def _limits(meta: Any) -> str:
    low, high, choices = meta.get("low"), meta.get("high"), meta.get("choices")
    if choices:
        return " or ".join(choices)
    if low is None and high is None:
        return ""
    return f"from {low}" if high is None else f"to {high}" if low is None else f"{low} to {high}"


def toml_value(value: Any) -> str:
    """``value`` in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        members = ", ".join(f"{toml_value(str(k))} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {members} }}" if members else "{}"
    raise TypeError(type(value))


def commented(cls: type[Any], values: dict[str, Any], title: str) -> str:
    """A commented TOML file: keys in ``values`` are set, all others stand as comments with their default.

    Args:
        values: Nested plain data; lists of tables are written as ``[[name]]``.
    """
    lines = [f"# {title}", ""]
    _write_section(cls, values, "", lines)
    return "\n".join(lines).rstrip() + "\n"


def _write_section(cls: type[Any], values: dict[str, Any], prefix: str, lines: list[str]) -> None:
    hints = typing.get_type_hints(cls)
    later: list[tuple[str, Any, bool, Any, str]] = []
    for item in fields(cls):
        hint, args = hints[item.name], typing.get_args(hints[item.name])
        table_list = typing.get_origin(hint) is tuple and args and is_dataclass(args[0])
        if is_dataclass(hint) or table_list:
            later.append(
                (
                    item.name,
                    args[0] if table_list else hint,
                    bool(table_list),
                    values.get(item.name),
                    item.metadata.get("help", ""),
                )
            )
            continue
        lines.extend(f"# {part}" for part in _wrapped(item.metadata.get("help", "")))
        if item.name in values:
            lines.append(f"{item.name} = {toml_value(values[item.name])}")
        elif item.default is not MISSING or item.default_factory is not MISSING:
            default = _default(item)
            shown, example = default if default is not None else "", item.metadata.get("example")
            hint = f"   # for example {toml_value(example)}" if example is not None and not default else ""
            lines.append(f"# {item.name} = {toml_value(shown)}{hint}")
        else:
            lines.append(f"# {item.name} = {toml_value(item.metadata.get('example') or '')}   # required")
        lines.append("")
    for name, inner, table_list, given, help_text in later:
        lines.extend(f"# {part}" for part in _wrapped(help_text))
        if isinstance(given, list | tuple):
            for section in given:
                lines.append(f"[[{prefix}{name}]]")
                _write_section(inner, section, f"{prefix}{name}.", lines)
        elif table_list:
            lines.append(f"# [[{prefix}{name}]]")
            sub: list[str] = []
            _write_section(inner, {}, f"{prefix}{name}.", sub)
            lines.extend(line if line.startswith("#") or not line else f"# {line}" for line in sub)
        else:
            lines.append(f"[{prefix}{name}]")
            _write_section(inner, given or {}, f"{prefix}{name}.", lines)


def _wrapped(text: str, width: int = 100) -> list[str]:
    out, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width:
            out.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*out, line] if line else out
