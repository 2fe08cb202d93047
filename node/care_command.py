"""The commands by which people look after what a node holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from crosslight.runtime.command import run
from crosslight.runtime.terminal import make_console

identity_option = click.option(
    "--identity", "identities", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the private key of an encrypted backup.",
)  # fmt: skip


async def verify_objects(
    folder: Path, console: Console, *, source: Path | None = None, identities: Sequence[Path] = ()
) -> bool:
    """Re-hash every object; whether all are there and whole then.

    What is not whole is repaired from the backup ``source``.
    """
    from node.commands import progress_bar, vault_from
    from node.offline import at_the_machine, opened
    from node.printing import fault_lines

    vault = vault_from(source, identities) if source is not None else None
    async with opened(folder) as node:
        with progress_bar(console) as bar:
            task = bar.add_task("Verifying", total=None)
            report = await node.archive.verify(
                lambda done, total: bar.update(task, completed=done, total=total)
            )
        left = report.faults
        for fault in left:
            told = {"instance": fault.sop_uid, "object": fault.kind}
            async with await at_the_machine(node, "verify", fault.study_uid, **told) as act:
                act.done("failed", objects=1)
        if vault is not None and source is not None and left:
            async with await at_the_machine(node, "restore", source=str(source)) as act:
                left = await node.archive.repair(left, source, vault)
                act.gave(len(report.faults) - len(left), "objects", of=len(report.faults))
    console.print(
        f"{report.checked} objects checked, {len(report.missing)} missing, {len(report.damaged)} damaged."
    )
    if source is not None:
        console.print(
            f"{len(report.faults) - len(left)} repaired from {source}.", markup=False, soft_wrap=True
        )
    for line in fault_lines(left):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if left and source is None:
        console.print(
            "Repair them from a backup: crosslight-node verify --repair-from BACKUP",
            markup=False,
            soft_wrap=True,
        )
    return not left


@click.command()
@click.option(
    "--repair-from", "source", type=click.Path(exists=True, path_type=Path, file_okay=False),
    help="Take what is missing or damaged from this backup.",
)  # fmt: skip
@identity_option
@click.pass_obj
def verify(folder: Path, source: Path | None, identities: tuple[Path, ...]) -> None:
    """Read every object again and compare it with its digest; status 1 if one is missing or damaged.

    Such an object is set apart: it is given to nobody until it comes again, or is repaired.
    """
    done = run(verify_objects(folder, make_console(), source=source, identities=identities))
    sys.exit(0 if done else 1)
