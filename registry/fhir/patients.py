"""Patient: read and search."""

from __future__ import annotations

from aiohttp import web

from crosslight.standards.fhir.bundle import entry, joined
from crosslight.standards.fhir.match import patient_is
from crosslight.standards.fhir.outcome import Issue
from crosslight.standards.fhir.people import patient
from crosslight.standards.problem import NotFound
from registry.ask.question import DirectoryQuestion, Patients
from registry.fhir.completeness import completeness, proven
from registry.fhir.face import FIND_ID, FhirFace, cut, search_issues
from registry.fhir.facts import id_part
from registry.fhir.plan import Misunderstood, patient_selector
from registry.fhir.table import PATIENT
from registry.identity.model import PatientSelector

MOST = 100  # persons that one search reads


class PatientHandlers:
    """Handlers of ``/fhir/Patient``."""

    def __init__(self, face: FhirFace) -> None:
        self._face = face

    async def read(self, request: web.Request) -> web.Response:
        """``GET /fhir/Patient/{id}``: the person with this id, else 404."""
        face, key = self._face, request.match_info["id"]
        wanted = face.wanted(request, PATIENT)
        async with face.question(request, "read", Patients(patient=PatientSelector(fhir_id=key))) as answer:
            facts = face.facts(request)
            for person in answer.persons:
                if person.fhir_id == key and person.records:
                    body = patient(
                        facts.person(person), face.systems, incarnation=id_part(answer.incarnation)
                    )
                    return face.resource(request, cut(PATIENT, wanted, body), answer.coverage, wanted)
            raise NotFound("There is no Patient with this id.", todo=FIND_ID, where="Patient.id")

    async def search(self, request: web.Request) -> web.Response:
        """``GET /fhir/Patient?…`` and ``POST /fhir/Patient/_search``."""
        face = self._face
        asked = await face.asked(request, PATIENT)
        search = asked.search
        try:
            selector, decided = patient_selector(search, face.planner)
        except Misunderstood as wrong:
            async with face.question(request, "search", DirectoryQuestion()) as answer:
                return face.misread(request, asked, answer, wrong.misread, PATIENT, wrong.where)
        async with face.question(request, "search", Patients(patient=selector, limit=MOST)) as answer:
            if answer.naming.misread:
                return face.misread(request, asked, answer, answer.naming.misread[0], PATIENT, "identifier")
            facts = face.facts(request)
            left = [criterion for criterion in search.criteria if criterion not in decided]
            persons = [facts.person(person) for person in answer.persons if person.records]
            persons = [p for p in persons if all(patient_is(p, c, face.systems) for c in left)]
            stem = id_part(answer.incarnation)
            sure = proven(answer, n_found=len(persons), closed=not left)
            issues = completeness(answer, proven=sure) + search_issues(search)
            if len(answer.persons) >= MOST or len(persons) > search.count:
                text = "There are more people: say more of this one."
                issues.append(Issue(severity="warning", code="incomplete", text=text))
            shown = [] if search.summary == "count" else persons[: search.count]
            resources = (patient(person, face.systems, incarnation=stem) for person in shown)
            entries = [entry(cut(PATIENT, search, body), asked.base, "match") for body in resources]
            links = face.links(request, PATIENT, asked, None)
            return face.bundle(
                request,
                asked,
                joined(entries),
                face.outcome(request, issues),
                links=links,
                total=len(persons),
                answer=answer,
                proven=sure,
            )
