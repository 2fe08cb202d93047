"""Orthanc, met by DICOMweb or by DIMSE."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from pydicom.dataset import FileDataset

from crosslight.client.dicomweb import DicomwebClient
from crosslight.client.http import HttpClient, read
from crosslight.standards.problem import PeerError
from simulations.dicomfile import part10
from simulations.upstreams.dimse import c_store, dimse_source
from simulations.upstreams.installed import DICOMWEB_PLUGIN, found
from simulations.upstreams.pace import asked
from simulations.upstreams.upstream import HOST, ArchivePlace, Program

AE_TITLE = "ORTHANC"


class Orthanc:
    """What both roads share: one Orthanc, its REST API for whoever keeps it."""

    label = "Orthanc"
    tells_numbers = True
    passes_at_once = True
    needs = ("Orthanc", "Orthanc's DICOMweb plugin")

    def __init__(self, place: ArchivePlace) -> None:
        self.place = place
        self.http, self.dicom = place.ports
        self._rest = f"http://{HOST}:{self.http}"

    @property
    def programs(self) -> tuple[Program, ...]:
        """Orthanc itself."""
        command = (found("Orthanc"), str(self.place.folder / "orthanc.json"))
        return (Program(self.place.name, command, self.http),)

    async def make(self) -> None:
        """Its configuration."""
        folder = self.place.folder
        folder.mkdir(parents=True)
        storage = str(folder / "storage")
        config = {
            "Name": self.place.name,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpThreadsCount": 10,
            "DicomAet": AE_TITLE,
            "DicomPort": self.dicom,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,  # it listens everywhere, and knows callers of this machine only
            "DicomModalities": {title: [title, HOST, 104] for title in self.place.callers},
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowFind": False,
            "DicomAlwaysAllowGet": False,
            "DicomAlwaysAllowMove": False,
            "DefaultEncoding": "Utf8",
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "StudiesMetadata": "Full",
                "SeriesMetadata": "Full",
            },
        }
        (folder / "orthanc.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))

    async def remove(self, study_uid: str, sop_uids: Collection[str]) -> None:
        """Delete by its REST API."""
        async with HttpClient() as client:
            for sop_uid in sop_uids:
                found_ids = await self._rest_call(client, "POST", "/tools/lookup", sop_uid)
                for one in orjson.loads(found_ids):
                    await self._rest_call(client, "DELETE", one["Path"])

    async def _rest_call(self, client: HttpClient, method: str, path: str, data: str = "") -> bytes:
        async with client.request(method, f"{self._rest}{path}", data=data or None) as response:
            body = await read(response)
            if response.status != 200:
                raise PeerError(f"Orthanc: HTTP {response.status} for {method} {path}.")
            return body


class OrthancByDicomweb(Orthanc):
    """Its node asks by QIDO-RS and WADO-RS."""

    label = "Orthanc, by DICOMweb"

    @property
    def address(self) -> str:
        """DICOMweb root."""
        return f"{self._rest}/dicom-web"

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """[[sources.dicomweb]]."""
        return "dicomweb", {"name": self.place.title, "url": self.address, **asked()}

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """STOW-RS."""
        async with DicomwebClient(self.address) as client:
            answer = await client.store([part10(ds) for ds in datasets])
        stored = len(answer.get("00081199", {}).get("Value", ()))
        if stored != len(datasets):
            raise PeerError(f"Orthanc stored {stored} of {len(datasets)} objects.")


class OrthancByDimse(Orthanc):
    """Its node asks by C-FIND, and has objects by C-GET."""

    label = "Orthanc, by DIMSE"
    tells_numbers = False
    passes_at_once = False

    @property
    def address(self) -> str:
        """AE title and port."""
        return f"{AE_TITLE} at {HOST}:{self.dicom}"

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """[[sources.dimse]]."""
        return "dimse", dimse_source(self.place, AE_TITLE, self.dicom)

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """C-STORE."""
        await c_store(self.dicom, AE_TITLE, datasets)
