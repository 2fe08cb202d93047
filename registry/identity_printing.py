"""The identity officer's cases as the command prints them, readable on 80 columns.

Whoever runs it may read patient data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crosslight.runtime.terminal import counted, printable
from registry.identity.cases import (
    Case,
    LinkEvent,
    Queue,
    RecordDecision,
    Side,
    StudyLine,
    compared,
    handle_of,
)
from registry.portal import wording as words

MAX_LINES = 12  # studies of one side


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def queue_table(queue: Queue) -> Table:
    """What waits, oldest first; no patient is named."""
    more = f"; the oldest {len(queue.waiting)} are listed" if queue.total > len(queue.waiting) else ""
    table = Table(
        box=box.SIMPLE_HEAD, caption=f"{counted(queue.total, 'record')} waiting{more}; times in UTC"
    )
    table.add_column("handle", no_wrap=True)
    table.add_column("what", overflow="fold")
    for column in ("at", "against"):
        table.add_column(column, overflow="fold")
    table.add_column("since", no_wrap=True)
    for waiting in queue.waiting:
        table.add_row(
            waiting.handle,
            waiting.kind,
            waiting.member or "elsewhere",
            ", ".join(waiting.others),
            _time(waiting.since),
        )
    return table


def decision_lines(decisions: Iterable[RecordDecision]) -> Iterator[Text | Padding]:
    """Decisions with their ids, in force or ended."""
    for decision in decisions:
        state = "in force" if decision.in_force else "ended"
        yield Text(
            f"{decision.short}  {state}{' (merge)' if decision.merge else ''}: {decision.says()}",
            style="" if decision.in_force else "dim",
        )
        yield Padding(
            Text(f"{_time(decision.at)} by {printable(decision.who)}: {printable(decision.why)}"),
            (0, 0, 0, 10),
        )
        if decision.ended_at is not None:
            by_whom = f"{_time(decision.ended_at)} by {printable(decision.ended_who)}"
            text = f"ended {by_whom}: {printable(decision.ended_why)}"
            yield Padding(Text(text), (0, 0, 0, 10))


def move_lines(moves: Iterable[LinkEvent]) -> Iterator[Text | Padding]:
    """A record's moves between persons, oldest first; a person is named by their first record."""
    for move in moves:
        disputed = ", disputed" if move.disputed else ""
        yield Text(
            f"{_time(move.at)}  person {handle_of(move.from_person)} -> {handle_of(move.to_person)}{disputed}"
        )
        yield Padding(Text(f"by {printable(move.who)}: {printable(move.why)}"), (0, 0, 0, 18))


def case_lines(case: Case) -> Iterator[Text | Padding | Table]:
    """Both sides of a case, side by side."""
    since = f" since {_time(case.since)} UTC" if case.since is not None else ""
    yield Text(f"{case.handle}  {case.kind or 'nothing waits'}{since}", style="bold")
    if not case.others:
        yield _table(case.subject, None)
    for other in case.others:
        yield _table(case.subject, other)
    if case.more:
        yield Text(f"{counted(case.more, 'more record')} of the same numbers not shown.")
    yield from decision_lines(case.decisions)
    yield Text(_may(case))


def _may(case: Case) -> str:
    said = {
        "same": (
            "--same: one human being"
            + (" (--with HANDLE where there are several)" if len(case.candidates) > 1 else "")
        ),
        "another": "--another: another person than the record that it came under",
        "alone": "--alone: it stands alone, and holds no number that another claims",
    }
    if not case.open_verdicts:
        return "Decided. `identity end DECISION --reason …` takes it back."
    return "To decide: " + "; ".join(said[verdict] for verdict in case.open_verdicts) + "."


def _table(mine: Side, other: Side | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, show_lines=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column(mine.handle, overflow="fold", ratio=1)
    if other is None:
        for label, side in _facts(mine):
            table.add_row(label, side)
        return table
    table.add_column(f"{other.handle}: {other.relation}", overflow="fold", ratio=1)
    table.add_column("", no_wrap=True)
    agreement = compared(mine, other)
    told = {
        "name": agreement.name,
        "born": agreement.birth_date,
        "gender": agreement.sex,
        "numbers": agreement.numbers,
        "postcode": agreement.postcode,
    }
    for (label, left), (_, right) in zip(_facts(mine), _facts(other), strict=True):
        said = told.get(label, "")
        table.add_row(label, left, right, Text(said.upper() if said == "differs" else said))
    return table


def _facts(side: Side) -> list[tuple[str, str]]:
    patient, record = side.patient, side.record
    numbers = ", ".join(printable(words.number(n)) for n in side.numbers)
    doubt = (
        "in doubt" if record.in_doubt else "disputed" if record.disputed else "holds it" if side.holds else ""
    )
    traced = "traced" if side.traced and side.numbers else ""
    studies = [_study(s) for s in side.studies[:MAX_LINES]]
    hidden = len(side.studies) - len(studies) + side.more_studies
    if hidden:
        studies.append(f"and {hidden} more")
    return [
        ("name", printable(words.person_name(patient.name))),
        ("born", words.day(patient.birth_date) or words.UNKNOWN),
        ("gender", words.sex(patient.sex)),
        (
            "numbers",
            (
                f"{numbers or words.UNKNOWN}{' (' if traced or doubt else ''}"
                f"{', '.join(filter(None, (traced, doubt)))}"
                f"{')' if traced or doubt else ''}"
            ),
        ),
        ("postcode", printable(patient.postcode)),
        ("own no.", f"{printable(words.local_number(patient))} at {side.member or 'elsewhere'}"),
        ("studies", "\n".join(studies) or "none"),
    ]


def _study(study: StudyLine) -> str:
    what = printable(" ".join(part for part in ("/".join(study.modalities), study.description) if part))
    return f"{words.day(study.date) or 'no date'} {what} ({study.member})"
