"""What says which region a demo's folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from crosslight.standards.problem import ConfigError

MARKER = "demo.json"


def is_kept(data: Path, wanted: dict[str, Any]) -> bool:
    """Whether ``data`` holds a finished region.

    Raises:
        ConfigError: when it is another one than is wanted.
    """
    path = data / MARKER
    if not path.exists():
        return False
    kept = orjson.loads(path.read_bytes())
    if kept != wanted:
        raise ConfigError(
            f"{data} holds another demo ({kept.get('slug')}, ports from {kept.get('port_base')}).",
            todo="Give the same options, another --data, or remove it (make demo-clean).",
        )
    return True
