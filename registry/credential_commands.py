"""``crosslight-registry credentials``: what was given to whom, and ending it before its time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from crosslight.runtime.command import run
from crosslight.runtime.terminal import make_console, printable

if TYPE_CHECKING:
    from registry.access.issued import CredentialKind, IssuedCredentials, Listed

KINDS = ("session", "token", "certificate", "invitation", "system")


@asynccontextmanager
async def opened_credentials(folder: Path) -> AsyncIterator[IssuedCredentials]:
    """What was given to whom by the registry in ``folder``."""
    from registry.access.issued import IssuedCredentials
    from registry.access.session_list import SessionList
    from registry.access.store import AccessStore
    from registry.commands import opened

    async with opened(folder) as offline:
        seams = offline.ground.seams
        await AccessStore(offline.db, seams.clock, seams.ids).open()
        yield IssuedCredentials(offline.members, SessionList(offline.db, seams.clock))


@click.group(invoke_without_command=True)
@click.option("--kind", type=click.Choice(KINDS), help="These only.")
@click.option("--all", "everything", is_flag=True, help="Those too that were ended before their time.")
@click.pass_context
def credentials(context: click.Context, kind: str | None, everything: bool) -> None:
    """Sessions, tokens, certificates, invitations and outside systems: whose, since and until when.

    No id that is shown opens anything. To end one: credentials end KIND ID; all of a person who leaves:
    credentials end --user SUBJECT.
    """
    if context.invoked_subcommand is not None:
        return

    async def work() -> Sequence[Listed]:
        async with opened_credentials(cast(Path, context.obj)) as issued:
            return await issued.all()

    shown = [
        credential
        for credential in run(work())
        if kind in (None, credential.kind) and (everything or not credential.withdrawn)
    ]
    make_console().print(credentials_table(shown))


@credentials.command()
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.argument("named", metavar="ID", required=False)
@click.option("--user", metavar="SUBJECT", default="", help="All sessions and tokens of this person or app.")
@click.pass_context
def end(context: click.Context, kind: str | None, named: str | None, user: str) -> None:
    """End a credential before its time: at the registry within a second, at the nodes within five.

    ID is one of the list, or its beginning. A system loses its grants and all its certificates. A person may
    sign in again as long as the identity provider lets them.
    """
    if bool(user) == bool(kind and named):
        raise click.UsageError("Say KIND and ID, or --user SUBJECT.")

    async def work() -> Sequence[Listed]:
        async with opened_credentials(cast(Path, context.obj)) as issued:
            if user:
                return await issued.end_user(user)
            return [await issued.end(cast("CredentialKind", kind), str(named))]

    console = make_console()
    for credential in run(work()):
        text = f"Ended: {credential.kind} {credential.id} of {printable(credential.whom)}."
        console.print(text, markup=False, soft_wrap=True)


def credentials_table(credentials: Sequence[Listed]) -> Any:
    """Readable in 80 columns."""
    from rich.table import Table
    from rich.text import Text

    from registry.access.issued import SHOWN

    table = Table(caption="times in UTC", show_lines=True)
    for column in ("kind and id", "whose, and what it may", "since, until, last used"):
        table.add_column(column, overflow="fold")
    for credential in credentials:
        kind = credential.kind + (" (ended)" if credential.withdrawn else "")
        shown = credential.id if credential.kind == "system" else credential.id[:SHOWN]
        times = [f"since {_time(credential.since)}"]
        times += [f"until {_time(credential.until)}"] if credential.until else []
        times += [f"used {_time(credential.used)}"] if credential.used else []
        whose = [credential.whom, *([credential.may] if credential.may else [])]
        table.add_row(*(Text("\n".join(map(printable, part))) for part in ([kind, shown], whose, times)))
    return table


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")
