"""A node's DICOM listener before a real archive, and what calls it: pynetdicom's SCU and DCMTK's programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from archive_fixture import Held, held
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.refusals import Noted, noted_nowhere
from node.dimse.accounts import Accounts
from node.dimse.association import DimseService
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.listener import DimseListener
from node.dimse.server import Certified, anybody
from node.dimse.services import all_services

_DCMTK = {"TCP_NODELAY": "1", **os.environ}


class Node:
    """An archive that listens."""

    def __init__(self, held: Held, service: DimseListener, audit: AuditLog) -> None:
        self.held, self.service, self.audit = held, service, audit

    async def acts(self) -> list[Audited]:
        """Audited acts that are over, oldest first."""
        return list(reversed(await self.audit.search()))


@asynccontextmanager
async def node(
    folder: Path,
    code: str = "RTK",
    archive: dict[str, Any] | None = None,
    more: Sequence[DimseService] = (),
    noted: Noted = noted_nowhere,
    certified: Certified = anybody,
    **settings: Any,
) -> AsyncIterator[Node]:
    config = DimseConfig(
        **{
            "host": "127.0.0.1",
            "port": 0,
            "callers": (KnownCaller(ae_title="CT1", addresses=("127.0.0.0/8",)),),
            **settings,
        }
    )
    async with held(folder, **(archive or {})) as here:
        audit = AuditLog(here.db, here.clock)
        await audit.open()
        service = DimseListener(
            config,
            (*all_services(here.archive, config), *more),
            Callers(config, code),
            Accounts(audit, SystemIds(), here.archive.patients, noted),
            here.workers,
            base=folder,
            certified=certified,
        )
        await service.start()
        try:
            yield Node(here, service, audit)
        finally:
            await service.stop()


ECHO = [(Verification, [ImplicitVRLittleEndian])]
CT = [(CTImageStorage, [ExplicitVRLittleEndian])]


def associate(port: int, contexts: list[tuple[str, list[str]]], *, calling: str = "CT1", **extra: Any) -> Any:
    """An association of pynetdicom's SCU."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    return ae.associate("127.0.0.1", port, ae_title="RTK", **extra)


async def run(*command: str, **extra: Any) -> int:
    """A program's exit status."""
    process = await asyncio.create_subprocess_exec(
        _program(command[0]),
        *command[1:],
        env=_DCMTK,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        return await process.wait()


def _program(name: str) -> str:
    """Where it is; not pynetdicom's programs of the same names, which lie beside this interpreter."""
    ours = Path(sys.executable).parent
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != ours)
    found = shutil.which(name, path=path)
    assert found, f"{name} is needed: apt-get install dcmtk"
    return found
