"""Whether a holding meets a criterion: the meaning of each ImagingStudy search parameter.

On facts rather than JSON.

An index may narrow by what it has; these rules decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from crosslight.standards.fhir.facts import HoldingFacts, PersonFacts, RegionFacts, identifiers_of
from crosslight.standards.fhir.imaging_study import status
from crosslight.standards.fhir.search import (
    Criterion,
    MissingValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    Value,
)
from crosslight.standards.fhir.terms import DCM, DICOM_UID, SNOMED, Systems
from crosslight.standards.fhir.times import DateValue, birth_date, parse_date, safe_interval
from crosslight.standards.ids import Identifier
from crosslight.standards.names import any_begins, family_begins, given_begins, search_key
from crosslight.standards.national import plain_number
from crosslight.standards.study import PersonName, StudyRecord
from crosslight.standards.tables.dicom_codes import BODY_SITES

STATUS_SYSTEM = "http://hl7.org/fhir/imagingstudy-status"


def bare_uid(text: str) -> str:
    """A UID without ``urn:oid:``."""
    return text.strip().removeprefix("urn:oid:")


def token_is(value: Value, code: str, systems: Iterable[str], *, ignore_case: bool = False) -> bool:
    """Whether a token value names ``code`` of one of ``systems``."""
    if not isinstance(value, TokenValue):
        return False
    if value.system is not None and value.system not in systems:
        return False
    if not value.code:
        return value.system is not None
    return value.code.casefold() == code.casefold() if ignore_case else value.code == code


def identifier_is(value: Value, identifier: Identifier, systems: Systems) -> bool:
    """Whether a token value names ``identifier``; how a national number is written does not count."""
    if not isinstance(value, TokenValue):
        return False
    if value.system is not None and value.system != systems.system(
        identifier.authority, identifier.namespace
    ):
        issuer = systems.issuer(value.system) if value.system else None
        if (
            issuer is None
            or issuer[0] != identifier.authority
            or (not issuer[0] and issuer[1] != identifier.namespace)
        ):
            return False
    if not value.code:
        return value.system is not None
    return value.code.strip() == identifier.value or (
        systems.is_national(identifier.authority) and plain_number(value.code) == identifier.value
    )


def uid_is(value: Value, uid: str) -> bool:
    """Whether a token value names a UID, with or without system and ``urn:oid:``."""
    return (
        isinstance(value, TokenValue)
        and value.system in (None, "", DICOM_UID)
        and bare_uid(value.code) == uid
    )


def body_site_is(value: Value, term: str) -> bool:
    """Whether a token names a BodyPartExamined term: by the term, or its SNOMED CT code.

    Answers show that code.
    """
    known = BODY_SITES.get(term.strip().upper())
    return token_is(value, term, ("",), ignore_case=True) or (
        known is not None and token_is(value, known[0], (SNOMED,))
    )


def string_is(value: Value, text: str, modifier: str) -> bool:
    """A string value against text: begins with it.

    ``:contains``, ``:exact``. As R4 3.1.1.4.8 compares: no case, no accents, no punctuation and blanks.
    """
    if not isinstance(value, StringValue):
        return False
    if modifier == "exact":
        return value.text == text
    wanted, have = search_key(value.text), search_key(text)
    if not wanted:  # nothing but punctuation was asked for
        wanted, have = value.text.casefold(), text.casefold()
    return wanted in have if modifier == "contains" else have.startswith(wanted)


def person_is(
    value: Value, person: PersonFacts | None, identifiers: tuple[Identifier, ...], systems: Systems
) -> bool:
    """Whether a reference or identifier value names this person."""
    if isinstance(value, ReferenceValue):
        return person is not None and value.id == person.fhir_id
    return any(identifier_is(value, identifier, systems) for identifier in identifiers)


class StudyMatcher:
    """Decides criteria of ImagingStudy for one region and one answer, whose facts live as long as it does."""

    def __init__(self, region: RegionFacts, systems: Systems) -> None:
        self.region, self.systems = region, systems
        # (person, value) -> whether it names them; rows share both
        self._asked: dict[tuple[int, int], bool] = {}
        self._rules: dict[str, Callable[[HoldingFacts, Criterion, Value], bool]] = {
            "_id": lambda h, c, v: token_is(v, h.fhir_id, ()),
            "_lastUpdated": lambda h, c, v: isinstance(v, DateValue) and v.matches(_instant(h.updated)),
            "identifier": self._identifier,
            "patient": self._patient,
            "subject": self._patient,
            "started": lambda h, c, v: isinstance(v, DateValue) and v.matches(safe_interval(h.record.time)),
            "modality": lambda h, c, v: any(
                token_is(v, m, (DCM,), ignore_case=True) for m in _modalities(h.record)
            ),
            "status": lambda h, c, v: token_is(v, status(h.record), (STATUS_SYSTEM,)),
            "endpoint": lambda h, c, v: isinstance(v, ReferenceValue) and v.id in self.endpoints(h),
            "series": lambda h, c, v: any(uid_is(v, s.series_uid) for s in h.record.series),
            "description": lambda h, c, v: string_is(v, h.record.description, c.modifier),
            "accession": lambda h, c, v: any(identifier_is(v, a, systems) for a in h.record.accessions),
            "custodian": self._custodian,
            "study-instance-uid": lambda h, c, v: uid_is(v, h.record.study_uid),
            "bodysite": lambda h, c, v: any(body_site_is(v, b) for b in _body_sites(h.record)),
        }

    def endpoints(self, holding: HoldingFacts) -> tuple[str, ...]:
        """The ids of a holding's endpoints."""
        member = holding.member
        roads = (self.region.endpoint_id,) if member is None or member.shows_images else ()
        return (*roads, member.endpoint_id) if member is not None and member.dicomweb else roads

    def matches(self, holding: HoldingFacts, criteria: Iterable[Criterion]) -> bool:
        """Whether every criterion holds."""
        return all(self.holds(holding, criterion) for criterion in criteria)

    def holds(self, holding: HoldingFacts, criterion: Criterion) -> bool:
        """Whether one criterion holds: any of its values, or with ``:not`` none of them."""
        if criterion.modifier == "missing":
            missing = not self._present(holding, criterion.name)
            return any(isinstance(v, MissingValue) and v.missing == missing for v in criterion.values)
        rule = self._rules[criterion.name]
        meets_one = any(rule(holding, criterion, value) for value in criterion.values)
        return not meets_one if criterion.negated else meets_one

    def _patient(self, holding: HoldingFacts, criterion: Criterion, value: Value) -> bool:
        person = holding.person
        if person is None:
            return person_is(value, None, holding.identifiers, self.systems)
        key = (id(person), id(value))
        is_person = self._asked.get(key)
        if is_person is None:
            is_person = self._asked[key] = person_is(value, person, holding.identifiers, self.systems)
        return is_person

    def _identifier(self, holding: HoldingFacts, criterion: Criterion, value: Value) -> bool:
        if uid_is(value, holding.record.study_uid):
            return True
        if isinstance(value, TokenValue) and value.system == DICOM_UID:
            return not value.code
        return any(identifier_is(value, a, self.systems) for a in holding.record.accessions)

    def _custodian(self, holding: HoldingFacts, criterion: Criterion, value: Value) -> bool:
        member = holding.member
        if member is None or not isinstance(value, TokenValue):
            return False
        if value.system is None and value.code.removeprefix("Organization/") == member.organization_id:
            return True
        own = member.identifier(self.region.organisation_system)
        named = token_is(value, own["value"], (own["system"],), ignore_case=True)
        return named or (
            value.system is None and value.code.casefold() in (member.code.casefold(), bare_uid(own["value"]))
        )

    def _present(self, holding: HoldingFacts, name: str) -> bool:
        record = holding.record
        table: dict[str, bool] = {
            "started": safe_interval(record.time) is not None,
            "modality": bool(_modalities(record)),
            "series": bool(record.series),
            "description": bool(record.description.strip()),
            "accession": bool(record.accessions),
            "custodian": holding.member is not None,
            "endpoint": bool(self.endpoints(holding)),
            "bodysite": bool(_body_sites(record)),
        }
        return table.get(name, True)


def _instant(moment: datetime) -> tuple[datetime, datetime]:
    """What a moment stands for that is shown to the millisecond."""
    low = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return low, low + timedelta(milliseconds=1)


def _modalities(record: StudyRecord) -> set[str]:
    return {*record.modalities, *(s.modality for s in record.series)} - {""}


def _body_sites(record: StudyRecord) -> set[str]:
    return {*record.body_sites, *(s.body_site for s in record.series)} - {""}


def _day(text: str, systems: Systems) -> tuple[datetime, datetime]:
    day = parse_date(text, systems.region.zone, "birthDate")
    return day.low, day.high


def _name_texts(name: PersonName, part: str) -> set[str]:
    """The texts of ``family``, ``given`` or any part of a name, in every group."""
    groups = [group.split("^") for group in name.pn.split("=")]
    family = {group[0].strip() for group in groups}
    given = {text.strip() for group in groups for text in group[1:3]}
    return ({"family": family, "given": given}.get(part) or family | given) - {""}


def patient_is(person: PersonFacts, criterion: Criterion, systems: Systems) -> bool:
    """Whether a person meets a criterion of Patient.

    Names match any record's, in the one normal form that search has.
    """
    patients = [record.patient for record in person.records]

    def meets(value: Value) -> bool:
        if criterion.name == "identifier":
            return any(identifier_is(value, i, systems) for i in identifiers_of(person))
        if criterion.name == "_id":
            return token_is(value, person.fhir_id, ())
        if criterion.name == "gender":
            codes = {"M": "male", "F": "female", "O": "other"}
            return any(
                token_is(value, codes.get(p.sex, "unknown"), ("http://hl7.org/fhir/administrative-gender",))
                for p in patients
            )
        if criterion.name == "birthdate":
            days = [day for p in patients if (day := birth_date(p.birth_date)) is not None]
            return isinstance(value, DateValue) and any(value.matches(_day(day, systems)) for day in days)
        if not isinstance(value, StringValue):
            return False
        if criterion.modifier == "exact":
            return any(value.text in _name_texts(p.name, criterion.name) for p in patients)
        test = {"family": family_begins, "given": given_begins, "name": any_begins}[criterion.name]
        return any(test(p.name, value.text) for p in patients)

    meets_one = any(meets(value) for value in criterion.values)
    return not meets_one if criterion.negated else meets_one
