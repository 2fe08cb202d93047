"""What the machine refuses, in one sentence and what to do: disks, files, ports, databases.

For people at a command line.

Pure but for the names of users; no text of an engine that could hold data is passed on.
"""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosslight.standards.problem import ConfigError, CrosslightError, OutOfSpace, StorageError, kind_in_words

#: errno -> what happened to a file, and what to do.
_FILES: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("cannot be written: the disk is full", "Make room and try again."),
    errno.EDQUOT: ("cannot be written: this user's quota is used up", "Make room and try again."),
    errno.EROFS: (
        "cannot be written: the file system is read-only",
        "Mount it for writing, or choose another folder.",
    ),
    errno.EACCES: (
        "may not be used by this user",
        "Run the command as the folder's owner, or change owner and mode.",
    ),
    errno.EPERM: (
        "may not be used by this user",
        "Run the command as the folder's owner, or change owner and mode.",
    ),
    errno.ENOENT: ("is not there", "Check the path."),
    errno.ENOTDIR: ("is no folder", "Check the path."),
    errno.EISDIR: ("is a folder", "Check the path."),
    errno.EEXIST: ("is there already", "Choose another path."),
    errno.EIO: (
        "cannot be read or written: the disk failed",
        "Look at the machine's log; the disk may be broken.",
    ),
    errno.ESTALE: ("is on a file server that has forgotten it", "Mount it again."),
    errno.ENAMETOOLONG: ("has too long a name", "Choose a shorter path."),
    errno.EMFILE: ("cannot be opened: too many files are open", "Raise LimitNOFILE of the service."),
    errno.EFBIG: ("is larger than this file system allows", "Use another file system."),
    errno.EXDEV: ("lies on another file system", "Keep the archive's folder on one file system."),
}
_SQLITE: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_CORRUPT: ("is damaged", "Stop the service, move the folder away and restore a backup."),
    sqlite3.SQLITE_NOTADB: (
        "is damaged: it is no database",
        "Stop the service, move the folder away and restore a backup.",
    ),
    sqlite3.SQLITE_FULL: ("cannot be written: the disk is full", "Make room and try again."),
    sqlite3.SQLITE_READONLY: ("may not be written", "Check owner, mode and file system."),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "Check that the folder is there, whose it is, and that the disk has room.",
    ),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written: the disk failed, or is full",
        "Make room; look at the machine's log.",
    ),
    sqlite3.SQLITE_PERM: ("may not be used by this user", "Run the command as the folder's owner."),
    sqlite3.SQLITE_BUSY: ("is in use by another program", "Try again."),
    sqlite3.SQLITE_INTERRUPT: (
        "would have had to read too much for one question",
        "Ask for less: a patient, or a shorter time.",
    ),
    sqlite3.SQLITE_LOCKED: ("is in use by another program", "Try again."),
}


def database_trouble(error: sqlite3.Error, path: Path | None = None) -> StorageError:
    """What SQLite refused, as ours."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the primary result code
    trouble, todo = _SQLITE.get(code, ("could not do this now", "Try again."))
    kind = OutOfSpace if code == sqlite3.SQLITE_FULL else StorageError
    name = f"The database {path}" if path is not None else "The database"
    made = kind(f"{name} {trouble}.", why="" if code in _SQLITE else type(error).__name__, todo=todo)
    made.__cause__ = error
    return made


def file_trouble(error: OSError) -> str:
    """What the system refused of a file, as one line."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    trouble, todo = _FILES.get(
        error.errno or 0, (f"cannot be used: {error.strerror or type(error).__name__}", "")
    )
    subject = " -> ".join(names) or "A file or connection"
    return f"{subject} {trouble}. {todo}".rstrip()


def cannot_listen(error: BaseException, host: str, port: int, key: str) -> ConfigError:
    """Why a port cannot be had, and which key names it.

    Args:
        error: What binding raised.
        host: The address asked for.
        port: The port asked for.
        key: Of the configuration, as ``listen.people_port``; '' where it has none.
    """
    named = f"Port {port} ({key})" if key else f"Port {port}"
    code = error.errno if isinstance(error, OSError) else errno.EADDRINUSE
    if code == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"{host} is no address of this machine.", todo="Set listen.host right; 0.0.0.0 is all.", where=key
        )
    if code in (errno.EACCES, errno.EPERM):
        return ConfigError(
            f"{named} may not be opened by this user.",
            why="Ports below 1024 are for root.",
            where=key,
            todo="Choose a higher one, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE.",
        )
    if code != errno.EADDRINUSE:
        return ConfigError(
            f"{named} cannot be opened at {host}.", why=str(getattr(error, "strerror", "") or ""), where=key
        )
    return ConfigError(
        f"{named} is taken by another program.", todo="Stop that program, or set another port.", where=key
    )


#: OpenSSL's X509_V_ERR_* -> words.
_CERTIFICATES: Mapping[int, str] = {
    9: "its certificate does not hold yet: look at the clocks",
    10: "its certificate has ended",
    18: "its certificate is of no authority that is trusted here",
    19: "its certificate is of no authority that is trusted here",
    20: "its certificate is of no authority that is trusted here",
    21: "its certificate is of no authority that is trusted here",
    62: "its certificate is for other names",
    64: "its certificate is for other addresses",
}


_PROXY = {403: "it refuses this address", 407: "it asks for a name and a password"}


def connection_trouble(error: BaseException) -> str:
    """Why another system could not be spoken to, in words: of our sockets and of aiohttp's client."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if (kind := type(error).__name__) == "ClientHttpProxyError":
        refusal = _PROXY.get(getattr(error, "status", 0), "it refuses")
        return f"the HTTP proxy does not let us through ({refusal})"
    if kind == "ClientProxyConnectionError":
        return f"the HTTP proxy cannot be reached: {connection_trouble(inner)}"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(
            inner.verify_code, f"its certificate is not trusted ({inner.verify_message})"
        )
    if isinstance(inner, ssl.SSLError):
        return "TLS failed: it may speak none, or want a client certificate"
    if isinstance(inner, TimeoutError):
        return "no answer came in time"
    if isinstance(inner, socket.gaierror):
        return "its name is not known here"
    if isinstance(inner, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(inner, ConnectionError | EOFError) or "Disconnected" in type(inner).__name__:
        return "it closed the connection"
    if isinstance(inner, OSError) and inner.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "there is no way there"
    return kind_in_words(inner)


def reached_not(error: BaseException) -> str:
    """:func:`connection_trouble` as a sentence of its own."""
    said = connection_trouble(error)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def sentence(error: BaseException) -> str | None:
    """What to say of an error instead of a stack; None for one that is a fault of the program."""
    if isinstance(error, CrosslightError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return str(database_trouble(error))
    if isinstance(error, TimeoutError):
        return "No answer came in time. Check address, firewall and that the other side runs."
    if isinstance(error, OSError):
        return file_trouble(error)
    cause: Any = error.__cause__
    if type(error).__module__.startswith("psycopg"):
        return "PostgreSQL refused this. Check that it runs, [database] in registry.toml, and its log."
    return sentence(cause) if isinstance(cause, OSError | sqlite3.Error) else None
