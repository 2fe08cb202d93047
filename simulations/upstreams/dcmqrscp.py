"""DCMTK's archive. It deletes nothing by itself: whoever keeps it takes files away, and indexes anew."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import FileDataset

from crosslight.standards.problem import OurError
from simulations.upstreams.dimse import c_store, dimse_source
from simulations.upstreams.installed import found
from simulations.upstreams.upstream import HOST, ArchivePlace, Processes, Program

AE_TITLE = "QRSCP"
INDEX = "index.dat"
_CONFIG = """\
NetworkTCPPort  = {port}
MaxPDUSize      = 131072
MaxAssociations = 32

HostTable BEGIN
{hosts}
known = {known}
HostTable END

VendorTable BEGIN
VendorTable END

AETable BEGIN
{title}  {folder}  RW (2000, 1024mb)  known
AETable END
"""


class Dcmqrscp:
    """One; use ``processes`` to have it down while it is indexed."""

    label = "dcmqrscp, by DIMSE"
    tells_numbers = False
    passes_at_once = False
    needs = ("dcmqrscp", "dcmqridx")

    def __init__(self, place: ArchivePlace, processes: Processes) -> None:
        self.place, self._processes = place, processes
        self._port = place.ports[0]
        self._area = place.folder / "area"

    @property
    def address(self) -> str:
        """AE title and port."""
        return f"{AE_TITLE} at {HOST}:{self._port}"

    @property
    def programs(self) -> tuple[Program, ...]:
        """It."""
        command = (found("dcmqrscp"), "+B", "-c", str(self.place.folder / "dcmqrscp.cfg"))
        return (Program(self.place.name, command, self._port),)

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """[[sources.dimse]]."""
        return "dimse", dimse_source(self.place, AE_TITLE, self._port)

    async def make(self) -> None:
        """Its configuration, and an empty area."""
        self._area.mkdir(parents=True)
        names = {f"host_{title}": f"({title}, localhost, 104)" for title in self.place.callers}
        text = _CONFIG.format(
            port=self._port,
            hosts="\n".join(f"{name} = {host}" for name, host in names.items()),
            known=", ".join(names),
            title=AE_TITLE,
            folder=self._area,
        )
        (self.place.folder / "dcmqrscp.cfg").write_text(text, "utf-8")

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """C-STORE."""
        await c_store(self._port, AE_TITLE, datasets)

    async def remove(self, study_uid: str, sop_uids: Collection[str]) -> None:
        """Take the files away while it is down, and index those that are left."""
        await self._processes.end(self.place.name)
        try:
            await asyncio.to_thread(self._take_away, set(sop_uids))
            files = [str(path) for path in self._files()]
            indexing = await asyncio.create_subprocess_exec(
                *(found("dcmqridx"), str(self._area), *files),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await indexing.communicate()
            if indexing.returncode != 0:
                raise OurError("dcmqridx failed.", why=output.decode("utf-8", "replace")[-600:])
        finally:
            self._processes.start(self.place.name)
        await self._processes.listening(self.place.name, self._port)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._area.iterdir() if path.is_file() and path.name != INDEX)

    def _take_away(self, sop_uids: set[str]) -> None:
        for path in self._files():
            if str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) in sop_uids:
                path.unlink()
        (self._area / INDEX).unlink(missing_ok=True)
