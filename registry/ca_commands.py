"""``crosslight-registry ca …``: an offline root above the region's authority.

``root`` and ``sign`` need no registry: they are for the machine without a network that the root's key is on.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from crosslight.runtime.command import Commands, run
from crosslight.runtime.terminal import make_console

console = make_console()
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _passphrase(make: bool, file: Path | None, none: bool) -> bytes:
    if file is not None:
        return file.read_bytes().strip()
    if none:
        return b""
    said: str = click.prompt("Passphrase of the root's key", hide_input=True, confirmation_prompt=make)
    return said.encode()


def _with_passphrase(command: Any) -> Any:
    command = click.option("--passphrase-file", type=_FILE, help="Read the passphrase from this file.")(
        command
    )
    return click.option("--no-passphrase", is_flag=True, help="The root's key is not encrypted.")(command)


@click.group(cls=Commands)
def ca() -> None:
    """The region's certificate authority, and an offline root above it."""


@ca.command()
@click.argument("medium", type=_FOLDER)
@click.option("--region", required=True, help="The region's name, for the certificate.")
@click.option("--years", type=click.IntRange(1, 40), default=20, show_default=True, help="Its life.")
@_with_passphrase
def root(medium: Path, region: str, years: int, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make a root in MEDIUM, a folder on a medium that is kept offline: root.key and root.pem."""
    from registry import offline_root

    passphrase = _passphrase(True, passphrase_file, no_passphrase)
    run(offline_root.make(medium, region, timedelta(days=365 * years), passphrase, console))


@ca.command()
@click.argument("medium", type=_FOLDER)
@click.argument("request", type=_FILE)
@click.argument("output", type=_FILE)
@click.option("--days", type=click.IntRange(1, 3650), default=730, show_default=True, help="Its life.")
@click.option("--yes", is_flag=True, help="Do not ask whether this is what is to be signed.")
@_with_passphrase
def sign(
    medium: Path,
    request: Path,
    output: Path,
    days: int,
    yes: bool,
    passphrase_file: Path | None,
    no_passphrase: bool,
) -> None:
    """Sign the issuing authority's REQUEST by the root in MEDIUM; OUTPUT is what is installed."""
    from registry import offline_root

    console.print(run(offline_root.shown(request)), markup=False, soft_wrap=True)
    if not yes:
        click.confirm("Sign it?", abort=True)
    passphrase = _passphrase(False, passphrase_file, no_passphrase)
    run(offline_root.sign(medium, request, output, timedelta(days=days), passphrase, console))


@ca.command("request")
@click.argument("output", type=_FILE)
@click.pass_obj
def request_(folder: Path, output: Path) -> None:
    """Write what the root is to sign: at first for the key in use, later for a new one."""
    from registry import offline_root

    run(offline_root.request(folder, output, console))


@ca.command()
@click.argument("signed", type=_FILE)
@click.pass_obj
def install(folder: Path, signed: Path) -> None:
    """Issue by what the root has SIGNED from now on."""
    from registry import offline_root

    run(offline_root.install(folder, signed, console))


@ca.command()
@click.pass_obj
def retire(folder: Path) -> None:
    """Trust the root alone, once no certificate needs the authority from before it."""
    from registry import offline_root

    run(offline_root.retire(folder, console))


@ca.command()
@click.pass_obj
def show(folder: Path) -> None:
    """Whom the region trusts, until when, and which names may be signed."""
    from registry import offline_root

    run(offline_root.show(folder, console))
