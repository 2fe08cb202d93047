"""The registry's models as the facts that the mappings take."""

from __future__ import annotations

import hashlib
import re

import orjson

from crosslight.runtime.large_answers import in_steps
from crosslight.standards.fhir.facts import HoldingFacts, MemberFacts, PersonFacts, RecordFacts, RegionFacts
from crosslight.standards.ids import MemberId
from crosslight.standards.region import Region
from registry.ask.question import Answer
from registry.identity.model import Person
from registry.index.model import Holding
from registry.members.model import Directory, Member

_ID = re.compile(r"[A-Za-z0-9\-]{1,36}\Z")


def id_part(text: str) -> str:
    """``text`` if it may stand in a FHIR id, else a short hash of it."""
    return text if _ID.match(text) else hashlib.sha256(text.encode()).hexdigest()[:16]


class Facts:
    """Turns an answer's rows into facts; members are looked up once for each answer."""

    def __init__(self, directory: Directory, region: Region, dicomweb: str) -> None:
        self._directory = directory
        self._dicomweb = dicomweb
        self.region = RegionFacts(
            name=region.name,
            home_community_id=region.home_community_id,
            organisation_system=region.organisation_system,
            dicomweb=dicomweb,
        )
        self._members: dict[MemberId, MemberFacts | None] = {}
        self._persons: dict[str, PersonFacts] = {}
        self._prints: dict[int, bytes] = {}

    def members(self) -> list[MemberFacts]:
        """Every member of the directory by code, then the sources that are none."""
        everyone = (*self._directory.all(), *self._directory.foreign())
        return [fact for member in everyone if (fact := self.member(member.id)) is not None]

    def member(self, member_id: MemberId | None) -> MemberFacts | None:
        """One member, foreign ones too."""
        if member_id is None:
            return None
        if member_id not in self._members:
            member = self._directory.by_id(member_id)
            self._members[member_id] = self._member(member) if member is not None else None
        return self._members[member_id]

    def _member(self, member: Member) -> MemberFacts:
        return MemberFacts(
            key=str(member.id),
            code=member.code,
            name=member.name,
            authority=member.authority,
            repository_unique_id=member.repository_unique_id,
            retrieve_location_uid=member.retrieve_location_uid,
            dicomweb=_people_root(member)
            or (f"{self._dicomweb}/members/{member.code}" if member.status != "foreign" else ""),
            active=member.status != "suspended",
            reachable=member.status == "foreign" or self._directory.presence(member.id).opens,
            foreign=member.status == "foreign",
        )

    def person(self, person: Person) -> PersonFacts:
        """A person. Numbers that a disputed record claims and does not hold are not the person's (D3)."""
        if person.fhir_id not in self._persons:
            records = tuple(
                RecordFacts(
                    patient=record.patient,
                    member=self.member(record.member),
                    national=() if record.disputed else record.national,
                    updated=record.updated,
                )
                for record in person.records
            )
            self._persons[person.fhir_id] = PersonFacts(
                fhir_id=person.fhir_id, domain_id=person.domain_id, records=records, differs=person.differs
            )
        return self._persons[person.fhir_id]

    def fingerprint(self, fact: PersonFacts | MemberFacts | RegionFacts | None) -> bytes:
        """What names all that a fact of this answer says, made once for each."""
        digest = self._prints.get(id(fact))
        if digest is None:
            digest = self._prints[id(fact)] = hashlib.blake2b(orjson.dumps(fact), digest_size=16).digest()
        return digest

    def holding(self, answer: Answer, holding: Holding) -> HoldingFacts:
        """A holding with its member and person."""
        person = answer.person_of(holding)
        return HoldingFacts(
            fhir_id=holding.fhir_id,
            incarnation=id_part(answer.incarnation),
            revision=holding.revision,
            updated=holding.updated,
            record=holding.record,
            member=self.member(holding.member),
            person=self.person(person) if person is not None else None,
            state=holding.state,
            conflict=holding.conflict,
        )

    def holdings(self, answer: Answer) -> list[HoldingFacts]:
        """Every holding that is approved."""
        return [
            self.holding(answer, holding)
            for holding in in_steps(answer.holdings)
            if holding.state == "approved"
        ]


def _people_root(member: Member) -> str:
    """A member's DICOMweb root as apps reach it with a bearer token.

    At a member's own nodes that is the listener that asks no certificate.
    """
    return f"{member.endpoints.base}/dicomweb" if member.endpoints.base else member.endpoints.dicomweb
