"""A process with an archive that listens, for a scenario to kill: ``python archive_child.py FOLDER``; prints
its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.workers import SystemWorkers
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig
from node.dimse.listener import DimseListener
from node.dimse.services import taking_services


async def _main(folder: Path) -> None:
    db, workers = SqliteDb(folder / "node.sqlite"), SystemWorkers(threads=4)
    archive = Archive(
        db,
        folder / "archive",
        SystemFiles(),
        SystemClock(),
        SystemIds(),
        workers,
        ArchiveConfig(min_free_bytes=1 << 20),
    )
    audit = AuditLog(db, SystemClock())
    await audit.open()
    await archive.open()
    config = DimseConfig(host="127.0.0.1", port=0, accept_any_caller=True)
    accounts = Accounts(audit, SystemIds(), archive.patients)
    service = DimseListener(
        config, taking_services(archive, config), Callers(config, "RTK"), accounts, workers
    )
    await service.start()
    print(service.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
