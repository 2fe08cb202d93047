"""Who is at the machine: the person behind a command, as the audit names them (D20).

Known is the user that the system runs the command as, and, where the system keeps it, the one that signed in
(Linux' login uid, which ``su`` and ``sudo`` leave as it is). What ``--as`` and sudo's own variable say is
written beside it as said, for several people may share an account.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from crosslight.runtime.credentials import OPERATOR
from crosslight.standards.access import Decision, Principal

#: Whoever may run a command on a service's folder may do what it does: the folder's modes say who that is.
AT_THE_MACHINE = Decision(True, "operator at the machine")
MAX_NAME_CHARS = 100
_NOBODY = 0xFFFFFFFF  # the login uid of what no sign-in began
_LOGIN_UID = Path("/proc/self/loginuid")
#: What ``--as`` said, for as long as its command runs.
_said: ContextVar[str] = ContextVar("operator", default="")


@contextmanager
def said_to_be(name: str) -> Iterator[None]:
    """Commands run meanwhile are given by a person who says that they are ``name``."""
    token = _said.set(name)
    try:
        yield
    finally:
        _said.reset(token)


def _as(context: click.Context, parameter: click.Parameter, name: str) -> None:
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise click.BadParameter(f"A name has at most {MAX_NAME_CHARS} printable characters.")
    context.with_resource(said_to_be(name.strip()))


def operator_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--as NAME``, of a group of commands."""
    option = click.option(
        "--as",
        "person",
        default="",
        metavar="NAME",
        envvar="CROSSLIGHT_OPERATOR",
        expose_value=False,
        callback=_as,
        help="Who you are, for the audit, where several people share this account (or $CROSSLIGHT_OPERATOR).",
    )
    return option(command)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _login() -> str:
    """Who signed in to the machine, where the system keeps that; else ''."""
    try:
        uid = int(_LOGIN_UID.read_text("ascii"))
    except (OSError, ValueError):
        return ""
    return "" if uid == _NOBODY else _name_of(uid)


def _sudo() -> str:
    """Who sudo says that it acts for; else ''."""
    return "".join(char for char in os.environ.get("SUDO_USER", "") if char.isprintable())[:MAX_NAME_CHARS]


def person() -> str:
    """The person at the machine, by the best that is known or said: never empty."""
    return _said.get() or _sudo() or _login() or _name_of(os.getuid())


def operator() -> Principal:
    """Whoever runs a command here.

    The subject goes by the user that the system knows, the name by what is said; ``credential`` has all.
    """
    uid, login, sudo = os.getuid(), _login(), _sudo()
    user = _name_of(uid)
    known = [f"uid {uid} {user}", f"signed in as {login}" if login and login != user else ""]
    said = [f"sudo by {sudo}" if sudo else "", f"says {_said.get()}" if _said.get() else ""]
    return replace(
        OPERATOR,
        subject=f"operator:{user}",
        name=f"command line: {person()}",
        credential=", ".join(part for part in (*known, *said) if part),
    )
