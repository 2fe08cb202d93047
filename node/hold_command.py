"""``crosslight-node hold``: what is kept whatever any rule or command says, until somebody lifts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosslight.runtime.audit import About
from crosslight.runtime.audit.printing import parse_patient
from crosslight.runtime.caller import command_line
from crosslight.runtime.command import run
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.terminal import counted, make_console, printable
from crosslight.standards.ids import Identifier, checked_uid
from node.archive.holds import Hold
from node.offline import Offline, opened
from node.printing import moment


@click.group()
def hold() -> None:
    """Legal holds: studies that nothing removes until somebody lifts the hold."""


@hold.command()
@click.option("--study", "studies", multiple=True, metavar="UID", help="This study; may be given again.")
@click.option(
    "--patient", default="", metavar="NUMBER",
    help="All studies of this patient, those to come too; AUTHORITY|NUMBER names the authority's OID.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="All that is here, and whatever comes.")
@click.option(
    "--reason", required=True, help="Why; kept with the hold and in the audit. No patient's name in it."
)
@click.pass_obj
def add(folder: Path, studies: tuple[str, ...], patient: str, everything: bool, reason: str) -> None:
    """Hold studies, a patient's studies, or all."""
    if bool(studies) + bool(patient) + everything != 1:
        raise click.UsageError("Say one of --study, --patient and --all.")
    uids = [checked_uid(named, "--study") for named in studies]
    number = parse_patient(patient) if patient else None
    run(place(folder, uids, number, reason, make_console()))


@hold.command()
@click.argument("number", type=int)
@click.option("--reason", required=True, help="Why it ends; kept with the hold and in the audit.")
@click.pass_obj
def remove(folder: Path, number: int, reason: str) -> None:
    """Lift the hold NUMBER, as `hold list` shows it."""
    run(lift(folder, number, reason, make_console()))


@hold.command("list")
@click.option("--lifted", is_flag=True, help="Those that were lifted, too.")
@click.pass_obj
def list_(folder: Path, lifted: bool) -> None:
    """List the holds that stand."""
    run(show(folder, make_console(), lifted=lifted))


async def place(
    folder: Path, studies: Sequence[str], patient: Identifier | None, reason: str, console: Console
) -> None:
    """Place a hold for each study, or one for a patient, or one for all where neither is named."""
    async with opened(folder) as node:
        for study_uid in dict.fromkeys(studies) or ("",):
            by = command_line(node.seams.ids)
            about = await _about(node, study_uid, patient, reason)
            async with node.audit.act(by, "admin", "hold", about, decision=AT_THE_MACHINE) as act:
                placed, going = await node.archive.holds.add(
                    by.principal.name, reason, study_uid=study_uid, patient=patient
                )
                act.done()
            console.print(
                f"Hold {placed.id} stands: {printable(_held(placed))}.",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            if going:
                console.print(
                    f"A purge had begun before with {counted(going, 'study', 'studies')} of it: what was"
                    " removed until now is gone, the rest stays.",
                    markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip


async def lift(folder: Path, number: int, reason: str, console: Console) -> None:
    """End a hold."""
    async with opened(folder) as node:
        by = command_line(node.seams.ids)
        standing = await node.archive.holds.one(number)
        about = await _about(node, standing.study_uid, standing.patient, reason, number)
        async with node.audit.act(by, "admin", "lift-hold", about, decision=AT_THE_MACHINE) as act:
            lifted = await node.archive.holds.lift(number, by.principal.name, reason)
            act.done()
    console.print(
        f"Hold {lifted.id} is lifted: {printable(_held(lifted))}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


async def show(folder: Path, console: Console, *, lifted: bool) -> None:
    """Print the holds."""
    async with opened(folder) as node:
        holds = await node.archive.holds.all(lifted=lifted)
    if not holds:
        console.print("No hold stands.")
        return
    table = Table()
    for name in ("Hold", "Of", "Reason", "By", "Since", *(("Lifted",) if lifted else ())):
        table.add_column(name, overflow="fold")
    for one in holds:
        ended = ""
        if one.lifted_unix:
            ended = f"{moment(one.lifted_unix)} by {printable(one.lifted_by)}: {printable(one.lifted_why)}"
        cells = (str(one.id), _held(one), one.reason, one.placed_by, moment(one.placed_unix), ended)
        table.add_row(*(Text(printable(cell)) for cell in cells[: len(table.columns)]))
    console.print(table)


async def _about(
    node: Offline, study_uid: str, patient: Identifier | None, reason: str, number: int = 0
) -> About:
    patients = await node.archive.patients_of(study_uid) if study_uid else ()
    query = {"reason": reason, "hold": number, "all": not study_uid and patient is None}
    return About(
        patients=(patient,) if patient is not None else patients,
        studies=(study_uid,) if study_uid else (),
        query={name: value for name, value in query.items() if value},
    )


def _held(one: Hold) -> str:
    if one.kind == "study":
        return f"study {one.study_uid}"
    if one.patient is None:
        return "all studies"
    return f"patient {'|'.join(part for part in (one.patient.authority, one.patient.value) if part)}"
