"""The endpoints file: every key that outside checks depend on, written when all of it is true; every
credential in it works.
"""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from lxml import etree
from scenario_demo import STORY_S, Demo, Told
from scenario_processes import wait_for

from crosslight.client.http import trusting
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.soap.client import SoapStream
from crosslight.standards.problem import CrosslightError
from crosslight.standards.xds.wire.rad69 import ImagingRequest, SeriesRequest, StudyRequest
from crosslight.standards.xds.wire.retrieve import DocumentRequest

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]

REGISTRY_KEYS = (
    "base",
    "pid",
    "data",
    "fhir",
    "xds_registry",
    "xds_repository",
    "rad69",
    "xds_gateway",
    "dicomweb",
    "portal",
    "grpc",
    "mllp",
    "metrics",
    "repository_unique_id",
)
NODE_KEYS = (
    "code",
    "archives",
    "name",
    "pid",
    "data",
    "base",
    "dicomweb",
    "region_dicomweb",
    "wado",
    "rad69",
    "xds_repository",
    "fhir",
    "aet",
    "region_aet",
    "dimse",
    "metrics",
    "repository_unique_id",
    "retrieve_location_uid",
    "tokens",
)
PATIENT_KEYS = (
    "disputed",
    "nhs_number",
    "identifiers",
    "family",
    "given",
    "birth_date",
    "local_ids",
    "studies",
)
REGISTRY_NULL = {"xds_gateway"}  # faces that are not there yet
NODE_NULL = {"region_dicomweb", "wado", "fhir", "region_aet"}
NHS = "2.16.840.1.113883.2.1.4.1"


@pytest.fixture(params=["secured", "opened"])
def demo(request: pytest.FixtureRequest) -> Demo:
    found: Demo = request.getfixturevalue(request.param)
    found.up()
    return found


def _filled(entry: dict[str, Any], keys: tuple[str, ...], null: set[str]) -> None:
    assert set(entry) == set(keys)
    assert {k for k in keys if entry[k] is None} == null
    assert all(entry[k] not in ("", 0) for k in keys)


def test_every_key_is_there(demo: Demo) -> None:
    told, opened = demo.told(), "--open" in demo.options
    assert set(told.content) == {
        "registry",
        "nodes",
        "affinity_domain",
        "tls",
        "tokens",
        "accounts",
        "patients",
        "open",
    }
    _filled(told.registry, REGISTRY_KEYS, REGISTRY_NULL)
    assert [n["code"] for n in told["nodes"]] == ["RTK", "RXC", "RPC", "RA2", "RYR"]
    for node in told["nodes"]:
        _filled(node, NODE_KEYS, NODE_NULL)
        assert node["aet"] == node["code"]
    scheme = "http" if opened else "https"
    for entry in (told.registry, *told["nodes"]):
        addresses = {k: v for k, v in entry.items() if isinstance(v, str) and "://" in v}
        assert addresses
        assert {v.partition("://")[0] for v in addresses.values()} == {scheme}
    assert told["open"] is opened
    roles = {"integrator", "clinician"}
    for part, names in (
        (told["tls"], {"ca", "client_cert", "client_key"}),
        (told["tokens"], roles),
        *((node["tokens"], roles) for node in told["nodes"]),
    ):
        assert set(part) == names
        assert all((value is None) is opened for value in part.values())
    assert told["affinity_domain"]["patient_authority"] == NHS
    assert told["affinity_domain"]["home_community_id"].startswith("urn:oid:")
    assert {"clinician", "operator", "ig", "identity", "porter"} == {a["role"] for a in told["accounts"]}
    assert all(set(a) == {"role", "user", "password", "organisation"} for a in told["accounts"])
    assert all(a["user"] and a["password"] and a["organisation"] for a in told["accounts"])
    assert stat.S_IMODE(demo.json_path.stat().st_mode) == 0o600, "it holds passwords and tokens"


def test_patients_are_as_they_are_held(demo: Demo) -> None:
    told = demo.told()
    assert [p for p in told["patients"] if p["disputed"]]
    nodes = {n["code"] for n in told["nodes"]}
    studies = []
    for patient in told["patients"]:
        assert set(patient) == set(PATIENT_KEYS)
        assert patient["nhs_number"].startswith("9")
        assert patient["identifiers"] == [
            {"system": "https://fhir.nhs.uk/Id/nhs-number", "oid": NHS, "value": patient["nhs_number"]}
        ]
        assert {s["node"] for s in patient["studies"]} <= set(patient["local_ids"]) <= nodes
        studies += patient["studies"]
    for study in studies:
        assert set(study) == {"study_uid", "node", "modality", "accession", "instances"}
        assert study["node"] in nodes
        assert study["instances"] > 0
    assert len({s["study_uid"] for s in studies}) == len(studies) >= 15


async def test_the_lists_match_what_the_region_answers(demo: Demo) -> None:
    told = demo.told()
    for patient in told["patients"]:
        if patient["disputed"] or not patient["studies"]:
            continue
        answer = await told.by_number(patient["nhs_number"])
        assert set(answer.study_uids) == {s["study_uid"] for s in patient["studies"]}, patient["family"]
        counted = {_uid(m): m["numberOfInstances"] for m in answer.matches}
        assert counted == {s["study_uid"]: s["instances"] for s in patient["studies"]}
        numbers = {i["value"] for m in answer.matches for i in m["identifier"]}
        assert {s["accession"] for s in patient["studies"]} <= numbers


def _uid(study: dict[str, Any]) -> str:
    return next(
        str(i["value"]).removeprefix("urn:oid:")
        for i in study["identifier"]
        if i["system"] == "urn:dicom:uid"
    )


async def test_every_face_answers_its_credentials(demo: Demo) -> None:
    told = demo.told()
    patient = told.traveller()
    number = patient["nhs_number"]
    for role in ("integrator", "clinician"):
        async with told.dicomweb(role=role) as region:
            rows, _ = await region.search("studies", PatientID=number)
        assert {r["0020000D"]["Value"][0] for r in rows} == {s["study_uid"] for s in patient["studies"]}
        for study in patient["studies"]:
            node = told.node(study["node"])
            async with told.dicomweb(node["dicomweb"], role) as own:
                rows, _ = await own.search("studies", StudyInstanceUID=study["study_uid"])
            assert len(rows) == 1, f"{role} at {node['code']}"
            if token := told.token(role):  # the registry's own is no good there
                url = f"{node['dicomweb']}/studies?StudyInstanceUID={study['study_uid']}"
                assert (await told.http("GET", url, token=token)).status == 401
    assert {e.study_uid for e in (await told.find_documents(number)).entries} == {
        s["study_uid"] for s in patient["studies"]
    }
    assert (await told.page(number)).study_uids == {s["study_uid"] for s in patient["studies"]}
    for entry in (told.registry, *told["nodes"]):
        metrics = await told.http("GET", entry["metrics"])
        assert metrics.status == 200
        assert b"crosslight_" in metrics.body
        assert number.encode() not in metrics.body


async def test_manifest_and_images_by_the_relay_and_at_the_node(demo: Demo) -> None:
    told = demo.told()
    number = told.traveller()["nhs_number"]
    entry = (await told.find_documents(number)).entries[0]
    held = next(s for s in told.traveller()["studies"] if s["study_uid"] == entry.study_uid)
    node = told.node(held["node"])
    assert entry.repository_unique_id == node["repository_unique_id"]
    async with told.dicomweb() as region:
        metadata = await region.metadata(f"studies/{entry.study_uid}")
    assert len(metadata) == held["instances"]
    one = metadata[0]
    series, sop = one["0020000E"]["Value"][0], one["00080018"]["Value"][0]
    home = told["affinity_domain"]["home_community_id"]
    document = DocumentRequest(entry.repository_unique_id, entry.unique_id, home)
    image = DocumentRequest(node["retrieve_location_uid"], sop, home)
    wanted = ImagingRequest(
        (StudyRequest(entry.study_uid, (SeriesRequest(series, (image,)),)),), ("1.2.840.10008.1.2.1",)
    )
    for where in (told.registry, node):
        async with told.xds() as client:
            async with client.retrieve(where["xds_repository"], [document]) as stream:
                manifests = await _parts(stream)
            async with client.retrieve_imaging(where["rad69"], wanted) as stream:
                images = await _parts(stream)
        assert [m[128:132] for m in manifests] == [b"DICM"], where["base"]
        assert [i[128:132] for i in images] == [b"DICM"], where["base"]


async def _parts(stream: SoapStream) -> list[bytes]:
    return [b"".join([piece async for piece in part.chunks()]) async for part in stream.parts()]


# --- without credentials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "not-a-token", "eyJhbGciOiJub25lIn0.e30."])
async def test_without_credentials_each_face_says_401_in_its_own_words(secured: Demo, token: str) -> None:
    told = secured.up()
    number = told.traveller()["nhs_number"]
    fhir = await told.http("GET", f"{told.registry['fhir']}/ImagingStudy?identifier=1", token=token)
    assert (fhir.status, fhir.kind) == (401, "application/fhir+json")
    assert fhir.json()["resourceType"] == "OperationOutcome"
    assert fhir.json()["issue"][0]["code"] in ("login", "security", "expired", "unknown")
    answers = [fhir]
    for url in (
        f"{told.registry['dicomweb']}/studies?PatientID=1",
        f"{told.node('RTK')['dicomweb']}/studies?PatientID=1",
    ):
        refused = await told.http("GET", url, token=token)
        assert refused.status == 401, url
        assert "json" in refused.kind, url
        assert refused.json()
        answers.append(refused)
    for answer in answers:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert ("invalid_token" in answer.headers["WWW-Authenticate"]) == bool(token), "RFC 6750 3.1"
        for said in (answer.headers["WWW-Authenticate"], answer.body.decode()):
            assert "crosslight-registry token" in said, "a 401 says where credentials come from"
        assert number.encode() not in answer.body


async def test_systems_without_a_certificate_are_refused_in_the_handshake(secured: Demo) -> None:
    told = secured.up()
    node = told.node("RXC")
    for url in (told.registry["xds_registry"], told.registry["rad69"], node["xds_repository"], node["rad69"]):
        with pytest.raises(CrosslightError):
            await told.http("POST", url, data=b"<x/>")
    host, port = told.registry["mllp"].split(":")
    client = MllpClient(host, int(port), tls=trusting(told.path("ca")))
    with pytest.raises((CrosslightError, OSError)):
        await client.send(b"MSH|^~\\&|A|B|C|D|20260101||ADT^A04^ADT_A01|1|P|2.5\r")


async def test_a_wrong_token_beside_the_certificate_is_refused_in_soap(secured: Demo) -> None:
    told = secured.up()
    headers = {"Content-Type": "application/soap+xml; charset=utf-8"}
    for where in (told.registry["xds_registry"], told.node("RXC")["xds_repository"]):
        answer = await told.http(
            "POST", where, certificate=True, token="not-a-token", headers=headers, data=b"<x/>"
        )
        assert (answer.status, answer.kind) == (401, "application/soap+xml"), where
        assert (
            etree.fromstring(answer.body).find(".//{http://www.w3.org/2003/05/soap-envelope}Fault")
            is not None
        )


# --- when it is written -------------------------------------------------------------------------------------


def test_it_is_written_after_the_story_and_not_before(opened: Demo) -> None:
    assert opened.running is not None
    output = opened.running.output
    assert "5. The registry goes down, and nothing is lost" in output
    folder = opened.data / "ledger.json"
    assert opened.json_path.stat().st_ctime >= folder.stat().st_ctime, (
        "the truth was known before it was told"
    )


async def test_every_address_answers_when_the_file_appears(secured: Demo) -> None:
    if secured.running is not None and secured.running.alive:
        secured.end()
    secured.start()
    wait_for("the endpoints file", secured.json_path.exists, 60, every_s=0.01)
    told = Told(json.loads(secured.json_path.read_bytes()))
    for entry in (told.registry, *told["nodes"]):
        ready = await told.http("GET", f"{entry['base']}/health/ready")
        assert ready.status == 200, entry["base"]
    answer = await told.by_number(told.traveller()["nhs_number"])
    assert not [w for w in answer.warnings if "unreachable" in w], answer.warnings
    assert set(answer.study_uids) == {s["study_uid"] for s in told.traveller()["studies"]}


def test_a_study_that_somebody_deletes_is_listed_no_more(opened: Demo) -> None:
    told = opened.told()
    study = next(
        s
        for p in told["patients"]
        for s in p["studies"]
        if s["node"] == "RPC" and s not in told.traveller()["studies"]
    )
    folder = told.node("RPC")["data"]

    def listed() -> list[dict[str, Any]]:
        return [
            s for p in opened.told()["patients"] for s in p["studies"] if s["study_uid"] == study["study_uid"]
        ]

    def command(*arguments: str) -> None:
        done = opened.family.run("node", "--dir", folder, *arguments, within_s=30)
        assert done.status == 0, done.output

    command("delete", study["study_uid"], "--reason", "a test")
    wait_for("the study to be listed no more", lambda: not listed(), 30)
    command("undelete", study["study_uid"])
    wait_for("the study to be listed again", listed, 30)
    assert listed() == [study]
