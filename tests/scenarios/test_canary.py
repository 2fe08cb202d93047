"""A patient with an odd name goes through a whole region, with every mistake that callers make.

Nothing of them stands where patients must not: logs, metrics, health, addresses, errors, and whatever else
services write that is none of their databases.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from node_serving import ct, part10
from scenario_demo import STORY_S, Answer, Demo, Told
from scenario_processes import signal_to, until, wait_for

from crosslight.client.dimse import DimseClient
from crosslight.client.http import trusting
from crosslight.runtime.mllp import MllpClient
from crosslight.standards.problem import CrosslightError

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]

NUMBER = "9990077312"
STUDY = "1.2.826.0.1.3680043.10.777.77310"
CANARY = {
    "PatientName": "Quaxolotl^Zebedina",
    "PatientID": "KX-KANARI-77",
    "PatientBirthDate": "19310227",
    "AccessionNumber": "ACC-KANARI-9",
    "StudyDescription": "Kanarienvogel",
}
TOLD = re.compile(rb"quaxolotl|zebedina|kanari|19310227|1931-02-27|999\W{0,3}007\W{0,3}7312", re.IGNORECASE)
# by their nature; ``ledger.json`` is the demo's own list of the truth
HOLDS_PATIENTS = re.compile(
    r"\.(sqlite|db)(-wal|-shm|-journal)?$|/objects/|/quarantine/|/bin/|/ledger\.json$"
)


@dataclass
class Whereabouts:
    """Everything that was said by error, address, metric or health."""

    said: dict[str, bytes] = field(default_factory=dict)

    def note(self, what: str, answer: Answer) -> Answer:
        """Keep an answer that must not name the patient."""
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.said[f"{what} ({answer.status})"] = headers.encode() + b"\n" + answer.body
        return answer

    def telling(self) -> list[str]:
        """Those that do, and what stands there."""
        found = ((what, TOLD.search(said), said) for what, said in self.said.items())
        return [f"{what}: {said[max(0, m.start() - 90) : m.end() + 20]!r}" for what, m, said in found if m]


def _image(number: int = 1, **changed: Any) -> bytes:
    made = ct(STUDY, f"{STUDY}.1", f"{STUDY}.1.{number}", number=number, **(CANARY | changed))
    made.IssuerOfPatientID = ""
    return part10(made)


async def _stored(told: Told, heard: Whereabouts) -> None:
    """By STOW-RS, whole; then what is no image, what is cut, what is of another study."""
    node = told.node("RTK")
    token = told.token("integrator", "RTK")
    async with told.dicomweb(node["dicomweb"], "integrator") as client:
        await client.store([_image(1), _image(2)])
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    for what, body in (
        ("a cut object", _image(3)[:-200]),
        ("a header alone", _image(4)[:600]),
        ("no object", b"Quaxolotl^Zebedina " + NUMBER.encode()),
        ("a wrong length", _image(5).replace(b"Quaxolotl^Zebedina", b"Quaxolotl^Zebedina" + b"\xff" * 40)),
    ):
        part = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n--b--\r\n"
        headers = {"Content-Type": kind}
        for path in ("/studies", "/studies/1.2.3"):
            answer = await told.http("POST", node["dicomweb"] + path, token=token, headers=headers, data=part)
            heard.note(f"storing {what} to {path}", answer)
    host, port = node["dimse"].split(":")
    for calling in ("DEMO", "STRANGER"):
        client = DimseClient(host, int(port), called="RTK", calling=calling)
        try:
            client.store([ct(STUDY, f"{STUDY}.2", f"{STUDY}.2.1", **CANARY)])
        except CrosslightError as error:
            heard.said[f"C-STORE by {calling}"] = str(error).encode()


async def _searched(told: Told) -> None:
    """On all faces, by whoever may: the canary is there to be seen."""

    async def listed() -> bool:
        found = await told.study(STUDY)
        return any(s["status"] == "available" and "numberOfSeries" in s for s in found.matches)

    await until("the study", listed, 60)
    for role in ("integrator", "clinician"):
        async with told.dicomweb(role=role) as region:
            rows, _ = await region.search("studies", StudyInstanceUID=STUDY)
            metadata = await region.metadata(f"studies/{STUDY}")
        assert TOLD.search(repr(rows).encode())
        assert TOLD.search(repr(metadata).encode())
    async with told.fhir("clinician") as client:
        await client.search("Patient", identifier=NUMBER)
        await client.search(
            "ImagingStudy", patient_dot_identifier=f"https://fhir.nhs.uk/Id/nhs-number|{NUMBER}"
        )
    await told.find_documents(NUMBER)
    await told.page(NUMBER)
    for base in (told.registry["dicomweb"], told.node("RTK")["dicomweb"]):
        at = "" if base == told.registry["dicomweb"] else "RTK"
        for path in ("", "/rendered", "/thumbnail", f"/series/{STUDY}.1/instances/{STUDY}.1.1/frames/1"):
            await told.http("GET", f"{base}/studies/{STUDY}{path}", token=told.token("clinician", at))


def _mistakes(told: Told) -> Iterator[tuple[str, str, str, str, Mapping[str, str], bytes | None]]:
    """What, method, address, token, headers, body: requests that name the patient where they should not."""
    name, number = CANARY["PatientName"], NUMBER
    fhir, region, node = told.registry["fhir"], told.registry["dicomweb"], told.node("RTK")["dicomweb"]
    good, own, none = told.token("clinician"), told.token("clinician", "RTK"), ""
    json, soap = {"Content-Type": "application/json"}, {"Content-Type": "application/soap+xml"}
    for token in (good, none, "Quaxolotl.Zebedina.x"):
        for base, at in ((region, token), (node, own if token == good else token)):
            yield "a name for a UID", "GET", f"{base}/studies/{name}", at, {}, None
            yield "an unknown key", "GET", f"{base}/studies?Patient={name}&{name}=1", at, {}, None
            yield "a bad date", "GET", f"{base}/studies?StudyDate={name}", at, {}, None
            yield "a bad limit", "GET", f"{base}/studies?PatientID={number}&limit={name}", at, {}, None
            yield "a bad window", "GET", f"{base}/studies/{STUDY}/rendered?window={number}", at, {}, None
            yield "an odd type", "GET", f"{base}/studies/{STUDY}", at, {"Accept": f"x/{number}"}, None
            yield "an odd range", "GET", f"{base}/studies/{STUDY}", at, {"Range": f"bytes={name}"}, None
        yield "an unknown parameter", "GET", f"{fhir}/ImagingStudy?{name}={number}", token, {}, None
        yield "a bad identifier", "GET", f"{fhir}/Patient?identifier=||{number}", token, {}, None
        yield "a name for an id", "GET", f"{fhir}/Patient/{name}", token, {}, None
        yield "a name for a type", "GET", f"{fhir}/{name}", token, {}, None
        yield "a bad count", "GET", f"{fhir}/Patient?identifier={number}&_count={name}", token, {}, None
        yield "a bad body", "POST", f"{fhir}/Patient/_search", token, json, f'{{"{name}": 1'.encode()
    for path in (f"/{name}", f"/patients/{number}", f"/search?number={number}", f"/signin?return=/{number}"):
        yield "an address of no page", "GET", told.registry["base"] + path, none, {}, None
    yield (
        "joining by a wrong secret",
        "POST",
        told.registry["base"] + "/join",
        none,
        json,
        (f'{{"code": "{number}", "secret": "{name}"}}'.encode()),
    )
    for where in (told.registry["xds_registry"], told.registry["rad69"], told.node("RTK")["xds_repository"]):
        yield "no SOAP", "POST", where, "certificate", soap, f"<{name.replace('^', '')}>{number}".encode()


async def _mistaken(told: Told, heard: Whereabouts) -> None:
    for what, method, url, token, headers, body in _mistakes(told):
        certificate = token == "certificate"
        answer = await told.http(
            method,
            url,
            token="" if certificate else token,
            certificate=certificate,
            headers=headers,
            data=body,
        )
        if answer.status >= 400:
            heard.note(f"{what}: {method} {url}", answer)
    host, port = told.registry["mllp"].split(":")
    tls = trusting(told.path("ca"), told.path("client_cert"), told.path("client_key"))
    segments = f"PID|1||{NUMBER}^^^NHS||Quaxolotl^Zebedina||19310227|F\r"
    for kind in ("20260101||ADT^A08^ADT_A01", "x||ADT^A99"):
        head = f"MSH|^~\\&|A|B|C|D|{kind}|1|P|2.5\r"
        answer = await MllpClient(host, int(port), tls=tls).send((head + segments).encode())
        heard.said[f"HL7 {kind}"] = answer if isinstance(answer, bytes) else str(answer).encode()


async def _of_the_services(told: Told, heard: Whereabouts) -> None:
    for entry in (told.registry, *told["nodes"]):
        for url in (entry["metrics"], f"{entry['base']}/health/ready", f"{entry['base']}/health/live"):
            heard.note(url, await told.http("GET", url))


def _written(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not HOLDS_PATIENTS.search("/" + str(p))]


async def test_a_patient_is_named_nowhere_but_in_answers_and_databases(secured: Demo) -> None:
    told, heard = secured.up(), Whereabouts()
    await _stored(told, heard)
    await _searched(told)
    await _mistaken(told, heard)
    await _of_the_services(told, heard)
    done = secured.family.run(
        "node", "--dir", told.node("RTK")["data"], "delete", STUDY, "--reason", "a test", within_s=60
    )
    heard.said["what delete says"] = done.output.encode()
    before = told.pids["RTK"]
    signal_to(before, signal.SIGABRT)  # what a crash leaves
    wait_for("its next life", lambda: secured.told().pids["RTK"] not in (0, before), 60)
    assert heard.telling() == []
    written = _written(secured.data)
    assert {p.name for p in written} >= {"registry.log", "RTK.log"}
    assert [str(p) for p in written if TOLD.search(p.read_bytes()) or p.name.startswith("core")] == []
    assert TOLD.search(b"".join(p.read_bytes() for p in secured.data.rglob("*.db*"))), (
        "nothing was looked for"
    )
