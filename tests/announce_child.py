"""A node's archive that listens, and tells a peer, for a scenario to kill.

``python announce_child.py FOLDER PEERS_PORT``; prints its own port.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.seams import system_seams
from node.announce.announcer import AnnouncedAs, Announcer
from node.announce.store import AnnounceStore
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig
from node.dimse.listener import DimseListener
from node.dimse.outgoing import CalledSystem, associate
from node.dimse.services import taking_services


async def _main(folder: Path, port: int) -> None:
    seams = system_seams()
    db = seams.databases.embedded(folder / "node.sqlite")
    kept = ArchiveConfig(min_free_bytes=1 << 20)
    archive = Archive(db, folder / "archive", seams.files, seams.clock, seams.ids, seams.workers, kept)
    audit = AuditLog(db, seams.clock)
    await audit.open()
    await archive.open()
    peers = [CalledSystem(ae_title="RIS", host="127.0.0.1", port=port)]
    own = AnnouncedAs(organisation="RTK", ae_title="RTK", quiet_s=0.2)
    announcer = Announcer(
        AnnounceStore(db), archive, audit, seams, own, peers, partial(associate, calling="RTK")
    )
    await announcer.open()
    config = DimseConfig(host="127.0.0.1", port=0, accept_any_caller=True)
    accounts = Accounts(audit, seams.ids, archive.patients)
    callers = Callers(config, "RTK")
    service = DimseListener(config, taking_services(archive, config), callers, accounts, seams.workers)
    await service.start()
    print(service.port, flush=True)
    await announcer.run()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
