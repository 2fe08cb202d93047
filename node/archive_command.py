"""``crosslight-node archive move``: the images go elsewhere, mostly while the node serves."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from crosslight.runtime.command import run
from crosslight.runtime.files import private_folder
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.terminal import counted, make_console
from crosslight.standards.problem import ConfigError, Conflict, OutOfSpace, StorageError
from node.archive.layout import Layout, begin_move, layout_in
from node.offline import Offline, at_the_machine, opened


@click.group()
def archive() -> None:
    """The place of the images."""


@archive.command()
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    help="To another disk: an empty folder on it.",
)
@click.option(
    "--to-object-store", "to", flag_value="store", help="To the store of [archive.object_store], from now on."
)
@click.option("--to-disk", "to", flag_value="disk", help="Back from the object store to the archive's disk.")
@click.pass_obj
def move(folder: Path, target: Path | None, to: str | None) -> None:
    """Move the images to another disk, to an object store, or back from it.

    Stop the node, run this, and start it again: seconds. From then on the images follow while it serves;
    `status` says how far they are. The database stays in the node's folder.
    """
    if (target is None) == (to is None):
        raise click.UsageError("Name one of --to FOLDER, --to-object-store and --to-disk.")
    if target is not None:
        run(begin(folder, target, make_console()))
    else:
        run(turn(folder, home=to == "disk", console=make_console()))


async def turn(folder: Path, *, home: bool, console: Console) -> None:
    """Let a node's objects go to its object store, or come back, from its next start on.

    Raises:
        ConfigError: the node runs, or no object store is configured.
        OutOfSpace: the objects have no room on the disk.
        Unavailable, Forbidden, Conflict: the object store cannot be used.
    """
    _refuse_running(folder)
    async with opened(folder) as node:
        carrier, config = node.archive.carrier, node.config.archive
        if carrier.bucket is None:
            raise ConfigError("No object store is configured.", todo="Name it in [archive.object_store].")
        await carrier.bucket.probe()
        state = await carrier.state()
        coming = state.bytes - state.here_bytes
        free = node.seams.files.free_bytes(node.archive.layout.root)
        if home and free < coming + config.min_free_bytes:
            raise OutOfSpace(
                "The archive's disk has no room for the images.",
                why=f"{coming + config.min_free_bytes:,} bytes are needed, {free:,} are free.",
                todo="Move it to a larger one first: archive move --to FOLDER.",
            )
        where = "the disk" if home else config.object_store.url
        async with await at_the_machine(node, "operate", move=where) as act:
            await carrier.turn(home=home)
            act.done(instances=(await node.archive.status()).instances)
    console.print(
        f"The images go to {where}. Start the node now: they follow while it serves. See:"
        " crosslight-node status.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _refuse_running(folder: Path) -> None:
    if FolderLock.is_held(folder):
        raise ConfigError(
            "The node runs.",
            todo="Stop it, run this again, and start it: the images follow while it serves.",
        )


async def begin(folder: Path, target: Path, console: Console) -> None:
    """Let a node's objects go to ``target`` from its next start on.

    Raises:
        ConfigError: the node runs, or ``target`` cannot be used.
        Conflict: a move goes on already, or another command is at work.
        OutOfSpace: the objects have no room there.
    """
    _refuse_running(folder)
    target = target.absolute()
    async with opened(folder) as node:
        layout = node.archive.layout
        await _check(node, layout, target)
        status = await node.archive.status()
        async with await at_the_machine(node, "operate", move=str(target)) as act:
            act.done(instances=status.instances)
    if not layout.clean.exists():
        raise Conflict("Another command is at work on this node.", todo="Wait until it has ended.")
    begin_move(layout, target, node.seams.files)
    console.print(
        f"{counted(status.instances, 'object')}, {status.object_bytes:,} bytes, go to {target}."
        " Start the node now: they follow while it serves. See: crosslight-node status.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


async def _check(node: Offline, layout: Layout, target: Path) -> None:
    if layout_in(node.folder / "archive").before is not None:
        raise Conflict(
            "A move goes on already.", why=f"To {layout.root}.", todo="See crosslight-node status."
        )
    inside = target.resolve()
    here = layout.root.resolve()
    if inside == here or here in inside.parents or inside in here.parents:
        raise ConfigError(f"{target} is where the images are.", todo="Name an empty folder on the new disk.")
    try:
        private_folder(target)
        if any(path.name != "lost+found" for path in target.iterdir()):
            raise ConfigError(f"{target} is not empty.", todo="Name an empty folder on the new disk.")
        probe = target / ".crosslight-probe"
        node.seams.files.write_atomic(probe, b"")
        node.seams.files.remove(probe)
    except OSError as error:
        raise StorageError(f"{target} cannot be written to.", why=error.strerror or "") from None
    status = await node.archive.status()
    needed = status.object_bytes + status.quarantined_bytes + node.config.archive.min_free_bytes
    free = node.seams.files.free_bytes(target)
    if free < needed:
        raise OutOfSpace(
            f"{target} has no room for the images.", why=f"{needed:,} bytes are needed, {free:,} are free."
        )
