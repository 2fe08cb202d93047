"""``crosslight-registry identity``: the work of an identity officer on the command line.

What waits is listed and decided, and decisions are taken back.

Beside a running registry or without it, as the other commands: they meet in the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from crosslight.runtime.command import run
from crosslight.runtime.operators import person
from crosslight.runtime.terminal import make_console

if TYPE_CHECKING:
    from registry.officer.decisions import IdentityDecisions, Officer

DECISIONS_SHOWN = 20
REASON = "Why; kept with the decision, shown in its history, and in the audit. No patient's name in it."


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[tuple[IdentityDecisions, Officer]]:
    """The officer's room of the registry in ``folder``, and who is at the console."""
    from crosslight.runtime.caller import command_line
    from registry.commands import opened
    from registry.officer.decisions import Officer
    from registry.parts import make_decisions, make_waists

    async with opened(folder) as offline:
        ground = offline.ground
        waists = make_waists(ground, offline.members)
        await waists.open()
        caller = command_line(ground.seams.ids)
        officer = Officer(caller=caller, face="admin", who=f"{person()} (command line)")
        yield make_decisions(ground, waists, offline.members), officer


def _print(lines: Iterable[Any]) -> None:
    console = make_console()
    for line in lines:
        console.print(line, markup=False) if isinstance(line, str) else console.print(line)


@click.group()
def identity() -> None:
    """Records that may be of two people, and numbers that two claim: look, decide, take back.

    HANDLE is one of the queue's, like K7QX-1B2C, or AUTHORITY|NUMBER of a record.
    """


@identity.command("list")
@click.option("--all", "everything", is_flag=True, help=f"All decisions of late, not {DECISIONS_SHOWN} only.")
@click.pass_obj
def list_queue(folder: Path, everything: bool) -> None:
    """What waits for a decision, and what was decided. No patient is named."""

    async def work() -> None:
        from registry.identity_printing import decision_lines, queue_table

        async with _opened(folder) as (room, officer):
            queue = await room.queue(officer)
        shown = queue.decisions if everything else queue.decisions[:DECISIONS_SHOWN]
        _print([queue_table(queue), *(["Decisions, newest first"] if shown else ()), *decision_lines(shown)])

    run(work())


@identity.command()
@click.argument("handle")
@click.pass_obj
def show(folder: Path, handle: str) -> None:
    """Both sides of a case side by side: who they are, their numbers, their studies."""

    async def work() -> None:
        from registry.identity_printing import case_lines

        async with _opened(folder) as (room, officer):
            case = await room.case(handle, officer)
        _print(case_lines(case))

    run(work())


@identity.command()
@click.argument("handle")
@click.option("--same", "verdict", flag_value="same", help="They are one human being.")
@click.option(
    "--another", "verdict", flag_value="another", help="What is in doubt is another person than the record."
)
@click.option(
    "--alone",
    "verdict",
    flag_value="alone",
    help="The record stands alone, and holds no number that another claims.",
)
@click.option(
    "--with", "other", metavar="HANDLE", default="", help="With --same: as whom, where there are several."
)
@click.option("--reason", required=True, help=REASON)
@click.pass_obj
def decide(folder: Path, handle: str, verdict: str | None, other: str, reason: str) -> None:
    """Decide a case. It holds at once, for everybody who asks."""
    if verdict is None:
        raise click.UsageError("Say --same, --another or --alone.")
    if other and verdict != "same":
        raise click.UsageError("--with goes with --same.")

    async def work() -> None:
        async with _opened(folder) as (room, officer):
            made = await room.decide(
                handle, cast(Literal["same", "another", "alone"], verdict), officer, reason, other=other
            )
        _print(
            [
                f"Decided: {made.says()}. To take it back: crosslight-registry identity end {made.short}"
                " --reason …"
            ]
        )

    run(work())


@identity.command()
@click.argument("decision")
@click.option("--reason", required=True, help=REASON)
@click.pass_obj
def end(folder: Path, decision: str, reason: str) -> None:
    """Take a decision back: records are linked as if it had never been.

    DECISION is its id, as `list` shows it.
    """

    async def work() -> None:
        async with _opened(folder) as (room, officer):
            ended = await room.end(decision, officer, reason)
        _print([f"Ended: “{ended.says()}” is decided no more."])

    run(work())


@identity.command()
@click.argument("number", metavar="AUTHORITY|NUMBER")
@click.option("--reason", required=True, help=REASON)
@click.pass_obj
def unmerge(folder: Path, number: str, reason: str) -> None:
    """Undo a merge (A40) that was a mistake, by the number that was merged away."""

    async def work() -> None:
        from crosslight.runtime.audit.printing import parse_patient

        who = parse_patient(number)
        async with _opened(folder) as (room, officer):
            await room.unmerge(who, officer, reason)
        _print(["The merge is undone."])

    run(work())


@identity.command()
@click.argument("handle")
@click.pass_obj
def history(folder: Path, handle: str) -> None:
    """Every move of a record between persons, and every decision on it: when, who, why."""

    async def work() -> None:
        from registry.identity_printing import decision_lines, move_lines

        async with _opened(folder) as (room, officer):
            case = await room.case(handle, officer)
        _print([f"{case.handle}: {case.kind or 'nothing waits'}"])
        _print(["Moves, oldest first; times in UTC", *(move_lines(case.moves) if case.moves else ["none"])])
        _print(["Decisions, newest first", *(decision_lines(case.decisions) if case.decisions else ["none"])])

    run(work())
