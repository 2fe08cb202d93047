"""One node's archive and its DICOMweb and SOAP faces on a loopback port, in this process: for tests of room
serve.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from joserfc.jwk import ECKey
from node_parts import StillConnection, node_ground, signed_directory
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import client_session
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import Decision, Grants, Principal
from crosslight.standards.ids import Oid
from crosslight.standards.membership import MembershipFacts
from crosslight.standards.region import Region
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.config import ListenConfig, NodeConfig
from node.holdings import Holdings, Received
from node.listeners import face_application
from node.membership.joined import Joined
from node.membership.model import LinkStatus
from node.membership.state import RegionState
from node.parts import make_gate, make_serve
from node.serve.authenticate import Gate, ListenerKind
from node.serve.config import ServeConfig
from node.serve.context import ServeContext
from node.serve.iti43 import ManifestStore
from node.serve.release import no_policy

HOME, CODE = "1.2.3.4", "RTK"
LOCATION, REPOSITORY = Oid("1.2.3.4.1"), Oid("1.2.3.4.2")
CLOCK, IDS, FILES = SystemClock(), SystemIds(), SystemFiles()
CLINICIAN = Principal(subject="dr.who", name="Dr Who", roles=frozenset({"clinician"}), organisation="RA2")
INTEGRATOR = Principal(
    subject="pacs",
    roles=frozenset({"integrator"}),
    organisation="RA2",
    grants=Grants(capabilities=frozenset({"find", "open", "store"}), store_at="RTK"),
)


#: Who is served: a member whose patient numbers are under nobody's authority, as a file that names no issuer
#: has them.
MEMBER = MembershipFacts(
    id=1,
    code=CODE,
    name=CODE,
    repository_unique_id=REPOSITORY,
    retrieve_location_uid=LOCATION,
    authority=Oid(""),
    secret=b"s",
    epoch=1,
)
SERVED_REGION = Region(
    name="Test region", home_community_id=Oid(HOME), authority=Oid(""), national_authority=Oid("")
)


class Manifests:
    """A ManifestStore in memory: document uid -> (study, bytes)."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, bytes]] = {}

    async def manifest(self, document_uid: str) -> bytes | None:
        return self.known[document_uid][1] if document_uid in self.known else None

    async def study_of(self, document_uid: str) -> str | None:
        return self.known[document_uid][0] if document_uid in self.known else None


@dataclass
class Served:
    """A node being served, and the knobs that a test turns."""

    archive: Archive
    serve: ServeContext
    audit: AuditLog
    signer: TokenSigner
    session: ClientSession
    url: str
    manifests: Manifests
    gate: Gate
    key: ECKey
    told: RegionState
    state: dict[str, Any] = field(default_factory=dict)
    heard: int = 0

    def hears(self, *, age_h: float = 0, **said: Any) -> None:
        """The region's directory comes, as :func:`node_parts.signed_directory` makes it; ``age_h`` ago it was
        signed.
        """
        self.heard += 1
        said = {"members": {CODE: "active", "RXC": "active"}} | said
        issued = CLOCK.now().timestamp() + self.heard - age_h * 3600
        token = signed_directory(self.key, SERVED_REGION, version=self.heard, issued=issued, **said)
        self.told.accept_directory(token, CLOCK.now() - timedelta(hours=age_h))

    async def add(self, *files: bytes) -> None:
        """Store files as an import does."""
        for data in files:
            staged = self.archive.stage()
            staged.write(data)
            result = await self.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state in ("stored", "duplicate"), result

    async def acts(self, **which: Any) -> list[Audited]:
        """Audited acts, newest first, once each has its outcome: that is committed after the client has its
        last byte.
        """
        async with asyncio.timeout(10):
            while True:
                found = await self.audit.search(**which)
                if all(act.text for act in found):
                    return found
                await asyncio.sleep(0.01)

    def access(
        self, principal: Principal = CLINICIAN, *, audience: str = CODE, ttl_s: int = 600
    ) -> dict[str, str]:
        """Headers with an access token."""
        return {"Authorization": f"Bearer {self.signer.access(principal, audience=audience, ttl_s=ttl_s)}"}

    def release(
        self,
        *studies: str,
        principal: Principal = CLINICIAN,
        holder: str = CODE,
        ttl_s: int = 300,
        correlation: str = "c-1",
        presenter: str = "",
    ) -> dict[str, str]:
        """Headers with a release token, bound to the certificate with the thumbprint ``presenter``."""
        self.signer.presenter = lambda: presenter
        token = self.signer.release(
            principal, holder=holder, patient="p", studies=studies, correlation=correlation, ttl_s=ttl_s
        )
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    open_mode: bool = True,
    listener: ListenerKind = "people",
    config: ServeConfig | None = None,
    policy: Callable[..., Decision] | None = None,
    archive_config: ArchiveConfig | None = None,
    tls: ssl.SSLContext | None = None,
    holdings: Holdings | None = None,
    published: ManifestStore | None = None,
) -> AsyncIterator[Served]:
    """Archive and faces on loopback, over plain HTTP or ``tls``; ``holdings`` are served instead of the
    archive, and manifests that were ``published`` instead of those in memory."""
    state: dict[str, Any] = {"suspended": False, "skew": None}
    key = ECKey.generate_key("P-256", parameters={"kid": "k1"})
    whole = NodeConfig(
        listen=ListenConfig(open=open_mode),
        archive=archive_config or ArchiveConfig(min_free_bytes=0),
        serve=config or ServeConfig(),
    )
    async with node_ground(folder, MEMBER, SERVED_REGION, key, config=whole, clock=CLOCK, ids=IDS) as (
        ground,
        archive,
    ):
        held = holdings if holdings is not None else archive
        serve = make_serve(ground, held, cast(Any, _Told(state)), policy or no_policy)
        serve.open()
        manifests = Manifests()
        gate = make_gate(ground)
        app = face_application(ground, serve, gate, published or manifests, listener)
        server = TestServer(app, scheme="https" if tls else "http")
        await server.start_server(ssl=tls)
        async with server, client_session() as session:
            signer, url = TokenSigner(key, HOME, CLOCK, IDS), str(server.make_url("")).rstrip("/")
            told = cast(Joined, ground.membership).state
            yield Served(
                archive, serve, ground.audit, signer, session, url, manifests, gate, key, told, state=state
            )
        await serve.release.close()


class _Told(StillConnection):
    """The link as the knobs ``suspended`` and ``skew`` of a test say; without a skew it has not been
    measured.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self._state = state

    @property
    def status(self) -> LinkStatus:
        skew = self._state["skew"]
        return LinkStatus(
            connected=skew is not None,
            skew_ms=int((skew or 0) * 1000),
            suspended="a test" if self._state["suspended"] else None,
        )

    @status.setter
    def status(self, status: LinkStatus) -> None:
        """Said by the knobs only."""


def ct(
    study: str = "1.2.1",
    series: str = "1.2.1.1",
    sop: str = "1.2.1.1.1",
    *,
    side: int = 16,
    number: int = 1,
    **more: Any,
) -> Dataset:
    """A small CT image."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = sop
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = study, series, number
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Smith^Ada", "L-1", "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.StudyDescription = (
        "20260102",
        "101112",
        "CT",
        "CT <head> & neck",
    )
    ds.AccessionNumber, ds.StudyID, ds.SeriesNumber = "A-1", "S1", 1
    ds.Rows = ds.Columns = side
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = (np.arange(side * side, dtype="<u2") % 4096).tobytes()
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def part10(ds: Dataset) -> bytes:
    """A data set as a file."""
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


@cache
def sample_files() -> tuple[Path, ...]:
    """pydicom's own test files that are Part 10 with the UIDs that an archive needs."""
    found = []
    for name in sorted(set(get_testdata_files("*"))):
        path = Path(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:
            continue
        if path.is_file() and all(
            ds.get(k) for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
        ):
            found.append(path)
    return tuple(found)


def dataset_bytes(part10_file: bytes) -> bytes:
    """What comes after group 0002."""
    length = int.from_bytes(part10_file[140:144], "little")
    return part10_file[144 + length :]


def related(
    parts: Iterable[tuple[str, bytes]], boundary: str = "b0", root: str = "application/dicom"
) -> tuple[bytes, str]:
    """A multipart/related body and its Content-Type."""
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), t.encode(), d) for t, d in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f'multipart/related; type="{root}"; boundary={boundary}'
