"""The options by which commands grant something to an outside system or an app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from crosslight.standards.access import CAPABILITIES

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--may",
        multiple=True,
        metavar="WHAT,…",
        help=f"What it may do: some of {', '.join(CAPABILITIES)}.",
    ),
    click.option(
        "--feeds",
        multiple=True,
        metavar="OID",
        help="A patient authority that it may feed; may be given again.",
    ),
    click.option(
        "--publishes",
        multiple=True,
        metavar="OID",
        help="A repositoryUniqueId that it may register documents for; may be given again.",
    ),
    click.option(
        "--stores-at",
        default="",
        metavar="CODE",
        help="The one member that it may store into.",
    ),
)


def grant_options(command: F) -> F:
    """Add them to a command; the values go to :func:`registry.members.systems.asked_grants`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
