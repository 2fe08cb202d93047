"""``crosslight-registry token`` and ``system``: what apps and outside systems get, with their grants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crosslight.runtime.command import run
from crosslight.runtime.terminal import make_console
from crosslight.standards.access import CAPABILITIES, INTEGRATOR, ROLES

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


@click.command()
@click.option(
    "--role",
    type=click.Choice(sorted(set(ROLES) - {"open", "gateway", "member"})),
    required=True,
    help="What it may do; an integrator only what is granted.",
)
@click.option("--user", required=True, help="Whom or what it stands for: the audit shows token:USER.")
@click.option("--organisation", default="", help="Organisation code.")
@click.option(
    "--hours", type=click.FloatRange(0.01, 48), default=12.0, show_default=True, help="How long it holds."
)
@click.option(
    "--for", "member", default="", metavar="CODE", help="For this member's own node, not for the registry."
)
@grant_options
@click.pass_obj
def token(
    folder: Path, /, role: str, user: str, organisation: str, hours: float, member: str, **asked: Any
) -> None:
    """Print an access token for an app (FHIR, DICOMweb).

    It is for the registry, which exchanges it for one for a node (POST /token, RFC 8693). One of role
    integrator may do what is granted here, and nothing else.
    """
    from registry import commands
    from registry.members.systems import NOTHING, asked_grants

    async def work() -> str:
        grants = asked_grants(**asked)
        if role == INTEGRATOR and grants == NOTHING:
            click.echo("WARNING: it may do nothing: say what it may, as --may find,open.", err=True)
        return await commands.issue_token(
            folder,
            role=role,
            user=user,
            organisation=organisation,
            hours=hours,
            member=member,
            grants=grants,
        )

    click.echo(run(work()))


@click.command()
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path, file_okay=False), required=False)
@grant_options
@click.option("--revoke", is_flag=True, help="Take away all that was granted before.")
@click.pass_obj
def system(folder: Path, /, name: str, target: Path | None, revoke: bool, **asked: Any) -> None:
    """Make a client certificate for an outside system (an XDS consumer, say), and say what it may do.

    Written to TARGET: NAME.pem, NAME.key and ca.pem. Without TARGET only what it may do changes, at once.

    A new system may do nothing. What is granted comes to what it has; --revoke takes that away first.
    """
    from registry import commands
    from registry.members.systems import asked_grants, granted_text

    async def work() -> None:
        files, stored = await commands.system(folder, name, target, asked_grants(**asked), revoke=revoke)
        if files is not None:
            make_console().print(
                f"Made {files.cert}, {files.key} and {files.ca}.", markup=False, soft_wrap=True
            )
        why = " (by the upgrade; nobody granted it)" if stored.upgrade else ""
        make_console().print(f"{name} may: {granted_text(stored.grants)}{why}", markup=False, soft_wrap=True)

    run(work())
