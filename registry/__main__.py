"""The ``crosslight-registry`` command.

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
from crosslight.runtime.terminal import counted, make_console, printable
from registry.backup_commands import backup, backup_key, restore
from registry.ca_commands import ca
from registry.config import read_config
from registry.credential_commands import credentials
from registry.grant_commands import system, token
from registry.identity_commands import identity
from registry.setup import init_registry

console = make_console()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="CROSSLIGHT_REGISTRY_DIR",
    help="The registry's folder (default: here, or $CROSSLIGHT_REGISTRY_DIR).",
)
@operator_option
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """A region's registry: one index of who holds what, and the faces that answer from it.

    Start with `init DIR`, then `serve`; `invite ODS-CODE` for each trust that joins.
    """
    context.obj = folder
    setup_logging(level="warning")


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--systemd", is_flag=True, help="Also write a systemd unit into the folder.")
def init(directory: Path, systemd: bool) -> None:
    """Make a registry's folder with a commented registry.toml."""
    seams = system_seams()
    path = init_registry(directory, seams.files, seams.ids)
    keys = "region.name, listen.public_host, members.hosts, access.oidc"
    console.print(f"Made {path}. Look through it: {keys}.", markup=False, soft_wrap=True)
    if systemd:
        unit = write_unit(directory, "registry", seams.files)
        console.print(
            f"Made {unit}: copy it to /etc/systemd/system, then: systemctl enable --now crosslight-registry",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Next: crosslight-registry --dir {directory} serve", markup=False, soft_wrap=True)


@main.command()
@click.pass_obj
def serve(folder: Path) -> None:
    """Run the registry until SIGTERM or Ctrl-C."""
    # its libraries take a second to load; the other commands need not wait for them
    from registry.app import RegistryApp

    config = read_config(folder)
    setup_logging(level=config.log.level, json=config.log.json)
    if config.listen.open:
        console.print(
            "[bold red]OPEN: no authentication and no TLS, on loopback only. Never with real patients.[/bold"
            " red]",
            markup=True,
        )

    async def work() -> None:
        await serve_until_told(RegistryApp(folder, config), "registry")

    run(work())


@main.command()
@click.argument("ods_code")
@click.option("--name", default="", help="The organisation's full name.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Name or address under which its node is reached; may be given again.",
)
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    metavar="OID",
    help=(
        "An OID under which the organisation itself issues patient numbers; may be given again, the one of"
        " bare numbers first."
    ),
)
@click.option(
    "--shared",
    is_flag=True,
    help="Such an authority may be another member's too: they share their patient numbers.",
)
@click.pass_obj
def invite(
    folder: Path, ods_code: str, name: str, hosts: tuple[str, ...], authorities: tuple[str, ...], shared: bool
) -> None:
    """Print an invitation for ODS_CODE: single-use, it expires, and carries the pin of the region's CA.

    Hand it over on a way you trust: whoever has it can join as that organisation. The invitation alone goes
    to standard output.
    """
    from registry import commands

    invited = run(
        commands.invited(folder, ods_code, name=name, hosts=hosts, authorities=authorities, shared=shared)
    )
    for line in invited.notes:
        click.echo(printable(line), err=True)
    print(invited.text)


@main.command()
@click.argument("ods_code")
@click.argument("oid")
@click.option(
    "--agree", "act", flag_value="agree", help="Patient numbers under OID are this member's own from now on."
)
@click.option("--withdraw", "act", flag_value="withdraw", help="They are not, or no longer.")
@click.option("--shared", is_flag=True, help="With --agree: although they are another member's too.")
@click.pass_obj
def authority(folder: Path, ods_code: str, oid: str, act: str | None, shared: bool) -> None:
    """Agree to a patient authority of a member's own, or withdraw it. `members` lists those that wait."""
    from registry import commands

    if act is None:
        raise click.UsageError("Say --agree or --withdraw.")
    member = run(commands.authority(folder, ods_code, oid, agree=act == "agree", shared=shared))
    own = ", ".join((member.authority, *member.authorities))
    console.print(f"Patient authorities of {member.code}: {own}", markup=False, soft_wrap=True)


@main.command()
@click.argument("oid")
@click.option("--name", default="", help="What it is called.")
@click.option("--repository-url", default="", help="Where it answers ITI-43: its manifests are read there.")
@click.option(
    "--dicomweb", default="", help="Its DICOMweb root: its images are opened there, through the gateway."
)
@click.pass_obj
def source(folder: Path, oid: str, name: str, repository_url: str, dicomweb: str) -> None:
    """Say of a source that is no member what it is called and where it answers.

    It is named by its repositoryUniqueId OID.
    """
    from registry import commands

    member = run(commands.source(folder, oid, name=name, repository_url=repository_url, dicomweb=dicomweb))
    told = (
        f"manifests at {member.endpoints.xds_repository or 'no address'}, images at"
        f" {member.endpoints.dicomweb or 'no address'}"
    )
    console.print(f"{member.name} ({member.code}): {told}", markup=False, soft_wrap=True)


@main.command()
@click.pass_obj
def members(folder: Path) -> None:
    """Every member: status, reachable or not and since when, what waits."""
    from registry import commands

    run(commands.show_members(folder, console))


@main.command()
@click.argument("ods_code")
@click.option(
    "--reason",
    default="No reason given.",
    show_default=True,
    help="Why; shown to the member, kept in the audit.",
)
@click.pass_obj
def suspend(folder: Path, ods_code: str, reason: str) -> None:
    """Cut a member off: everywhere within five seconds, open connections closed."""
    from registry import commands

    run(commands.suspend(folder, ods_code, reason))
    console.print(f"{ods_code} is suspended.", markup=False, soft_wrap=True)


@main.command()
@click.argument("ods_code")
@click.option(
    "--withdraw-certificates",
    is_flag=True,
    help="Of a stolen key: none of its certificates holds any longer, and it joins anew by an invitation.",
)
@click.pass_obj
def readmit(folder: Path, ods_code: str, withdraw_certificates: bool) -> None:
    """Let a suspended member in again; its alarms have been seen."""
    from registry import commands

    run(commands.readmit(folder, ods_code, new_key=withdraw_certificates))
    todo = f" It joins anew: crosslight-registry invite {ods_code}" if withdraw_certificates else ""
    console.print(f"{ods_code} is a member again.{todo}", markup=False, soft_wrap=True)


@main.command("alarm-seen")
@click.argument("ods_code")
@click.pass_obj
def alarm_seen(folder: Path, ods_code: str) -> None:
    """Say that the alarms of a member, as `members` shows them, have been looked into."""
    from registry import commands

    count = run(commands.alarms_seen(folder, ods_code))
    console.print(f"{counted(count, 'alarm')} of {ods_code} seen.", markup=False, soft_wrap=True)


@main.command()
@click.pass_obj
def migrate(folder: Path) -> None:
    """Make or upgrade the audit's tables as database.audit_owner_url.

    The service's own role may then add to them and read them, nothing else.
    """
    from registry import commands

    role = run(commands.migrate_audit(folder))
    console.print(
        f"The audit is as it should be; {role} may add to it and read it.", markup=False, soft_wrap=True
    )


@main.group(invoke_without_command=True)
@audit_options
@click.pass_context
def audit(context: click.Context, /, **options: Any) -> None:
    """Who asked for imaging, when, why, and what became of it.

    Of a patient, by a person, an organisation, in a period.

    Frames of one opening are one line with a count; --json and --csv have every act.
    """
    from registry import commands

    if context.invoked_subcommand is None:
        run(commands.audit(context.obj, asked(**options), console))


@audit.command()
@expire_options
@click.pass_obj
def expire(folder: Path, day: str, dry_run: bool) -> None:
    """Remove acts from before a day, when their time is over; as database.audit_owner_url where that is set.

    That it was done, by whom, how many acts and a digest of them stay for good.
    """
    from registry import commands

    say_expired(
        run(commands.expire_audit(folder, before_day(day), dry_run=dry_run)), console, dry_run=dry_run
    )


main.commands.update(identity=identity, ca=ca, token=token, system=system, credentials=credentials)
main.commands.update({"backup": backup, "backup-key": backup_key, "restore": restore})


@main.command()
@click.pass_obj
def doctor(folder: Path) -> None:
    """Check this registry, while it runs, from outside.

    Health, TLS, clock, FHIR, DICOMweb, XDS, publication.
    """
    from registry.doctor import doctor as check

    sys.exit(run(check(folder, console)))


if __name__ == "__main__":
    main()
