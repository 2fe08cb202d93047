"""A node's DICOM listener before a real archive, and what calls it: pynetdicom's SCU and DCMTK's programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dicom_objects as make
from archive_fixture import Held, held
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelGet, Verification

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.runtime.workers import Workers
from node.dimse.accounts import Accounts
from node.dimse.admission import Certified, anybody
from node.dimse.association import DimseService
from node.dimse.callers import Callers
from node.dimse.config import DimseConfig, KnownCaller
from node.dimse.landing import Expected
from node.dimse.listener import DimseListener
from node.dimse.on_loop import OnLoop
from node.dimse.outgoing import peers_of
from node.dimse.services import giving_services, taking_services
from node.dimse.way_out import WayOut
from node.serve.bandwidth import Bandwidth
from node.serve.bounded_child import reading_workers
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Release
from node.serve.sent_objects import SentObjects

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
    expected: Expected | None = None,
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
        readers = reading_workers()
        audit = AuditLog(here.db, here.clock)
        await audit.open()
        callers = Callers(config, code)
        services = (
            *taking_services(here.archive, config, expected),
            *giving_services(
                way_out(here, audit, folder, readers),
                config,
                callers.ae_title,
                peers_of(config, folder),
                here.clock,
            ),
        )
        others = {field for service in more for field in service.fields}
        service = DimseListener(
            config,
            (*(own for own in services if others.isdisjoint(own.fields)), *more),
            callers,
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
            await readers.close()


def way_out(here: Held, audit: AuditLog, folder: Path, readers: Workers) -> WayOut:
    """What its services give, and who decides."""
    release = Release(audit, patients_of=PatientsOf(here.archive))
    serve = ServeContext(
        holdings=here.archive,
        release=release,
        workers=readers,
        ids=SystemIds(),
        files=here.files,
        spool=folder / "spool",
        bandwidth=Bandwidth((), 0, SystemClock()),
    )
    serve.open()
    return WayOut(
        on_loop=OnLoop(), holdings=here.archive, act=release.device_act, rendering=SentObjects(serve)
    )


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
        **extra,
    )
    async with asyncio.timeout(60):
        return await process.wait()


async def certified(folder: Path) -> ssl.SSLContext:
    """A key and a certificate for a node on this machine, and what trusts it."""
    key, certificate = folder / "dimse.key", folder / "dimse.crt"
    assert (
        await run(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        )
        == 0
    )
    return ssl.create_default_context(cafile=str(certificate))


def _program(name: str) -> str:
    """Where it is; not pynetdicom's programs of the same names, which lie beside this interpreter."""
    ours = Path(sys.executable).parent
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != ours)
    found = shutil.which(name, path=path)
    assert found, f"{name} is needed: apt-get install dcmtk"
    return found


def gotten(port: int) -> tuple[int, list[str]]:
    """The last status of a C-GET of the study, and what came."""
    got: list[str] = []

    def stored(event: Any) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    model = str(StudyRootQueryRetrieveInformationModelGet)
    contexts = [
        (model, [str(ImplicitVRLittleEndian)]),
        (str(CTImageStorage), [str(ExplicitVRLittleEndian)]),
    ]
    assoc = associate(
        port,
        contexts,
        calling="WS1",
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, stored)],
    )
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", make.STUDY
    answers = list(assoc.send_c_get(wanted, model))
    assoc.release()
    return int(answers[-1][0].Status), sorted(got)
