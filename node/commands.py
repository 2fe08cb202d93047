"""What people do to a node's folder from the command line, whether the node runs or not.

They meet in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from crosslight.runtime.audit.command import AuditQuery, print_audit
from crosslight.runtime.audit.keeping import Expired, Keeping
from crosslight.runtime.backup_files import Vault, identities_of, recipients_of
from crosslight.runtime.caller import command_line
from crosslight.runtime.seams import system_seams
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.terminal import counted, printable
from crosslight.standards.dicom.record.record import patient_of
from crosslight.standards.problem import ConfigError
from node import backup as backups
from node.archive import backup as archive_backup
from node.archive.backup import BackupReport
from node.archive.import_preview import preview_paths
from node.archive.importer import files_below
from node.archive.model import ImportReport
from node.config import read_config, warnings_of
from node.marks import Mark
from node.offline import Offline, at_the_machine, membership_in, opened, publications
from node.parts import rules_of
from node.printing import (
    bin_lines,
    care_rows,
    carried_rows,
    day,
    figure_lines,
    holding_rows,
    membership_rows,
    move_rows,
    note_lines,
    quarantine_lines,
    refused_lines,
    retention_rows,
    source_rows,
    standing_lines,
    waiting_lines,
    withdrawn_lines,
)
from node.publish.build import destination
from node.publish.outbox_store import OutboxStore
from node.publish.reread import Figures, all_studies, read_again
from node.publish.store import PublishStore
from node.sources.sources import figures_of

UNREAD_NUMBER = "With a national number that is none"
SHOWN = 20  # entries of each list that `status` prints
UNSEEN_SHOWN, UNSEEN_CHECKED = 100_000, 500  # studies not yet looked at that `status` counts, and looks into


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


async def import_paths(folder: Path, paths: Sequence[Path], console: Console) -> ImportReport:
    """Take files into the archive, and say what became of them."""
    async with opened(folder) as node:
        total = await node.seams.workers.run(lambda: sum(1 for _ in files_below(paths)))
        with progress_bar(console) as bar:
            task = bar.add_task("Importing", total=total)
            named = [str(path) for path in paths[:SHOWN]]
            async with await at_the_machine(node, "import", paths=named, given=len(paths)) as act:
                report = await node.archive.import_paths(
                    paths, lambda so_far: bar.update(task, completed=so_far.files)
                )
                act.done(
                    stored=report.stored,
                    duplicate=report.duplicates,
                    refused=report.refused + report.conflicts,
                )
    for path, remark in report.remarks:
        console.print(f"{printable(path)}: {remark}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{report.stored} stored, {report.duplicates} were here already, {report.known} known from an earlier"
        f" run, {report.conflicts} in conflict, {report.refused} refused, {report.unread} could not be read,"
        f" {report.skipped} are no DICOM objects.",
        highlight=False,
        soft_wrap=True,
    )
    if report.conflicts or report.refused:
        console.print(
            "What was not kept is in quarantine with its reason: crosslight-node status", highlight=False
        )
    if report.full:
        console.print(
            "[bold red]Stopped: less than archive.min_free_bytes are free. Make room and run it again.[/bold"
            " red]",
            markup=True,
        )
    return report


async def preview(folder: Path, paths: Sequence[Path], console: Console) -> None:
    """Say what an import would publish."""
    config = read_config(folder)
    seams = system_seams()
    rules = rules_of(config, membership_in(folder, config, seams))
    try:
        total = await seams.workers.run(lambda: sum(1 for _ in files_below(paths)))
        with progress_bar(console) as bar:
            task = bar.add_task("Reading", total=total)
            pile = await seams.workers.run(
                preview_paths, paths, config.archive.limits(), lambda n: bar.update(task, completed=n)
            )
    finally:
        await seams.workers.close()
    figures = Figures(rules.nationals)
    for study_uid, attributes in pile.patients():
        figures.add(patient_of(attributes, rules, study_uid))
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(
        f"{pile.files} files: {pile.objects} objects of {figures.studies} studies, {pile.other} that are"
        " no DICOM."
    )
    for path, why in pile.refused:
        say(f"would be refused: {printable(str(path))}: {why}")
    if pile.more_refused:
        say(f"and {pile.more_refused} more would be refused.")
    for line in figure_lines(figures, None, rules):
        say(line)


async def reread(folder: Path, studies: Sequence[str], console: Console, *, dry_run: bool) -> bool:
    """Make records anew; whether all that were named are here."""
    async with opened(folder) as node, AsyncExitStack() as acts:
        if node.membership is None:
            raise ConfigError("This node has not joined a region.", todo="Run join with an invitation.")
        store = PublishStore(node.db, node.seams.ids, (destination(node.config.publish),))
        await store.open()
        total = len(studies) or (await node.archive.status()).studies
        with progress_bar(console) as bar:
            task = bar.add_task("Reading again", total=total)
            if not dry_run:
                await acts.enter_async_context(
                    await at_the_machine(node, "reread", given=len(studies) or total)
                )
            outcome = await read_again(
                node.archive,
                store,
                node.archive.rules.nationals,
                studies or all_studies(node.archive),
                dry_run=dry_run,
                progress=lambda done: bar.update(task, completed=done),
            )
        why = node.membership.not_agreed(node.archive.rules.authority)
        rules = node.archive.rules
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    verb = "would be" if dry_run else "will be"
    say(f"{counted(outcome.now.studies, 'study', 'studies')} read, {outcome.changed} {verb} published anew.")
    if outcome.new:
        say(f"{counted(outcome.new, 'study', 'studies')} of these not published yet.")
    for line in figure_lines(outcome.now, outcome.before, rules):
        say(line)
    for study_uid in outcome.unknown:
        say(f"not held here: {printable(study_uid)}")
    if why:
        say(f"Nothing is published: {why}")
    return not outcome.unknown


async def delete(folder: Path, study_uid: str, reason: str) -> int:
    """Put a study into the bin."""
    async with opened(folder) as node:
        async with await at_the_machine(node, "delete", study_uid, reason=reason) as act:
            count = await node.archive.delete(study_uid, reason)
            act.done(instances=count)
        return count


async def undelete(folder: Path, study_uid: str) -> int:
    """Take a study out of the bin."""
    async with opened(folder) as node:
        async with await at_the_machine(node, "undelete", study_uid) as act:
            count = await node.archive.restore(study_uid)
            act.done(instances=count)
        return count


async def retry(folder: Path, study_uid: str) -> int:
    """Try parked studies again."""
    async with opened(folder) as node:
        rows = await _outbox(node)
        async with await at_the_machine(node, "retry", study_uid) as act:
            count = await rows.unpark(study_uid)
            act.done(studies=count)
        return count


async def _outbox(node: Offline) -> OutboxStore:
    await publications(node)
    rows = OutboxStore(node.db, destination(node.config.publish))
    await rows.open()
    return rows


async def _unrevised(node: Offline) -> list[str]:
    """Studies whose change no revision has yet: of a node that does not run, or of this moment."""
    store = PublishStore(node.db, node.seams.ids, (destination(node.config.publish),))
    marks: list[tuple[Mark, bool]] = []
    after: str | None = ""
    while after is not None and len(marks) < UNSEEN_SHOWN:
        unseen, after = await store.unseen(after, UNSEEN_SHOWN)
        marks += unseen
    few = len(marks) <= UNSEEN_CHECKED  # what went before anything was published of it needs no revision
    return [
        mark.study_uid
        for mark, known in marks
        if known or not few or await node.archive.record(mark.study_uid) is not None
    ]


async def status(folder: Path, console: Console) -> None:
    """Print what is held, waiting and refused, and how the node stands with its region."""
    async with opened(folder) as node:
        archived = await node.archive.status()
        rows = await _outbox(node)
        waiting, parked, indexed_from = await rows.counts(await _unrevised(node))
        refused, held_back = await rows.parked(SHOWN), await rows.held_back(SHOWN)
        store = PublishStore(node.db, node.seams.ids, ())
        unread, unread_studies = await store.unread_numbers(SHOWN)
        withdrawn, withdrawn_last = await store.withdrawn(SHOWN)
        quarantined = await node.archive.quarantine.entries(SHOWN)
        binned = await node.archive.bin()
        disagreement = (
            node.membership.not_agreed(node.archive.rules.authority) if node.membership is not None else ""
        )
        note_counts = await node.archive.note_counts()
        today = node.seams.clock.now().date()
        sources = await figures_of(node.db, node.config.sources, today, SHOWN)
        care, damaged = await node.archive.care.state(), await node.archive.faults(SHOWN)
        now_unix = node.seams.clock.now().timestamp()
        holds = await node.archive.holds.all()
        moving, carried = await node.archive.mover.state(), await node.archive.carrier.state()
        away = await node.archive.carrier.away()
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in (
        *membership_rows(node.membership, serving=FolderLock.is_held(folder)),
        *holding_rows(archived),
        *care_rows(care, node.config.archive.care.period_days, now_unix),
        *source_rows(sources),
        *move_rows(moving),
        *carried_rows(carried, node.config.archive.object_store.url, away),
        *retention_rows(node.config.archive, len(holds)),
        ("Waiting for the registry", counted(waiting, "study", "studies")),
        ("Refused by the registry", counted(parked, "study", "studies")),
        ("Withdrawn", counted(withdrawn, "study", "studies")),
        (
            UNREAD_NUMBER,
            f"{counted(unread, 'study', 'studies')}: published without it" if unread else "no study",
        ),
        ("Indexed from", day(indexed_from) or "nothing yet"),
    ):
        table.add_row(name, Text(text))
    console.print(table)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if disagreement:
        say(f"Nothing is published: {disagreement}")
    for warning, todo in warnings_of(node.config):
        say(f"{warning} {todo}")
    for line in (
        *standing_lines(damaged, care.standing),
        *refused_lines(refused, parked),
        *waiting_lines(held_back),
        *withdrawn_lines(withdrawn_last, withdrawn),
    ):
        say(line)
    for line in note_lines(note_counts):
        say(line)
    for study_uid in unread_studies:
        say(
            f"number: {study_uid}: a national number of its patient fails its check; mend it in the PACS, and"
            " send again"
        )
    for line in (*quarantine_lines(quarantined, archived.quarantined), *bin_lines(binned)):
        say(line)


async def notes(folder: Path, only: str, console: Console) -> None:
    """Print the studies that have notes, all of them or those of one note."""
    after = ""
    async with opened(folder) as node:
        while page := await node.archive.noted(after):
            for study_uid, study_notes in page:
                if not only or only in study_notes:
                    console.print(
                        f"{study_uid} {', '.join(study_notes)}", markup=False, highlight=False, soft_wrap=True
                    )
            after = page[-1][0]


def vault_from(source: Path, identities: Sequence[Path]) -> Vault:
    """How the files of the backup in ``source`` are read.

    Raises:
        NotFound: it is no finished backup. ConfigError: it is encrypted and no key was given.
    """
    files = system_seams().files
    if not archive_backup.is_sealed(source):
        return Vault(files)
    if not identities:
        raise ConfigError("This backup is encrypted.", todo="Give the file with its key: --identity FILE.")
    return Vault(files, identities=identities_of(identities))


async def backup_node(
    folder: Path, target: Path, console: Console, recipients: Sequence[str]
) -> BackupReport:
    """Back up the node's folder to ``target``, encrypted where recipients are given."""
    vault = Vault(system_seams().files, recipients=recipients_of(recipients))
    async with opened(folder) as node:
        with progress_bar(console) as bar:
            task = bar.add_task("Backing up", total=None)
            async with await at_the_machine(node, "backup", target=str(target)) as act:
                report = await backups.backup(
                    folder,
                    node.archive,
                    node.audit_db,
                    target,
                    vault,
                    node.seams.workers,
                    lambda done, total: bar.update(task, completed=done, total=total),
                )
                act.done("partial" if report.faults else "ok", objects=report.objects, copied=report.copied)
    return report


async def restore_node(
    source: Path, folder: Path, console: Console, identities: Sequence[Path]
) -> BackupReport:
    """Make a node's folder anew from a backup."""
    vault = vault_from(source, identities)
    with progress_bar(console) as bar:
        task = bar.add_task("Restoring", total=None)
        return await backups.restore(
            source,
            folder,
            vault,
            system_seams(),
            lambda done, total: bar.update(task, completed=done, total=total),
        )


async def audit(folder: Path, wanted: AuditQuery, console: Console) -> None:
    """Print who asked for images."""
    async with opened(folder) as node:
        await print_audit(node.audit, wanted, console, command_line(node.seams.ids))


async def expire_audit(folder: Path, before: str, *, dry_run: bool) -> Expired:
    """Remove the acts from before a day; what they were."""
    async with opened(folder) as node:
        kept = Keeping(node.audit_db, node.seams.clock, node.config.audit.keep_years)
        return await (kept.look(before) if dry_run else kept.expire(before, command_line(node.seams.ids)))
