"""How files rest in a backup: as they are, or encrypted to public keys (age, ADR 0024).

Streams; nothing is held in memory.

What is written is durable and named only when it is whole. The key that opens an encrypted backup is not
needed to make one, and need not be on this machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyrage

from crosslight.runtime.files import Files, private, private_folder
from crosslight.standards.problem import ConfigError, CrosslightError, Invalid

_CHUNK = 1 << 20
SEALED = ".age"


class Damaged(CrosslightError):
    """The bytes of a file are not those that were put into it."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file should hold: SHA-256 of ``size`` bytes from ``offset`` on."""

    sha256: bytes
    offset: int
    size: int


class _Hashed:
    """Hashes the part of a stream that has the digest."""

    def __init__(self, expected: Digest | None) -> None:
        self._expected, self._digest = expected, hashlib.sha256()
        self._skip, self._left = (expected.offset, expected.size) if expected is not None else (0, 0)

    def add(self, data: bytes) -> None:
        """The next bytes of the stream."""
        start, end = min(self._skip, len(data)), min(self._skip + self._left, len(data))
        if end > start:
            self._digest.update(data[start:end] if (start, end) != (0, len(data)) else data)
        self._left -= end - start
        self._skip -= start

    @property
    def good(self) -> bool:
        """Whether all of it came, and is what it should be."""
        return self._expected is None or (self._left == 0 and self._digest.digest() == self._expected.sha256)


class _Reader(_Hashed):
    """A file being read."""

    def __init__(self, handle: BinaryIO, expected: Digest | None) -> None:
        super().__init__(expected)
        self._handle = handle

    def read(self, size: int = -1) -> bytes:
        data = self._handle.read(size)
        self.add(data)
        return data


class _Writer(_Hashed):
    """A file being written."""

    def __init__(self, handle: BinaryIO, expected: Digest | None) -> None:
        super().__init__(expected)
        self._handle = handle

    def write(self, data: bytes) -> int:
        self.add(data)
        return self._handle.write(data)

    def flush(self) -> None:
        self._handle.flush()


@dataclass(frozen=True, slots=True)
class Vault:
    """Files of one backup.

    Args:
        files: The seam for durable writes.
        recipients: Public keys (``age1…``) to which files are encrypted; none: they rest as they are.
        identities: Private keys, to read an encrypted backup.
    """

    files: Files
    recipients: tuple[pyrage.x25519.Recipient, ...] = ()
    identities: tuple[pyrage.x25519.Identity, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether its files are encrypted."""
        return bool(self.recipients or self.identities)

    def name(self, path: Path) -> Path:
        """Where a file of this name rests."""
        return path.with_name(path.name + SEALED) if self.sealed else path

    def put(
        self, here: Path, there: Path, *, tmp: Path | None = None, expected: Digest | None = None
    ) -> None:
        """Copy ``here`` into the backup as ``there``.

        Args:
            here: The file.
            there: Its name in the backup, without the suffix of encrypted ones.
            tmp: Folder for a part that is not whole; None: the target's own.
            expected: What it should hold.

        Raises:
            Damaged: it has another digest; nothing is left in the backup.
        """
        final = self.name(there)
        part = self._part(final, tmp)
        try:
            with self.files.open(here) as source, open(part, "wb", opener=private) as target:
                reader = _Reader(source, expected)
                if self.recipients:
                    pyrage.encrypt_io(reader, target, list(self.recipients))
                else:
                    while data := reader.read(_CHUNK):
                        target.write(data)
                if not reader.good:
                    raise Damaged("A file has other bytes than were received.", where=str(here))
                self.files.sync(target)
            self.files.publish(part, final)
        finally:
            self.files.remove(part)

    def take(
        self, there: Path, here: Path, *, tmp: Path | None = None, expected: Digest | None = None
    ) -> None:
        """Copy ``there`` out of the backup to ``here``; the other way round than :meth:`put`.

        Raises:
            Damaged: it was changed, cut, or is encrypted to another key; nothing is left here.
        """
        part = self._part(here, tmp)
        try:
            with self.files.open(self.name(there)) as source, open(part, "wb", opener=private) as target:
                writer = _Writer(target, expected)
                if self.sealed:
                    self._decrypt(source, writer)
                else:
                    while data := source.read(_CHUNK):
                        writer.write(data)
                if not writer.good:
                    raise Damaged("A file has other bytes than were kept.", where=str(self.name(there)))
                self.files.sync(target)
            self.files.publish(part, here)
        finally:
            self.files.remove(part)

    def _decrypt(self, source: BinaryIO, writer: _Writer) -> None:
        if not self.identities:
            raise ConfigError(
                "This backup is encrypted.", todo="Give the file with its key: --identity FILE."
            )
        try:
            pyrage.decrypt_io(source, writer, list(self.identities))
        except pyrage.DecryptError as error:
            if "matching keys" in str(error):
                raise ConfigError(
                    "This key does not open the backup.", todo="Give the one that it was made for."
                ) from None
            raise Damaged("A file of the backup is damaged.", where=str(source.name)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            # age's own word for a wrong tag
            raise Damaged("A file of the backup is damaged.", where=str(source.name)) from None

    @staticmethod
    def _part(final: Path, tmp: Path | None) -> Path:
        folder = tmp if tmp is not None else final.parent
        private_folder(folder)
        return folder / f".{final.name}.{os.getpid()}"


def recipients_of(texts: Sequence[str]) -> tuple[pyrage.x25519.Recipient, ...]:
    """Public keys as they are written: ``age1…``, or a file that holds some, a line each.

    Raises:
        Invalid: what is none.
    """
    recipients = []
    for text in texts:
        lines = [text] if text.startswith("age1") else _lines(Path(text))
        if not lines:
            raise Invalid(f"{text} holds no key.")
        for line in lines:
            try:
                recipients.append(pyrage.x25519.Recipient.from_str(line))
            except pyrage.RecipientError:
                raise Invalid(
                    f"{line[:80]!r} is no public key.", todo="Make a pair: backup-key FILE."
                ) from None
    return tuple(recipients)


def identities_of(paths: Sequence[Path]) -> tuple[pyrage.x25519.Identity, ...]:
    """Private keys in files, as ``crosslight-node backup-key`` or ``age-keygen`` make them.

    Raises:
        Invalid: a file without any.
    """
    identities = []
    for path in paths:
        try:
            keys = [pyrage.x25519.Identity.from_str(line) for line in _lines(path)]
        except pyrage.IdentityError:
            keys = []
        if not keys:
            raise Invalid(
                f"{path} holds no key of a backup.", why="It has a line that begins with AGE-SECRET-KEY-1."
            )
        identities += keys
    return tuple(identities)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise Invalid(f"{path} is no file of keys.") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def new_identity(path: Path, files: Files) -> str:
    """Make a pair of keys: the private one goes into ``path`` (0600); the public one.

    Raises:
        ConfigError: if the file is there already.
    """
    if path.exists():
        raise ConfigError(
            f"{path} is there already.", todo="Choose another name; a lost key loses its backups."
        )
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    files.write_atomic(path, f"# public key: {public}\n{identity}\n".encode())
    return public
