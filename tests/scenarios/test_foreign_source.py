"""A source that is no node of ours: it feeds a patient by MLLP (ITI-8), registers by ITI-42, and the region
finds what it said.

What is sent is written out here, as the standards give it (ITI TF-2 3.8, 3.42; TF-3 4.2), not made by our own
writers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lxml import etree
from scenario_demo import STORY_S, Demo, Told
from scenario_processes import until

from crosslight.client.http import trusting
from crosslight.runtime.mllp import MllpClient
from crosslight.standards.problem import Forbidden
from registry import commands
from registry.members.systems import asked_grants
from simulations.people import test_number as nhs_number

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]
NHS = "2.16.840.1.113883.2.1.4.1"
LOINC, SNOMED, CONFIDENTIALITY = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96", "2.16.840.1.113883.5.25"
XDSI_CLASS = "1.3.6.1.4.1.19376.1.2.6.1"
RS = "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}"
OBJECT_TYPE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject"
Code = tuple[str, str]

SCHEMES = {
    "class": "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
    "type": "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
    "format": "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
    "confidentiality": "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
    "facility": "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
    "practice": "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
}
#: From the region's value sets (crosslight/standards/xds/mapping/values.py).
KNOWN: dict[str, Code] = {
    "class": ("IMAGES", XDSI_CLASS),
    "type": ("18748-4", LOINC),
    "format": ("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1"),
    "confidentiality": ("N", CONFIDENTIALITY),
    "facility": ("22232009", SNOMED),
    "practice": ("394914008", SNOMED),
}
ODD: dict[str, Code] = {name: (f"odd-{name}", "1.2.3.4.5") for name in KNOWN} | {"format": KNOWN["format"]}


def a_uid() -> str:
    """A UID of its own."""
    return f"2.25.{uuid.uuid4().int}"


@dataclass
class Source:
    """A foreign document source and one document of its."""

    number: str
    codes: Mapping[str, Code]
    content: Code = ("363679005", SNOMED)
    mime: str = "application/dicom"
    repository: str = field(default_factory=a_uid)
    document: str = field(default_factory=a_uid)
    submission: str = field(default_factory=a_uid)
    sha1: str = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    study: str = field(default_factory=a_uid)

    def a04(self) -> bytes:
        """ADT^A04 with a name that has what HL7 escapes."""
        segments = (
            "MSH|^~\\&|FOREIGN|CLINIC|XDS|REGION|20260301101500||ADT^A04^ADT_A01|"
            + uuid.uuid4().hex[:20]
            + "|P|2.3.1",
            "EVN||20260301101500",
            f"PID|||{self.number}^^^&{NHS}&ISO^NH||Strange\\T\\Foreign^Zoë||19610203|F",
            "PV1||O",
        )
        return ("\r".join(segments) + "\r").encode()

    def iti42(self) -> bytes:
        """A SubmitObjectsRequest with one document in one submission."""
        cx = f"{self.number}^^^&amp;{NHS}&amp;ISO"
        slots = {
            "creationTime": "20260301101500",
            "languageCode": "en-GB",
            "serviceStartTime": "20260301101000",
            "sourcePatientId": cx,
            "hash": self.sha1,
            "size": "1234",
            "repositoryUniqueId": self.repository,
            "urn:ihe:iti:xds:2013:referenceIdList": f"{self.study}^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
        }
        classified = "".join(_classified("doc", SCHEMES[name], code) for name, code in self.codes.items())
        unique = _external(
            "doc", "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", self.document, "XDSDocumentEntry.uniqueId"
        )
        patient = _external(
            "doc", "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", cx, "XDSDocumentEntry.patientId"
        )
        entry = (
            f'<rim:ExtrinsicObject id="doc" mimeType="{self.mime}"'
            ' objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">'
            + "".join(_slot(n, v) for n, v in slots.items())
            + '<rim:Name><rim:LocalizedString value="A foreign study"/></rim:Name>'
            + f"{classified}{patient}{unique}</rim:ExtrinsicObject>"
        )
        of_set = (
            ("urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", self.submission, "XDSSubmissionSet.uniqueId"),
            ("urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "1.2.3.4.99", "XDSSubmissionSet.sourceId"),
            ("urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", cx, "XDSSubmissionSet.patientId"),
        )
        submission = (
            f'<rim:RegistryPackage id="set" objectType="{OBJECT_TYPE}:RegistryPackage">'
            + _slot("submissionTime", "20260301102000")
            + _classified("set", "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500", self.content)
            + "".join(_external("set", *one) for one in of_set)
            + '</rim:RegistryPackage><rim:Classification id="node" classifiedObject="set"'
            f' nodeRepresentation="" objectType="{OBJECT_TYPE}:Classification"'
            ' classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/><rim:Association'
            ' id="link" associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"'
            f' sourceObject="set" targetObject="doc" objectType="{OBJECT_TYPE}:Association">'
            + _slot("SubmissionSetStatus", "Original")
            + "</rim:Association>"
        )
        return (
            '<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0" '
            'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"><rim:RegistryObjectList>'
            f"{entry}{submission}</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
        ).encode()


def _slot(name: str, value: str) -> str:
    return f'<rim:Slot name="{name}"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot>'


def _classified(owner: str, scheme: str, code: Code) -> str:
    return (
        f'<rim:Classification id="c{uuid.uuid4().hex}" classificationScheme="{scheme}"'
        f' classifiedObject="{owner}" objectType="{OBJECT_TYPE}:Classification"'
        f' nodeRepresentation="{code[0]}">{_slot("codingScheme", code[1])}<rim:Name><rim:LocalizedString'
        f' value="{code[0]}"/></rim:Name></rim:Classification>'
    )


def _external(owner: str, scheme: str, value: str, name: str) -> str:
    return (
        f'<rim:ExternalIdentifier id="x{uuid.uuid4().hex}" identificationScheme="{scheme}"'
        f' registryObject="{owner}" objectType="{OBJECT_TYPE}:ExternalIdentifier"'
        f' value="{value}"><rim:Name><rim:LocalizedString'
        f' value="{name}"/></rim:Name></rim:ExternalIdentifier>'
    )


async def feed(told: Told, message: bytes) -> str:
    """Send by MLLP with the demo's client certificate, plain in the open demo; MSA-1."""
    host, port = told.registry["mllp"].split(":")
    tls = trusting(told.path("ca"), told.path("client_cert"), told.path("client_key"))
    client = MllpClient(host, int(port), tls=tls)
    try:
        answer = (await client.send(message)).decode()
    finally:
        await client.close()
    msa = next(s for s in answer.split("\r") if s.startswith("MSA|"))
    return msa.split("|")[1]


async def register(told: Told, body: bytes) -> tuple[str, list[str]]:
    """ITI-42: status and error codes."""
    async with told.xds() as client:
        reply = await client.soap.call(
            told.registry["xds_registry"], "urn:ihe:iti:2007:RegisterDocumentSet-b", body
        )
    assert etree.QName(reply.body).localname == "RegistryResponse"
    errors = [str(e.get("errorCode")) for e in reply.body.iter(f"{RS}RegistryError")]
    return str(reply.body.get("status")).rsplit(":", 1)[-1], errors


async def granted(told: Told, source: Source) -> None:
    """The operator grants what the source needs, by the command, while the registry serves."""
    with pytest.raises(Forbidden, match="--publishes"):
        await register(told, source.iti42())
    grants = asked_grants(feeds=(NHS,), publishes=(source.repository,))
    await commands.system(Path(told.registry["data"]), "demo-integrator", None, grants)

    async def heard() -> bool:
        with suppress(Forbidden):
            return await register(told, source.iti42()) == ("Failure", ["XDSUnknownPatientId"])
        return False

    await until("the grant is heard", heard, 10)


async def assert_taken(told: Told, source: Source) -> None:
    """Unknown before the feed; then registered, found, and not twice."""
    assert await register(told, source.iti42()) == ("Failure", ["XDSUnknownPatientId"])
    assert await feed(told, source.a04()) == "AA"
    assert await register(told, source.iti42()) == ("Success", [])
    (entry,) = (await told.find_documents(source.number)).entries
    assert (entry.unique_id, entry.repository_unique_id) == (source.document, source.repository)
    assert (entry.study_uid, entry.title, entry.status) == (source.study, "A foreign study", "Approved")
    assert await register(told, source.iti42()) == ("Failure", ["XDSDuplicateUniqueIdInRegistry"])
    other = replace(source, submission=a_uid(), sha1="b" * 40)
    assert await register(told, other.iti42()) == ("Failure", ["XDSNonIdenticalHash"])
    assert len((await told.find_documents(source.number)).entries) == 1

    async def everywhere() -> bool:
        return source.study in (await told.by_number(source.number)).study_uids

    await until("FHIR lists it too", everywhere, 10)
    async with told.dicomweb() as region:
        (row,), _ = await region.search("studies", PatientID=source.number)
    assert row["00080056"]["Value"] != ["ONLINE"], "nobody can open it here"
    assert (await told.page(source.number)).study_uids == {source.study}


async def test_a_foreign_source_with_the_regions_codes(secured: Demo) -> None:
    told = secured.up()
    source = Source(nhs_number(uuid.uuid4().int % 10**9), KNOWN)
    assert await feed(told, source.a04()) == "AR", "the demo's system reads, and does nothing else"
    await granted(told, source)
    await assert_taken(told, source)


async def test_codes_outside_the_value_sets_are_refused(secured: Demo) -> None:
    told = secured.up()
    source = Source(nhs_number(uuid.uuid4().int % 10**9), KNOWN)
    await granted(told, source)
    assert await feed(told, source.a04()) == "AA"
    for codes, mime in ((ODD, "application/dicom"), (KNOWN, "application/x-odd")):
        status, errors = await register(told, replace(source, codes=codes, mime=mime).iti42())
        assert status == "Failure"
        assert set(errors) == {"XDSRegistryMetadataError"}
    assert not (await told.find_documents(source.number)).entries, "nothing of a refused submission is kept"


async def test_the_open_demo_takes_any_codes_without_credentials(opened: Demo) -> None:
    told = opened.up()
    number = nhs_number(uuid.uuid4().int % 10**9)
    await assert_taken(told, Source(number, ODD, content=("anything", "1.2.3")))
