"""``crosslight demo`` as a process, and what an outsider asks of the region that its endpoints file names."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_base
from scenario_processes import Family, Finished, Running, wait_for

from crosslight.client.dicomweb import DicomwebClient
from crosslight.client.fhir import FhirAnswer, FhirClient
from crosslight.client.http import HttpClient, read, trusting
from crosslight.client.xds import XdsAnswer, XdsClient
from crosslight.standards.ids import Identifier
from simulations.page import PageAnswer, PageClient
from simulations.story import STEPS, Step

STORY_S = 300.0  # longest that a story may take on a busy machine; it takes under a minute on an idle one
SECOND_START_S = 30.0  # the issue's own bound
TOPOLOGIES = Path(__file__).parent.parent / "simulations" / "topologies"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Content type without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """What an endpoints file says, and a client that uses it."""

    content: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    @property
    def registry(self) -> dict[str, Any]:
        """The registry's entry."""
        found: dict[str, Any] = self.content["registry"]
        return found

    def node(self, code: str) -> dict[str, Any]:
        """A node's entry."""
        return next(n for n in self.content["nodes"] if n["code"] == code)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {"registry": self.registry["pid"], **{n["code"]: n["pid"] for n in self.content["nodes"]}}

    def path(self, name: str) -> Path | None:
        """A path of "tls", None in the open demo."""
        value = self.content["tls"][name]
        return Path(value) if value else None

    def token(self, role: str, at: str = "") -> str:
        """A token for the registry, or for the member ``at``; '' in the open demo."""
        told = self.node(at) if at else self.content
        return told["tokens"][role] or ""

    def traveller(self) -> dict[str, Any]:
        """The first patient with studies at three members or more who is not disputed."""
        return next(
            p
            for p in self.content["patients"]
            if not p["disputed"] and len({s["node"] for s in p["studies"]}) >= 3
        )

    async def http(
        self,
        method: str,
        url: str,
        *,
        token: str = "",
        certificate: bool = False,
        headers: Mapping[str, str] | None = None,
        data: object = None,
    ) -> Answer:
        """One request, with the credentials named and no others."""
        own = (self.path("client_cert"), self.path("client_key")) if certificate else (None, None)
        client = HttpClient(trusting(self.path("ca"), *own), token)
        async with client, client.request(method, url, headers=headers, data=data) as response:
            return Answer(response.status, dict(response.headers), await read(response))

    def fhir(self, role: str = "clinician") -> FhirClient:
        """The region's FHIR face."""
        return FhirClient(self.registry["fhir"], tls=trusting(self.path("ca")), token=self.token(role))

    def dicomweb(self, base: str = "", role: str = "clinician") -> DicomwebClient:
        """The region's DICOMweb root, or the one given."""
        at = next((n["code"] for n in self.content["nodes"] if n["dicomweb"] == base), "")
        return DicomwebClient(
            base or self.registry["dicomweb"], tls=trusting(self.path("ca")), token=self.token(role, at)
        )

    def xds(self) -> XdsClient:
        """An XDS consumer with the client certificate."""
        return XdsClient(tls=trusting(self.path("ca"), self.path("client_cert"), self.path("client_key")))

    async def by_number(self, number: str) -> FhirAnswer:
        """ImagingStudy of a patient by national number."""
        system = next(i["system"] for p in self.content["patients"] for i in p["identifiers"])
        async with self.fhir() as client:
            return await client.search("ImagingStudy", patient_dot_identifier=f"{system}|{number}")

    async def study(self, study_uid: str) -> FhirAnswer:
        """ImagingStudy by Study Instance UID."""
        async with self.fhir("integrator") as client:
            return await client.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{study_uid}")

    async def find_documents(self, number: str, authority: str = "") -> XdsAnswer:
        """ITI-18 FindDocuments by national number, or by another authority's."""
        who = Identifier(number, authority or self.content["affinity_domain"]["patient_authority"])
        async with self.xds() as client:
            return await client.find_documents(self.registry["xds_registry"], who)

    async def page(self, number: str) -> PageAnswer:
        """The clinician's page, signed in as the first clinician."""
        account = next(a for a in self.content["accounts"] if a["role"] == "clinician")
        signed_in = None if self.content["open"] else (account["user"], account["password"])
        async with PageClient(self.registry["base"], trusting(self.path("ca")), signed_in) as page:
            return await page.find(number)


@dataclass
class Demo:
    """One demo folder; the command runs on it as often as a test needs."""

    folder: Path
    options: tuple[str, ...] = ()
    members: int = 5
    family: Family = field(default_factory=Family)
    running: Running | None = None
    first: Finished | None = None  # how the story went on the empty folder
    base: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = free_base(self.members + 1, 10 if "--foreign" in self.options else 4)

    @property
    def data(self) -> Path:
        """--data."""
        return self.folder / "data"

    @property
    def json_path(self) -> Path:
        """--json."""
        return self.folder / "endpoints.json"

    def arguments(self, *more: str) -> tuple[str, ...]:
        """The command's."""
        own = ("--data", str(self.data), "--port-base", str(self.base), "--json", str(self.json_path))
        return ("demo", *own, *self.options, *more)

    def once(self) -> Finished:
        """Play the story to its end."""
        return self.family.run("simulations", *self.arguments("--once"), within_s=STORY_S)

    def start(self, *, stale: bytes = b"") -> Running:
        """Start it, without waiting for anything.

        ``stale`` is what an earlier run left in the endpoints file.
        """
        self.json_path.unlink(missing_ok=True)
        if stale:
            self.json_path.write_bytes(stale)
        log = self.folder / "demo.log"
        log.unlink(missing_ok=True)
        self.running = self.family.start(log, "simulations", *self.arguments())
        return self.running

    def up(self, within_s: float = STORY_S) -> Told:
        """What its endpoints file says; started on kept state first, where it is not running."""
        if self.running is None or not self.running.alive:
            self.start()
        return self.wait_told(within_s)

    def wait_told(self, within_s: float) -> Told:
        """Wait for the endpoints file."""
        running = self.running
        assert running is not None
        wait_for(
            f"the endpoints file\n{running.output}",
            lambda: self.json_path.exists() or not running.alive,
            within_s,
        )
        assert self.json_path.exists(), f"the demo ended with {running.process.returncode}:\n{running.output}"
        return self.told()

    def told(self) -> Told:
        """What the endpoints file says now."""
        return Told(json.loads(self.json_path.read_bytes()))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the command, wait for it; its status."""
        assert self.running is not None
        return self.running.stop(number)

    def close(self) -> None:
        """End whatever is left, however a test went."""
        if self.running is not None and self.running.alive:
            try:
                self.running.stop(signal.SIGTERM)
            except Exception:
                self.running.process.kill()
                self.running.process.wait()
        self.family.end()


def assert_story_told(done: Finished, steps: Sequence[Step] = STEPS) -> None:
    """Status 0, and each of the five steps printed as held."""
    assert done.status == 0, done.output
    for step in steps:
        assert f"✓ {step.number}. {step.title} (" in done.output, done.output
    assert "✗" not in done.output
