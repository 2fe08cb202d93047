"""An Ask in memory, for tests of the faces: the same context manager and types, a list of holdings behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from registry_samples import REGION, MemoryDirectory, published

from crosslight.runtime.caller import Caller
from crosslight.standards.access import Action, Face
from crosslight.standards.ids import Identifier, MemberId, holding_fhir_id
from crosslight.standards.names import family_keys, search_key
from crosslight.standards.national import plain_number
from crosslight.standards.problem import Forbidden
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from registry.ask.absence import accession_naming, naming
from registry.ask.ask import Ask
from registry.ask.coverage import Coverage, MemberCoverage
from registry.ask.naming import Naming
from registry.ask.question import Answer, ByObject, ByPatient, ByPopulation, Patients, Question, StudyFilter
from registry.identity.model import DisputedNotice, PatientRecord, PatientSelector, Person, PersonKey, RecordKey
from registry.index.model import Holding, XdsObject
from registry.members.model import Member

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@dataclass
class Act:
    """One question as it was audited."""

    face: str
    action: str
    question: Question
    subject: str
    outcome: str = ""


@dataclass
class World:
    """What is held and who is who."""

    directory: MemoryDirectory
    region: Region = REGION
    persons: dict[int, Person] = field(default_factory=dict)
    holdings: list[Holding] = field(default_factory=list)
    objects: list[XdsObject] = field(default_factory=list)
    disputed: tuple[DisputedNotice, ...] = ()
    gone: set[str] = field(default_factory=set)
    coverage: dict[str, MemberCoverage] = field(default_factory=dict)  # by code, where not live
    acts: list[Act] = field(default_factory=list)

    def person(self, *records: tuple[Member, StudyRecord], number: str = "") -> Person:
        """A person with one patient record for each, and the studies held."""
        key = PersonKey(len(self.persons) + 1)
        nationals = (Identifier(number, self.region.national_authority),) if number else ()
        rows: dict[Identifier, PatientRecord] = {}
        for member, record in records:
            local = record.patient.local
            if local not in rows:
                rows[local] = PatientRecord(
                    key=RecordKey(1000 * key + len(rows)), patient=record.patient, member=member.id, person=key,
                    national=nationals, updated=NOW,
                )  # fmt: skip
            self.hold(member, record, rows[local].key)
        domain = nationals[0] if nationals else Identifier(f"R{key}", self.region.authority)
        names = {(r.patient.name.pn, r.patient.birth_date, r.patient.sex) for r in rows.values()}
        person = Person(
            key=key, fhir_id=f"00000000-0000-4000-8000-{key:012d}", domain_id=domain, records=tuple(rows.values()),
            differs=len(names) > 1,
        )  # fmt: skip
        self.persons[key] = person
        return person

    def hold(self, member: Member, record: StudyRecord, key: RecordKey) -> Holding:
        """One holding more."""
        n = len(self.holdings) + 1
        holding = Holding(
            member=member.id, record_key=key, publication=published(member, record, n), state="approved",
            digest=record.digest(), revision=n, fhir_id=holding_fhir_id(b"key", member.id, str(key), record.study_uid),
            updated=NOW - timedelta(minutes=n),
        )  # fmt: skip
        self.holdings.append(holding)
        return holding

    def change(self, at: int, change: Callable[[Holding], Holding]) -> Holding:
        """Replace one holding."""
        self.holdings[at] = change(self.holdings[at])
        return self.holdings[at]


class AskDouble(Ask):
    """Answers from a :class:`World`, with the semantics that ``registry.ask.question`` states."""

    def __init__(self, world: World) -> None:
        self.world, self.region = world, world.region

    @asynccontextmanager
    async def question(self, caller: Caller, *, face: Face, action: Action, question: Question) -> AsyncIterator[Answer]:
        if "porter" in caller.principal.roles:
            raise Forbidden("You may not ask this.")
        act = Act(face, action, question, caller.principal.subject)
        self.world.acts.append(act)
        try:
            yield self._reply(question, caller.correlation)
        except BaseException as error:
            act.outcome = f"failed: {type(error).__name__}"
            raise
        act.outcome = "ok"

    def coverage(self) -> Coverage:
        members = tuple(
            self.world.coverage.get(m.code)
            or MemberCoverage(
                member=m.id, code=m.code, name=m.name, list_state="live", reachable=self.world.directory.presence(m.id).reachable,
                as_of=NOW, census_equal=True, census_at=NOW,
            )
            for m in self.world.directory.all()
        )  # fmt: skip
        return Coverage(members=members, at=NOW)

    def _reply(self, question: Question, correlation: str) -> Answer:
        world, cursor = self.world, ""
        holdings: list[Holding] = []
        persons: list[Person] = []
        disputed: tuple[DisputedNotice, ...] = ()
        if isinstance(question, ByPatient):
            persons, disputed = self._select(question.patient), world.disputed
            keys = {r.key for p in persons for r in p.records}
            holdings = [h for h in world.holdings if h.record_key in keys and self._passes(h, question.filter)]
        elif isinstance(question, ByObject):
            holdings = [h for h in world.holdings if self._named(h, question)]
        elif isinstance(question, ByPopulation):
            rows = [h for h in world.holdings if h.state == "approved" and self._passes(h, question.filter)]
            rows.sort(
                key=lambda h: (h.updated if question.order == "updated" else h.record.time.date, h.fhir_id),
                reverse=not question.ascending,
            )
            at = int(question.cursor or 0)
            holdings = rows[at : at + question.limit]
            cursor = str(at + question.limit) if len(rows) > at + question.limit else ""
        elif isinstance(question, Patients):
            persons, disputed = self._select(question.patient)[: question.limit], world.disputed
        keys = {h.record_key for h in holdings}
        persons += [p for p in world.persons.values() if p not in persons and any(r.key in keys for r in p.records)]
        wanted = set(getattr(question, "unique_ids", ()))
        asked = {*getattr(question, "fhir_ids", ()), *getattr(question, "study_uids", ())}
        return Answer(
            holdings=tuple(holdings), persons=tuple(persons), objects=tuple(o for o in world.objects if o.unique_id in wanted),
            disputed=disputed, coverage=self.coverage(), correlation=correlation, incarnation="inc1", cursor=cursor,
            gone=tuple(sorted(asked & world.gone)), naming=self._naming(question, persons),
        )  # fmt: skip

    def _naming(self, question: Question, persons: list[Person]) -> Naming:
        world = self.world
        numbers = {a for h in world.holdings for a in h.record.accessions}
        used = {r.patient.local.authority for p in world.persons.values() for r in p.records}
        if isinstance(question, ByPatient | Patients):
            return naming(question.patient, persons, world.region, world.directory, used.__contains__)
        if isinstance(question, ByObject) and question.accessions:
            issuers = {number.authority for number in numbers}
            return accession_naming(question.accessions, numbers, world.region, world.directory, issuers.__contains__)
        return Naming()

    def _select(self, selector: PatientSelector) -> list[Person]:
        def one(person: Person) -> bool:
            if selector.fhir_id:
                return person.fhir_id == selector.fhir_id
            if selector.birth_date:
                return any(
                    r.patient.birth_date == selector.birth_date
                    and (not selector.family or search_key(selector.family) in family_keys(r.patient.name))
                    and all(test.holds(r.patient.name) for test in selector.names)
                    for r in person.records
                )
            ids = {person.domain_id, *(i for r in person.records for i in (*r.national, r.patient.local))}
            return any(_same(w, i, self.world.region) for w in selector.identifiers for i in ids)

        return [p for p in self.world.persons.values() if one(p)]

    @staticmethod
    def _named(holding: Holding, question: ByObject) -> bool:
        accessions = {*holding.record.accessions, *(Identifier(a.value) for a in holding.record.accessions)}
        documents = {holding.publication.manifest.document_uid, *(p.publication.manifest.document_uid for p in holding.past)}
        return (
            holding.fhir_id in question.fhir_ids
            or holding.study_uid in question.study_uids
            or bool(accessions & set(question.accessions))
            or bool(documents & set(question.unique_ids))
        )

    def _passes(self, holding: Holding, narrow: StudyFilter) -> bool:
        record = holding.record
        member = self.world.directory.by_id(holding.member)
        low, high = narrow.started or (None, None)
        since, before = narrow.updated or (None, None)
        interval = record.time.interval()
        return (
            (not narrow.modalities or bool(set(narrow.modalities) & set(record.modalities)))
            and (not narrow.members or (member is not None and member.code in narrow.members))
            and (not narrow.progress or record.progress in narrow.progress)
            and (interval is None or ((low is None or interval[1] > low) and (high is None or interval[0] < high)))
            and (since is None or holding.updated >= since)
            and (before is None or holding.updated < before)
        )


def _same(wanted: Identifier, own: Identifier, region: Region) -> bool:
    if wanted.authority not in ("", own.authority) or (wanted.namespace and wanted.namespace != own.namespace):
        return False
    national = own.authority in region.nationals
    return (plain_number(wanted.value) if national else wanted.value) == own.value


def unreachable(directory: MemoryDirectory, code: str) -> MemberCoverage:
    """Coverage of a member that cannot be reached."""
    member = directory.by_code(code)
    assert member is not None
    return MemberCoverage(
        member=MemberId(member.id), code=code, name=member.name, list_state="live", reachable=False,
        since=NOW - timedelta(minutes=5), as_of=NOW,
    )  # fmt: skip


__all__ = ["NOW", "Act", "AskDouble", "World", "replace", "unreachable"]
