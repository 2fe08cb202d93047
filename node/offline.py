"""A node's folder opened without serving, whether the node runs or not: both meet in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import command_line
from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.seams import Seams, system_seams
from crosslight.standards.access import Action
from node.archive.archive import Archive
from node.config import NodeConfig, read_config
from node.membership.membership import Membership, is_member, membership_of
from node.parts import make_archive
from node.publish.build import destination
from node.publish.store import PublishStore


@dataclass(frozen=True, slots=True)
class Offline:
    """The parts of a node that commands act on."""

    seams: Seams
    folder: Path
    config: NodeConfig
    membership: Membership | None
    db: EmbeddedDb
    archive: Archive
    audit: AuditLog
    audit_db: EmbeddedDb


def membership_in(folder: Path, config: NodeConfig, seams: Seams) -> Membership | None:
    """To whom the node belongs; None when it has joined nobody yet."""
    foreign = config.publish.foreign
    if not is_member(folder, foreign):
        return None
    return membership_of(
        folder, seams.files, foreign, config.archive, config.region, open_mode=config.listen.open
    )


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Offline]:
    """Open the folder's databases and archive, without serving."""
    config = read_config(folder)
    seams = system_seams()
    membership = membership_in(folder, config, seams)
    db, audit_db = (seams.databases.embedded(folder / name) for name in ("node.db", "audit.db"))
    archive = make_archive(seams, folder, config, membership, db)
    audit = AuditLog(audit_db, seams.clock)
    try:
        await audit.open()
        await archive.open()
        yield Offline(seams, folder, config, membership, db, archive, audit, audit_db)
    finally:
        await archive.close()
        await seams.workers.close()
        await db.close()
        await audit_db.close()


async def at_the_machine(node: Offline, action: Action, study_uid: str = "", **query: Any) -> Act:
    """An act of whoever is at this machine, to be done in its block; ``query``: what else is said of it."""
    patients = await node.archive.patients_of(study_uid) if study_uid else ()
    about = About(
        patients=patients,
        studies=(study_uid,) if study_uid else (),
        query={name: value for name, value in query.items() if value},
    )
    return node.audit.act(command_line(node.seams.ids), "admin", action, about, decision=AT_THE_MACHINE)


async def publications(node: Offline) -> PublishStore:
    """The revisions of the node, for the registry that it publishes to."""
    store = PublishStore(node.db, node.seams.ids, (destination(node.config.publish),))
    await store.open()
    return store
