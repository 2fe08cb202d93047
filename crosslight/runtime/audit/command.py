"""The ``audit`` command of both services: which acts, and in which form."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import click
from rich.console import Console

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.audit.keeping import Expired
from crosslight.runtime.audit.printing import audit_csv, audit_lines, audit_table, parse_patient
from crosslight.runtime.audit.query import Selection, moment
from crosslight.runtime.caller import Caller
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.terminal import counted
from crosslight.standards.access import Action
from crosslight.standards.problem import Invalid


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What the command was asked for."""

    selection: Selection
    form: str  # table | json | csv
    limit: int  # of the table; the other forms give all


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the command; see :func:`asked`."""
    for option in reversed(
        (
            click.option(
                "--patient",
                default="",
                help="A patient's number; AUTHORITY|NUMBER names the authority's OID.",
            ),
            click.option(
                "--user", default="", help="Who: the account as it is shown in brackets, or the whole name."
            ),
            click.option("--organisation", default="", help="Organisation code of who asked."),
            click.option("--study", default="", metavar="UID", help="A study."),
            click.option(
                "--since",
                "--from",
                "since",
                default="",
                metavar="DAY",
                help="From this day or minute on (UTC): 2026-11-30T14:30.",
            ),
            click.option(
                "--until", default="", metavar="DAY", help="Up to the end of this day, or before this minute."
            ),
            click.option(
                "--action",
                type=click.Choice(sorted(get_args(Action))),
                metavar="ACTION",
                default=None,
                help="What was done: retrieve, publish, sign-in, suspend, decide and so on.",
            ),
            click.option(
                "--decision",
                type=click.Choice(["permit", "deny"]),
                default=None,
                help="Only acts allowed, or refused.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(1, 100_000),
                default=200,
                show_default=True,
                help="Acts in one table.",
            ),
            click.option(
                "--before", type=click.IntRange(1), default=None, metavar="N", help="Only acts older than N."
            ),
            click.option("--json", "as_json", is_flag=True, help="All, one JSON object a line, whole."),
            click.option("--csv", "as_csv", is_flag=True, help="All, as CSV."),
        )
    ):
        command = option(command)
    return command


def expire_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``audit expire``."""
    before = click.option(
        "--before",
        "day",
        required=True,
        metavar="DAY",
        help="Remove the months that were over on this day (UTC).",
    )
    dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
    return before(dry_run(command))


def before_day(day: str) -> str:
    """The option ``--before`` as a moment.

    Raises:
        Invalid: it is no day.
    """
    if not (start := moment(day)):
        raise Invalid("Which day?", todo="Write --before 2019-01-01.")
    return start


def say_expired(expired: Expired, console: Console, *, dry_run: bool) -> None:
    """What an expiry removed, or would."""
    when = f", from {expired.oldest} to {expired.newest}" if expired.acts else ""
    verb = "would be removed" if dry_run else "removed"
    console.print(
        f"{counted(expired.acts, 'act')} {verb}{when}: all from before {expired.before}."
        f" SHA-256 of their rows: {expired.digest}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def asked(
    *,
    patient: str,
    user: str,
    organisation: str,
    study: str,
    since: str,
    until: str,
    action: str | None,
    decision: str | None,
    limit: int,
    before: int | None,
    as_json: bool,
    as_csv: bool,
) -> AuditQuery:
    """The options as values.

    Raises:
        Invalid: a patient or a day that is none.
    """
    selection = Selection(
        patient=parse_patient(patient) if patient else None,
        study=study,
        user=user,
        organisation=organisation,
        since=moment(since),
        until=moment(until, end=True),
        action=action or "",
        decision=decision or "",
        before=before or 0,
    )
    return AuditQuery(selection, "json" if as_json else "csv" if as_csv else "table", limit)


async def print_audit(audit: AuditLog, wanted: AuditQuery, console: Console, by: Caller) -> None:
    """Print what was asked for; a table that does not hold all says so, and how to go on.

    That it was read, by whom and what was asked, is in the audit before a line of it is printed.
    """
    patient, study = wanted.selection.patient, wanted.selection.study
    about = About(
        patients=(patient,) if patient is not None else (),
        studies=(study,) if study else (),
        query=wanted.selection.plain() | {"form": wanted.form},
    )
    async with audit.act(by, "admin", "audit", about, decision=AT_THE_MACHINE, deferred=True) as act:
        act.gave(await _printed(audit, wanted, console, act), "acts")


async def _printed(audit: AuditLog, wanted: AuditQuery, console: Console, act: Act) -> int:
    """Print, once the ``act`` of reading is committed; how many acts."""
    if wanted.form == "table":
        return await _table(audit, wanted, console, act)
    first, count = True, 0
    async for page in audit.pages(wanted.selection):  # older ones each time: never its own act
        await act.begin()
        count += len(page)
        if wanted.form == "json":
            for line in audit_lines(page):
                sys.stdout.buffer.write(line)
        else:
            sys.stdout.write(audit_csv(page, head=first))
        first = False
    if first and wanted.form == "csv":
        sys.stdout.write(audit_csv([], head=True))
    sys.stdout.flush()
    return count


async def _table(audit: AuditLog, wanted: AuditQuery, console: Console, act: Act) -> int:
    total = await audit.count(replace(wanted.selection, before=0))
    acts = await audit.select(wanted.selection, wanted.limit)
    left = await audit.count(replace(wanted.selection, before=acts[-1].seq)) if acts else 0
    await act.begin()
    whole = not left and not wanted.selection.before
    title = f"{total:,} acts" if whole else f"{len(acts):,} of {total:,} acts"
    console.print(audit_table(acts, title))
    if left:
        console.print(
            f"{left:,} older acts are not shown: --before {acts[-1].seq} for the next page, --csv or --json"
            " for all.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return len(acts)
