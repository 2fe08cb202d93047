"""What the commands of both services share: folders, a systemd unit, ending with a problem's words."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from crosslight.runtime.config import commented
from crosslight.runtime.files import PRIVATE_FOLDER, Files, private_folder
from crosslight.runtime.machine_errors import sentence
from crosslight.runtime.plain_text import printable
from crosslight.standards.problem import ConfigError

T = TypeVar("T")
TRACE = "CROSSLIGHT_TRACE"  # set in the environment, commands show the stack of a fault

UNIT = """\
[Unit]
Description=Crosslight {service}
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
ExecStart={python} -m {service} --dir {folder} serve
Restart=always
RestartSec=2
User={user}
UMask=0077
ReadWritePaths={folder}
LimitNOFILE=65536
NoNewPrivileges=true
CapabilityBoundingSet=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallFilter=seccomp landlock_create_ruleset landlock_restrict_self
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
ProtectSystem=strict
ProtectHome=read-only
ProtectProc=invisible
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
PrivateDevices=true
PrivateTmp=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
RemoveIPC=true
KeyringMode=private

[Install]
WantedBy=multi-user.target
"""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a problem ends it with its own words and status 1."""
    with in_words():
        return asyncio.run(work)


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what the machine or the other side refused into one sentence.

    A fault of the program is said to be one, and where; its text may hold data, and its stack is for whoever
    asks for it (:data:`TRACE`).
    """
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if (said := sentence(error)) is None:
            if os.environ.get(TRACE):
                raise
            said = (
                f"This is a fault of Crosslight: {_place(error)}. Tell its makers; {TRACE}=1 shows the stack."
            )
        raise click.ClickException(printable(said)) from error


def _place(error: Exception) -> str:
    """Of which kind an error is and where it arose, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


@contextmanager
def private_umask() -> Iterator[None]:
    """Nothing that is made meanwhile is for others to read, whoever makes it for us."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class Commands(click.Group):
    """A group whose commands end in words whatever the machine refuses, not with a stack."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for; what it and its children write is nobody else's."""
        with in_words(), private_umask():
            return super().invoke(ctx)


def make_folder(folder: Path, file: str, config: type[Any], values: dict[str, Any], files: Files) -> Path:
    """Make ``folder`` (0700) with a commented configuration file in it; the file's path.

    Raises:
        ConfigError: if there is one already.
    """
    path = folder / file
    if path.exists():
        raise ConfigError(f"{path} is there already.", todo="Edit it, or choose another folder.")
    private_folder(folder)
    os.chmod(folder, PRIVATE_FOLDER)
    title = (
        f"Crosslight {path.stem}. Every key is explained; those that are commented out have the value shown."
    )
    files.write_atomic(path, commented(config, values, title).encode())
    return path


def write_unit(folder: Path, service: str, files: Files) -> Path:
    """A systemd unit for this folder, to be copied to where systemd looks.

    The service runs as the folder's owner.
    """
    path = folder / f"crosslight-{service}.service"
    user = pwd.getpwuid(folder.stat().st_uid).pw_name
    text = UNIT.format(python=sys.executable, folder=folder.resolve(), user=user, service=service)
    files.write_atomic(path, text.encode())
    return path
