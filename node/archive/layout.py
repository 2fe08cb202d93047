"""Where things lie in the archive's folder. No name in a path comes from an object but its own SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Pixels and text leave the walls of a trust from here: only the node's own user reads it.
FOLDER_MODE = 0o750


@dataclass(frozen=True, slots=True)
class Layout:
    """``objects/aa/bb/<sha256>.dcm``, ``tmp/``, ``quarantine/<id>``."""

    root: Path

    @property
    def objects(self) -> Path:
        """Part 10 files by the digest of their data set (D23)."""
        return self.root / "objects"

    @property
    def tmp(self) -> Path:
        """Bytes that are still coming in."""
        return self.root / "tmp"

    @property
    def quarantine(self) -> Path:
        """What was refused."""
        return self.root / "quarantine"

    @property
    def clean(self) -> Path:
        """Stands there while the archive is closed after an orderly end: files and rows need not be reconciled."""
        return self.root / "closed-cleanly"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.root, self.objects, self.tmp, self.quarantine):
            folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)

    def object(self, sha256: bytes) -> Path:
        """The file of a digest."""
        name = sha256.hex()
        return self.objects / name[:2] / name[2:4] / f"{name}.dcm"

    def prefixes(self) -> list[str]:
        """The first-level folders there are, two hex digits each."""
        return sorted(f.name for f in self.objects.iterdir() if f.is_dir() and len(f.name) == 2)

    def below(self, prefix: str) -> Iterator[tuple[bytes, Path]]:
        """Every object file below a first-level folder, with the digest in its name."""
        for folder in sorted((self.objects / prefix).iterdir()):
            for path in sorted(folder.iterdir()):
                try:
                    digest = bytes.fromhex(path.stem)
                except ValueError:
                    continue
                if len(digest) == 32 and path.suffix == ".dcm":
                    yield digest, path
