"""``crosslight-node retention``: what would go by the rules of ``[[archive.retention]]``, and its going."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosslight.runtime.command import run
from crosslight.runtime.terminal import counted, make_console, printable
from crosslight.standards.problem import Conflict, NotFound
from node.archive.config import RetentionRule
from node.archive.retention import DueStudy, StudyTally, Survey
from node.offline import Offline, at_the_machine, opened

_COUNTED_FROM = {"study": "study's date", "stored": "receipt", "opened": "last opening"}


@click.command()
@click.option("--apply", "really", is_flag=True, help="Put what is due into the bin.")
@click.option("--list", "listed", is_flag=True, help="Name each study that is due.")
@click.option("--most", type=click.IntRange(1), default=None, help="With --apply: no more studies than this.")
@click.pass_obj
def retention(folder: Path, really: bool, listed: bool, most: int | None) -> None:
    """Show what would go by the rules of [[archive.retention]]; deletes nothing without --apply.

    What goes lies in the bin for archive.bin_days, where `undelete` takes it back. Studies under a legal
    hold stay.
    """
    run(look(folder, make_console(), really=really, listed=listed, most=most))


async def look(
    folder: Path, console: Console, *, really: bool, listed: bool = False, most: int | None = None
) -> int:
    """Say what is due, and with ``really`` put it into the bin; how many studies went."""
    async with opened(folder) as node:
        retention = node.archive.retention
        if not retention.rules:
            console.print(
                "There is no rule in [[archive.retention]]: nothing is ever deleted by itself.", markup=False
            )
            return 0
        survey, gone, changed = Survey(), 0, 0
        async for due in retention.due(survey):
            if listed:
                console.print(
                    f"{due.study.study_uid} {counted(due.study.instances, 'instance')}:"
                    f" {printable(due.reason)}",
                    markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip
            if really and (most is None or gone < most):
                went = await _delete(node, due)
                gone, changed = gone + went, changed + (not went)
        days = node.config.archive.bin_days
        daily = node.config.archive.retention_daily
    console.print(_table(survey, retention.rules))
    say = _others(survey)
    if really:
        say.append(
            f"{counted(gone, 'study is', 'studies are')} in the bin, for {days:g} days: undelete takes one"
            " back."
        )
        if changed:
            say.append(f"{counted(changed, 'study', 'studies')} had changed meanwhile, and stayed.")
    else:
        say.append(f"Nothing was deleted. With --apply these go into the bin, for {days:g} days.")
        if daily:
            say.append("The node does so by itself, once a day (archive.retention_daily).")
    for line in say:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return gone


async def _delete(node: Offline, due: DueStudy) -> bool:
    study_uid = due.study.study_uid
    try:
        async with await at_the_machine(
            node, "delete", study_uid, reason=due.reason, rule=due.rule.name
        ) as act:
            act.done(instances=await node.archive.retention.delete(due))
    except (Conflict, NotFound):
        return False
    return True


def _table(survey: Survey, rules: tuple[RetentionRule, ...]) -> Table:
    table = Table(title="Due now")
    for name in ("Rule", "Studies of", "Kept", "Counted from"):
        table.add_column(name, overflow="fold")
    for name in ("Studies", "Images", "Bytes", "Since"):
        table.add_column(name, justify="right")
    whole = StudyTally()
    for rule in rules:
        tally = survey.due[rule.name]
        whole.studies += tally.studies
        whole.instances += tally.instances
        whole.size_bytes += tally.size_bytes
        kept = f"{rule.keep_years} years" + (
            f", and until {rule.until_age_years} years old" if rule.until_age_years else ""
        )
        about = ", ".join(rule.modalities) or "any modality"
        cells = (rule.name, about, kept, _COUNTED_FROM[rule.counted_from])
        table.add_row(*(Text(printable(cell)) for cell in cells), *_figures(tally), str(tally.first or ""))
    if len(rules) > 1:
        table.add_section()
        table.add_row("all", "", "", "", *_figures(whole), "")
    return table


def _figures(tally: StudyTally) -> tuple[str, str, str]:
    return f"{tally.studies:,}", f"{tally.instances:,}", f"{tally.size_bytes:,}"


def _others(survey: Survey) -> list[str]:
    lines = [
        (survey.held, "due, and kept by a legal hold: crosslight-node hold list."),
        (survey.elsewhere, "due, and kept: not all of it lies here, but in an archive beside this node."),
        (survey.uncommitted, "due, and kept: committed_to has not committed to all of it (commitment ask)."),
        (survey.undated, "kept for want of a date that can be read (of the study, or of the birth)."),
        (survey.kept, "kept by a rule for longer."),
        (survey.unnamed, "that no rule names, kept for good."),
    ]
    return [f"{counted(tally.studies, 'study', 'studies')} {what}" for tally, what in lines if tally.studies]
