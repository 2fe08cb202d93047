"""``crosslight-registry backup``, ``backup-key`` and ``restore``, in the form of the node's."""

from __future__ import annotations

from pathlib import Path

import click

from crosslight.runtime.command import run
from crosslight.runtime.seams import system_seams
from crosslight.runtime.terminal import make_console

console = make_console()


@click.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--recipient", "recipients", multiple=True, metavar="KEY",
    help="Encrypt to this public key (age1…), or to those in this file; see backup-key. May be given again.",
)  # fmt: skip
@click.pass_obj
def backup(folder: Path, target: Path, recipients: tuple[str, ...]) -> None:
    """Copy the registry into the folder TARGET, also while it serves."""
    from crosslight.runtime.backup_files import Vault, recipients_of
    from registry import backup as backups

    seams = system_seams()
    run(backups.backup(folder, target, seams, Vault(seams.files, recipients=recipients_of(recipients))))
    said = (
        f"Backed up, encrypted, to {target}. Whoever has the private key has the region's keys."
        if recipients
        else f"Backed up to {target}. It holds the region's keys: keep it as safe as the registry itself."
    )
    console.print(said, markup=False, soft_wrap=True)


@click.command("backup-key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup_key(file: Path) -> None:
    """Make a pair of keys for encrypted backups: the private one in FILE, the public one printed.

    Keep FILE elsewhere than the backups and this machine: who has it reads them, and without it nobody does.
    """
    from crosslight.runtime.backup_files import new_identity

    click.echo(new_identity(file, system_seams().files))


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path, file_okay=False))
@click.option(
    "--identity", "identities", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the private key of an encrypted backup.",
)  # fmt: skip
@click.pass_obj
def restore(folder: Path, source: Path, identities: tuple[Path, ...]) -> None:
    """Make a registry in --dir from the backup SOURCE. The nodes then send again what came after it."""
    from crosslight.runtime.backup_files import identities_of
    from registry import backup as backups

    incarnation = run(backups.restore(source, folder, system_seams(), identities_of(identities)))
    console.print(
        f"Restored as incarnation {incarnation}. Next: crosslight-registry --dir {folder} serve",
        markup=False,
        soft_wrap=True,
    )
