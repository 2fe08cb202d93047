"""The ``crosslight-node`` command.

What a command needs is imported in it: the libraries take a second or two to load, and others need not wait
for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from crosslight import __version__
from crosslight.runtime.audit.command import asked, audit_options, before_day, expire_options, say_expired
from crosslight.runtime.command import Commands, run, write_unit
from crosslight.runtime.log import setup_logging
from crosslight.runtime.operators import operator_option
from crosslight.runtime.seams import system_seams
from crosslight.runtime.serving import serve as serve_until_told
from crosslight.runtime.terminal import counted, make_console
from crosslight.standards.dicom.file.verdict import NOTES
from node.archive_command import archive
from node.care_command import identity_option, verify
from node.commitment_command import commitment
from node.config import read_config
from node.firewall_command import firewall
from node.hold_command import hold
from node.reject_command import reject
from node.retention_command import retention
from node.setup import init_node, join_region

console = make_console()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="CROSSLIGHT_NODE_DIR",
    help="The node's folder (default: here, or $CROSSLIGHT_NODE_DIR).",
)
@operator_option
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """A trust's node: keeps its own images, publishes an index of them, and releases them when asked.

    Start with `init DIR`, then `join INVITATION` (the region's operator gives it to you), then `serve`.

    Before a registry that is not Crosslight's, set publish.kind = "xds" in node.toml and fill in
    [publish.xds]; there is nothing to join then.
    """
    context.obj = folder
    setup_logging(level="warning")


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--systemd", is_flag=True, help="Also write a systemd unit into the folder.")
def init(directory: Path, systemd: bool) -> None:
    """Make a node's folder with a commented node.toml."""
    files = system_seams().files
    path = init_node(directory, files)
    console.print(
        f"Made {path}. Look through it; set listen.public_host and [[dimse.callers]] at least.",
        markup=False,
        soft_wrap=True,
    )
    if systemd:
        unit = write_unit(directory, "node", files)
        console.print(
            f"Made {unit}: copy it to /etc/systemd/system, then: systemctl enable --now crosslight-node",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Next: crosslight-node --dir {directory} join INVITATION", markup=False, soft_wrap=True)


@main.command()
@click.argument("invitation")
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    metavar="OID",
    help="An OID under which this trust itself issues patient numbers; may be given again, the one "
    "of bare numbers first.",
)
@click.pass_obj
def join(folder: Path, invitation: str, authorities: tuple[str, ...]) -> None:
    """Join the region that gave you INVITATION ('-' reads it from standard input).

    A patient authority of your own that the invitation does not name waits until the region's operator
    agrees.
    """
    text = sys.stdin.read() if invitation == "-" else invitation
    state = run(join_region(folder, text, system_seams(), authorities))
    member = state.member
    console.print(f"Joined {state.region.name} as {member.code} {member.name}.", markup=False, soft_wrap=True)
    console.print(
        f"repositoryUniqueId {member.repository_unique_id}, retrieveLocationUID"
        f" {member.retrieve_location_uid}",
        soft_wrap=True,
    )
    for authority in member.authorities:
        console.print(f"Patient authority of your own: {authority}", markup=False, soft_wrap=True)
    for authority in member.asked:
        console.print(
            f"Not agreed yet: {authority}. The region's operator agrees with: "
            f"crosslight-registry authority {member.code} {authority} --agree",
            markup=False,
            soft_wrap=True,
        )
    if not member.authorities and not member.asked:
        console.print(
            f"Patient numbers that name no issuer are published under {member.authority}.",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Next: crosslight-node --dir {folder} serve", markup=False, soft_wrap=True)


@main.command()
@click.pass_obj
def serve(folder: Path) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    from node.app import NodeApp

    config = read_config(folder)
    setup_logging(level=config.log.level, json=config.log.json)
    if config.listen.open:
        console.print(
            "[bold red]OPEN: no authentication and no TLS, on loopback only. Never with real patients.[/bold"
            " red]",
            markup=True,
        )

    async def work() -> None:
        await serve_until_told(NodeApp(folder, config), "node")

    run(work())


@main.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Take nothing in: only say what the region would see of it.")
@click.pass_obj
def import_(folder: Path, paths: tuple[Path, ...], dry_run: bool) -> None:
    """Take DICOM files into the archive: any pile of files and folders; can be interrupted and run again.

    The node may be running or not. Names what it left behind; status 1 if anything among it seems to be
    DICOM.
    """
    from node import commands

    if dry_run:
        run(commands.preview(folder, paths, console))
        return
    report = run(commands.import_paths(folder, paths, console))
    sys.exit(0 if report.complete else 1)


@main.command()
@click.argument("studies", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All studies that are held.")
@click.option("--dry-run", is_flag=True, help="Only say what would be found.")
@click.pass_obj
def reread(folder: Path, studies: tuple[str, ...], everything: bool, dry_run: bool) -> None:
    """Make the records of STUDIES anew under the configuration of now.

    Those that come out otherwise are published.

    For when a rule of [archive] was set right; a node that starts with other rules does it by itself.
    """
    from node import commands

    if everything == bool(studies):
        raise click.UsageError("Name studies by their UIDs, or say --all.")
    sys.exit(0 if run(commands.reread(folder, studies, console, dry_run=dry_run)) else 1)


@main.command()
@click.argument("study_uid")
@click.option("--reason", required=True, help="Why; kept with the study in the bin.")
@click.pass_obj
def delete(folder: Path, study_uid: str, reason: str) -> None:
    """Delete a study. It stays in the bin for archive.bin_days and can be taken back with `undelete`."""
    from node import commands

    count = run(commands.delete(folder, study_uid, reason))
    console.print(f"{counted(count, 'instance is', 'instances are')} in the bin.", highlight=False)


@main.command()
@click.argument("study_uid")
@click.pass_obj
def undelete(folder: Path, study_uid: str) -> None:
    """Take a deleted study back out of the bin."""
    from node import commands

    count = run(commands.undelete(folder, study_uid))
    console.print(f"{counted(count, 'instance is', 'instances are')} back.", highlight=False)


@main.command()
@click.argument("studies", nargs=-1, required=True)
@click.option(
    "--reason", required=True, help="Why; kept with the study and in the audit. No patient's name in it."
)
@click.pass_obj
def withdraw(folder: Path, studies: tuple[str, ...], reason: str) -> None:
    """Take STUDIES out of the index, with all that was ever published of them.

    For safety, or because they are sealed.

    The registry hides them and their past from everybody, and nothing follows until `publish`. Their objects
    stay here.
    """
    from node import withdraw as withdrawal

    sys.exit(0 if run(withdrawal.withdraw(folder, studies, reason, console)) else 1)


@main.command()
@click.argument("studies", nargs=-1, required=True)
@click.pass_obj
def publish(folder: Path, studies: tuple[str, ...]) -> None:
    """Publish STUDIES again that were withdrawn."""
    from node import withdraw as withdrawal

    sys.exit(0 if run(withdrawal.publish(folder, studies, console)) else 1)


@main.command()
@click.pass_obj
def status(folder: Path) -> None:
    """What is held, waiting, refused, in the bin and in quarantine."""
    from node import commands

    run(commands.status(folder, console))


@main.command()
@click.argument("study_uid", required=False, default="")
@click.pass_obj
def retry(folder: Path, study_uid: str) -> None:
    """Try studies again whose publication was refused for good (one, or all)."""
    from node import commands

    count = run(commands.retry(folder, study_uid))
    console.print(f"{counted(count, 'study', 'studies')} will be tried again.", highlight=False)


@main.command()
@click.option("--only", type=click.Choice(NOTES), default=None, help="Only studies with this note.")
@click.pass_obj
def notes(folder: Path, only: str | None) -> None:
    """List the studies in which the reader tolerated something.

    `status` counts them and says what each note means.
    """
    from node import commands

    run(commands.notes(folder, only or "", console))


@main.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--recipient", "recipients", multiple=True, metavar="KEY",
    help="Encrypt to this public key (age1…), or to those in this file; see backup-key. May be given again.",
)  # fmt: skip
@click.pass_obj
def backup(folder: Path, target: Path, recipients: tuple[str, ...]) -> None:
    """Copy the node into the folder TARGET, also while it serves; running it again copies what is new.

    Every object's digest is checked on the way; status 1 if one is missing or damaged: it is named, all else
    is in the backup.
    """
    from node import commands
    from node.printing import fault_lines

    report = run(commands.backup_node(folder, target, console, recipients))
    how = "Backed up, encrypted," if recipients else "Backed up"
    console.print(
        f"{how} to {target}: {report.objects} objects, {report.copied} of them new.",
        markup=False,
        soft_wrap=True,
    )
    if report.faults:
        console.print(
            f"NOT in the backup: {report.missing} missing and {report.damaged} damaged objects of this node. "
            "Repair them from an older backup: crosslight-node verify --repair-from BACKUP",
            markup=False,
            soft_wrap=True,
        )
        for line in fault_lines(report.faults):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@main.command("backup-key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup_key(file: Path) -> None:
    """Make a pair of keys for encrypted backups: the private one in FILE, the public one printed.

    Keep FILE elsewhere than the backups and this machine: who has it reads them, and without it nobody does.
    """
    from crosslight.runtime.backup_files import new_identity

    print(new_identity(file, system_seams().files))


@main.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path, file_okay=False))
@identity_option
@click.pass_obj
def restore(folder: Path, source: Path, identities: tuple[Path, ...]) -> None:
    """Make a node in --dir from the backup SOURCE. It compares itself with the registry before it publishes.

    All that is whole is restored; status 1 if an object is missing in the backup or damaged: it is named.
    """
    from node import commands
    from node.printing import fault_lines

    report = run(commands.restore_node(source, folder, console, identities))
    whole = report.objects - len(report.faults)
    console.print(f"Restored {whole} of {report.objects} objects.", markup=False, soft_wrap=True)
    if report.faults:
        console.print(
            f"{report.missing} are missing in the backup, {report.damaged} are damaged there:", markup=False
        )
        for line in fault_lines(report.faults):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Next: crosslight-node --dir {folder} serve", markup=False, soft_wrap=True)
    sys.exit(1 if report.faults else 0)


@main.group(invoke_without_command=True)
@audit_options
@click.pass_context
def audit(context: click.Context, /, **options: Any) -> None:
    """Who asked for images here, when, why, and what became of it.

    Of a patient, by a person, an organisation, in a period.

    Frames of one opening are one line with a count; --json and --csv have every act.
    """
    from node import commands

    if context.invoked_subcommand is None:
        run(commands.audit(context.obj, asked(**options), console))


@audit.command()
@expire_options
@click.pass_obj
def expire(folder: Path, day: str, dry_run: bool) -> None:
    """Remove acts from before a day; that it was done, by whom, how many and their digest stay for good."""
    from node import commands

    say_expired(
        run(commands.expire_audit(folder, before_day(day), dry_run=dry_run)), console, dry_run=dry_run
    )


@main.command()
@click.pass_obj
def doctor(folder: Path) -> None:
    """Check this node, while it runs, from outside: health, TLS, clock, DICOM, DICOMweb, publication."""
    from node.doctor import doctor as check

    sys.exit(run(check(folder, console)))


for command in (verify, archive, hold, retention, reject, firewall, commitment):
    main.add_command(command)

if __name__ == "__main__":
    main()
