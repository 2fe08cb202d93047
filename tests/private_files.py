"""Who else may read what lies in a folder."""

from __future__ import annotations

from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Files and folders in ``folder``, and itself, that its group or others may read, write or enter."""
    found = (path for path in (folder, *folder.rglob("*")) if not path.is_symlink())
    return sorted(f"{path} {path.stat().st_mode & 0o777:o}" for path in found if path.stat().st_mode & 0o077)
