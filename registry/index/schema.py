"""The index's schema version; its deltas are beside it (``deltas/``)."""

from __future__ import annotations

from crosslight.runtime.schema import SchemaVersion

PACKAGE = "registry.index"
SCHEMA = SchemaVersion("index", schema=5, compat=5)
