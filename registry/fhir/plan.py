"""From a search to the one question that bounds it; ``match`` decides the rest on the rows that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from crosslight.standards.fhir.match import STATUS_SYSTEM, bare_uid
from crosslight.standards.fhir.search import (
    Criterion,
    ReferenceValue,
    SearchRequest,
    StringValue,
    TokenValue,
    Value,
)
from crosslight.standards.fhir.terms import DCM, DICOM_UID, RFC3986, Systems
from crosslight.standards.fhir.times import DateValue
from crosslight.standards.ids import Identifier, is_uid
from crosslight.standards.names import search_key
from crosslight.standards.problem import Invalid
from crosslight.standards.tables.dicom_codes import MODALITIES
from registry.ask.absence import not_an_id, unknown_holder, unknown_issuer
from registry.ask.naming import Misread
from registry.ask.question import ByObject, ByPatient, ByPopulation, StudyFilter
from registry.identity.model import NameTest, PatientSelector

#: What names a person anywhere: a search with one of these never appears in an address that the server makes.
SENSITIVE = frozenset(
    {"patient", "subject", "identifier", "accession", "family", "given", "name", "birthdate"}
)

#: Date parameter -> the part of a filter that it narrows.
_DATES = {"started": "started", "_lastUpdated": "updated"}
_Bounds = tuple[datetime | None, datetime | None]
_OBJECTS = ("_id", "study-instance-uid", "accession", "identifier")


def is_sensitive(pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether any parameter may identify a patient."""
    return any(name.partition(".")[0].partition(":")[0] in SENSITIVE for name, _ in pairs)


class Misunderstood(Exception):
    """Something that a search names is not understood here; ``where`` is the parameter.

    Outside the tree of errors, for it is none to the client: the search is answered, and says what it left
    out.
    """

    def __init__(self, misread: Misread, where: str) -> None:
        super().__init__(misread.what)
        self.misread, self.where = misread, where


@dataclass(frozen=True, slots=True)
class Plan:
    """A question, and whether it gives all rows at once (else pages of the index)."""

    question: ByPatient | ByObject | ByPopulation
    bounded: bool
    decided: tuple[Criterion, ...] = ()  # what the question itself answers
    about: str = "ImagingStudy"  # the parameter that names whom or what


class StudyPlanner:
    """Plans ImagingStudy searches.

    Args:
        holder: The organisation code of a member or source, by its code, Organization id or OID; None where
            it is nobody's.
    """

    def __init__(self, systems: Systems, holder: Callable[[str], str | None]) -> None:
        self._systems, self._holder = systems, holder

    def plan(self, search: SearchRequest, after: Any = None) -> Plan:
        """The question of ``search``, ``after`` the page before.

        That is a cursor of the index, or a key of rows sorted here (a list).

        Raises:
            Misunderstood: for a system, a custodian or an endpoint that nothing in the region uses, a number
                where an id belongs.
            Invalid: a search that nothing bounds and that no index can narrow (too-costly).
        """
        cursor = after if isinstance(after, str) else ""
        positive = [c for c in search.criteria if not c.modifier or c.modifier in ("exact", "contains")]
        person = next((c for c in positive if c.name in ("patient", "subject")), None)
        if person is not None:
            narrowed, _ = self._filter(search, text=False)
            # the order of the index's own pages
            whole = search.criteria == (person,) and search.sort == ("-started",)
            # pages go on as they were begun
            limit = search.count if whole and not isinstance(after, list) else 0
            question = ByPatient(
                patient=self.selector(person), filter=narrowed, limit=limit, cursor=cursor if limit else ""
            )
            return Plan(question, True, (person,), person.name)
        for name in _OBJECTS:
            criterion = next((c for c in positive if c.name == name), None)
            if criterion is not None:
                return Plan(self._objects(criterion), True, (), criterion.name)
        return Plan(self._population(search, cursor), False)

    def selector(self, criterion: Criterion) -> PatientSelector:
        """Who a patient criterion names."""
        references = [v for v in criterion.values if isinstance(v, ReferenceValue)]
        if references:
            if len(criterion.values) > 1:
                raise Invalid(
                    "One patient at a time.",
                    why="Each search is audited for the patient it is about.",
                    todo="Ask once for each.",
                    where=criterion.name,
                    fhir_code="not-supported",
                )
            if (wrong := not_an_id(references[0].id)) is not None:
                raise Misunderstood(wrong, criterion.name)
            return PatientSelector(fhir_id=references[0].id)
        return PatientSelector(identifiers=self.identifiers(criterion.name, criterion.values))

    def identifiers(self, where: str, values: Iterable[Value]) -> tuple[Identifier, ...]:
        """The identifiers that token values name.

        Raises:
            Misunderstood: for a system that nothing here can be under.
        """
        identifiers = []
        for value in values:
            if not isinstance(value, TokenValue) or not value.code:
                raise Invalid(f"{where} needs a value after the system.", where=where, fhir_code="value")
            issuer = self._systems.issuer(value.system) if value.system else ("", "")
            # encoded twice: the system is in the value
            if issuer is None or (not value.system and "%7C" in value.code):
                part: Literal["issuer", "accession issuer"] = (
                    "accession issuer" if where == "accession" else "issuer"
                )
                raise Misunderstood(unknown_issuer(part, self._systems.region.national_system), where)
            identifiers.append(Identifier(value.code.strip(), *issuer))
        return tuple(dict.fromkeys(identifiers))

    def _objects(self, criterion: Criterion) -> ByObject:
        tokens = tuple(v for v in criterion.values if isinstance(v, TokenValue))
        if criterion.name == "_id":
            return ByObject(fhir_ids=tuple(t.code for t in tokens))
        if criterion.name == "study-instance-uid":
            return ByObject(study_uids=self._uids(criterion.name, tokens))
        uids = [t for t in tokens if t.system == DICOM_UID] if criterion.name == "identifier" else []
        others = [t for t in tokens if t not in uids]
        bare = [bare_uid(t.code) for t in others if t.system is None and criterion.name == "identifier"]
        return ByObject(
            study_uids=(*self._uids(criterion.name, uids), *(uid for uid in bare if is_uid(uid))),
            accessions=self.identifiers(criterion.name, others) if others else (),
        )

    @staticmethod
    def _uids(where: str, tokens: Iterable[TokenValue]) -> tuple[str, ...]:
        uids = tuple(bare_uid(token.code) for token in tokens)
        if not all(is_uid(uid) for uid in uids):
            raise Invalid(f"{where} is not a UID.", why="PS3.5 9.1.", where=where, fhir_code="value")
        return uids

    def _population(self, search: SearchRequest, cursor: str) -> ByPopulation:
        narrowed, used = self._filter(search, text=True)
        over = [c.name for c in search.criteria if id(c) not in used]
        key = search.sort[0].removeprefix("-")
        if len(search.sort) > 1 or key not in ("started", "_lastUpdated"):
            over.append(f"_sort={','.join(search.sort)}")
        if search.summary == "count":
            over.append("_summary=count")
        if over:
            raise Invalid(
                f"{', '.join(sorted(set(over)))} cannot be searched through the whole region.",
                why="No index bounds it; an answer would be slow, or cut short without a word.",
                todo="Add a patient, an accession number or a study UID.",
                where=over[0].partition("=")[0],
                fhir_code="too-costly",
            )
        ascending = not search.sort[0].startswith("-")
        order: Any = "started" if key == "started" else "updated"
        changed = narrowed.updated is not None and narrowed.updated[0] is not None
        if changed and narrowed.started is None and all(name != "_sort" for name, _ in search.pairs):
            # what bounds it: any other order would read and sort all that changed for each page
            order, ascending = "updated", True
        return ByPopulation(
            filter=narrowed, limit=search.count, cursor=cursor, order=order, ascending=ascending
        )

    def _filter(self, search: SearchRequest, *, text: bool) -> tuple[StudyFilter, set[int]]:
        """What the index can narrow by, never less than matches; and the criteria (by id) that are in it."""
        parts: dict[str, Any] = {}
        used: set[int] = set()
        for criterion in search.criteria:
            narrowed = self._narrow(criterion, parts, text=text)
            parts |= narrowed
            if narrowed or _is_everywhere(criterion) or _is_any_date(criterion):
                used.add(id(criterion))
        return StudyFilter(**parts), used

    def _narrow(self, criterion: Criterion, parts: dict[str, Any], *, text: bool) -> dict[str, Any]:
        if criterion.modifier not in ("", "exact", "contains"):
            return {}
        tokens = [v.code for v in criterion.values if isinstance(v, TokenValue) and v.code]
        if criterion.name == "modality" and tokens and "modalities" not in parts:
            return {"modalities": tuple(code.upper() for code in tokens)}
        if criterion.name == "custodian" and tokens:
            codes = tuple(
                self._custodian(v) for v in criterion.values if isinstance(v, TokenValue) and v.code
            )
            return {"members": codes} if "members" not in parts else {}
        if criterion.name == "endpoint" and not _is_everywhere(criterion):
            named = [v.id for v in criterion.values if isinstance(v, ReferenceValue)]
            codes = tuple(self._holder_of(key.removesuffix("-wado"), "endpoint") for key in named)
            return {"members": codes} if "members" not in parts else {}
        if criterion.name == "status" and tokens and "progress" not in parts:
            names = {"registered": "arriving", "available": "complete"}
            known = tuple(names[code] for code in tokens if code in names)
            return {"progress": known} if known else {}
        if criterion.name in _DATES:
            part = _DATES[criterion.name]
            bounds = _bounded(criterion, parts.get(part, (None, None)))
            return {} if bounds == (None, None) else {part: bounds}
        if criterion.name == "description" and text and "descriptions" not in parts:
            return {
                "descriptions": tuple(
                    _pattern(v.text, criterion.modifier)
                    for v in criterion.values
                    if isinstance(v, StringValue)
                )
            }
        return {}

    def _custodian(self, value: TokenValue) -> str:
        if value.system not in (None, "", RFC3986, self._systems.region.organisation_system):
            raise Misunderstood(unknown_holder("custodian"), "custodian")
        return self._holder_of(value.code, "custodian")

    def _holder_of(self, text: str, where: Literal["custodian", "endpoint"]) -> str:
        code = self._holder(text)
        if code is None:
            raise Misunderstood(unknown_holder(where), where)
        return code


def is_closed(search: SearchRequest, decided: Sequence[Criterion]) -> bool:
    """Whether every criterion has a meaning of its own, so that what it does not find is not there.

    No free text, no code that nobody uses, no second name for the patient.
    """
    return all(c in decided or _closed(c) for c in search.criteria)


def _closed(criterion: Criterion) -> bool:
    exact = ("started", "_lastUpdated", "custodian", "endpoint")
    if criterion.name in exact or criterion.modifier == "missing":
        return True
    known = {"modality": (MODALITIES, DCM), "status": (_PROGRESS, STATUS_SYSTEM)}.get(criterion.name)
    return known is not None and all(
        isinstance(v, TokenValue) and v.code.upper() in known[0] and v.system in (None, known[1])
        for v in criterion.values
    )


_PROGRESS = frozenset({"REGISTERED", "AVAILABLE"})


def _is_everywhere(criterion: Criterion) -> bool:
    """Whether it names the gateway's endpoint, which every study has."""
    everywhere = any(isinstance(v, ReferenceValue) and v.id == "region-wado" for v in criterion.values)
    return criterion.name == "endpoint" and not criterion.modifier and everywhere


def _pattern(text: str, modifier: str) -> str:
    return {"exact": text, "contains": f"*{text}*"}.get(modifier, f"{text}*")


def _is_any_date(criterion: Criterion) -> bool:
    """Whether it is a date that bounds neither end (``ne``): rows are read one by one."""
    return criterion.name in _DATES and not criterion.modifier


def _bounded(criterion: Criterion, now: _Bounds) -> _Bounds:
    """``now`` narrowed by one criterion's values (OR: the widest of them)."""
    bounds = [v.bounds() for v in criterion.values if isinstance(v, DateValue)]
    lows, highs = [b[0] for b in bounds], [b[1] for b in bounds]
    low = None if None in lows else min(x for x in lows if x is not None)
    high = None if None in highs else max(x for x in highs if x is not None)
    both_low = max(x for x in (low, now[0]) if x is not None) if low or now[0] else None
    both_high = min(x for x in (high, now[1]) if x is not None) if high or now[1] else None
    return both_low, both_high


def patient_selector(
    search: SearchRequest, planner: StudyPlanner
) -> tuple[PatientSelector, tuple[Criterion, ...]]:
    """The selector of a Patient search, and the criteria that it decides.

    It is an identifier, an id, or a name with a date of birth.

    Raises:
        Misunderstood: as :meth:`StudyPlanner.identifiers`.
        Invalid: for anything that would list people.
    """
    plain = [c for c in search.criteria if c.modifier in ("", "exact")]
    by_name = {c.name: c for c in reversed(plain)}
    if (numbers := by_name.get("identifier")) is not None:
        return PatientSelector(identifiers=planner.identifiers("identifier", numbers.values)), (numbers,)
    if "_id" in by_name:
        first = by_name["_id"].values
        if len(first) > 1 or not isinstance(first[0], TokenValue):
            raise Invalid("One _id at a time.", where="_id", fhir_code="not-supported")
        return PatientSelector(fhir_id=first[0].code), ()
    names = [c for c in plain if c.name in _NAMES]
    birth = by_name.get("birthdate")
    if not names or birth is None:
        raise Invalid(
            "A person is found by an identifier, or by a name and a date of birth together.",
            why="Anything wider would list people.",
            todo="Use identifier, or family and birthdate.",
            where="birthdate" if names else "identifier",
            fhir_code="too-costly",
        )
    whole = next((c for c in names if c.name == "family" and c.modifier == "exact"), None)
    tests = tuple(NameTest(_NAMES[c.name], _one_text(c)) for c in names)
    family = _one_text(whole) if whole is not None else ""
    return PatientSelector(family=family, names=tests, birth_date=_one_day(birth)), ()


#: The string parameters of a name, and what each looks at (R4 Patient).
_NAMES: dict[str, Literal["family", "given", "any"]] = {"family": "family", "given": "given", "name": "any"}


def _one_text(criterion: Criterion) -> str:
    value = criterion.values[0]
    if len(criterion.values) > 1 or not isinstance(value, StringValue):
        raise Invalid(f"One {criterion.name} at a time.", where=criterion.name, fhir_code="not-supported")
    if not search_key(value.text):
        raise Invalid(f"{criterion.name} has no letter.", where=criterion.name, fhir_code="value")
    return value.text


def _one_day(criterion: Criterion) -> str:
    value = criterion.values[0]
    day = value.text.replace("-", "") if isinstance(value, DateValue) and value.prefix == "eq" else ""
    if len(criterion.values) > 1 or len(day) != 8:
        raise Invalid(
            "birthdate must be one whole date.",
            todo="birthdate=YYYY-MM-DD.",
            where="birthdate",
            fhir_code="not-supported",
        )
    return day
