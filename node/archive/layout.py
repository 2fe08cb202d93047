"""Where things lie in the archive's folder. No name in a path comes from an object but its own SHA-256."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.files import PRIVATE_FOLDER, Files, private_folder

#: Pixels and text leave the walls of a trust from here: only the node's own user reads it.


@dataclass(frozen=True, slots=True)
class Layout:
    """``objects/aa/<sha256>.dcm``, ``tmp/``, ``quarantine/<id>``.

    One level of 256 folders, made in advance: a folder that is made with an object in it would cost two more
    flushes of the disk before the object can be acknowledged. Ten million objects are 40,000 entries a
    folder, which hashed directories carry.
    """

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
        """The file that stands there while the archive is closed after an orderly end.

        Files and rows need not be reconciled then.
        """
        return self.root / "closed-cleanly"

    def make(self, files: Files) -> None:
        """Make the folders, durably."""
        for folder in (self.root, self.objects, self.tmp, self.quarantine):
            private_folder(folder)
            os.chmod(folder, PRIVATE_FOLDER)  # releases before 0.3 let a group read them
        if not (self.objects / "ff").is_dir():
            for number in range(256):
                private_folder(self.objects / f"{number:02x}")
            for folder in (self.objects, self.root, self.root.parent):
                files.sync_dir(folder)

    def object(self, sha256: bytes) -> Path:
        """The file of a digest."""
        name = sha256.hex()
        return self.objects / name[:2] / f"{name}.dcm"

    def object_file(self, sha256: str) -> str:
        """As :meth:`object`, of a digest in hex and as text."""
        return f"{self.root}/objects/{sha256[:2]}/{sha256}.dcm"

    def prefixes(self) -> list[str]:
        """The folders there are, two hex digits each."""
        return sorted(f.name for f in self.objects.iterdir() if f.is_dir() and len(f.name) == 2)

    def below(self, prefix: str) -> Iterator[tuple[bytes, Path]]:
        """Every object file in a folder, with the digest in its name."""
        for path in sorted((self.objects / prefix).iterdir()):
            try:
                digest = bytes.fromhex(path.stem)
            except ValueError:
                continue
            if len(digest) == 32 and path.suffix == ".dcm":
                yield digest, path
