"""A configuration file as ``init`` writes it can be read, and says nothing but what was set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crosslight.runtime.config import commented, from_dict, load
from node.config import NodeConfig
from registry.config import RegistryConfig

REGION = {"name": "A region", "home_community_id": "1.2.3.1", "authority": "1.2.3.2"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [(NodeConfig, {}), (RegistryConfig, {"region": REGION, "members": {"root_oid": "1.2.3.3"}})],
)
def test_it_reads_as_what_was_set(kind: type[Any], values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "fresh.toml"
    path.write_text(commented(kind, values, "Fresh."), "utf-8")
    assert load(kind, path) == from_dict(kind, values)
