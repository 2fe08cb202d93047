"""What is asked of a registry, and submitted to it, in its benchmark; the same of the floor beside it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from urllib.parse import quote

from benchmarks import studies
from benchmarks.load import get, post
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.rules import stored_query
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.soap import render_envelope
from registry.ihe import iti42
from registry.members.model import Member
from tests import registry_samples as samples

SOAP = "application/soap+xml; charset=UTF-8"
FHIR = "application/fhir+json"
DICOM = "application/dicom+json"
SUBMIT = "ITI-42, single"
QUERY = "ITI-18 FindDocuments, 20"
SEARCH = "FHIR ImagingStudy, 20"
LIST = "QIDO-RS studies, 20"
AGAIN = "FHIR, a patient asked again"
_SYSTEM = quote("https://fhir.nhs.uk/Id/nhs-number", safe="")


def number_of(person: int) -> str:
    """The NHS number of a made-up person."""
    return samples.nhs(person * 7)


def search(person: int, more: str = "") -> str:
    """Path of a FHIR search for a person's studies."""
    return f"/fhir/ImagingStudy?patient.identifier={_SYSTEM}%7C{number_of(person)}{more}"


@dataclass(slots=True)
class Questions:
    """Questions about persons that are searched for, and submissions about others.

    Attributes:
        whole: Persons with :data:`~benchmarks.studies.WHOLE` studies each.
        others: Persons of whom more is submitted.
        numbers: One for each submission.
    """

    whole: Sequence[int]
    others: Sequence[int]
    members: Sequence[Member]
    numbers: Iterator[int]

    def asked(self, name: str, host: str, *, floor: bool = False, token: str = "") -> Iterator[bytes]:
        """Requests of an operation, without end: about one person after the other."""
        if name == AGAIN:
            return repeat(next(self.asked(SEARCH, host, floor=floor, token=token)))
        if name == QUERY:
            return cycle([self._query(host, person, floor) for person in self.whole])
        kind, accept = ("search", FHIR) if name == SEARCH else ("list", DICOM)
        paths = (
            f"/canned/{kind}?who={person}"
            if floor
            else search(person)
            if name == SEARCH
            else f"/dicomweb/studies?PatientID={number_of(person)}&includefield=all"
            for person in self.whole
        )
        return cycle([get(host, path, accept, token) for path in paths])

    def _query(self, host: str, person: int, floor: bool) -> bytes:
        path = f"/canned/query?who={person}" if floor else "/xds/registry"
        query = stored_query.find_documents(f"{number_of(person)}^^^&{samples.NHS}&ISO")
        return _soap(host, path, adhoc.ACTION_REQUEST, adhoc.render_adhoc_request(query))

    def submissions(
        self, host: str, count: int, *, floor: bool = False, only_first: bool = False
    ) -> Iterator[bytes]:
        """``count`` submissions by ITI-42; ``only_first``: of the first member's alone."""
        members = self.members[:1] if only_first else self.members
        for n in islice(self.numbers, count):
            person, home = self.others[n % len(self.others)], members[n % len(members)]
            publication, number = studies.submission(home, person, n)
            body = render_submit_objects(views.objects_of(publication, number.cx()))
            yield _soap(host, "/submit" if floor else "/xds/registry", iti42.ACTION_REQUEST, body)


def _soap(host: str, path: str, action: str, body: bytes) -> bytes:
    envelope = render_envelope(action, body, message_id=uuid.uuid4().urn, to=f"http://{host}{path}")
    return post(host, path, f'{SOAP}; action="{action}"', envelope)
