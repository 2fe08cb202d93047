"""Where things lie in the archive's folder. No name in a path comes from an object but its own SHA-256."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from crosslight.runtime.files import PRIVATE_FOLDER, Files, private_folder
from crosslight.standards.problem import StorageError

#: Pixels and text leave the walls of a trust from here: only the node's own user reads it.


@dataclass(frozen=True, slots=True)
class Layout:
    """``objects/aa/<sha256>.dcm``, ``tmp/``, ``quarantine/<id>``, ``damaged/<sha256>.dcm``.

    One level of 256 folders, made in advance: a folder that is made with an object in it would cost two more
    flushes of the disk before the object can be acknowledged. Ten million objects are 40,000 entries a
    folder, which hashed directories carry.
    """

    root: Path
    before: Path | None = None  # the root from which objects are on their way here
    home: Path | None = None  # where it is written which root it is; None: it is the root

    @property
    def old(self) -> Layout | None:
        """The place that objects are moved from."""
        return Layout(self.before) if self.before is not None else None

    @property
    def moving(self) -> Path:
        """Copies on their way from the old place."""
        return self.root / "moving"

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
    def damaged(self) -> Path:
        """Object files whose bytes have changed: kept until the object is whole again, or is purged."""
        return self.root / "damaged"

    @property
    def clean(self) -> Path:
        """The file that stands there while the archive is closed after an orderly end.

        Files and rows need not be reconciled then.
        """
        return self.root / "closed-cleanly"

    def make(self, files: Files) -> None:
        """Make the folders, durably."""
        for folder in (self.root, self.objects, self.tmp, self.quarantine, self.damaged):
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

    def held(self, sha256: bytes) -> Path:
        """As :meth:`object`, where the file lies now: here, or still in the old place."""
        here = self.object(sha256)
        return here if self.old is None or here.exists() else self.old.object(sha256)

    def copies(self, sha256: bytes) -> list[Path]:
        """All that there may be of an object: its file in each place, and what was set apart of it."""
        old = [self.old.object(sha256)] if self.old is not None else []
        return [self.object(sha256), *old, *self.all_apart(sha256)]

    def all_apart(self, sha256: bytes) -> list[Path]:
        """What may be set apart of an object, in each place."""
        name = f"{sha256.hex()}.dcm"
        return [self.damaged / name, *([self.old.damaged / name] if self.old is not None else [])]

    def object_file(self, sha256: str) -> str:
        """As :meth:`held`, of a digest in hex and as text."""
        here = f"{self.root}/objects/{sha256[:2]}/{sha256}.dcm"
        if self.before is None or os.path.exists(here):
            return here
        return f"{self.before}/objects/{sha256[:2]}/{sha256}.dcm"

    def apart(self, sha256: bytes) -> Path:
        """Where the file of a digest lies once its bytes are found to be others; on its own disk."""
        here = self.damaged / f"{sha256.hex()}.dcm"
        if self.old is None or here.exists() or self.object(sha256).exists():
            return here
        there = self.old.apart(sha256)
        return there if there.exists() or self.old.object(sha256).exists() else here

    def back(self, apart: Path) -> Path:
        """The place of the object whose file was set apart, on the same disk."""
        return apart.parent.parent / "objects" / apart.name[:2] / apart.name

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


#: Beside the archive's first objects: the root of now, and the one before while its objects are moved.
PLACE, MARK = "place.json", "crosslight-archive"


def layout_in(home: Path) -> Layout:
    """The places of the archive whose first folder is ``home``.

    Raises:
        StorageError: its disk is not there.
    """
    try:
        said = orjson.loads((home / PLACE).read_bytes())
    except FileNotFoundError:
        return Layout(home)
    root, before = Path(said["root"]), Path(said["before"]) if said["before"] else None
    if not (root / MARK).is_file():
        raise StorageError(
            "The archive's disk is not there.",
            why=f"There is no {root / MARK}.",
            todo="Mount it, and start again.",
        )
    return Layout(root, before, home)


def begin_move(layout: Layout, target: Path, files: Files) -> None:
    """Let new objects go to ``target``, and those that are there already follow; from the next start on."""
    Layout(target).make(files)
    files.write_atomic(target / MARK, b"An archive of Crosslight.\n")
    _write(layout.home or layout.root, target, layout.root, files)


def finish_move(layout: Layout, files: Files) -> None:
    """All of it is there."""
    if layout.home is not None:
        _write(layout.home, layout.root, None, files)


def _write(home: Path, root: Path, before: Path | None, files: Files) -> None:
    said = {"root": str(root), "before": str(before) if before is not None else ""}
    files.write_atomic(home / PLACE, orjson.dumps(said))
