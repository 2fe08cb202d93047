"""One question on every face over the real stores: FHIR, QIDO-RS, ITI-18 and the page, each answer as a
verdict (absence).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from registry_room import Room
from registry_samples import REGION
from room_faces import room_faces
from soap_calls import call_of

from crosslight.runtime.workers import Workers
from crosslight.standards.fhir.terms import COMPLETENESS
from crosslight.standards.ids import Identifier
from crosslight.standards.xds.model.xml import parse_untrusted_xml
from crosslight.standards.xds.rules.stored_query import find_documents
from crosslight.standards.xds.wire import adhoc
from registry.ihe.iti18 import RegistryStoredQuery

#: What an answer says: studies; that there are none; nothing (an empty list that proves nothing); that it was
#: not understood.
LISTED, NONE, UNPROVEN, MISREAD = "listed", "none", "unproven", "not understood"
NHS_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"


@dataclass
class Faces:
    """The faces of one registry, and what they said last in words."""

    room: Room
    base: str
    http: aiohttp.ClientSession
    said: str = ""
    tags: tuple[str, ...] = ()

    # --- by number ------------------------------------------------------------------------------------------

    def system(self, issuer: str) -> str:
        """The FHIR system of an issuer, with its bar."""
        if not issuer:
            return ""
        return f"{NHS_SYSTEM}|" if issuer == REGION.national_authority else f"urn:oid:{issuer}|"

    async def fhir(self, value: str, issuer: str = "", *, lenient: bool = False, **more: str) -> str:
        """``ImagingStudy?patient.identifier=``."""
        return await self.fhir_search(
            {"patient.identifier": self.system(issuer) + value, **more}, lenient=lenient
        )

    async def fhir_search(
        self, params: dict[str, str], *, lenient: bool = False, kind: str = "ImagingStudy"
    ) -> str:
        """Any search."""
        headers = {"Prefer": "handling=lenient"} if lenient else {}
        async with self.http.get(f"{self.base}/fhir/{kind}", params=params, headers=headers) as response:
            body = await response.json(content_type=None)
        if response.status == 400:
            issue = body["issue"][0]
            self.said = f"{issue['details']['text']} {issue['diagnostics']}"
            return MISREAD
        assert response.status == 200, body
        outcome = next(e["resource"] for e in body["entry"] if e["search"]["mode"] == "outcome")
        self.said = " ".join(issue["details"]["text"] for issue in outcome["issue"])
        tags = body.get("meta", {}).get("tag", [])
        assert all(tag["system"] == COMPLETENESS for tag in tags)
        self.tags = tuple(tag["code"] for tag in tags)
        if any(e["search"]["mode"] == "match" for e in body["entry"]):
            return LISTED
        if "not-understood" in self.tags:
            assert body["total"] == 0
            assert "was not understood" in self.said
            assert "Nothing matches" not in self.said
            return MISREAD
        none = "Nothing matches, at any member" in self.said
        assert none != ("unproven" in self.tags), "an outcome and a tag that do not agree"
        assert none != ("does not prove" in self.said)
        return NONE if none else UNPROVEN

    async def qido(self, value: str, issuer: str = "") -> str:
        """``/studies?PatientID=``."""
        return await self.qido_search(
            {"PatientID": value} | ({"IssuerOfPatientID": issuer} if issuer else {})
        )

    async def qido_search(self, params: dict[str, str]) -> str:
        """Any search of studies."""
        async with self.http.get(f"{self.base}/dicomweb/studies", params=params) as response:
            body = await response.text()
            warnings = " ".join(response.headers.getall("Warning", ()))
        self.said = warnings or body
        if response.status == 400:
            return MISREAD
        assert response.status == 200, body
        if body != "[]":
            return LISTED
        return UNPROVEN if "does not prove" in warnings else NONE

    async def iti18(self, value: str, issuer: str, *, warn: bool = True) -> str:
        """FindDocuments."""
        reply = await self.documents(Identifier(value, issuer).cx(), warn=warn)
        self.said = " ".join(error.context for error in reply.errors)
        assert reply.status.endswith(":Success")
        assert len(reply.errors) <= 1, "one Warning says it all"
        assert all(error.severity == "Warning" for error in reply.errors)
        if reply.objects.documents:
            return LISTED
        if "not understood" in self.said:
            return MISREAD
        return UNPROVEN if "proves nothing" in self.said else NONE

    async def documents(self, cx: str, *, warn: bool = True) -> adhoc.AdhocReply:
        """The reply to FindDocuments."""
        return adhoc.parse_adhoc_response(parse_untrusted_xml(await self.found(cx, warn=warn)))

    async def found(self, cx: str, *, warn: bool = True) -> bytes:
        """The same as it is sent."""
        query = parse_untrusted_xml(adhoc.render_adhoc_request(find_documents(cx)))
        iti18 = RegistryStoredQuery(self.room.ask, REGION, warn=warn, workers=self.workers)
        return await iti18.answer(call_of(query))

    @property
    def workers(self) -> Workers:
        """Those of the faces."""
        return self.room.ground.seams.workers

    async def page(self, value: str, issuer: str = "") -> str:
        """The search by number."""
        assert not issuer, "nobody types an issuer"
        return await self.form({"number": value})

    async def form(self, form: dict[str, str]) -> str:
        """The search form; a person found leads to their page, several are shown to choose from."""
        async with self.http.post(f"{self.base}/search", data=form) as response:
            text = await response.text()
        self.said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<form.*?</form>", "", text)))
        assert ("none of the" in self.said) == ("No imaging" in self.said)
        if response.status == 400:
            assert "Check the digits" in self.said
            assert "none of the" not in self.said
            return MISREAD
        assert response.status == 200, text
        if "none of the" in self.said:
            return NONE
        return LISTED if re.search(r"\d (study|studies) at|Show imaging", self.said) else UNPROVEN


@asynccontextmanager
async def four_faces(room: Room) -> AsyncIterator[Faces]:
    """The faces over a room."""
    async with room_faces(room) as there, aiohttp.ClientSession() as http:
        yield Faces(room, there.base, http)
